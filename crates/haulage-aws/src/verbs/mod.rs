//! The verbs of the backend, one file each.

pub(crate) mod backlog;
pub(crate) mod cancel;
pub(crate) mod claim;
pub(crate) mod deliveries;
pub(crate) mod get;
pub(crate) mod heartbeat;
pub(crate) mod list;
pub(crate) mod lost;
pub(crate) mod ping;
pub(crate) mod recording;
pub(crate) mod redrive;
pub(crate) mod settle;
pub(crate) mod submit;
