//! Haulage on AWS: SQS holds the queue, DynamoDB the records, S3 large bodies
//! and results; consumers on ECS are protected while they work.
//!
//! ```no_run
//! # async fn example() -> haulage::Result<()> {
//! use std::sync::Arc;
//!
//! let backend = haulage_aws::AwsBackend::connect("sqs://jobs.fifo?table=results").await?;
//! let producer = haulage::Producer::new(Arc::new(backend));
//! # Ok(())
//! # }
//! ```
//!
//! Region and credentials come the ways of the AWS SDK: environment, profiles,
//! container and instance roles; endpoints from `AWS_ENDPOINT_URL` and the like.

// The verbs, one file each.
mod backend;
mod backlog;
mod cancel;
mod check;
mod claim;
mod get;
mod heartbeat;
mod list;
mod lost;
mod ping;
mod redrive;
mod settle;
pub mod setup;
mod submit;
mod unrecorded;

// Records without a queue.
mod records;

// From a message to a claim, and back to the queue.
mod deduplication;
mod deleter;
mod failures;
mod in_flight;
mod pauses;
mod poll;
mod protection;
mod receive;
mod resolve;
mod unusable;
mod visibility;

// What is stored, and how it is written.
mod body;
mod checkpoint;
mod envelope;
mod item;
mod object_retention;
mod random;
mod raw;
mod update;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

// The services.
mod bucket;
mod clients;
mod clock;
mod fault;
mod meter;
mod queue;
mod queue_name;
mod queues;
mod redrive_policy;
mod scan;
mod store;
mod table;

// What all of it stands on.
mod builder;
mod config;
mod inner;
mod runtime;

pub use aws_config::SdkConfig;

pub use backend::AwsBackend;
pub use builder::Builder;
pub use config::{Compression, Config, RawBodies, Unwrap};
pub use meter::Usage;
pub use protection::ScaleInProtection;
pub use records::{OwnRecord, Records, Refusal};
