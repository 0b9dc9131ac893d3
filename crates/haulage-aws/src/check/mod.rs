//! `check`: is everything there, set up as it should be, and allowed?

mod permissions;

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::QueueAttributeName::{self as Name, *};
use haulage::{
    NewJob, Result, Timestamp,
    backend::{Finding, Severity},
};

use crate::{
    ScaleInProtection,
    inner::{Inner, Shared},
    item::name,
    queue::Redrive,
    setup::{self, TTL},
};

pub(crate) async fn check(inner: Shared) -> Result<Vec<Finding>> {
    let mut findings = vec![Finding::ok("region", inner.clients.region.clone())];
    findings.extend(queue(&inner).await);
    findings.extend(table(&inner).await);
    findings.extend(bucket(&inner).await);
    findings.push(clock(&inner));
    findings.extend(protection(&inner));
    findings.extend(permissions::probe(&inner).await);
    Ok(findings)
}

fn failed(check: &str, error: &haulage::Error) -> Finding {
    Finding::bad(Severity::Problem, check, error.to_string(), "see the findings about permissions below")
}

async fn queue(inner: &Inner) -> Vec<Finding> {
    let queue = &inner.queue;
    let attributes = match queue.attributes(&queue.url).await {
        Ok(attributes) => attributes,
        Err(error) => return vec![failed("queue", &error)],
    };
    let mut findings = vec![Finding::ok("queue", format!("{} at {}", queue.name, queue.url))];
    let retention = seconds(&attributes, &MessageRetentionPeriod);
    findings.push(retention_finding("queue retention", retention));
    if queue.fifo {
        findings.push(throughput(&attributes));
    }
    findings.extend(dead_letters(inner, &attributes, retention).await);
    findings
}

