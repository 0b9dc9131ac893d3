//! A Lambda as a process, and its runtime API ("Using the Lambda runtime API
//! for custom runtimes", AWS Lambda Developer Guide) in this process.

use std::{
    convert::Infallible,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::mpsc as events;

use crate::Process;

/// For how long a function may be silent. These machines are slow at times.
const PATIENCE: Duration = Duration::from_secs(90);

/// A function that runs for as long as this is kept.
#[derive(Debug)]
pub struct Lambda {
    process: Process,
    log: Option<JoinHandle<Vec<String>>>,
    events: events::UnboundedSender<Event>,
    told: mpsc::Receiver<(Instant, Told)>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Debug)]
struct Event {
    body: String,
    deadline: SystemTime,
}

/// What the function has said to the runtime API.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// It has started, and asks for an event for the first time.
    Ready,
    /// It has answered an event.
    Answer(Value),
    /// It has failed, with `errorType` and `errorMessage`.
    Error(Value),
}

impl Lambda {
    /// Starts the program as Lambda would, with these environment variables besides.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start<'a>(program: &Path, variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        listener.set_nonblocking(true).expect("a socket");
        let (events, next) = events::unbounded_channel();
        let (tell, told) = mpsc::channel();
        let api = Api { next: tokio::sync::Mutex::new(next), ready: Mutex::new(false), tell };
        runtime.spawn(serve(listener, Arc::new(api)));
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs([
                ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
                ("AWS_LAMBDA_FUNCTION_NAME", "function"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
                ("AWS_ACCESS_KEY_ID", "local"),
                ("AWS_SECRET_ACCESS_KEY", "local"),
                ("AWS_REGION", "us-east-1"),
            ])
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let log = std::thread::spawn(|| output.lines().map_while(Result::ok).collect());
        Self { process, log: Some(log), events, told, runtime: Some(runtime) }
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it asks for its first event; the moment of that.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn ready(&self) -> Instant {
        let (at, told) = self.told.recv_timeout(PATIENCE).expect("the function should ask for an event");
        assert_eq!(told, Told::Ready);
        at
    }

    /// Lets it handle an event, with so much time for it. What it answers, and when.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub fn invoke(&self, event: &Value, time: Duration) -> (Instant, Told) {
        let event = Event { body: event.to_string(), deadline: SystemTime::now() + time };
        self.events.send(event).expect("the runtime API should be there");
        loop {
            match self.told.recv_timeout(PATIENCE).expect("the function should answer") {
                (_, Told::Ready) => {}
                answer => return answer,
            }
        }
    }

    /// Ends it, and returns the lines of its log.
    pub fn stop(mut self) -> Vec<String> {
        let _ = self.process.kill();
        self.log.take().and_then(|log| log.join().ok()).unwrap_or_default()
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Debug)]
struct Api {
    next: tokio::sync::Mutex<events::UnboundedReceiver<Event>>,
    ready: Mutex<bool>,
    tell: mpsc::Sender<(Instant, Told)>,
}

impl Api {
    fn tell(&self, told: Told) {
        // Nobody listens once the test is over.
        let _ = self.tell.send((Instant::now(), told));
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let is_next = request.method() == Method::GET && path == "/2018-06-01/runtime/invocation/next";
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let status = match path.rsplit('/').next() {
            _ if is_next => return self.next().await,
            Some("response") => {
                self.tell(Told::Answer(body));
                StatusCode::ACCEPTED
            }
            Some("error") => {
                self.tell(Told::Error(body));
                StatusCode::ACCEPTED
            }
            _ => StatusCode::NOT_FOUND,
        };
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    }

    async fn next(&self) -> Response<Full<Bytes>> {
        if !std::mem::replace(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner), true) {
            self.tell(Told::Ready);
        }
        let Some(event) = self.next.lock().await.recv().await else { return std::future::pending().await };
        let deadline = event.deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        Response::builder()
            .header("lambda-runtime-aws-request-id", "00000000-0000-4000-8000-000000000000")
            .header("lambda-runtime-deadline-ms", deadline.to_string())
            .header(
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:us-east-1:000000000000:function:function",
            )
            .body(Full::from(event.body))
            .expect("a response")
    }
}

async fn serve(listener: std::net::TcpListener, api: Arc<Api>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let api = api.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(api.handle(request).await) });
            // An error is a connection that broke, as the function has ended.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
