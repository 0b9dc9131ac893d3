//! SQS, DynamoDB and S3, as the verbs use them.

pub(crate) mod bucket;
pub(crate) mod cancels;
pub(crate) mod clients;
pub(crate) mod clock;
pub(crate) mod deleter;
pub(crate) mod fault;
pub(crate) mod meter;
pub(crate) mod outbox;
pub(crate) mod pauses;
pub(crate) mod queue;
pub(crate) mod queues;
pub(crate) mod redrive_policy;
pub(crate) mod scan;
pub(crate) mod send;
pub(crate) mod store;
pub(crate) mod table;
pub(crate) mod time_limit;
pub(crate) mod transaction;
pub(crate) mod unrecorded;
