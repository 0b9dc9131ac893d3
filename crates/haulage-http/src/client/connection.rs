//! Requests to one server.

use std::{
    collections::HashSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use haulage::{
    Error, Result,
    backend::{ClaimKey, ClaimRequest},
    with_causes,
};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT},
};

use crate::{
    Problem,
    gzip::{self, Inflater},
    pool::{self, Options, Pool, Resolver},
    protocol,
};

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a silent connection is checked, so that a machine that is gone is known to be.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long an unused connection is kept: less than servers and proxies keep it.
const IDLE: Duration = Duration::from_secs(20);
/// What is larger is compressed beside the runtime, which has heartbeats to send.
const SLOW: usize = 1 << 20;

/// A server, and what is between it and this process.
#[derive(Debug)]
pub(super) struct Connection {
    pool: Pool,
    base: Uri,
    key: Option<HeaderValue>,
    /// Whether bodies are to be compressed, both ways.
    compress: bool,
    /// Whether the server reads such.
    takes_gzip: AtomicBool,
    /// How long a call is repeated.
    pub(super) patience: Duration,
    memory: Mutex<Memory>,
}

/// What is not to be forgotten between two calls.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Which server answered last.
    pub(super) instance: String,
    /// The ids of calls whose answers have arrived, of which the server does not know that yet.
    pub(super) received: Vec<String>,
    /// Calls that may have brought jobs, and whose answers did not arrive.
    pub(super) stranded: Vec<Stranded>,
    /// Claims that may have been settled, by a call whose answer did not arrive.
    pub(super) unsure: HashSet<ClaimKey>,
    /// Claims that are in nobody's hands, and have not been given back yet.
    pub(super) surplus: Vec<ClaimKey>,
}

/// A call that may have brought jobs.
#[derive(Clone, Debug)]
pub(super) struct Stranded {
    pub(super) id: String,
    pub(super) request: ClaimRequest,
}

/// Why there is no answer of the server.
pub(super) struct NoAnswer {
    pub(super) why: String,
    /// How long to wait before the next try, where somebody said so.
    pub(super) after: Option<Duration>,
}

