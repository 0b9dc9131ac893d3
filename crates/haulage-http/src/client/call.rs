//! A call, and its repeats.

use std::time::Duration;

use haulage::{Error, Result};
use hyper::{Method, body::Bytes};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::connection::{Connection, NoAnswer, Sent};
use crate::protocol;

/// The pause before the first repeat; it doubles, to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How many answers are told of in one request.
const MOST_RECEIVED: usize = 32;

/// How a call is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// How long one try may take.
    pub(super) limit: Duration,
    /// It changes something, so the server is to make it once.
    pub(super) once: bool,
    /// It may have been made before.
    pub(super) again: bool,
}

impl Manner {
    /// A look, which can be had as often as one likes.
    pub(super) const LOOK: Self = Self { limit: Duration::from_secs(30), once: false, again: false };
    /// A look that may read everything.
    pub(super) const LONG_LOOK: Self = Self { limit: Duration::from_secs(900), once: false, again: false };
    /// A change.
    pub(super) const CHANGE: Self = Self { limit: Duration::from_secs(30), once: true, again: false };
    /// A change of many jobs.
    pub(super) const LONG_CHANGE: Self = Self { limit: Duration::from_secs(900), once: true, again: false };

    /// The same with a wait in it.
    pub(super) const fn waiting(self, wait: Duration) -> Self {
        Self { limit: self.limit.saturating_add(wait), ..self }
    }
}

impl Connection {
    /// Makes a call.
    ///
    /// # Errors
    ///
    /// What the server answers; [`Error::Unavailable`] where there was no answer for as long
    /// as [`Connection::patience`] says.
    pub(super) async fn call<T: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        verb: &'static str,
        asked: &T,
        manner: Manner,
    ) -> Result<R> {
        let id = manner.once.then(Self::call_id).transpose()?;
        self.call_as(verb, asked, manner, id.as_deref()).await
    }

    /// The same under an id that is known before.
    pub(super) async fn call_as<T: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        verb: &'static str,
        asked: &T,
        manner: Manner,
        id: Option<&str>,
    ) -> Result<R> {
        let (body, headers) = self.packed(serde_json::to_vec(asked)?).await;
        let mut sent = Sent { verb, body, headers };
        if let Some(id) = id {
            sent.headers.push((protocol::CALL, id.to_owned()));
        }
        if manner.again {
            sent.headers.push((protocol::BEGAN, self.memory().instance.clone()));
        }
        let body = self.until_answered(sent, manner).await??;
        let answer = serde_json::from_slice(&body).map_err(|error| {
            let message = format!(
                "{} gave an answer to `{verb}` that this version does not understand: {error}; use the same \
                 version on both sides",
                self.base()
            );
            Error::Config(message)
        })?;
        // Only now: jobs in an answer that cannot be read are to go back.
        if let Some(id) = id {
            self.memory().received.push(id.to_owned());
        }
        Ok(answer)
    }

    /// Repeats a call until it is answered.
    async fn until_answered(&self, mut sent: Sent, manner: Manner) -> Result<Result<Bytes>> {
        let (mut pause, mut silent_since) = (PAUSE, None);
        let (began_on, began_at) = (self.memory().instance.clone(), Instant::now());
        loop {
            let NoAnswer { why, after } = match tokio::time::timeout(manner.limit, self.try_once(&sent)).await
            {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(none)) => none,
                Err(_) => NoAnswer { why: format!("no answer in {:?}", manner.limit), after: None },
            };
            // A wait that breaks off was not in vain until then.
            let silent_since = *silent_since.get_or_insert_with(Instant::now);
            let wait = after.unwrap_or(pause).min(LONGEST_PAUSE).mul_f64(0.5 + fastrand::f64() / 2.0);
            if silent_since.elapsed() + wait >= self.patience {
                return Err(self.unreachable(&why));
            }
            tracing::debug!(verb = sent.verb, why, "no answer; trying again");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if manner.once {
                // From now on it is a repeat.
                let began = began(&began_on, began_at.elapsed());
                sent.headers.retain(|(name, _)| *name != protocol::BEGAN);
                sent.headers.push((protocol::BEGAN, began.to_owned()));
            }
        }
    }

    async fn try_once(&self, sent: &Sent) -> Result<Result<Bytes>, NoAnswer> {
        let mut headers = sent.headers.clone();
        let received: Vec<String> = {
            let mut memory = self.memory();
            let count = memory.received.len().min(MOST_RECEIVED);
            memory.received.drain(..count).collect()
        };
        if !received.is_empty() {
            headers.push((protocol::RECEIVED, received.join(",")));
        }
        let path = format!("/v1/backend/{}", sent.verb);
        let response = self.request(Method::POST, &path, &headers, sent.body.clone()).await?;
        self.read(response).await
    }
}

/// What a repeat says of the first try, which went to this server so long ago. The half of the time leaves
/// the other one to the way there.
fn began(on: &str, since: Duration) -> &str {
    if since < protocol::KEPT / 2 { on } else { protocol::LONG_AGO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_says_when_the_server_may_have_forgotten_it() {
        assert_eq!(began("here", Duration::from_secs(15)), "here");
        assert_eq!(began("here", protocol::KEPT / 2), protocol::LONG_AGO);
    }
}
