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

// Each uses those below it.
mod backend;
mod builder;
mod records;
pub mod setup;

mod check;
mod verbs;

mod delivery;
mod state;

mod protection;
mod services;

mod schema;

mod config;
mod queue_name;
mod random;
mod runtime;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

pub use aws_config::SdkConfig;

pub use backend::AwsBackend;
pub use builder::Builder;
pub use config::{Compression, Config, RawBodies, Unwrap};
pub use protection::ScaleInProtection;
pub use records::{OwnRecord, Records, Refusal};
pub use services::meter::Usage;
