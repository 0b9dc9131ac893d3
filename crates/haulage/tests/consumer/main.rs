//! What a consumer makes of its jobs, by what happens to them.

mod batches;
mod cancelling;
mod faults;
mod leases;
mod outcomes;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
