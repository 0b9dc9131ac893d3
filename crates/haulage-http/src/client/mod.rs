//! The backend that speaks to a server: producers and workers anywhere, with outgoing
//! connections only.

mod backend;
mod builder;
mod call;
mod claim;
mod connection;
mod runtime;
mod settle;
mod signals;

pub use self::{backend::HttpBackend, builder::HttpBackendBuilder};
