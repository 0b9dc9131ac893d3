//! The queue and its dead-letter queue.

use std::collections::HashMap;

use aws_sdk_sqs::{
    Client,
    types::QueueAttributeName::{self as Name, *},
};
use haulage::{Error, Result};

use super::{Outcome, QueueSettings, Step, dead_letter_queue};
use crate::{
    config::Config,
    queue_name::in_sqs,
    services::{
        clients::Clients,
        fault::fault,
        queue::{MAX_RETENTION, is_gone},
        queues,
        table::pause,
    },
};

/// How often a new queue is looked up until it is there. Amazon SQS API
/// Reference, "CreateQueue": that may take a second.
const LOOKS: u32 = 6;

type Attributes = HashMap<Name, String>;

pub(super) async fn create(
    clients: &Clients,
    config: &Config,
    settings: &QueueSettings,
) -> Result<Vec<Step>> {
    let sqs = &clients.sqs;
    let (store, dead) = (config.queue_name(), dead_letter_queue(config));
    let names = std::iter::once(Ok(store.to_owned()))
        .chain(settings.named.iter().map(|queue| in_sqs(store, queue)))
        .collect::<Result<Vec<_>>>()?;
    if dead.len() > 80 {
        return Err(Error::Config(format!(
            "`{dead}` would be the name of the dead-letter queue, and is longer than 80 characters; \
             take a queue with a shorter name"
        )));
    }
    // Dead letters are kept for as long as can be.
    let mut of_dead: Attributes = HashMap::from([
        (MessageRetentionPeriod, MAX_RETENTION.as_secs().to_string()),
        (SqsManagedSseEnabled, "true".into()),
    ]);
    if config.is_fifo() {
        of_dead.insert(FifoQueue, "true".into());
    }
    let (dead_step, dead_url, dead_arn) = ensure(sqs, &dead, of_dead).await?;
    let policy =
        serde_json::json!({ "deadLetterTargetArn": dead_arn, "maxReceiveCount": settings.max_receives });
    let mut attributes: Attributes = HashMap::from([
        (VisibilityTimeout, settings.visibility_timeout.as_secs().to_string()),
        (MessageRetentionPeriod, settings.retention.as_secs().to_string()),
        (RedrivePolicy, policy.to_string()),
        (SqsManagedSseEnabled, "true".into()),
    ]);
    if config.is_fifo() {
        // High throughput: each message group has a limit of its own.
        attributes.insert(FifoQueue, "true".into());
        attributes.insert(DeduplicationScope, "messageGroup".into());
        attributes.insert(FifoThroughputLimit, "perMessageGroupId".into());
    }
    let mut sources = match dead_step.outcome {
        Outcome::Created => Some(Vec::new()),
        // As somebody has set it up.
        _ => sources(&attributes_of_new(sqs, &dead_url).await?),
    };
    let mut steps = vec![dead_step];
    let mut is_new = false;
    for name in names {
        let (step, _, arn) = ensure(sqs, &name, attributes.clone()).await?;
        steps.push(step);
        if let Some(sources) = sources.as_mut().filter(|sources| !sources.contains(&arn)) {
            sources.push(arn);
            is_new = true;
        }
    }
    if let Some(sources) = sources.filter(|_| is_new) {
        // More than these ten SQS does not take one by one (API Reference, SetQueueAttributes).
        let allow = match sources.len() {
            1..=10 => serde_json::json!({ "redrivePermission": "byQueue", "sourceQueueArns": sources }),
            _ => serde_json::json!({ "redrivePermission": "allowAll" }),
        };
        let set =
            sqs.set_queue_attributes().queue_url(dead_url).attributes(RedriveAllowPolicy, allow.to_string());
        set.send().await.map_err(|e| fault(format_args!("set up queue {dead}"), e))?;
    }
    Ok(steps)
}

/// The queues that may use a dead-letter queue; `None` where that is not said one by one.
fn sources(of_dead: &Attributes) -> Option<Vec<String>> {
    let policy: serde_json::Value = serde_json::from_str(of_dead.get(&RedriveAllowPolicy)?).ok()?;
    let sources = policy.get("sourceQueueArns")?.as_array()?;
    Some(sources.iter().filter_map(|arn| arn.as_str().map(str::to_owned)).collect())
}

/// The queues of the URL in SQS: the default one, the named ones, and the dead-letter queue.
async fn all(clients: &Clients, config: &Config) -> Result<Vec<String>> {
    let store = config.queue_name();
    let mut names = vec![store.to_owned()];
    for queue in queues::names(&clients.sqs, store).await? {
        names.push(in_sqs(store, &queue)?);
    }
    names.push(dead_letter_queue(config));
    Ok(names)
}

