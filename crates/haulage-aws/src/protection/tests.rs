//! Against a stub of the agent.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::*;

/// How the stub answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Fine,
    Blocked,
    Refusing,
    Broken,
    Garbage,
    Silent,
    Closing,
}

/// An agent that notes what it was asked.
struct Stub {
    uri: String,
    puts: Mutex<Vec<String>>,
    mood: Mutex<Mood>,
    called: Notify,
    /// A call waits for this before its answer, if there is something to wait for.
    gates: AtomicUsize,
    gate: Notify,
}

impl Stub {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stub = Arc::new(Self {
            uri: format!("http://{}/api/token-1", listener.local_addr().expect("an address")),
            puts: Mutex::default(),
            mood: Mutex::new(Mood::Fine),
            called: Notify::new(),
            gates: AtomicUsize::new(0),
            gate: Notify::new(),
        });
        let this = stub.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(this.clone(), stream));
            }
        });
        stub
    }

    fn protection(&self, mode: ScaleInProtection, expires: Duration) -> Protection {
        let limit = Duration::from_millis(500);
        Protection::with_limit(mode, Some(self.uri.clone()), expires, limit).expect("an address")
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().expect("mood") = mood;
    }

    /// Whether each call asked for protection.
    fn asked(&self) -> Vec<bool> {
        let puts = self.puts.lock().expect("puts");
        puts.iter().map(|put| put.contains("\"ProtectionEnabled\":true")).collect()
    }
}

async fn answer(stub: Arc<Stub>, mut stream: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 2048];
    while !request.ends_with(b"}") {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => request.extend_from_slice(&buffer[..n]),
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    assert!(request.starts_with("PUT /api/token-1/task-protection/v1/state HTTP/1.1"), "{request}");
    let on = request.contains("\"ProtectionEnabled\":true");
    stub.puts.lock().expect("puts").push(request);
    let mood = *stub.mood.lock().expect("mood");
    stub.called.notify_one();
    if stub.gates.load(Ordering::SeqCst) > 0 {
        stub.gates.fetch_sub(1, Ordering::SeqCst);
        stub.gate.notified().await;
    }
    let arn = "arn:aws:ecs:us-west-2:111122223333:task/1234567890abcdef0";
    let (status, body) = match mood {
        Mood::Fine => {
            (200, format!("{{\"protection\":{{\"ProtectionEnabled\":{on},\"TaskArn\":\"{arn}\"}}}}"))
        }
        Mood::Blocked => (
            200,
            format!(
                "{{\"failure\":{{\"Arn\":\"{arn}\",\"Detail\":null,\"Reason\":\"DEPLOYMENT_BLOCKED\"}}}}"
            ),
        ),
        Mood::Refusing => (
            400,
            "{\"error\":{\"Arn\":\"a\",\"Code\":\"AccessDeniedException\",\"Message\":\"not authorized\"}}"
                .into(),
        ),
        Mood::Broken => (500, String::new()),
        Mood::Garbage => (200, "<html>".into()),
        Mood::Silent => return std::future::pending().await,
        Mood::Closing => return Ok(()),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all((head + &body).as_bytes()).await
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn calls_on_the_edges_only() {
    let stub = Stub::start().await;
    let protection = stub.protection(ScaleInProtection::Require, HOUR);
    protection.release().await;
    for _ in 0..2 {
        for _ in 0..100 {
            protection.hold().await.expect("protected");
        }
        protection.release().await;
        protection.release().await;
    }
    assert_eq!(stub.asked(), [true, false, true, false]);
    assert!(stub.puts.lock().expect("puts")[0].contains("\"ExpiresInMinutes\":60"));
}

#[tokio::test]
async fn many_at_once_are_one_call() {
    let stub = Stub::start().await;
    let protection = Arc::new(stub.protection(ScaleInProtection::Require, HOUR));
    let holds = (0..50).map(|_| {
        let protection = protection.clone();
        tokio::spawn(async move { protection.hold().await })
    });
    for hold in holds.collect::<Vec<_>>() {
        hold.await.expect("a task").expect("protected");
    }
    assert_eq!(stub.asked(), [true]);
}

#[tokio::test]
async fn is_renewed_before_it_runs_out() {
    let stub = Stub::start().await;
    let protection = stub.protection(ScaleInProtection::Prefer, Duration::from_millis(100));
    protection.hold().await.expect("protected");
    stub.called.notified().await;
    // A renewal that fails is tried again.
    stub.is(Mood::Broken);
    stub.called.notified().await;
    stub.called.notified().await;
    stub.is(Mood::Fine);
    for _ in 0..3 {
        stub.called.notified().await;
    }
    protection.release().await;
    assert_eq!(stub.asked().last(), Some(&false));
    assert!(stub.asked().len() >= 6, "{:?}", stub.asked());
}

#[tokio::test]
async fn without_protection_nothing_is_started_or_everything() {
    for (mood, part) in [
        (Mood::Blocked, "DEPLOYMENT_BLOCKED: a deployment is replacing this task"),
        (Mood::Refusing, "the task role needs ecs:UpdateTaskProtection"),
        (Mood::Broken, "HTTP status 500"),
        (Mood::Garbage, "nothing that can be read"),
        (Mood::Silent, "did not answer in 500ms"),
        (Mood::Closing, "cannot be reached"),
    ] {
        let stub = Stub::start().await;
        stub.is(mood);
        let protection = stub.protection(ScaleInProtection::Require, HOUR);
        for _ in 0..2 {
            let message = protection.hold().await.expect_err("not protected").to_string();
            assert!(message.contains("no job is started") && message.contains(part), "{mood:?}: {message}");
        }
        stub.is(Mood::Fine);
        protection.hold().await.expect("protected at last");

        let stub = Stub::start().await;
        stub.is(mood);
        let protection = stub.protection(ScaleInProtection::Prefer, HOUR);
        for _ in 0..20 {
            protection.hold().await.expect("work goes on");
        }
        assert_eq!(stub.asked(), [true], "{mood:?}: and the agent is left alone for a while");
        protection.release().await;
        assert_eq!(stub.asked(), [true], "{mood:?}: what is not held is not released");
    }
}

#[tokio::test]
async fn an_agent_that_is_gone() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address")
    };
    let protection = Protection::new(ScaleInProtection::Require, Some(format!("http://{address}/api")), HOUR)
        .expect("an address");
    let message = protection.hold().await.expect_err("nobody is there").to_string();
    assert!(message.contains("cannot be reached"), "{message}");
}

