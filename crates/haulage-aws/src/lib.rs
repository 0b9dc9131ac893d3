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

mod arbiter;
mod backend;
mod body;
mod bucket;
mod builder;
mod cancel;
mod check;
mod claim;
mod clients;
mod clock;
mod config;
mod deleter;
mod expr;
mod fault;
mod get;
mod heartbeat;
mod held;
mod inner;
mod item;
mod meter;
mod poll;
mod protection;
mod queue;
mod redrive;
mod runtime;
mod scan;
mod settle;
pub mod setup;
mod submit;
mod table;
mod ticket;

pub use aws_config::SdkConfig;

pub use backend::AwsBackend;
pub use builder::Builder;
pub use config::{Compression, Config};
pub use meter::Usage;
pub use protection::ScaleInProtection;
