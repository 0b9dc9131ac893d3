//! The queue and its dead-letter queue: are they set up as they should be?

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::QueueAttributeName::{self as Name, *};
use haulage::{
    NewJob,
    backend::{Finding, Severity},
};

use super::verdict::{Who, judge, not_read};
use crate::{
    config::Config,
    services::{queue::Queue, redrive_policy},
    state::Inner,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A look at a message should not hide its job for longer.
const LONG_LOOK: Duration = Duration::from_secs(900);
/// Messages that are handed over more often than this cost more than they need to.
const LEAST_LIMIT: Duration = Duration::from_secs(3600);

type Attributes = HashMap<Name, String>;

/// All queues: of the named ones, what is wrong with them.
pub(super) async fn check(inner: &Inner) -> Vec<Finding> {
    let mut findings = one(inner, inner.queues.default()).await;
    let paused = inner.pauses.look(&inner.store.table).await.unwrap_or_default();
    for name in inner.queues.all().await {
        if paused.contains(&name) {
            findings.push(Finding::bad(
                Severity::Warning,
                "paused queue",
                format!("no job of the queue {name} is started, as it is paused"),
                format!("let it go on with `haulage queue resume {name}`"),
            ));
        }
        if name.is_default() {
            continue;
        }
        match inner.queues.get(&name).await {
            Ok(queue) => {
                findings
                    .push(Finding::ok(format!("queue {name}"), format!("{} at {}", queue.name, queue.url)));
                let wrong =
                    one(inner, &queue).await.into_iter().filter(|finding| finding.severity != Severity::Ok);
                findings.extend(wrong.map(|mut finding| {
                    finding.check = format!("{} of {name}", finding.check);
                    finding
                }));
            }
            Err(error) => findings.push(Finding::bad(
                Severity::Problem,
                format!("queue {name}"),
                error.to_string(),
                "allow sqs:GetQueueUrl on it",
            )),
        }
    }
    findings
}

async fn one(inner: &Inner, queue: &Queue) -> Vec<Finding> {
    let call = queue.client().get_queue_attributes().queue_url(&queue.url).attribute_names(All).send();
    let attributes = match judge(call.await, &[]) {
        Ok(output) => output.and_then(|output| output.attributes).unwrap_or_default(),
        Err(refusal) => {
            let on = format!("queue {}", queue.name);
            return vec![refusal.finding("queue", "sqs:GetQueueAttributes", &on, Who::Both)];
        }
    };
    let mut findings = vec![Finding::ok("queue", format!("{} at {}", queue.name, queue.url))];
    let retention = seconds(&attributes, &MessageRetentionPeriod);
    findings.extend(retention.map(kept));
    findings.extend(seconds(&attributes, &VisibilityTimeout).map(|time| visibility(time, &inner.config)));
    let largest = attributes.get(&MaximumMessageSize).and_then(|text| text.parse().ok());
    findings.extend(largest.and_then(|largest| too_small(largest, inner.largest_message())));
    if queue.fifo {
        findings.push(throughput(&attributes));
    }
    findings.extend(attributes.get(&KmsMasterKeyId).map(|key| {
        Finding::ok(
            "queue encryption",
            format!(
                "with the KMS key {key}; not checked: producers need kms:GenerateDataKey and kms:Decrypt \
                 on it, consumers kms:Decrypt too"
            ),
        )
    }));
    findings.extend(dead_letters(queue, &attributes, retention).await);
    findings
}

fn seconds(attributes: &Attributes, name: &Name) -> Option<Duration> {
    attributes.get(name).and_then(|text| text.parse().ok()).map(Duration::from_secs)
}

fn kept(retention: Duration) -> Finding {
    let shown = humantime::format_duration(retention);
    if retention >= DAY * 4 {
        return Finding::ok("queue retention", format!("messages are kept for {shown}"));
    }
    // With less than a day, a worker that is down for a night loses what waits.
    let severity = if retention < DAY { Severity::Problem } else { Severity::Warning };
    Finding::bad(
        severity,
        "queue retention",
        format!("messages are kept for {shown}; a job that waits longer is lost with its message"),
        "set MessageRetentionPeriod to 14 days (1209600)",
    )
}

/// How long receives hide a message: those of Haulage say it themselves, with the
/// lease; those of other tools take what the queue has.
fn visibility(timeout: Duration, config: &Config) -> Finding {
    let check = "visibility timeout";
    let shown = humantime::format_duration(timeout);
    let limit = humantime::format_duration(config.visibility_limit);
    if timeout > LONG_LOOK {
        return Finding::bad(
            Severity::Warning,
            check,
            format!("{shown}: somebody who looks at messages in the console hides their jobs for so long"),
            "set VisibilityTimeout to 30 s; receives of Haulage set their own",
        );
    }
    if config.visibility_limit < LEAST_LIMIT {
        return Finding::bad(
            Severity::Warning,
            check,
            format!(
                "visibility_limit is {limit}: each job is handed over that often, and no lease is longer than half"
            ),
            "leave visibility_limit out of the URL; less than its default is for tests",
        );
    }
    Finding::ok(
        check,
        format!("{shown} for other tools; jobs are hidden for their leases, and handed over after {limit}"),
    )
}

/// Whether the queue refuses messages that we may send.
fn too_small(largest: usize, needed: usize) -> Option<Finding> {
    (largest < needed).then(|| {
        Finding::bad(
            Severity::Warning,
            "message size",
            format!("the queue takes messages of {largest} bytes at most, and one of ours may have {needed}"),
            "set MaximumMessageSize to 1 MiB (1048576)",
        )
    })
}

fn throughput(attributes: &Attributes) -> Finding {
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

async fn dead_letters(queue: &Queue, attributes: &Attributes, retention: Option<Duration>) -> Vec<Finding> {
    let check = "dead-letter queue";
    let Some(policy) =
        attributes.get(&RedrivePolicy).and_then(|text| redrive_policy::RedrivePolicy::parse(text))
    else {
        return vec![Finding::bad(
            Severity::Warning,
            check,
            "the queue has no redrive policy: dead letters are in the table only, and a message that kills its \
             consumer before it is claimed comes back for ever",
            "give the queue a redrive policy, with maxReceiveCount 100",
        )];
    };
    let mut findings = vec![receives(policy.max_receives)];
    let name = policy.queue_name();
    if name.ends_with(".fifo") != queue.fifo {
        let kind = if queue.fifo { "a FIFO" } else { "a standard" };
        findings.push(Finding::bad(
            Severity::Problem,
            check,
            format!("{name} is not {kind} queue, as the queue itself is: SQS moves nothing there"),
            format!("name {kind} queue in the redrive policy"),
        ));
    }
    let Some(url) = &queue.dead else {
        findings.push(Finding::bad(
            Severity::Problem,
            check,
            format!("{} cannot be found, or not with these permissions", policy.arn),
            "create it, or allow sqs:GetQueueUrl on it",
        ));
        return findings;
    };
    let call = queue.client().get_queue_attributes().queue_url(url).attribute_names(All).send();
    match judge(call.await, &[]) {
        Err(refusal) => {
            findings.push(not_read(&refusal, check, "sqs:GetQueueAttributes", &format!("queue {name}")));
        }
        Ok(output) => {
            let of_dead = output.and_then(|output| output.attributes).unwrap_or_default();
            findings.push(Finding::ok(check, name));
            findings.extend(of_dead_letter_queue(&of_dead, retention));
        }
    }
    findings
}

/// Whether the redrive policy leaves our consumers their attempts.
fn receives(max: i64) -> Finding {
    let (check, attempts) = ("redrive policy", i64::from(NewJob::DEFAULT_MAX_ATTEMPTS));
    let remedy = "set maxReceiveCount to 100; more than the max_attempts of any job, and some to spare";
    if max <= attempts {
        return Finding::bad(
            Severity::Problem,
            check,
            format!(
                "maxReceiveCount is {max}: SQS moves a message away before its job has had its {attempts} \
                 attempts, and the job is stuck"
            ),
            remedy,
        );
    }
    if max < attempts + 2 {
        return Finding::bad(
            Severity::Warning,
            check,
            format!(
                "maxReceiveCount is {max}: enough for {attempts} attempts, with nothing to spare for a job \
                 that is given back or a message that comes twice"
            ),
            remedy,
        );
    }
    Finding::ok(check, format!("maxReceiveCount is {max}: jobs may have {} attempts", max - 1))
}

fn of_dead_letter_queue(attributes: &Attributes, retention: Option<Duration>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let kept = seconds(attributes, &MessageRetentionPeriod);
    if kept.is_some() && kept < retention {
        findings.push(Finding::bad(
            Severity::Warning,
            "dead-letter retention",
            "the dead-letter queue keeps messages for less time than the queue; on standard queues the time \
             counts from the first send",
            "set its MessageRetentionPeriod to 14 days (1209600)",
        ));
    }
    let waiting = attributes.get(&ApproximateNumberOfMessages).map_or("0", String::as_str);
    if waiting != "0" {
        findings.push(Finding::bad(
            Severity::Warning,
            "dead letters",
            format!("messages in the dead-letter queue: about {waiting}"),
            "look at them with `haulage dead list`, and send them back with `haulage dead redrive`",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_found() {
        let of = |days: u64| kept(DAY * u32::try_from(days).expect("days")).severity;
        assert_eq!((of(1), of(3), of(4), of(14)), {
            use Severity::{Ok, Warning};
            (Warning, Warning, Ok, Ok)
        });
        assert_eq!(kept(Duration::from_secs(3600)).severity, Severity::Problem);
        let counts = [3, 4, 5, 10].map(|max| receives(max).severity);
        assert_eq!(counts, [Severity::Problem, Severity::Warning, Severity::Ok, Severity::Ok]);
    }

    #[test]
    fn visibility_fits_the_configuration() {
        let mut config = Config::new("jobs.fifo");
        let of = |seconds: u64, config: &Config| visibility(Duration::from_secs(seconds), config).severity;
        assert_eq!((of(30, &config), of(7200, &config)), (Severity::Ok, Severity::Warning));
        config.visibility_limit = Duration::from_secs(60);
        assert_eq!(of(30, &config), Severity::Warning);
    }

    #[test]
    fn a_queue_for_small_messages_is_found() {
        assert_eq!(too_small(1 << 20, 500_000), None);
        assert!(too_small(256 << 10, 500_000).is_some_and(|finding| finding.message.contains("262144")));
    }

    #[test]
    fn dead_letters_are_kept_as_long_and_counted() {
        let attributes = |kept: &str, waiting: &str| {
            HashMap::from([
                (MessageRetentionPeriod, kept.to_owned()),
                (ApproximateNumberOfMessages, waiting.to_owned()),
            ])
        };
        let of = |kept: &str, waiting: &str| {
            let findings = of_dead_letter_queue(&attributes(kept, waiting), Some(DAY * 4));
            findings.into_iter().map(|finding| finding.check).collect::<Vec<_>>()
        };
        assert_eq!(of("345600", "0"), Vec::<String>::new());
        assert_eq!(of("345599", "7"), ["dead-letter retention", "dead letters"]);
        assert_eq!(of_dead_letter_queue(&HashMap::new(), None), []);
    }
}
