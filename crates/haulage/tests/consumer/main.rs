//! What a consumer makes of its jobs, by what happens to them.

mod batches;
mod cancelling;
mod dispatching;
mod faults;
mod finishing;
mod leases;
mod metering;
mod outcomes;
mod readiness;
mod stopping;
mod stress;
#[path = "../support/mod.rs"]
mod support;
