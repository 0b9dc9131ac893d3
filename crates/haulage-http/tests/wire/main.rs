//! The backend of a server, over the wire.

mod claims;
mod compression;
mod conformance;
mod faults;
mod hello;
mod place;
