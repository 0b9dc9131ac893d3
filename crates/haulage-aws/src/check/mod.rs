//! `check`: is everything there, set up as it should be, and allowed?

mod permissions;
mod queue;
mod storage;
mod verdict;
mod webhooks;

use std::time::Duration;

use haulage::{
    Result, Timestamp,
    backend::{Finding, Severity},
};

use crate::{
    ScaleInProtection,
    state::{Inner, Shared},
    verbs::lost,
};

pub(crate) async fn check(inner: Shared) -> Result<Vec<Finding>> {
    let mut findings = vec![Finding::ok("region", inner.clients.region.clone())];
    findings.extend(queue::check(&inner).await);
    findings.extend(storage::table(&inner).await);
    findings.push(clock(&inner));
    findings.extend(protection(&inner));
    findings.extend(permissions::probe(&inner).await);
    findings.extend(storage::bucket(&inner).await);
    findings.extend(lost::check(&inner).await);
    findings.extend(webhooks::check(&inner).await);
    Ok(findings)
}

fn clock(inner: &Inner) -> Finding {
    let here = Timestamp::from(std::time::SystemTime::now());
    let there = inner.now();
    let off = here.since(there).max(there.since(here));
    // What is less is taken for none.
    if off > Duration::from_secs(1) {
        return Finding::bad(
            Severity::Warning,
            "clock",
            format!("this machine's clock differs from that of AWS by {} s; corrected for", off.as_secs()),
            "let the machine follow a time server",
        );
    }
    Finding::ok("clock", "in step with AWS")
}

fn protection(inner: &Inner) -> Option<Finding> {
    let mode = inner.config.ecs_protection;
    let on_ecs = std::env::var_os("ECS_AGENT_URI").is_some();
    match mode {
        ScaleInProtection::Off => None,
        _ if on_ecs => {
            Some(Finding::ok("ECS task protection", format!("{mode}, through the agent of this task")))
        }
        ScaleInProtection::Require => Some(Finding::bad(
            Severity::Problem,
            "ECS task protection",
            "it is required, and ECS_AGENT_URI is not set: no job will be started here",
            "run as a task of an ECS service, or set ecs_protection=off",
        )),
        ScaleInProtection::Prefer => {
            Some(Finding::ok("ECS task protection", "not on ECS here; nothing to protect"))
        }
    }
}
