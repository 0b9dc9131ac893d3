//! The backend of a server, over the wire.

mod conformance;
mod faults;
mod place;
