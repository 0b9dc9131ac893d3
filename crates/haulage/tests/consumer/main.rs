//! What a consumer makes of its jobs, by what happens to them.

mod batches;
mod cancelling;
mod checkpoints;
mod dispatching;
mod faults;
mod finishing;
mod leases;
mod metering;
mod notices;
mod outcomes;
mod readiness;
mod slots;
mod snoozing;
mod stopping;
mod stress;
#[path = "../support/mod.rs"]
mod support;

use haulage::backend::ClaimRequest;

use self::support::s;

/// What another consumer asks for, which does not wait.
fn claim_request() -> ClaimRequest {
    ClaimRequest::new("another", s(30)).max(10)
}
