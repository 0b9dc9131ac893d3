//! One server as a process.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long a server may take to start. These machines are slow at times.
const START: Duration = Duration::from_secs(90);

/// The server is a child of this shell, which ends it when our end of its
/// standard input closes: also where this process is killed. What the server
/// leaves in its folder for temporary files goes with it.
const KEEPER: &str = r#"
    exec 3<&0
    TMPDIR=$(mktemp -d) && export TMPDIR || exit
    "$@" </dev/null & p=$!
    { cat <&3 >/dev/null; kill -9 $p; } &
    wait $p
    rm -rf "$TMPDIR"
"#;

/// A server that runs for as long as this is kept.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    url: String,
    keeper: Child,
    log: File,
    _port: UdpSocket,
}

/// The folder into which `install.sh` installs.
pub(crate) fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools")
}

impl Server {
    /// Where it listens: `http://127.0.0.1:…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A call in the JSON protocol of AWS, such as `AmazonSQS.CreateQueue`;
    /// local servers take it unsigned.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn call(&self, target: &str, body: &Value) -> Value {
        let port = self.url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let headers = format!("X-Amz-Target: {target}\r\n");
        let answer = request_with(port, "POST", "/", &headers, &body.to_string()).expect("the server");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        assert!(head.starts_with("HTTP/1.1 2"), "{target}: {answer}");
        serde_json::from_str(body).unwrap_or_default()
    }

    pub(crate) fn start(
        name: &'static str,
        program: &str,
        health: &str,
        set_up: impl Fn(&mut Command, &str),
    ) -> Self {
        Self::start_program(name, &tools().join(program), health, set_up)
    }

    /// Starts it on a free port. Another process may take the port first; then
    /// the server ends, and the next one is tried.
    pub(crate) fn start_program(
        name: &'static str,
        program: &Path,
        health: &str,
        set_up: impl Fn(&mut Command, &str),
    ) -> Self {
        let installed = !program.is_absolute() || program.exists();
        assert!(installed, "{name} is not installed ({} is missing); run `make tools`", program.display());
        let mut last = String::new();
        for _ in 0..5 {
            match Self::try_start(name, program, health, &set_up) {
                Ok(server) => return server,
                Err(error) => last = error,
            }
        }
        panic!("{name} does not start: {last}");
    }

    fn try_start(
        name: &'static str,
        program: &Path,
        health: &str,
        set_up: &impl Fn(&mut Command, &str),
    ) -> Result<Self, String> {
        let (port, reserved) = free_port().map_err(|e| e.to_string())?;
        let log = tempfile::tempfile().map_err(|e| e.to_string())?;
        let output = || log.try_clone().map_err(|e| e.to_string());
        let mut server = Command::new(program);
        set_up(&mut server, &port.to_string());
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(server.get_program()).args(server.get_args());
        for (name, value) in server.get_envs() {
            if let Some(value) = value {
                keeper.env(name, value);
            }
        }
        keeper.stdin(Stdio::piped()).stdout(output()?).stderr(output()?);
        let keeper = keeper.spawn().map_err(|e| e.to_string())?;
        let url = format!("http://127.0.0.1:{port}");
        let mut this = Self { name, url, keeper, log, _port: reserved };
        let until = Instant::now() + START;
        loop {
            if get(port, health).is_ok() {
                return Ok(this);
            }
            let ended = this.keeper.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || Instant::now() > until {
                return Err(format!(
                    "it ended, or did not answer in {} s; it said:\n{}",
                    START.as_secs(),
                    this.said()
                ));
            }
            // Nothing but a connection tells that a server is ready.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The end of what it has written.
    fn said(&self) -> String {
        let length = self.log.metadata().map_or(0, |file| file.len());
        let mut text = vec![0; usize::try_from(length).unwrap_or_default()];
        // Without moving the place at which the server writes.
        let text = self.log.read_exact_at(&mut text, 0).map(|()| String::from_utf8_lossy(&text));
        let text = text.unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        if std::thread::panicking() && std::env::var_os("HAULAGE_SERVER_LOGS").is_some() {
            let mut stderr = std::io::stderr();
            let _ = writeln!(stderr, "{} said:\n{}", self.name, self.said());
        }
    }
}

/// A port that is free. Of starts at the same moment, in any process, each gets
/// another one: the UDP port of that number is held for as long as the server
/// runs. Otherwise the answer of one's server would be taken for the other's.
fn free_port() -> std::io::Result<(u16, UdpSocket)> {
    loop {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        match UdpSocket::bind(("127.0.0.1", port)) {
            Ok(reserved) => return Ok((port, reserved)),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}

/// A request without anything to it; any answer will do.
fn get(port: u16, path: &str) -> std::io::Result<()> {
    request(port, "GET", path, "").map(drop)
}

/// A plain HTTP request; the answer as it came.
pub(crate) fn request(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    request_with(port, method, path, "", body)
}

fn request_with(port: u16, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    // A proxy in Python that imports what its first call needs answers nobody for seconds.
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n\
         {headers}Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            // A server that keeps the connection open has answered all the same.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    if answer.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
