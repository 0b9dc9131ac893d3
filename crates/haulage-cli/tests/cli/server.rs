//! A tiny HTTP server.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::place::LONG;

/// A file of the secure server: its certificate, self-signed for `localhost`
/// until 2126, its key, and a stranger's certificate of the same kind.
pub(crate) fn tls_file(name: &str) -> String {
    format!("{}/tests/cli/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// An address at which nobody listens, and that stays free until somebody listens at it: ports from
/// 32768 on are given to whoever asks for any, and to every connection (`ip_local_port_range`).
pub(crate) fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(10_000..32_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// What it was asked.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// Answers every request with what `answer` makes of it: a status line, further
/// headers, and a body. It lives as long as the test's process.
#[derive(Debug)]
pub(crate) struct Server {
    scheme: &'static str,
    address: SocketAddr,
    requests: Receiver<Request>,
    hangups: Receiver<()>,
    stopped: Arc<AtomicBool>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Status, headers (each with its line end), body.
    Full(&'static str, String, String),
    /// None at all: tells when the other side hangs up.
    Never,
    /// A byte now and then, for ever: tells when the other side hangs up.
    Drip,
    /// Hangs up itself.
    HangUp,
}

impl Answer {
    pub(crate) fn new(status: &'static str, body: &str) -> Self {
        Self::Full(status, String::new(), body.to_owned())
    }
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer)
    }

    /// The same, at this address.
    pub(crate) fn start_at(
        address: SocketAddr,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::listen(address, "http", |stream| stream, answer)
    }

    /// The same, with TLS.
    pub(crate) fn start_secure(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let certificate = CertificateDer::from_pem_file(tls_file("certificate.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(tls_file("key.pem")).expect("a key");
        let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a configuration");
        let config = Arc::new(config);
        let secure = move |stream| {
            StreamOwned::new(ServerConnection::new(Arc::clone(&config)).expect("a connection"), stream)
        };
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), "https", secure, answer)
    }

    fn listen<S: Read + Write>(
        address: SocketAddr,
        scheme: &'static str,
        wrap: impl Fn(TcpStream) -> S + Send + Sync + 'static,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("bind");
        let address = listener.local_addr().expect("address");
        let (sender, requests) = channel();
        let (hung_up, hangups) = channel();
        let shared = Arc::new((wrap, answer));
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = stopped.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (sender, hung_up, shared) = (sender.clone(), hung_up.clone(), Arc::clone(&shared));
                std::thread::spawn(move || serve(shared.0(stream), &sender, &hung_up, &shared.1));
            }
        });
        Self { scheme, address, requests, hangups, stopped }
    }

    /// From now on it refuses connections. What it has begun to answer, it answers.
    pub(crate) fn stop(self) {
        self.stopped.store(true, Ordering::SeqCst);
        while TcpStream::connect(self.address).is_ok() {}
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The next request.
    pub(crate) fn request(&self) -> Request {
        self.requests.recv_timeout(LONG).expect("a request")
    }

    /// Waits until the other side closes a connection that gets no answer.
    pub(crate) fn hung_up(&self) {
        self.hangups.recv_timeout(LONG).expect("a closed connection");
    }
}

fn serve(
    stream: impl Read + Write,
    sender: &Sender<Request>,
    hung_up: &Sender<()>,
    answer: &impl Fn(&Request) -> Answer,
) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
    let mut body = vec![0; length.parse().expect("a length")];
    stream.read_exact(&mut body).expect("a body");
    let request = Request { line: lines.remove(0), headers, body: String::from_utf8(body).expect("UTF-8") };
    let answer = answer(&request);
    let _ = sender.send(request);
    match answer {
        Answer::Full(status, headers, body) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
            );
            let stream = stream.get_mut();
            let _ = stream.write_all((head + &body).as_bytes()).and_then(|()| stream.flush());
        }
        Answer::HangUp => {}
        Answer::Drip => {
            let stream = stream.get_mut();
            let mut part = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            while stream.write_all(part.as_bytes()).and_then(|()| stream.flush()).is_ok() {
                part = "1\r\n \r\n";
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            let _ = hung_up.send(());
        }
        Answer::Never => {
            if matches!(stream.read(&mut [0]), Ok(0) | Err(_)) {
                let _ = hung_up.send(());
            }
        }
    }
}
