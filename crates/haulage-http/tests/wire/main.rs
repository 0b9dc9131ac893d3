//! The backend of a server, over the wire.

mod claims;
mod conformance;
mod faults;
mod place;