#[tokio::test]
async fn not_on_ecs() {
    let protection = |mode| Protection::new(mode, None, HOUR).expect("nothing to check");
    protection(ScaleInProtection::Off).hold().await.expect("nothing to do");
    protection(ScaleInProtection::Prefer).hold().await.expect("nothing to do");
    let message = protection(ScaleInProtection::Require).hold().await.expect_err("required").to_string();
    assert!(message.contains("ECS_AGENT_URI is not set"), "{message}");
    for bad in ["https://host/api", "host", "http://"] {
        let error = Protection::new(ScaleInProtection::Prefer, Some(bad.into()), HOUR);
        assert!(matches!(error, Err(Error::Config(_))), "{bad}");
    }
}

#[tokio::test]
async fn off_asks_nothing() {
    let stub = Stub::start().await;
    let protection = stub.protection(ScaleInProtection::Off, HOUR);
    protection.hold().await.expect("nothing to do");
    protection.release().await;
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn a_hold_during_a_release_ends_protected() {
    let stub = Stub::start().await;
    let protection = Arc::new(stub.protection(ScaleInProtection::Require, HOUR));
    protection.hold().await.expect("protected");
    stub.called.notified().await;
    stub.gates.store(1, Ordering::SeqCst);
    let releasing = tokio::spawn({
        let protection = protection.clone();
        async move { protection.release().await }
    });
    stub.called.notified().await;
    let holding = tokio::spawn({
        let protection = protection.clone();
        async move { protection.hold().await }
    });
    tokio::task::yield_now().await;
    stub.gate.notify_one();
    releasing.await.expect("a task");
    holding.await.expect("a task").expect("protected");
    assert_eq!(stub.asked(), [true, false, true]);
}

#[test]
fn modes_by_name() {
    for mode in [ScaleInProtection::Off, ScaleInProtection::Prefer, ScaleInProtection::Require] {
        assert_eq!(mode.to_string().parse::<ScaleInProtection>().expect("its name"), mode);
    }
    let message = "on".parse::<ScaleInProtection>().expect_err("no mode").to_string();
    assert!(message.contains("off, prefer or require"), "{message}");
}
