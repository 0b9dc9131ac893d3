//! The commands, a file each.

pub(crate) mod backup;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod docs;
pub(crate) mod doctor;
mod filter;
pub(crate) mod health;
pub(crate) mod list;
mod monitoring;
mod program;
pub(crate) mod purge;
mod python;
pub(crate) mod queue;
pub(crate) mod result;
mod serving;
pub(crate) mod show;
pub(crate) mod simulate;
pub(crate) mod sql;
pub(crate) mod stats;
pub(crate) mod status;
mod stop;
pub(crate) mod submit;
mod view;
pub(crate) mod wait;
pub(crate) mod worker;
