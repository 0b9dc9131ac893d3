//! The backend against local servers that stand in for AWS.

mod conformance;
mod delivery;
mod doctor;
mod faults;
mod helpers;
mod object_retention;
mod operators;
mod own_records;
mod payloads;
mod place;
mod raw;
mod records;
mod setup;
mod trust;
