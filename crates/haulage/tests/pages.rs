//! The pages about a consumer, as clients of all kinds see them.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use haulage::{
    Consumer, Context, Error, Failure, Job, Producer,
    memory::MemoryBackend,
    metrics::{Labels, Listener, Serving},
    shutdown::Shutdown,
};

/// What takes longer than this hangs.
const LONG: Duration = Duration::from_secs(300);

/// A consumer with its pages. Each of its handlers tells that it has begun, and
/// ends when it is let go.
struct Site {
    address: SocketAddr,
    _serving: Serving,
    consumer: Option<Consumer>,
    producer: Producer,
    begun: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
}

impl Site {
    fn new() -> Self {
        let backend = Arc::new(MemoryBackend::new());
        let (tell, begun) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let gate = std::sync::Mutex::new(gate);
        let consumer = Consumer::builder(backend.clone())
            .concurrency(2)
            .blocking_handler(move |_: Job<()>, _: Context| {
                let _ = tell.send(());
                gate.lock().expect("one at a time").recv().map_err(|_| Failure::retry("the test is over"))
            })
            .build()
            .expect("the settings are in range");
        let listener = Listener::bind("127.0.0.1:0", Labels::of("memory://")).expect("a free port");
        let address = listener.address();
        let serving = listener.serve(consumer.meter());
        let producer = Producer::new(backend);
        Self { address, _serving: serving, consumer: Some(consumer), producer, begun, go }
    }

    fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    fn send(&self, request: &str) -> (u16, String) {
        send(self.address, request)
    }

    fn get(&self, path: &str) -> (u16, String) {
        get(self.address, path)
    }

    /// Asks until the answer is this.
    fn becomes(&self, path: &str, status: u16, body: &str) {
        let limit = Instant::now() + LONG;
        loop {
            let answer = self.get(path);
            if answer.0 == status && answer.1.contains(body) {
                return;
            }
            assert!(Instant::now() < limit, "{path}: {answer:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(LONG)).expect("a limit");
    stream
}

/// Sends this, and reads to the end: the status, and all of the answer.
fn send(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {answer}")), answer)
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let (status, answer) = send(address, &format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

fn json(status: &str) -> String {
    format!("{{\"status\":\"{status}\"}}\n")
}

#[test]
fn the_pages_follow_the_consumer() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let mut site = Site::new();
    assert_eq!(site.get("/health"), (200, json("ok")));
    assert_eq!(site.get("/ready"), (500, json("starting")));
    assert_eq!(site.get("/busy"), (200, json("idle")));

    let shutdown = Shutdown::new();
    let running = runtime.spawn(site.consumer.take().expect("once").run(shutdown.clone()));
    site.becomes("/ready", 200, &json("ok"));
    runtime.block_on(site.producer.submit(&())).expect("submit");
    site.begun.recv().expect("the handler begins");
    assert_eq!(site.get("/busy"), (503, json("busy")));
    site.becomes("/metrics", 200, "haulage_slots_busy{store=\"memory\"} 1\n");
    let (_, text) = site.get("/metrics");
    assert!(text.contains("haulage_slots{store=\"memory\"} 2\n"), "{text}");
    assert!(text.contains("haulage_ready{store=\"memory\"} 1\n"), "{text}");

    shutdown.stop();
    site.becomes("/ready", 500, &json("stopping"));
    assert_eq!(site.get("/health"), (200, json("ok")));
    assert_eq!(site.get("/busy"), (503, json("busy")));
    site.go.send(()).expect("the handler waits");
    runtime.block_on(running).expect("the consumer does not panic");
    assert_eq!(site.get("/health"), (500, json("stopped")));
    assert_eq!(site.get("/ready"), (500, json("stopped")));
    assert_eq!(site.get("/busy"), (200, json("idle")));
    let (_, text) = site.get("/metrics");
    assert!(
        text.contains("haulage_jobs_total{store=\"memory\",queue=\"default\",outcome=\"success\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("haulage_job_duration_seconds_count{store=\"memory\",queue=\"default\"} 1\n"),
        "{text}"
    );
}

#[test]
fn the_pages_are_there_before_the_consumer() {
    let listener = Listener::bind("127.0.0.1:0", Labels::of("memory://")).expect("a free port");
    let address = listener.address();
    assert_eq!(get(address, "/health"), (200, json("ok")));
    assert_eq!(get(address, "/ready"), (500, json("starting")));
    assert_eq!(get(address, "/busy"), (200, json("idle")));
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200);
    assert!(text.contains("haulage_slots{store=\"memory\"} 0\n"), "{text}");
    assert!(text.contains("haulage_ready{store=\"memory\"} 0\n"), "{text}");
    // Nothing came of the consumer.
    drop(listener);
    let _again = Listener::bind(&address.to_string(), Labels::of("memory://")).expect("it is free");
}

#[test]
fn only_what_there_is_to_read() {
    let site = Site::new();
    let (status, head) = site.send("HEAD /health HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!((status, head.ends_with("\r\n\r\n")), (200, true), "{head}");
    let (status, answer) = site.send("POST /busy HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n");
    assert_eq!((status, answer.contains("allow: GET, HEAD")), (405, true), "{answer}");
    for path in ["/", "/metrics/", "/favicon.ico"] {
        let (status, body) = site.get(path);
        assert_eq!(status, 404);
        assert!(body.contains(r#"["/metrics","/health","/ready","/busy"]"#), "{body}");
    }
    assert_eq!(site.get("/health?probe=1").0, 200);
    let (_, answer) = site.send("GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{answer}");
}

#[test]
fn clients_that_misbehave_keep_nobody_out() {
    let site = Site::new();
    // Far more than there may be: the oldest go.
    let idle: Vec<_> = (0..200).map(|_| site.connect()).collect();
    let mut slow = site.connect();
    slow.write_all(b"GET /health HTTP/1.1\r\nx: ").expect("send");
    assert_eq!(site.get("/health").0, 200);
    for mut stream in idle.into_iter().take(100) {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it is closed");
    }
    // It never ends its request, and is cut off.
    let start = Instant::now();
    assert_eq!(slow.read(&mut [0; 512]).unwrap_or(0), 0);
    assert!(start.elapsed() < LONG / 2);

    let huge = format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let mut stream = site.connect();
    // It hangs up in the middle.
    let _ = stream.write_all(huge.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    for nonsense in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET /health HTTP/9.9\r\n\r\n"] {
        let mut stream = site.connect();
        stream.write_all(nonsense.as_bytes()).expect("send");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{nonsense}");
    }
    assert_eq!(site.get("/health").0, 200);
}

#[test]
fn an_address_that_cannot_be_had_is_named() {
    let taken = Listener::bind("127.0.0.1:0", Labels::of("memory://")).expect("a free port");
    for address in [taken.address().to_string(), "9464".into(), "no-such-host.invalid:1".into()] {
        let Err(Error::Config(message)) = Listener::bind(&address, Labels::of("memory://")) else {
            panic!("{address}")
        };
        assert!(message.starts_with(&format!("cannot listen on {address}: ")), "{message}");
    }
}

#[test]
fn the_port_is_free_again_when_the_serving_ends() {
    let site = Site::new();
    let address = site.address.to_string();
    let _open = site.connect();
    assert_eq!(site.get("/health").0, 200);
    drop(site);
    let _again = Listener::bind(&address, Labels::of("memory://")).expect("it is free");
}
