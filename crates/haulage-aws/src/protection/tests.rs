//! Against a stub of the agent.

use std::{
    io,
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tracing::{Event, Level, Metadata, Subscriber, span};

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
    /// How many calls are not answered yet, and the most there have been.
    open: AtomicUsize,
    most_open: AtomicUsize,
    mood: Mutex<Mood>,
    called: Notify,
    /// A call waits for this before its answer, if there is something to wait for.
    gates: AtomicUsize,
    gate: Notify,
}

impl Stub {
    async fn start() -> Arc<Self> {
        Warnings::are_wanted();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stub = Arc::new(Self {
            uri: format!("http://{}/api/token-1", listener.local_addr().expect("an address")),
            puts: Mutex::default(),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
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
        self.with_limit(mode, expires, Duration::from_secs(60))
    }

    /// One that waits so long for an answer.
    fn with_limit(&self, mode: ScaleInProtection, expires: Duration, limit: Duration) -> Protection {
        Protection::with_limit(mode, Some(self.uri.clone()), expires, limit).expect("an address")
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().expect("mood") = mood;
    }

    /// The next call is not answered before [`Self::open_gate`].
    fn close_gate(&self) {
        self.gates.store(1, Ordering::SeqCst);
    }

    fn open_gate(&self) {
        self.gate.notify_one();
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
    stub.most_open.fetch_max(stub.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    stub.called.notify_one();
    if stub.gates.load(Ordering::SeqCst) > 0 {
        stub.gates.fetch_sub(1, Ordering::SeqCst);
        stub.gate.notified().await;
    }
    stub.open.fetch_sub(1, Ordering::SeqCst);
    let mood = *stub.mood.lock().expect("mood");
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
/// Long enough for a slow machine, short enough to wait for.
const SHORT: Duration = Duration::from_millis(400);

/// Counts the warnings of this module.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target().contains("protection")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Warnings {
    /// To be called before anything warns. A warning that nobody listens to when it
    /// is given first, in any test, may be switched off for good.
    fn are_wanted() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing::subscriber::set_global_default(Self::default()).expect("nothing else listens");
        });
    }
}

/// The address of an agent that is gone.
async fn nobody() -> String {
    Warnings::are_wanted();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("http://{}/api", listener.local_addr().expect("an address"))
}

/// Lets other tasks run until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn held(protection: &Arc<Protection>) -> JoinHandle<Result<()>> {
    let protection = protection.clone();
    tokio::spawn(async move { protection.hold().await })
}

fn released(protection: &Arc<Protection>) -> JoinHandle<()> {
    let protection = protection.clone();
    tokio::spawn(async move { protection.release().await })
}

fn shared(protection: &Protection) -> &Shared {
    protection.shared.as_ref().expect("an agent")
}

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
    let puts = stub.puts.lock().expect("puts");
    assert!(puts[0].ends_with("{\"ExpiresInMinutes\":60,\"ProtectionEnabled\":true}"), "{}", puts[0]);
    assert!(puts[1].ends_with("\r\n\r\n{\"ProtectionEnabled\":false}"), "{}", puts[1]);
}

#[tokio::test]
async fn many_at_once_are_one_call() {
    for mood in [Mood::Fine, Mood::Broken] {
        let stub = Stub::start().await;
        stub.is(mood);
        stub.close_gate();
        let protection = Arc::new(stub.protection(ScaleInProtection::Require, HOUR));
        let started = Arc::new(AtomicUsize::new(0));
        let holds = (0..50).map(|_| {
            let (protection, started) = (protection.clone(), started.clone());
            tokio::spawn(async move {
                started.fetch_add(1, Ordering::SeqCst);
                protection.hold().await
            })
        });
        let holds = holds.collect::<Vec<_>>();
        until("all of them have begun", || started.load(Ordering::SeqCst) == 50).await;
        stub.called.notified().await;
        stub.open_gate();
        for hold in holds {
            assert_eq!(hold.await.expect("a task").is_ok(), mood == Mood::Fine);
        }
        assert_eq!(stub.asked(), [true], "{mood:?}");
    }
}

#[tokio::test]
async fn is_renewed_before_it_runs_out() {
    let warnings = Warnings::default();
    let _log = tracing::subscriber::set_default(warnings.clone());
    let stub = Stub::start().await;
    let protection = stub.protection(ScaleInProtection::Prefer, SHORT);
    protection.hold().await.expect("protected");
    stub.called.notified().await;
    stub.called.notified().await;
    // A renewal that fails is tried again.
    stub.is(Mood::Broken);
    until("the first failure", || shared(&protection).state().outage.is_some()).await;
    let answers = shared(&protection).state().answers;
    until("the second failure", || shared(&protection).state().answers > answers).await;
    assert_eq!(warnings.0.load(Ordering::SeqCst), 1, "one for the outage");
    stub.is(Mood::Fine);
    stub.called.notified().await;
    until("the renewal", || shared(&protection).state().outage.is_none()).await;
    protection.release().await;
    assert_eq!(stub.asked().last(), Some(&false));
    assert!(stub.asked().len() >= 6, "{:?}", stub.asked());
}

#[tokio::test]
async fn what_cannot_be_renewed_is_not_relied_on() {
    let mut asked = Vec::new();
    // Where the machine stands still for a while, it may be near its end at the first look.
    while asked.len() < 5 {
        let calls = calls_until_it_is_refused().await;
        if calls.len() >= 3 {
            return;
        }
        asked.push(calls);
    }
    panic!("no renewal failed before: {asked:?}");
}

