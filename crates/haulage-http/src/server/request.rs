//! A request, and how much of it is read.

use std::{str::FromStr, sync::Arc, time::Duration};

use hyper::{
    HeaderMap,
    body::Bytes,
    header::{AsHeaderName, CONTENT_TYPE},
};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{
    caller::Caller,
    content::Content,
    memory::{FREE, Memory, Room, check_rate},
    seconds,
};
use crate::Problem;

/// A request to one of the routes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) headers: HeaderMap,
    /// What stands in the path in the place of each `{name}`.
    pub(super) path: Vec<(&'static str, String)>,
    pub(super) query: Query,
    pub(super) body: Content,
    /// Who asks.
    pub(super) who: Arc<Caller>,
    pub(super) memory: Arc<Memory>,
    /// What its body has taken of that, as long as the request is there.
    pub(super) room: Option<Room>,
}

impl Request {
    /// The part of the path that the route calls so.
    pub(super) fn part(&self, name: &str) -> &str {
        self.path.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    pub(super) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The media type of the body, without its parameters.
    pub(super) fn kind(&self) -> String {
        let kind = self.header(CONTENT_TYPE).unwrap_or_default();
        kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// The whole body, of up to so many bytes.
    pub(super) async fn read(&mut self, limit: usize) -> Result<Bytes, Problem> {
        let size = self.body.size_hint();
        if size.lower() > limit as u64 {
            return Err(too_large(limit));
        }
        // As much as it says, or as it may have where it says nothing.
        let most = size
            .upper()
            .and_then(|upper| usize::try_from(upper).ok())
            .map_or(limit, |upper| upper.min(limit));
        let mut room = if size.exact().is_some_and(|exact| exact > FREE as u64) {
            Some(self.memory.take(most).await?)
        } else {
            None
        };
        let mut whole = Vec::new();
        let began = Instant::now();
        while let Some(part) = self.body.next().await? {
            let size = whole.len() + part.len();
            // What is compressed may also be nothing at all, for ever.
            if size.max(self.body.received()) > limit {
                return Err(too_large(limit));
            }
            if size > FREE && room.is_none() {
                room = Some(self.memory.take(most).await?);
            }
            match &room {
                Some(room) => room.check_rate(size)?,
                // Who sends a byte now and then would keep a connection for days.
                None => check_rate(began, self.body.patience(), size)?,
            }
            whole.extend_from_slice(&part);
        }
        if let Some(room) = &mut room {
            room.shrink(whole.len());
        }
        self.room = room;
        Ok(whole.into())
    }
}

/// The problem of a body that has more than these bytes.
pub(super) fn too_large(limit: usize) -> Problem {
    let detail = format!("the body of the request has more than {limit} bytes");
    let problem = Problem::new(413, "too_large", "Too large", detail).field("request");
    Problem { limit: Some(limit), ..problem }
        .remedy("send less at a time, or keep it elsewhere and pass a reference to it")
}

/// Reads JSON of a type.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| Problem::from(haulage::Error::from(error)))
}

/// The parameters behind the `?`.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// Refuses parameters that the route does not know, or that are there twice.
    pub(super) fn check(&self, known: impl Iterator<Item = &'static str> + Clone) -> Result<(), Problem> {
        for (n, (name, _)) in self.0.iter().enumerate() {
            let is_label =
                name.starts_with("metadata.") && known.clone().any(|known| known == "metadata.{name}");
            if !is_label && !known.clone().any(|known| known == name) {
                let names: Vec<_> = known.collect();
                let remedy = match names.is_empty() {
                    true => "leave it out; this request takes none".to_owned(),
                    false => format!("the parameters are {}", names.join(", ")),
                };
                let detail = format!("there is no parameter {name:?}");
                return Err(invalid(name, detail).remedy(remedy));
            }
            if self.0[..n].iter().any(|(earlier, _)| earlier == name) {
                return Err(invalid(name, format!("the parameter {name:?} is given twice")));
            }
        }
        Ok(())
    }

    /// The same without those that have no value.
    pub(super) fn without_empty(&self) -> Self {
        Self(self.0.iter().filter(|(_, value)| !value.trim().is_empty()).cloned().collect())
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Those whose names begin so, by what follows.
    pub(super) fn beginning<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// One that is made of text.
    pub(super) fn parsed<T: FromStr<Err: std::fmt::Display>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Problem> {
        let value = self.get(name).map(str::parse).transpose();
        value.map_err(|error: T::Err| invalid(name, format!("{name}: {error}")))
    }

    /// A time: `90s`, `5m`, or a number of seconds.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Problem> {
        let value = self.get(name).map(seconds).transpose();
        value.map_err(|why| invalid(name, format!("{name}: {why}")))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(invalid(name, format!("{name} is {other:?}, and can be true or false"))),
        }
    }
}

/// A part of a request that is wrong.
pub(super) fn invalid(field: &str, detail: impl Into<String>) -> Problem {
    Problem::invalid(detail).field(field)
}
