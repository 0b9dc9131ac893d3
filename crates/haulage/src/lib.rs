//! Haulage runs long, asynchronous compute jobs behind a durable queue.
//!
//! A [`Producer`] submits a JSON job and gets an id; a [`Consumer`] runs your
//! function on it and records the result; the producer polls or waits.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`job`], [`record`], [`json`] | what is submitted, and what is known of it |
//! | [`backend`] | the contract with what keeps the jobs |
//! | [`lifecycle`] | what becomes of a job when an attempt of it ends |
//! | [`producer`], [`consumer`], [`handler`] | the two sides of the queue |
//! | [`retry`], [`shutdown`], [`clock`] | what they are set up with |
//! | [`metrics`] | what a consumer measures of itself |
//! | [`log`] | where it writes, so that no reader holds it up |
//! | [`memory`], [`sqlite`] | the backends of this crate |
//! | [`testing`] | for tests of your handlers |
//! | `conformance` | the suite for backends, with the feature of that name |

mod attempt;
pub mod backend;
mod backend_call;
mod capabilities;
mod claim;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod connect;
pub mod consumer;
mod delivery;
mod error;
mod event;
mod finding;
#[cfg(all(feature = "fuzzing", feature = "sqlite"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod handler;
mod holder;
mod id;
pub mod job;
pub mod json;
mod lease;
pub mod lifecycle;
mod list_query;
pub mod log;
pub mod memory;
pub mod metrics;
mod panic;
pub mod producer;
mod queue;
pub mod record;
pub mod retry;
mod seconds;
pub mod shutdown;
mod spec;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod stats;
mod suspicion;
pub mod testing;
mod unready;
#[doc(hidden)]
pub mod url;
mod webhook;

use std::time::Duration;

pub use attempt::Attempt;
pub use backend::Backend;
pub use clock::{Clock, Timestamp};
pub use connect::connect;
pub use consumer::Consumer;
pub use error::{Error, Result, with_causes};
pub use handler::{Context, Failure, Job};
pub use id::JobId;
pub use job::NewJob;
pub use json::Json;
pub use producer::{JobHandle, Producer};
pub use queue::{QueueName, Queues};
pub use record::{FailureKind, JobError, Metadata, Progress, Record, Status};
pub use retry::RetryPolicy;
pub use seconds::parse_duration;
pub use spec::JobSpec;
pub use webhook::{Webhook, WebhookEvent};

/// How long the record of a job that ended in `ERROR` is kept at least, whatever
/// its `result_ttl`: 14 days.
pub const ERROR_TTL: Duration = Duration::from_secs(14 * 24 * 3600);

/// The README's code compiles, and that of the guide runs.
#[cfg(all(doctest, feature = "sqlite"))]
mod documentation {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/rust.md")]
    struct Guide;
}