/// What a call is made of.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) verb: &'static str,
    pub(super) body: Bytes,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Connection {
    pub(super) fn new(base: Uri, key: Option<&str>, patience: Duration, compress: bool) -> Result<Self> {
        let options = Options {
            is_secure: base.scheme_str() == Some("https"),
            connect: CONNECT,
            keepalive: Some(KEEPALIVE),
            idle: IDLE,
            head: None,
        };
        let pool = pool::pool(&options, Resolver::default()).map_err(Error::Config)?;
        let key = key.map(|key| HeaderValue::from_str(&format!("Bearer {key}"))).transpose();
        let mut key = key.map_err(|_| Error::Config("HAULAGE_KEY has characters that no key has".into()))?;
        if let Some(key) = &mut key {
            key.set_sensitive(true);
        }
        Ok(Self {
            pool,
            base,
            key,
            compress,
            takes_gzip: AtomicBool::new(false),
            patience,
            memory: Mutex::default(),
        })
    }

    /// Where the server is, for people.
    pub(super) const fn base(&self) -> &Uri {
        &self.base
    }

    /// There is no answer, for this reason.
    pub(super) fn unreachable(&self, why: &str) -> Error {
        let message = format!("cannot reach {}: {why}; {}", self.base, remedy(why));
        Error::Unavailable { message, source: None }
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server says of itself.
    pub(super) fn server_takes_gzip(&self, takes: bool) {
        self.takes_gzip.store(takes, Ordering::Relaxed);
    }

    /// A body as it is sent, and the headers that say how.
    pub(super) async fn packed(&self, body: Vec<u8>) -> (Bytes, Vec<(&'static str, String)>) {
        let size = body.len();
        let body = Bytes::from(body);
        if !self.compress || size < gzip::LEAST || !self.takes_gzip.load(Ordering::Relaxed) {
            return (body, Vec::new());
        }
        let packed = if size < SLOW {
            gzip::compress(&body).ok()
        } else {
            let body = body.clone();
            tokio::task::spawn_blocking(move || gzip::compress(&body).ok()).await.unwrap_or_default()
        };
        match packed {
            Some(packed) => {
                let encoding = ("content-encoding", gzip::NAME.to_owned());
                (packed.into(), vec![encoding, (protocol::INFLATED, size.to_string())])
            }
            None => (body, Vec::new()),
        }
    }

    /// An id that no other call has, nor one of a copy of this process.
    pub(super) fn call_id() -> Result<String> {
        protocol::random(16).map_err(|e| Error::unavailable("the system gives no random numbers", e))
    }

    /// Sends a request once.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let base = self.base.to_string();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", base.trim_end_matches('/')))
            .header(USER_AGENT, concat!("haulage/", env!("CARGO_PKG_VERSION")));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if self.compress {
            request = request.header(ACCEPT_ENCODING, gzip::NAME);
        }
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let none = |why: String| NoAnswer { why, after: None };
        let request = request.body(Full::new(body)).map_err(|error| none(error.to_string()))?;
        self.pool.request(request).await.map_err(|error| none(with_causes(&error)))
    }

    /// The whole of an answer, or the problem that it is.
    pub(super) async fn read(&self, response: Response<Incoming>) -> Result<Result<Bytes>, NoAnswer> {
        let status = response.status();
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(instance) = header(protocol::INSTANCE) {
            let mut memory = self.memory();
            if memory.instance != instance {
                instance.clone_into(&mut memory.instance);
            }
        }
        let after = header("retry-after").and_then(|after| after.parse().ok()).map(Duration::from_secs);
        let is_problem = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(crate::problem::MEDIA_TYPE.as_bytes()));
        let inflater = gzip::is_used(response.headers()).then(Inflater::new);
        let body = whole(response.into_body(), inflater).await;
        let body = body.map_err(|why| NoAnswer { why, after: None })?;
        if status.is_success() {
            return Ok(Ok(body));
        }
        let problem: Option<Problem> = serde_json::from_slice(&body).ok().filter(|_| is_problem);
        match problem {
            // The next server will have an answer.
            Some(problem) if problem.name() == protocol::STOPPING => {
                Err(NoAnswer { why: problem.detail, after })
            }
            Some(problem) => Ok(Err(problem.into_error())),
            // Something else than the server has answered: a proxy whose server is away, or too busy.
            None if is_temporary(status) => Err(NoAnswer { why: format!("HTTP {status}"), after }),
            None => Ok(Err(Error::Config(format!(
                "{} answers HTTP {status}, and not as a server of Haulage does; is it the URL of one?",
                self.base
            )))),
        }
    }
}

/// All of a body, as it was before it was compressed; or why it cannot be had.
async fn whole(mut body: Incoming, inflater: Option<Inflater>) -> Result<Bytes, String> {
    let Some(mut inflater) = inflater else {
        return Ok(body.collect().await.map_err(|error| with_causes(&error))?.to_bytes());
    };
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| with_causes(&error))?.into_data() {
            inflater.put(data);
            while let Some(part) = inflater.next().map_err(|error| error.to_string())? {
                whole.extend_from_slice(&part);
            }
        }
    }
    inflater.finish().map_err(|error| error.to_string())?;
    Ok(whole.into())
}

/// Whether the next try may fare better. What does not know how to POST at all will not learn it.
fn is_temporary(status: StatusCode) -> bool {
    match status {
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => false,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => true,
        status => status.is_server_error(),
    }
}

/// What to do about a server that gives no answer, for this reason.
fn remedy(why: &str) -> &'static str {
    // The texts of rustls: something answers, with a certificate that is not trusted, or not valid.
    // A self-signed one of the same name as a trusted one has a bad signature.
    if ["UnknownIssuer", "BadSignature"].iter().any(|fault| why.contains(fault)) {
        "if its certificate is one of your own, set SSL_CERT_FILE to a file with it"
    } else if why.contains("certificate") {
        "the server needs a certificate that is valid now, and for this name"
    } else {
        "is `haulage serve` running there?"
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, Error};

    use super::remedy;

    #[test]
    fn each_fault_of_a_certificate_has_its_own_remedy() {
        let of = |fault| remedy(&Error::InvalidCertificate(fault).to_string());
        for fault in [CertificateError::UnknownIssuer, CertificateError::BadSignature] {
            assert!(of(fault).contains("set SSL_CERT_FILE"));
        }
        for fault in [CertificateError::Expired, CertificateError::NotValidForName] {
            assert!(of(fault).contains("valid now, and for this name"));
        }
    }
}