async fn calls_until_it_is_refused() -> Vec<bool> {
    let stub = Stub::start().await;
    let protection = stub.protection(ScaleInProtection::Require, SHORT);
    protection.hold().await.expect("protected");
    stub.is(Mood::Broken);
    // Until it is near its end: then the answer is the agent's.
    let refusal = async {
        loop {
            match protection.hold().await {
                Ok(()) => stub.called.notified().await,
                Err(error) => break error.to_string(),
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(60), refusal).await.expect("a refusal");
    assert!(error.contains("HTTP status 500"), "{error}");
    let calls = stub.asked();
    stub.is(Mood::Fine);
    protection.hold().await.expect("protected again");
    calls
}

#[tokio::test]
async fn renewal_ends_with_the_protection() {
    let stub = Stub::start().await;
    let protection = stub.protection(ScaleInProtection::Prefer, HOUR);
    let renewal = || {
        let state = shared(&protection).state();
        state.renewal.as_ref().expect("protected").0.abort_handle()
    };
    protection.hold().await.expect("protected");
    let first = renewal();
    protection.release().await;
    until("the end after a release", || first.is_finished()).await;
    protection.hold().await.expect("protected");
    let second = renewal();
    assert!(!second.is_finished());
    drop(protection);
    until("the end after a drop", || second.is_finished()).await;
}

#[tokio::test]
async fn without_protection_nothing_is_started_or_everything() {
    for (mood, part) in [
        (Mood::Blocked, "DEPLOYMENT_BLOCKED: a deployment is replacing this task"),
        (Mood::Refusing, "the task role needs ecs:UpdateTaskProtection"),
        (Mood::Broken, "HTTP status 500"),
        (Mood::Garbage, "nothing that can be read"),
        (Mood::Silent, "did not answer in 4s"),
        (Mood::Closing, "cannot be reached"),
    ] {
        let stub = Stub::start().await;
        stub.is(mood);
        // Longer than a slow machine takes for an answer.
        let limit = Duration::from_secs(4);
        let protection = stub.with_limit(ScaleInProtection::Require, HOUR, limit);
        for _ in 0..2 {
            let message = protection.hold().await.expect_err("not protected").to_string();
            assert!(message.contains("no job is started") && message.contains(part), "{mood:?}: {message}");
        }
        stub.is(Mood::Fine);
        protection.hold().await.expect("protected at last");

        let stub = Stub::start().await;
        stub.is(mood);
        let protection = stub.with_limit(ScaleInProtection::Prefer, HOUR, limit);
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
    let protection = Protection::new(ScaleInProtection::Require, Some(nobody().await), HOUR);
    let message = protection.expect("an address").hold().await.expect_err("nobody is there").to_string();
    assert!(message.contains("cannot be reached: Connection refused"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_gone_is_tried_now_and_then() {
    let warnings = Warnings::default();
    let _log = tracing::subscriber::set_default(warnings.clone());
    let protection = Protection::new(ScaleInProtection::Prefer, Some(nobody().await), HOUR);
    let protection = protection.expect("an address");
    for tries in 1..=3 {
        for _ in 0..20 {
            protection.hold().await.expect("work goes on");
        }
        assert_eq!(shared(&protection).state().answers, tries);
        tokio::time::advance(LEFT_ALONE).await;
    }
    assert_eq!(warnings.0.load(Ordering::SeqCst), 1, "one for the outage");
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
    stub.close_gate();
    let releasing = released(&protection);
    stub.called.notified().await;
    let holding = held(&protection);
    until("the hold has begun", || shared(&protection).state().wanted).await;
    stub.open_gate();
    releasing.await.expect("a task");
    holding.await.expect("a task").expect("protected");
    assert_eq!(stub.asked(), [true, false, true]);
    assert_eq!(stub.most_open.load(Ordering::SeqCst), 1, "one call at a time");
}

#[tokio::test]
async fn a_release_during_a_renewal_comes_after_it() {
    for overtaken in [false, true] {
        let stub = Stub::start().await;
        let protection = Arc::new(stub.protection(ScaleInProtection::Require, SHORT));
        protection.hold().await.expect("protected");
        stub.called.notified().await;
        stub.close_gate();
        stub.called.notified().await;
        let releasing = released(&protection);
        until("the release has begun", || !shared(&protection).state().wanted).await;
        if overtaken {
            shared(&protection).state().until = Some(Instant::now() + HOUR);
            protection.hold().await.expect("what is there still");
        }
        stub.open_gate();
        releasing.await.expect("a task");
        assert_eq!(stub.asked().last(), Some(&overtaken), "{:?}", stub.asked());
        assert_eq!(stub.most_open.load(Ordering::SeqCst), 1, "one call at a time");
    }
}

#[tokio::test]
async fn a_hold_that_nobody_waits_for_counts() {
    let stub = Stub::start().await;
    let protection = stub.protection(ScaleInProtection::Require, HOUR);
    stub.close_gate();
    tokio::select! {
        _ = protection.hold() => panic!("the agent has not answered"),
        () = stub.called.notified() => {}
    }
    stub.open_gate();
    protection.hold().await.expect("by the same call");
    protection.release().await;
    assert_eq!(stub.asked(), [true, false]);
}

#[test]
fn modes_by_name() {
    for mode in [ScaleInProtection::Off, ScaleInProtection::Prefer, ScaleInProtection::Require] {
        assert_eq!(mode.to_string().parse::<ScaleInProtection>().expect("its name"), mode);
    }
    let message = "on".parse::<ScaleInProtection>().expect_err("no mode").to_string();
    assert!(message.contains("off, prefer or require"), "{message}");
}