/// Makes a queue that is not there. The step, its URL and its ARN.
async fn ensure(sqs: &Client, name: &str, wanted: Attributes) -> Result<(Step, String, String)> {
    let what = format!("queue {name}");
    let existing = url(sqs, name).await?;
    let outcome = if existing.is_some() { Outcome::Exists } else { Outcome::Created };
    let url = match existing {
        Some(url) => url,
        None => {
            let call = sqs.create_queue().queue_name(name).set_attributes(Some(wanted.clone())).send();
            let made = call.await.map_err(|e| fault(format_args!("create {what}"), e))?;
            made.queue_url.unwrap_or_default()
        }
    };
    let is = attributes_of_new(sqs, &url).await?;
    let arn = is.get(&QueueArn).cloned().unwrap_or_default();
    let mut step = Step::new(what, outcome);
    let mut names: Vec<_> = wanted.keys().collect();
    names.sort_by_key(|name| name.as_str());
    for name in names {
        let (wanted, is) = (&wanted[name], is.get(name).map(String::as_str).unwrap_or("not set"));
        if outcome == Outcome::Exists && !same(wanted, is) {
            step = step.note(format!("{} is {is}, and would be made as {wanted}", name.as_str()));
        }
    }
    Ok((step, url, arn))
}

/// Whether two values are the same, as text or as JSON; numbers in policies may
/// be strings.
fn same(a: &str, b: &str) -> bool {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(&text.replace('"', "")).ok();
    let plain = |text: &str| text.replace([' ', '"'], "");
    a == b || json(a).is_some_and(|a| Some(a) == json(b)) || plain(a) == plain(b)
}

pub(super) async fn url(sqs: &Client, name: &str) -> Result<Option<String>> {
    match sqs.get_queue_url().queue_name(name).send().await {
        Ok(found) => Ok(found.queue_url),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(fault(format_args!("find queue {name}"), error)),
    }
}

/// The attributes of a queue that may have been made a moment ago, and of which
/// not all of SQS knows.
async fn attributes_of_new(sqs: &Client, url: &str) -> Result<Attributes> {
    let mut round = 0;
    loop {
        match attributes(sqs, url).await {
            Err(Error::Config(_)) if round < LOOKS => pause(round).await,
            answer => return answer,
        }
        round += 1;
    }
}

async fn attributes(sqs: &Client, url: &str) -> Result<Attributes> {
    let call = sqs.get_queue_attributes().queue_url(url).attribute_names(All).send();
    let output = call.await.map_err(|e| fault(format_args!("read the attributes of {url}"), e))?;
    Ok(output.attributes.unwrap_or_default())
}

pub(super) async fn describe(clients: &Clients, config: &Config) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for name in all(clients, config).await? {
        let what = format!("queue {name}");
        let Some(url) = url(&clients.sqs, &name).await? else {
            steps.push(Step::new(what, Outcome::Missing));
            continue;
        };
        let is = attributes(&clients.sqs, &url).await?;
        let get = |name: &Name| is.get(name).cloned().unwrap_or_else(|| "unknown".into());
        let days =
            |name: &Name| get(name).parse::<f64>().map_or("unknown".into(), |s| format!("{}", s / 86_400.0));
        let mut step = Step::new(what, Outcome::Exists)
            .note(format!("url {url}"))
            .note(format!(
                "about {} messages visible, {} in flight, {} delayed",
                get(&ApproximateNumberOfMessages),
                get(&ApproximateNumberOfMessagesNotVisible),
                get(&ApproximateNumberOfMessagesDelayed)
            ))
            .note(format!("keeps messages for {} days", days(&MessageRetentionPeriod)))
            .note(format!("visibility timeout {} s", get(&VisibilityTimeout)));
        if let Some(policy) = is.get(&RedrivePolicy) {
            step = step.note(format!("redrive policy {policy}"));
        }
        if is.get(&FifoQueue).is_some_and(|fifo| fifo == "true") {
            step = step.note(format!(
                "FIFO, deduplication scope {}, throughput limit {}",
                get(&DeduplicationScope),
                get(&FifoThroughputLimit)
            ));
        }
        steps.push(step);
    }
    Ok(steps)
}

pub(super) async fn delete(clients: &Clients, config: &Config) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for name in all(clients, config).await? {
        let what = format!("queue {name}");
        let outcome = match url(&clients.sqs, &name).await? {
            None => Outcome::Missing,
            Some(url) => {
                let call = clients.sqs.delete_queue().queue_url(url).send();
                call.await.map_err(|e| fault(format_args!("delete {what}"), e))?;
                Outcome::Deleted
            }
        };
        let mut step = Step::new(what, outcome);
        if outcome == Outcome::Deleted {
            step = step.note("its name can be used again after 60 seconds");
        }
        steps.push(step);
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn policies_are_compared_by_what_they_say() {
        assert!(same("{\"maxReceiveCount\":10,\"a\":\"b\"}", "{\"maxReceiveCount\":\"10\", \"a\":\"b\"}"));
        assert!(same("true", "true") && !same("true", "false") && !same("30", "not set"));
    }
}
