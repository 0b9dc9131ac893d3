//! The body of a request, as it was before the client compressed it.

use std::{io, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap,
    body::{Body as _, Bytes, Incoming, SizeHint},
    header::CONTENT_ENCODING,
};

use crate::{
    Problem,
    gzip::{self, Inflater},
    protocol,
};

/// The kind of problem of a body in another coding than gzip.
pub(super) const UNKNOWN_ENCODING: &str = "encoding";

#[derive(Debug)]
pub(super) struct Content {
    body: Incoming,
    /// How long a client may take for the next part.
    patience: Duration,
    /// Where it is compressed.
    inflater: Option<Inflater>,
    /// How many bytes of it have come, as they were sent.
    received: usize,
    /// How many have come out, and how many are to, where the client has said so.
    inflated: u64,
    promised: Option<u64>,
}

impl Content {
    /// The body that comes with these headers.
    pub(super) fn new(body: Incoming, headers: &HeaderMap, patience: Duration) -> Result<Self, Problem> {
        let codings = headers.get_all(CONTENT_ENCODING).iter();
        let codings = codings.flat_map(|value| value.to_str().unwrap_or("?").split(','));
        let mut inflater = None;
        for coding in codings.map(str::trim) {
            match coding {
                "" => {}
                coding if coding.eq_ignore_ascii_case("identity") => {}
                coding if gzip::is_gzip(coding) && inflater.is_none() => inflater = Some(Inflater::new()),
                other => {
                    let detail = format!("the body is in {other:?}, and this server reads gzip, once");
                    let title = "The body is in a form that is not known";
                    return Err(Problem::new(415, UNKNOWN_ENCODING, title, detail)
                        .field("content-encoding")
                        .remedy("send it as it is, or by gzip"));
                }
            }
        }
        // Many say how the body that they do not have is compressed.
        let inflater = inflater.filter(|_| !body.is_end_stream());
        let promised = headers.get(protocol::INFLATED).filter(|_| inflater.is_some());
        let promised = promised.and_then(|bytes| bytes.to_str().ok()?.parse().ok());
        Ok(Self { body, patience, inflater, received: 0, inflated: 0, promised })
    }

    /// How long a client may take for the next part.
    pub(super) const fn patience(&self) -> Duration {
        self.patience
    }

    /// How many bytes it has, where that is known.
    pub(super) fn size_hint(&self) -> SizeHint {
        match (&self.inflater, self.promised) {
            (None, _) => self.body.size_hint(),
            (Some(_), Some(promised)) => SizeHint::with_exact(promised),
            (Some(_), None) => SizeHint::default(),
        }
    }

    /// How many bytes have come so far, as they were sent.
    pub(super) const fn received(&self) -> usize {
        self.received
    }

    /// The next part; it may be empty where what has come is not enough for a byte. Nothing is lost
    /// where this is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        if let Some(part) = self.inflate()? {
            return Ok(Some(part));
        }
        let data = next(&mut self.body, self.patience).await?;
        self.received += data.as_ref().map_or(0, Bytes::len);
        match (data, &mut self.inflater) {
            (data, None) => Ok(data),
            (Some(data), Some(inflater)) => {
                inflater.put(data);
                Ok(Some(self.inflate()?.unwrap_or_default()))
            }
            (None, Some(inflater)) => {
                inflater.finish().map_err(|error| broken(&error))?;
                Ok(None)
            }
        }
    }

    /// The next part of what has come.
    fn inflate(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(inflater) = &mut self.inflater else { return Ok(None) };
        let part = inflater.next().map_err(|error| broken(&error))?;
        self.inflated += part.as_ref().map_or(0, Bytes::len) as u64;
        match self.promised.filter(|promised| self.inflated > *promised) {
            // There is room for no more.
            Some(promised) => Err(wrong(format!("the body was to be {promised} bytes, and is more"))),
            None => Ok(part),
        }
    }
}

/// The next part, as it was sent.
async fn next(body: &mut Incoming, patience: Duration) -> Result<Option<Bytes>, Problem> {
    loop {
        let Ok(frame) = tokio::time::timeout(patience, body.frame()).await else {
            let detail = format!("no more of the body arrived for {} s", patience.as_secs());
            return Err(Problem::new(408, "too_slow", "The request took too long", detail));
        };
        match frame {
            None => return Ok(None),
            // Trailers are nothing to us.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Some(Err(error)) => {
                let detail = format!("the request broke off: {error}");
                return Err(Problem::new(400, "broken_off", "The request is not complete", detail));
            }
        }
    }
}

fn broken(error: &io::Error) -> Problem {
    let detail = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the body ends before its gzip does".to_owned(),
        _ => format!("the body is said to be gzip, and is not: {error}"),
    };
    wrong(detail)
}

fn wrong(detail: String) -> Problem {
    Problem::new(400, "not_gzip", "The body is not what it is said to be", detail).field("content-encoding")
}
