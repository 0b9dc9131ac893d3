//! A proxy of bytes, through which connections break: before a request has arrived, in the
//! middle of one, and before its answer has come.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What goes wrong with what a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// It does not arrive: the connection is reset.
    Reset,
    /// A part of it arrives.
    Half,
    /// It arrives, and the answer does not.
    LostAnswer,
    /// A part of the answer arrives.
    HalfAnswer,
    /// It arrives after so many milliseconds.
    Slow(u64),
    /// It arrives, and in place of the answer there is a page with this status, as of a proxy.
    Page(u16),
    /// It arrives, and nothing comes any more.
    Silence,
}

impl Break {
    /// One of each kind that shows at once, and on the connection.
    pub const ALL: [Self; 5] = [Self::Reset, Self::Half, Self::LostAnswer, Self::HalfAnswer, Self::Slow(30)];
}

/// A proxy in front of a server, in this process.
#[derive(Debug)]
pub struct Flaky {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    random: fastrand::Rng,
    rate: f64,
    /// What a request has in it with which something goes wrong, and what.
    next: Vec<(String, Break)>,
    faults: u64,
    passed: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes wrong with these bytes of a client: a part of all requests, however large they are.
    fn fault(&self, bytes: &[u8]) -> Option<Break> {
        if ![&b"GET "[..], b"POST "].iter().any(|method| bytes.starts_with(method)) {
            return None;
        }
        let mut state = self.state();
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let planned = state.next.iter().position(|(text, _)| has(text));
        let fault = match planned {
            Some(at) => Some(state.next.remove(at).1),
            None if state.rate > 0.0 && state.random.f64() < state.rate => {
                let at = state.random.usize(..Break::ALL.len());
                Some(Break::ALL[at])
            }
            None => None,
        };
        state.faults += u64::from(fault.is_some());
        fault
    }
}

impl Flaky {
    /// Starts a proxy in front of `upstream`, through which everything goes well.
    ///
    /// # Panics
    ///
    /// If no port is free.
    pub fn start(upstream: SocketAddr, seed: u64) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        listener.set_nonblocking(true).expect("a socket");
        let random = fastrand::Rng::with_seed(seed);
        let state = State { upstream, random, rate: 0.0, next: Vec::new(), faults: 0, passed: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.spawn(serve(listener, shared.clone()));
        Self { address, shared, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, this part of what clients send goes wrong, in a way chosen at random.
    pub fn fail_at_random(&self, rate: f64) {
        self.shared.state().rate = rate;
    }

    /// The next request that has this in it goes wrong so.
    pub fn fail_next(&self, text: &str, fault: Break) {
        self.shared.state().next.push((text.to_owned(), fault));
    }

    /// From now on, new connections lead to this server.
    pub fn lead_to(&self, upstream: SocketAddr) {
        self.shared.state().upstream = upstream;
    }

    /// Whether all that was planned has happened.
    pub fn is_through(&self) -> bool {
        self.shared.state().next.is_empty()
    }

    /// How much has gone wrong.
    pub fn faults(&self) -> u64 {
        self.shared.state().faults
    }

    /// How many bytes have come, of both sides.
    pub fn passed(&self) -> u64 {
        self.shared.state().passed
    }
}

impl Drop for Flaky {
    fn drop(&mut self) {
        // A test drops it on a runtime of its own, where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a socket");
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let upstream = shared.state().upstream;
            let Ok(server) = TcpStream::connect(upstream).await else { return };
            // An error is a connection that broke, by our own doing or another's.
            let _ = pass(client, server, &shared).await;
        });
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut request, mut answer) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut lose = None;
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let bytes = &request[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                shared.state().passed += bytes.len() as u64;
                match shared.fault(bytes) {
                    None => server.write_all(bytes).await?,
                    Some(Break::Reset) => return Ok(()),
                    Some(Break::Half) => return server.write_all(&bytes[..bytes.len() / 2]).await,
                    Some(fault @ (Break::LostAnswer | Break::HalfAnswer | Break::Page(_) | Break::Silence)) => {
                        lose = Some(fault);
                        server.write_all(bytes).await?;
                    }
                    Some(Break::Slow(millis)) => {
                        tokio::time::sleep(Duration::from_millis(millis)).await;
                        server.write_all(bytes).await?;
                    }
                }
            }
            read = server.read(&mut answer) => {
                let bytes = &answer[..read?];
                shared.state().passed += bytes.len() as u64;
                match lose {
                    _ if bytes.is_empty() => return Ok(()),
                    None => client.write_all(bytes).await?,
                    Some(Break::Silence) => {}
                    Some(Break::Page(status)) => {
                        let page = "HTTP/1.1 {status} No\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\
                                    connection: close\r\n\r\n<p>\n";
                        let page = page.replace("{status}", &status.to_string());
                        return client.write_all(page.as_bytes()).await;
                    }
                    Some(Break::HalfAnswer) => return client.write_all(&bytes[..bytes.len() / 2]).await,
                    Some(_) => return Ok(()),
                }
            }
        }
    }
}
