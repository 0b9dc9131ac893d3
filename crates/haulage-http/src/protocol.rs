//! What passes between the server and the backend of this crate.
//!
//! Each verb of [`haulage::Backend`] is a POST to `/v1/backend/` and its name, of JSON
//! that is made of the same types as the verb's arguments and its answer.
//!
//! **A call can be repeated.** One that changes something has an id of its own
//! ([`CALL`]). The server keeps the answer until the client has said that it has got it
//! ([`RECEIVED`]), so a call whose answer was lost on the way is repeated under its id,
//! and is answered again without being made again. What a server kept is gone when it is
//! started anew; so each answer says which server gave it ([`INSTANCE`]) and a repeat on which
//! it began ([`BEGAN`]), and one that cannot know what became of the call says so where that matters.

use std::{net::IpAddr, time::Duration};

use haulage::{
    FailureKind, JobError, Result, Timestamp,
    backend::{Capabilities, ClaimKey, ClaimRequest, Claimed, Outcome, Settlement},
};
use serde::{Deserialize, Serialize};

use crate::Problem;

/// The version of this protocol. A server and a client that differ in it do not work together;
/// what is merely added does not change it.
pub(crate) const VERSION: u32 = 1;

/// The id of a call: 1 to 64 of the characters `A-Z a-z 0-9 -`.
pub(crate) const CALL: &str = "haulage-call";
/// With each answer: the server that gives it, drawn anew with each start.
pub(crate) const INSTANCE: &str = "haulage-instance";
/// On a repeat: the [`INSTANCE`] of the server that was called first, or [`LONG_AGO`].
pub(crate) const BEGAN: &str = "haulage-began";
/// On a repeat so long after the first try that any server may have forgotten the call.
pub(crate) const LONG_AGO: &str = "long-ago";
/// How long a server knows that it has made a call, from its answer on.
pub(crate) const KEPT: Duration = Duration::from_secs(120);
/// The ids of calls whose answers have arrived, with a comma in between.
pub(crate) const RECEIVED: &str = "haulage-received";

/// The kind of problem where the server ends: whoever asks again is answered by the next one.
pub(crate) const STOPPING: &str = "stopping";
/// The kind of problem where a call is repeated of which nothing is known any more.
pub(crate) const UNKNOWN_CALL: &str = "unknown_call";

/// With a body in gzip: how many bytes it has when it is inflated, so that the server makes room for no more.
pub(crate) const INFLATED: &str = "haulage-inflated";

/// How many records one list gives at most; of more, there are several.
pub(crate) const MOST_LISTED: usize = 1000;

/// What any version of a server says of itself, in whichever form it says the rest: read first.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Version {
    /// See [`VERSION`].
    pub(crate) protocol: u32,
    /// The version of the program.
    pub(crate) version: String,
}

/// What a server says of itself. Whatever is added later has a default, for servers that do not say it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// See [`VERSION`].
    pub(crate) protocol: u32,
    /// The version of the program.
    pub(crate) version: String,
    /// The name of the store's backend.
    pub(crate) backend: String,
    pub(crate) capabilities: Capabilities,
    #[serde(default)]
    pub(crate) signals: HasSignals,
    /// It takes bodies in gzip.
    #[serde(default)]
    pub(crate) gzip: bool,
    pub(crate) now: Timestamp,
}

/// Which of the backend's signals there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HasSignals {
    pub(crate) outcomes: bool,
    pub(crate) cancels: bool,
    pub(crate) scanned: bool,
}

/// The end of claims, and where `claim` is there, a claim that goes along.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settle {
    pub(crate) settlements: Vec<Settlement>,
    /// Of these, an earlier call may have been made, of which no answer came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unsure: Vec<ClaimKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claim: Option<ClaimRequest>,
}

/// What comes of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settled {
    pub(crate) settled: Vec<Answer<haulage::Status>>,
    #[serde(default)]
    pub(crate) claimed: Vec<Claimed>,
}

/// A claim, under way or answered, that its caller wants no more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stop {
    /// The id of the call.
    pub(crate) call: String,
    /// Also where it has brought jobs: they go back to the queue.
    pub(crate) give_back: bool,
}

/// Whether the server knows the call.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Stopped {
    pub(crate) known: bool,
}

/// The answer for one of many.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(clippy::large_enum_variant)] // an error is rare
pub(crate) enum Answer<T> {
    Ok(T),
    Error(Problem),
}

impl<T> From<Result<T>> for Answer<T> {
    fn from(result: Result<T>) -> Self {
        match result {
            Ok(answer) => Self::Ok(answer),
            Err(error) => Self::Error(error.into()),
        }
    }
}

impl<T> From<Answer<T>> for Result<T> {
    fn from(answer: Answer<T>) -> Self {
        match answer {
            Answer::Ok(answer) => Ok(answer),
            Answer::Error(problem) => Err(problem.into_error()),
        }
    }
}

/// A result that is too large is no result, and the end of its job says so. For both sides:
/// a server that refused the request would be asked again and again.
pub(crate) fn within(mut settlement: Settlement, capabilities: &Capabilities) -> Settlement {
    if let Outcome::Success(result) = &settlement.outcome
        && let Err(error) = capabilities.check_payload("result", result)
    {
        let error = JobError::new(FailureKind::InvalidResult, error.to_string());
        settlement.outcome = Outcome::Fail(error);
    }
    settlement
}

/// Whether this is what a machine calls itself. An IPv6 address may be in brackets.
pub(crate) fn is_loopback_name(host: &str) -> bool {
    let name = host.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// So many bytes of the operating system's randomness, in hexadecimal digits: identity is never drawn
/// from a generator that a fork or a snapshot would copy.
pub(crate) fn random(bytes: usize) -> std::io::Result<String> {
    let mut drawn = vec![0; bytes];
    getrandom::fill(&mut drawn).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(hex(&drawn))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
