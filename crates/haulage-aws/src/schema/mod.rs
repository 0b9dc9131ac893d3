//! What is written: messages of the queue, items of the table, objects of the bucket.

pub(crate) mod body;
pub(crate) mod envelope;
pub(crate) mod fence;
pub(crate) mod item;
pub(crate) mod name;
pub(crate) mod object_retention;
pub(crate) mod raw;
pub(crate) mod update;
pub(crate) mod webhook;
pub(crate) mod wire;