fn seconds(attributes: &HashMap<Name, String>, name: &Name) -> Duration {
    Duration::from_secs(attributes.get(name).and_then(|text| text.parse().ok()).unwrap_or(0))
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn retention_finding(check: &str, retention: Duration) -> Finding {
    let shown = humantime::format_duration(retention);
    if retention < DAY * 4 {
        return Finding::bad(
            Severity::Warning,
            check,
            format!("messages are kept for {shown}; a job that waits longer is lost with its message"),
            "set MessageRetentionPeriod to 14 days (1209600)",
        );
    }
    Finding::ok(check, format!("messages are kept for {shown}"))
}

fn throughput(attributes: &HashMap<Name, String>) -> Finding {
    let is = |name: &Name, value: &str| attributes.get(name).is_some_and(|is| is == value);
    if is(&DeduplicationScope, "messageGroup") && is(&FifoThroughputLimit, "perMessageGroupId") {
        return Finding::ok("FIFO throughput", "high-throughput mode");
    }
    Finding::bad(
        Severity::Warning,
        "FIFO throughput",
        "not in high-throughput mode: 300 calls a second, for the whole queue",
        "set DeduplicationScope to messageGroup and FifoThroughputLimit to perMessageGroupId",
    )
}

async fn dead_letters(
    inner: &Inner,
    attributes: &HashMap<Name, String>,
    retention: Duration,
) -> Vec<Finding> {
    let check = "dead-letter queue";
    let Some(policy) = attributes.get(&RedrivePolicy).and_then(|text| Redrive::parse(text)) else {
        return vec![Finding::bad(
            Severity::Warning,
            check,
            "the queue has no redrive policy: dead letters are in the table only, and a message that kills its \
             consumer before it is claimed comes back for ever",
            "give the queue a redrive policy, with maxReceiveCount 10",
        )];
    };
    let mut findings = Vec::new();
    let least = i64::from(NewJob::DEFAULT_MAX_ATTEMPTS) + 1;
    let receives = policy.max_receives;
    findings.push(if receives < least {
        Finding::bad(
            Severity::Problem,
            "redrive policy",
            format!(
                "maxReceiveCount is {receives}: SQS moves a message away before its job has had its {} attempts, \
                 and the job is stuck",
                NewJob::DEFAULT_MAX_ATTEMPTS
            ),
            "set maxReceiveCount to 10; at least one more than the max_attempts of any job",
        )
    } else {
        Finding::ok("redrive policy", format!("maxReceiveCount is {receives}: jobs may have {} attempts", receives - 1))
    });
    match &inner.queue.dead {
        None => findings.push(Finding::bad(
            Severity::Problem,
            check,
            format!("{} cannot be found, or not with these permissions", policy.arn),
            "create it, or allow sqs:GetQueueUrl on it",
        )),
        Some(url) => match inner.queue.attributes(url).await {
            Err(error) => findings.push(failed(check, &error)),
            Ok(of_dead) => {
                findings.push(Finding::ok(check, policy.queue_name().to_owned()));
                let kept = seconds(&of_dead, &MessageRetentionPeriod);
                if kept < retention {
                    findings.push(Finding::bad(
                        Severity::Warning,
                        "dead-letter retention",
                        "the dead-letter queue keeps messages for less time than the queue; on standard queues the \
                         time counts from the first send",
                        "set its MessageRetentionPeriod to 14 days (1209600)",
                    ));
                }
                let waiting = of_dead.get(&ApproximateNumberOfMessages).map_or("0", String::as_str);
                if waiting != "0" {
                    findings.push(Finding::bad(
                        Severity::Warning,
                        "dead letters",
                        format!("about {waiting} messages are in the dead-letter queue"),
                        "look at them with `haulage dead list`, and send them back with `haulage dead redrive`",
                    ));
                }
            }
        },
    }
    findings
}

async fn table(inner: &Inner) -> Vec<Finding> {
    let (dynamodb, table) = (inner.table.client(), inner.table.name());
    let found = match setup::find_table(dynamodb, table).await {
        Err(error) => return vec![failed("table", &error)],
        Ok(None) => {
            return vec![Finding::bad(
                Severity::Problem,
                "table",
                format!("there is no table {table} in this region and account"),
                "name another with table=… in the URL, or make it with `haulage queue create`",
            )];
        }
        Ok(Some(found)) => found,
    };
    let mut findings = vec![match setup::wrong_key(&found) {
        None => Finding::ok("table", format!("{table}, with the key {}", name::ID)),
        Some(key) => Finding::bad(
            Severity::Problem,
            "table",
            format!("the key of table {table} is {key}"),
            format!("use a table whose only key is the string {}", name::ID),
        ),
    }];
    findings.push(match setup::ttl_of(dynamodb, table).await {
        Err(error) => failed("table TTL", &error),
        Ok(Some(attribute)) if attribute == TTL => Finding::ok("table TTL", format!("on, by {TTL}")),
        Ok(other) => Finding::bad(
            Severity::Warning,
            "table TTL",
            format!(
                "it is {}; expired records stay in the table and are paid for",
                other.as_deref().unwrap_or("off")
            ),
            format!("turn the TTL on, with the attribute {TTL}"),
        ),
    });
    findings
}

async fn bucket(inner: &Inner) -> Option<Finding> {
    let bucket = inner.bucket.as_ref()?;
    Some(match setup::rules(bucket.client(), bucket.name()).await {
        Err(error) => failed("bucket", &error),
        Ok(rules) => {
            let missing = setup::missing_rules(&rules);
            if missing.is_empty() {
                Finding::ok("bucket", format!("{}, with lifecycle rules", bucket.name()))
            } else {
                let days: Vec<_> = missing.iter().map(|days| format!("haulage/{days}d/")).collect();
                Finding::bad(
                    Severity::Warning,
                    "bucket lifecycle",
                    format!(
                        "no rule lets objects under {} expire; they stay and are paid for",
                        days.join(", ")
                    ),
                    "run `haulage queue create` with the bucket, or add rules with these prefixes and times",
                )
            }
        }
    })
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
