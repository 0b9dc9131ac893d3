//! Metrics for CloudWatch, as lines of a log (Amazon CloudWatch User Guide,
//! "Specification: Embedded metric format").

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::{Histogram, Meter, Snapshot, WorkerState};
use crate::Timestamp;

/// How often a line is written: CloudWatch keeps metrics by the minute.
const INTERVAL: Duration = Duration::from_secs(60);

/// How long [`EmfWriter::finish`] waits at most.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

/// The most numbers that a metric's array may have, by the specification.
const MOST_VALUES: u64 = 100;

/// Which service of ECS and which queue the metrics belong to: their
/// dimensions ClusterName, ServiceName and QueueName in CloudWatch.
///
/// Every task of the service has the same, so the metrics are those of the
/// service, and their price does not grow with the number of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emf {
    /// ClusterName.
    pub cluster: String,
    /// ServiceName.
    pub service: String,
    /// QueueName.
    pub queue: String,
}

impl Emf {
    /// The namespace of the metrics.
    pub const NAMESPACE: &str = "Haulage";

    /// What happened between two snapshots, as a line, or two, each with its end.
    ///
    /// | metric | unit | value |
    /// | --- | --- | --- |
    /// | `JobsSucceeded`, `JobsFailed`, `JobsRetried` | Count | how many claims ended so |
    /// | `Slots`, `BusySlots` | Count | [`Snapshot::slots`] and [`Snapshot::busy`], at the later moment; not there while the consumer [starts](WorkerState::Starting), as it has no jobs to be busy with yet |
    /// | `SlotsQuarantined` | Count | [`Snapshot::quarantined`]; of a consumer whose slots have [names](Snapshot::named_slots), or of which one was out of service once |
    /// | `JobSeconds` | Seconds | [`Snapshot::job_seconds`], in a line of its own; not there where nothing came in |
    ///
    /// Average, Sum and SampleCount of `JobSeconds` are exact; its Minimum,
    /// Maximum and percentiles are those of the means of its buckets.
    pub fn lines(&self, before: &Snapshot, now: &Snapshot, at: Timestamp) -> String {
        let (ended, earlier) = (now.ended(), before.ended());
        let count = |now: u64, before: u64| now.saturating_sub(before).into();
        let mut counts: Vec<(&str, &str, Value)> = vec![
            ("JobsSucceeded", "Count", count(ended.succeeded, earlier.succeeded)),
            ("JobsFailed", "Count", count(ended.failed, earlier.failed)),
            ("JobsRetried", "Count", count(ended.retried, earlier.retried)),
        ];
        if now.state != WorkerState::Starting {
            counts.push(("Slots", "Count", now.slots.into()));
            counts.push(("BusySlots", "Count", now.busy.into()));
        }
        if !now.named_slots.is_empty() || now.quarantines > 0 {
            counts.push(("SlotsQuarantined", "Count", now.quarantined.into()));
        }
        let mut lines = self.line(counts, at);
        // Of its own, as it may have a form that the specification does not
        // mention: where that is refused, the others are not lost with it.
        if let Some(seconds) = values(&now.job_seconds().since(&before.job_seconds())) {
            lines += &self.line(vec![("JobSeconds", "Seconds", seconds)], at);
        }
        lines
    }

    fn line(&self, metrics: Vec<(&str, &str, Value)>, at: Timestamp) -> String {
        let named = metrics.iter().map(|(name, unit, _)| json!({ "Name": name, "Unit": unit }));
        let mut root = json!({
            "_aws": {
                "Timestamp": at.as_micros() / 1000,
                "CloudWatchMetrics": [{
                    "Namespace": Self::NAMESPACE,
                    "Dimensions": [["ClusterName", "ServiceName", "QueueName"]],
                    "Metrics": named.collect::<Value>(),
                }],
            },
            "ClusterName": self.cluster,
            "ServiceName": self.service,
            "QueueName": self.queue,
        });
        for (name, _, value) in metrics {
            root[name] = value;
        }
        format!("{root}\n")
    }
}

