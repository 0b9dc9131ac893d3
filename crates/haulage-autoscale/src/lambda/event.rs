//! What an invocation is asked to do.

use std::{collections::BTreeSet, fmt};

use haulage_autoscale::{Direct, JobSeconds, ScaleInWindow, Slots, Target, TaskRange};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

/// An event, as `terraform/modules/scaler` has EventBridge send it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    /// How often to look in the minute of this invocation.
    pub(crate) samples_per_minute: Samples,
    /// Each is looked at by itself.
    pub(crate) pairs: Pairs,
}

/// 1 to 6 samples: an alarm of high resolution has a period of 10 s at least
/// (Amazon CloudWatch User Guide, "High-resolution metrics").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub(crate) struct Samples(u32);

/// One pair or more, no two of them alike.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Vec<Pair>")]
pub(crate) struct Pairs(Vec<Pair>);

/// A queue, and the service that works it off.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pair {
    pub(crate) cluster: Name,
    pub(crate) service: Name,
    pub(crate) queue_name: Name,
    pub(crate) queue_url: String,
    /// Other queues that the service works off beside it: what waits in all of them counts.
    #[serde(default)]
    pub(crate) more_queue_urls: Vec<String>,
    /// Jobs that a task runs side by side.
    #[serde(deserialize_with = "slots")]
    pub(crate) slots_per_task: Slots,
    /// Slots of the services that come before it on the same queue, at their most.
    #[serde(default)]
    pub(crate) slots_before: u64,
    /// How long a job takes, until the tasks have measured it.
    #[serde(deserialize_with = "job_seconds")]
    pub(crate) job_seconds: JobSeconds,
    /// Within how many seconds a backlog is to be drained.
    #[serde(deserialize_with = "target")]
    pub(crate) target_seconds: Target,
    /// Whether the metrics are put as well that only people look at.
    #[serde(default)]
    pub(crate) dashboard: bool,
    /// How its desired count is set; without it, alarms are to do it.
    #[serde(default, deserialize_with = "direct")]
    pub(crate) direct: Option<Direct>,
}

/// As it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DirectFields {
    min_tasks: u32,
    max_tasks: u32,
    scale_in_window_seconds: u32,
}

/// The name of a cluster, a service or a queue; not its ARN, since it is also
/// the value of a dimension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub(crate) struct Name(String);

/// An event that makes no sense: what, where, and what would.
#[derive(Debug, thiserror::Error)]
#[error("the event is not understood: {0}")]
pub(crate) struct BadEvent(String);

impl BadEvent {
    /// What to do about it.
    pub(crate) const ADVICE: &str = "send what terraform/modules/scaler sends: {\"samples_per_minute\": 4, \"pairs\": \
        [{\"cluster\": …, \"service\": …, \"queue_name\": …, \"queue_url\": …, \"slots_per_task\": 1, \
        \"job_seconds\": 60, \"target_seconds\": 60, \"direct\": {\"min_tasks\": 0, \"max_tasks\": 10, \
        \"scale_in_window_seconds\": 120}}]}; package and Terraform have to be of one version";
}

impl Event {
    /// Reads it strictly: a field that is not known may be a setting that was
    /// meant to count.
    pub(crate) fn read(json: &Value) -> Result<Self, BadEvent> {
        serde_path_to_error::deserialize(json).map_err(|error| match error.path().to_string() {
            path if path == "." => BadEvent(error.into_inner().to_string()),
            path => BadEvent(format!("{path}: {}", error.into_inner())),
        })
    }
}

impl Samples {
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Samples {
    type Error = String;

    fn try_from(samples: u32) -> Result<Self, String> {
        if (1..=6).contains(&samples) {
            Ok(Self(samples))
        } else {
            Err(format!("has to be 1 to 6, and is {samples}"))
        }
    }
}

impl Pairs {
    pub(crate) fn as_slice(&self) -> &[Pair] {
        &self.0
    }
}

impl TryFrom<Vec<Pair>> for Pairs {
    type Error = String;

