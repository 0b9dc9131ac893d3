//! From a message to a claim, and back to the queue.

pub(crate) mod checkpoint;
pub(crate) mod deduplication;
pub(crate) mod disposition;
pub(crate) mod poll;
pub(crate) mod receive;
pub(crate) mod resolve;
pub(crate) mod revival;
pub(crate) mod unusable;
pub(crate) mod visibility;