/// The times, each as the mean of its bucket: up to a hundred as an array, as
/// the specification has it. More go by values and counts, as in PutMetricData,
/// which the specification does not mention; Amazon's own libraries write it
/// (`Histogram` of aws-embedded-metrics-java).
fn values(histogram: &Histogram) -> Option<Value> {
    let filled = || histogram.buckets().iter().filter(|bucket| bucket.count > 0);
    let mean = |bucket: &super::Bucket| (bucket.mean_seconds() * 1e6).round() / 1e6;
    let count = histogram.count();
    if count == 0 {
        return None;
    }
    if count <= MOST_VALUES {
        let each = filled().flat_map(|bucket| (0..bucket.count).map(move |_| mean(bucket)));
        return Some(each.collect());
    }
    let means: Vec<f64> = filled().map(mean).collect();
    Some(json!({
        "Values": means,
        "Counts": filled().map(|bucket| bucket.count).collect::<Vec<_>>(),
        "Min": means.first(),
        "Max": means.last(),
        "Sum": histogram.sum().as_secs_f64(),
        "Count": count,
    }))
}

/// Writes [`Emf::lines`] once a minute, and at the end, from a thread of its own: where
/// nobody reads what is written, that thread waits, and nothing else.
#[derive(Debug)]
pub struct EmfWriter {
    /// Dropped, it asks for the last lines.
    end: Sender<()>,
    ended: Receiver<()>,
}

impl EmfWriter {
    /// Begins to write to `out`. The lines of a minute are one call of
    /// `write_all`; errors of it are passed over, and what they kept from being
    /// written is in the next lines.
    ///
    /// # Errors
    ///
    /// Where the system has no thread left.
    pub fn start(emf: Emf, meter: Meter, out: impl Write + Send + 'static) -> io::Result<Self> {
        Self::every(INTERVAL, emf, meter, out)
    }

    fn every(
        interval: Duration,
        emf: Emf,
        meter: Meter,
        out: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let (end, asked) = channel();
        let (done, ended) = channel();
        let thread = thread::Builder::new().name("haulage-metrics".into());
        thread.spawn(move || {
            write(interval, &emf, &meter, out, &asked);
            drop(done);
        })?;
        Ok(Self { end, ended })
    }

    /// Has the last lines written, and waits for that; no longer than 2 s.
    pub fn finish(self) {
        drop(self.end);
        // It ends without a message.
        let _ = self.ended.recv_timeout(FINISH_LIMIT);
    }
}