    fn try_from(pairs: Vec<Pair>) -> Result<Self, String> {
        if pairs.is_empty() {
            return Err("there is none".to_owned());
        }
        let mut seen = BTreeSet::new();
        // Put twice, its metrics would count twice in sums.
        match pairs.iter().find(|pair| !seen.insert(pair.dimensions())) {
            Some(pair) => Err(format!("{pair} is there twice")),
            None => Ok(Self(pairs)),
        }
    }
}

impl Pair {
    /// The dimensions of its metrics.
    pub(crate) fn dimensions(&self) -> [(&'static str, &str); 3] {
        [
            ("ClusterName", self.cluster.as_str()),
            ("ServiceName", self.service.as_str()),
            ("QueueName", self.queue_name.as_str()),
        ]
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster.0, self.service.0, self.queue_name.0)
    }
}

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if (1..=255).contains(&name.len()) && name.chars().all(plain) {
            return Ok(Self(name));
        }
        Err(format!(
            "`{name}` is not a name: 1 to 255 letters, digits, hyphens, underscores and dots; not an ARN"
        ))
    }
}

fn slots<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Slots, D::Error> {
    Slots::new(u32::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn job_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JobSeconds, D::Error> {
    JobSeconds::new(f64::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Target, D::Error> {
    Target::new(f64::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn direct<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Direct>, D::Error> {
    let Some(fields) = Option::<DirectFields>::deserialize(deserializer)? else { return Ok(None) };
    let range = TaskRange::new(fields.min_tasks, fields.max_tasks).map_err(D::Error::custom)?;
    let window = ScaleInWindow::new(fields.scale_in_window_seconds).map_err(D::Error::custom)?;
    Ok(Some(Direct { range, window }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent() -> Value {
        json!({
            "samples_per_minute": 4,
            "pairs": [{
                "cluster": "prod", "service": "worker", "queue_name": "jobs.fifo",
                "queue_url": "https://sqs.eu-central-1.amazonaws.com/1/jobs.fifo",
                "more_queue_urls": ["https://sqs.eu-central-1.amazonaws.com/1/jobs--bulk.fifo"],
                "slots_per_task": 2, "slots_before": 40, "job_seconds": 60, "target_seconds": 180.5, "dashboard": true, "direct": null,
            }],
        })
    }

    #[test]
    fn reads_what_terraform_sends() {
        let event = Event::read(&sent()).expect("an event");
        let [pair] = event.pairs.as_slice() else { panic!("one pair") };
        assert_eq!(event.samples_per_minute.get(), 4);
        assert_eq!(pair.to_string(), "prod/worker/jobs.fifo");
        assert_eq!((pair.slots_per_task.get(), pair.slots_before, pair.job_seconds.get()), (2, 40, 60.0));
        assert_eq!((pair.target_seconds.get(), pair.dashboard), (180.5, true));
        assert_eq!(pair.more_queue_urls, ["https://sqs.eu-central-1.amazonaws.com/1/jobs--bulk.fifo"]);
    }

    #[test]
    fn reads_how_the_desired_count_is_set() {
        let mut event = sent();
        let direct = |event: &Value| Event::read(event).expect("an event").pairs.as_slice()[0].direct;
        assert_eq!(direct(&event), None);
        event["pairs"][0]["direct"] =
            json!({ "min_tasks": 1, "max_tasks": 20, "scale_in_window_seconds": 90 });
        let read = direct(&event).expect("a range and a window");
        assert_eq!((read.range.min(), read.range.max(), read.window.get()), (1, 20, 90));
    }

    #[test]
    fn terraform_sends_these_fields() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let module = std::fs::read_to_string(root.join("terraform/modules/scaler/main.tf"));
        let module = module.expect("the module");
        let input = module.split("input = jsonencode({").nth(1).and_then(|rest| rest.split("})").next());
        let fields = |object: &Value| object.as_object().expect("an object").keys().cloned().collect();
        let mut known: Vec<String> = fields(&sent());
        known.extend::<Vec<_>>(fields(&sent()["pairs"][0]));
        let names = input.expect("its input").lines().filter_map(|line| line.split_once('='));
        let mut names: Vec<_> = names.map(|(name, _)| name.trim().to_owned()).collect();
        known.sort();
        names.sort();
        assert_eq!(names, known);
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 18] = [
            (|e| *e = json!("hello"), "invalid type: string"),
            (|e| e["samples_per_minute"] = json!(7), "samples_per_minute: has to be 1 to 6, and is 7"),
            (|e| e["samples_per_minute"] = json!(0), "has to be 1 to 6"),
            (|e| e["samples"] = json!(4), "unknown field `samples`"),
            (|e| e["pairs"] = json!([]), "pairs: there is none"),
            (|e| e["pairs"][1] = json!(5), "pairs[1]: invalid type"),
            (|e| e["pairs"][0]["slots"] = json!(2), "unknown field `slots`"),
            (
                |e| e["pairs"][0]["slots_per_task"] = json!(0),
                "pairs[0].slots_per_task: slots per task has to be 1 or more",
            ),
            (|e| e["pairs"][0]["job_seconds"] = json!(-1), "pairs[0].job_seconds: seconds per job has to be"),
            (
                |e| e["pairs"][0]["job_seconds"] = json!(1e300),
                "pairs[0].job_seconds: seconds per job has to be from 0.000001 to 1000000000, and 1000",
            ),
            (
                |e| e["pairs"][0]["target_seconds"] = json!(2e9),
                "target_seconds: the backlog target in seconds has to be from 0.000001 to 1000000000, and 2000000000",
            ),
            (
                |e| e["pairs"][0]["target_seconds"] = json!(null),
                "pairs[0].target_seconds: invalid type: null",
            ),
            (
                |e| e["pairs"][0]["service"] = json!("arn:aws:ecs:x"),
                "pairs[0].service: `arn:aws:ecs:x` is not a name",
            ),
            (
                |e| {
                    e["pairs"][0]["direct"] =
                        json!({ "min_tasks": 0, "max_tasks": 0, "scale_in_window_seconds": 60 });
                },
                "pairs[0].direct: the most tasks has to be 1 or more",
            ),
            (
                |e| {
                    e["pairs"][0]["direct"] =
                        json!({ "min_tasks": 0, "max_tasks": 9, "scale_in_window_seconds": 29 });
                },
                "pairs[0].direct: the scale-in window in seconds has to be from 30 to 3600, and 29 is not",
            ),
            (
                |e| e["pairs"][0]["direct"] = json!({ "min_tasks": 0, "max_tasks": 9 }),
                "pairs[0].direct: missing field `scale_in_window_seconds`",
            ),
            (|e| e["pairs"][0]["direct"] = json!({ "min": 0 }), "pairs[0].direct.min: unknown field `min`"),
            (
                |e| drop(e["pairs"][0].as_object_mut().map(|p| p.remove("queue_url"))),
                "missing field `queue_url`",
            ),
        ];
        for (change, expected) in cases {
            let mut event = sent();
            if expected.starts_with("pairs[1]") {
                event["pairs"].as_array_mut().expect("a list").push(Value::Null);
            }
            change(&mut event);
            let message = Event::read(&event).expect_err(expected).to_string();
            assert!(message.contains(expected), "{expected}: {message}");
        }
    }

    #[test]
    fn no_pair_is_there_twice() {
        let mut event = sent();
        let again = event["pairs"][0].clone();
        event["pairs"].as_array_mut().expect("a list").push(again);
        let message = Event::read(&event).expect_err("twice").to_string();
        assert!(message.contains("prod/worker/jobs.fifo is there twice"), "{message}");
    }
}
