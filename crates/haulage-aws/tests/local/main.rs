//! The backend against local servers that stand in for AWS.

mod conformance;
mod delivery;
mod faults;
mod hands;
mod payloads;
mod place;
mod raw;
mod setup;