fn write(interval: Duration, emf: &Emf, meter: &Meter, mut out: impl Write, asked: &Receiver<()>) {
    let mut before = meter.snapshot();
    loop {
        let last = asked.recv_timeout(interval) != Err(RecvTimeoutError::Timeout);
        let now = meter.snapshot();
        let lines = emf.lines(&before, &now, SystemTime::now().into());
        if out.write_all(lines.as_bytes()).and_then(|()| out.flush()).is_ok() {
            before = now;
        }
        if last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{
        JobId, QueueName,
        event::Event,
        metrics::{Recorder, WorkerState},
    };

    fn emf() -> Emf {
        Emf { cluster: "prod".into(), service: "worker".into(), queue: "jobs.fifo".into() }
    }

    fn succeed(recorder: &mut Recorder, times: usize, seconds: f64) {
        let event = Event::Succeeded { id: JobId::new("a"), attempt: 1, took: Duration::ZERO };
        for _ in 0..times {
            recorder.count(&QueueName::default(), None, &event);
            recorder.observe(&QueueName::default(), &event, Duration::from_secs_f64(seconds));
        }
        recorder.publish(WorkerState::Ready, 1, 1);
    }

    /// What the specification asks of documents; the answer is the documents.
    fn documents(lines: &str) -> Vec<Value> {
        assert!(lines.ends_with("}\n"), "{lines}");
        lines.lines().map(valid).collect()
    }

    /// What the specification asks of a document; the answer is the document.
    fn valid(line: &str) -> Value {
        assert!(!line.contains('\n') && line.len() < 4096, "{} bytes: {line}", line.len());
        let root: Value = serde_json::from_str(line).expect("JSON");
        let aws = root["_aws"].as_object().expect("metadata");
        assert_eq!(aws.keys().collect::<Vec<_>>(), ["CloudWatchMetrics", "Timestamp"]);
        assert!(aws["Timestamp"].is_u64());
        for directive in aws["CloudWatchMetrics"].as_array().expect("directives") {
            assert_eq!(directive["Namespace"], "Haulage");
            for set in directive["Dimensions"].as_array().expect("dimension sets") {
                for dimension in set.as_array().expect("a dimension set") {
                    let value = root[dimension.as_str().expect("a name")].as_str().expect("text");
                    assert!((1..=1024).contains(&value.len()));
                }
            }
            for metric in directive["Metrics"].as_array().expect("metrics") {
                let unit = metric["Unit"].as_str().expect("a unit");
                assert!(["Seconds", "Count"].contains(&unit));
                match &root[metric["Name"].as_str().expect("a name")] {
                    Value::Number(_) => {}
                    Value::Array(values) => {
                        assert!(values.len() <= 100 && values.iter().all(Value::is_number));
                    }
                    Value::Object(set) => {
                        let [values, counts] = ["Values", "Counts"].map(|name| set[name].as_array());
                        let (values, counts) = (values.expect("values"), counts.expect("counts"));
                        assert!(values.len() == counts.len() && values.len() <= 100);
                    }
                    other => panic!("{other} is no metric"),
                }
            }
        }
        root
    }

    #[test]
    fn a_quiet_minute_has_zeros_and_no_job_seconds() {
        let mut recorder = Recorder::new(4, [&QueueName::default()]);
        succeed(&mut recorder, 3, 1.0);
        let snapshot = recorder.meter().snapshot();
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        let [root] = &documents(&emf().lines(&snapshot, &snapshot, at))[..] else { panic!("one line") };
        assert_eq!(root["_aws"]["Timestamp"], 1_700_000_000_123_u64);
        assert_eq!((&root["Slots"], &root["BusySlots"]), (&json!(4), &json!(1)));
        assert_eq!([&root["JobsSucceeded"], &root["JobsFailed"], &root["JobsRetried"]], [0, 0, 0]);
        assert_eq!((root.get("JobSeconds"), root.get("SlotsQuarantined")), (None, None));
        let text = root["_aws"]["CloudWatchMetrics"].to_string();
        assert!(!text.contains("JobSeconds"), "a target that is not there: {text}");
        assert_eq!(root["ClusterName"], "prod");
        assert_eq!(root["ServiceName"], "worker");
        assert_eq!(root["QueueName"], "jobs.fifo");
    }

    #[test]
    fn a_consumer_that_starts_says_nothing_of_its_slots() {
        let recorder = Recorder::new(4, [&QueueName::default()]);
        let starting = recorder.meter().snapshot();
        let lines = emf().lines(&starting, &starting, Timestamp::from_micros(0));
        let [root] = &documents(&lines)[..] else { panic!("one line: {lines}") };
        assert!(!lines.contains("Slots"), "{lines}");
        assert_eq!(root["JobsSucceeded"], 0);
    }

    #[test]
    fn a_consumer_whose_slots_have_names_says_how_many_are_out_of_service() {
        let mut recorder = Recorder::new(2, [&QueueName::default()]);
        for quarantined in [0, 1] {
            recorder.set_named_slots(vec![("slot 0, GPU 0".into(), quarantined > 0)]);
            recorder.set_slots(quarantined, 1, 0);
            succeed(&mut recorder, 1, 1.0);
            let now = recorder.meter().snapshot();
            let lines = emf().lines(&now, &now, Timestamp::from_micros(0));
            assert_eq!(documents(&lines)[0]["SlotsQuarantined"], quarantined);
        }
    }

    #[test]
    fn up_to_a_hundred_times_are_an_array() {
        let mut recorder = Recorder::new(1, [&QueueName::default()]);
        let before = recorder.meter().snapshot();
        succeed(&mut recorder, 1, 2.0);
        succeed(&mut recorder, 1, 1.5);
        succeed(&mut recorder, 98, 7200.0);
        let lines = emf().lines(&before, &recorder.meter().snapshot(), Timestamp::from_micros(0));
        let [counts, times] = &documents(&lines)[..] else { panic!("two lines: {lines}") };
        let seconds = times["JobSeconds"].as_array().expect("an array");
        assert_eq!(seconds.len(), 100);
        assert_eq!(seconds[..3], [json!(1.75), json!(1.75), json!(7200.0)]);
        assert_eq!((&counts["JobsSucceeded"], counts.get("JobSeconds")), (&json!(100), None));
    }

    #[test]
    fn more_times_are_values_and_counts() {
        let mut recorder = Recorder::new(1, [&QueueName::default()]);
        let before = recorder.meter().snapshot();
        for bound in Histogram::BOUNDS {
            succeed(&mut recorder, 1_000_000, bound / 3.0);
        }
        succeed(&mut recorder, 1, 50_000.5);
        let lines = emf().lines(&before, &recorder.meter().snapshot(), Timestamp::from_micros(0));
        let [counts, times] = &documents(&lines)[..] else { panic!("two lines: {lines}") };
        assert_eq!((&counts["JobsSucceeded"], counts.get("JobSeconds")), (&json!(20_000_001), None));
        let set = times["JobSeconds"].as_object().expect("a set");
        let sum: f64 = std::iter::zip(
            set["Values"].as_array().expect("values"),
            set["Counts"].as_array().expect("counts"),
        )
        .map(|(value, count)| value.as_f64().expect("a number") * count.as_f64().expect("a number"))
        .sum();
        let exact: f64 = Histogram::BOUNDS.iter().map(|bound| bound / 3.0 * 1e6).sum::<f64>() + 50_000.5;
        assert!((sum / exact - 1.0).abs() < 1e-6, "{sum} {exact}");
        assert!((set["Sum"].as_f64().expect("a sum") / exact - 1.0).abs() < 1e-6);
        assert_eq!((&set["Count"], &set["Max"]), (&json!(20_000_001), &json!(50_000.5)));
    }

    /// Hands over what is written; fails as often as told first.
    struct Pipe(mpsc::Sender<String>, usize);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.1 > 0 {
                self.1 -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_at_intervals_and_at_the_end_and_lose_nothing() {
        let mut recorder = Recorder::new(1, [&QueueName::default()]);
        let (sender, lines) = mpsc::channel();
        let meter = recorder.meter();
        let writer =
            EmfWriter::every(Duration::from_millis(1), emf(), meter, Pipe(sender, 3)).expect("start");
        let counted = |lines: &str| -> u64 {
            documents(lines).iter().filter_map(|root| root["JobsSucceeded"].as_u64()).sum()
        };
        assert_eq!(counted(&lines.recv().expect("lines")), 0);
        succeed(&mut recorder, 7, 1.0);
        let mut succeeded = 0;
        while succeeded < 7 {
            succeeded += counted(&lines.recv().expect("lines"));
        }
        assert_eq!(succeeded, 7);
        succeed(&mut recorder, 2, 1.0);
        writer.finish();
        let rest: u64 = lines.iter().map(|lines| counted(&lines)).sum();
        assert_eq!(rest, 2);
    }

    #[test]
    fn a_full_pipe_holds_nobody_up() {
        struct Full(mpsc::Receiver<()>);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (reader, full) = mpsc::channel();
        let recorder = Recorder::new(1, [&QueueName::default()]);
        let writer = EmfWriter::start(emf(), recorder.meter(), Full(full)).expect("start");
        let start = std::time::Instant::now();
        writer.finish();
        assert!(start.elapsed() < FINISH_LIMIT * 30);
        drop(reader);
    }
}
