//! The text that Prometheus reads ("Exposition formats", text format 0.0.4).

use std::fmt::Write as _;

use super::{Histogram, Labels, SlotSnapshot, Snapshot};
use crate::event::Summary;

impl Snapshot {
    /// All numbers in the text format of Prometheus, version 0.0.4.
    pub fn prometheus(&self, labels: &Labels) -> String {
        let store = format!("store=\"{}\"", escaped(&labels.store));
        let of = |queue| format!("{store},queue=\"{}\"", escaped(labels.queue(queue)));
        let queues: Vec<_> = self.queues.iter().map(|queue| (of(&queue.queue), queue)).collect();
        let mut page = Page { text: String::with_capacity(4096) };
        page.begin(
            "haulage_job_duration_seconds",
            "histogram",
            "How long jobs took up a slot, of attempts that succeeded, failed or are to be tried again.",
        );
        for (labels, queue) in &queues {
            page.histogram(labels, &queue.job_seconds);
        }
        page.begin("haulage_jobs_total", "counter", "Claims by how they ended.");
        for (labels, queue) in &queues {
            page.ended("haulage_jobs_total", labels, &queue.ended);
        }
        page.begin(
            "haulage_outages_total",
            "counter",
            "How often the worker stopped claiming, as what its handler needs was not there.",
        );
        page.line("haulage_outages_total", &store, self.outages);
        page.begin("haulage_quarantines_total", "counter", "How often a slot was taken out of service.");
        page.line("haulage_quarantines_total", &store, self.quarantines);
        for (name, help, value) in [
            ("haulage_slots", "Calls of the handler that may run at once.", self.slots),
            ("haulage_slots_quarantined", "Slots that are out of service.", self.quarantined),
            ("haulage_slots_busy", "Slots that are taken.", self.busy),
            ("haulage_calls_stuck", "Calls that go on though their jobs are over.", self.stuck),
            ("haulage_jobs_held", "Jobs in the slots, or waiting for their batch to fill.", self.held),
            (
                "haulage_ready",
                "Whether the worker takes jobs, and the store and what its handler needs answer, 1 or 0.",
                usize::from(self.state.is_ready()),
            ),
        ] {
            page.begin(name, "gauge", help);
            page.line(name, &store, value);
        }
        if !self.named_slots.is_empty() {
            let of = |slot: &SlotSnapshot| format!("{store},slot=\"{}\"", escaped(&slot.name));
            page.begin("haulage_slot_out_of_service", "gauge", "Whether the slot is out of service, 1 or 0.");
            for slot in &self.named_slots {
                page.line("haulage_slot_out_of_service", &of(slot), u8::from(slot.is_quarantined));
            }
            let help = "Claims by how they ended, of the slot in which the handler ran.";
            page.begin("haulage_slot_jobs_total", "counter", help);
            for slot in &self.named_slots {
                page.ended("haulage_slot_jobs_total", &of(slot), &slot.ended);
            }
        }
        page.text
    }
}

struct Page {
    text: String,
}

impl Page {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{name}{{{labels}}} {value}");
    }

    fn ended(&mut self, name: &str, labels: &str, ended: &Summary) {
        for (outcome, count) in [
            ("success", ended.succeeded),
            ("error", ended.failed),
            ("retry", ended.retried),
            ("cancelled", ended.cancelled),
            ("released", ended.released),
            ("lost", ended.lost),
        ] {
            self.line(name, &format!("{labels},outcome=\"{outcome}\""), count);
        }
    }

    fn histogram(&mut self, labels: &str, histogram: &Histogram) {
        let bounds = Histogram::BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut up_to = 0;
        for (bound, bucket) in bounds.zip(histogram.buckets()) {
            up_to += bucket.count;
            self.line("haulage_job_duration_seconds_bucket", &format!("{labels},le=\"{bound}\""), up_to);
        }
        self.line("haulage_job_duration_seconds_sum", labels, histogram.sum().as_secs_f64());
        self.line("haulage_job_duration_seconds_count", labels, up_to);
    }
}

/// As the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        JobId, QueueName,
        event::Event,
        metrics::{Labels, Recorder, WorkerState},
    };

    #[test]
    fn buckets_count_up_for_each_queue() {
        let bulk = QueueName::new("bulk").expect("a name");
        let mut recorder = Recorder::new(2, [&QueueName::default(), &bulk]);
        let event = Event::Succeeded { id: JobId::from("a"), attempt: 1, took: Duration::ZERO };
        for millis in [5, 700, 800, 100_000_000] {
            recorder.observe(&bulk, &event, Duration::from_millis(millis));
            recorder.count(&bulk, None, &event);
        }
        recorder.publish(WorkerState::Ready, 1, 3);
        let labels = Labels { store: "a\"b\\".into(), default_queue: "jobs".into() };
        let text = recorder.meter().snapshot().prometheus(&labels);
        let value = |name: &str, labels: &str| {
            let name = format!(r#"{name}{{store="a\"b\\"{labels}}}"#);
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
        };
        let bucket =
            |le: &str| value("haulage_job_duration_seconds_bucket", &format!(r#",queue="bulk",le="{le}""#));
        assert_eq!(["0.01", "0.5", "1", "43200", "+Inf"].map(bucket), ["1", "1", "3", "3", "4"]);
        for (queue, sum, count) in [("bulk", "100001.505", "4"), ("jobs", "0", "0")] {
            let queue = format!(r#",queue="{queue}""#);
            assert_eq!(value("haulage_job_duration_seconds_sum", &queue), sum);
            assert_eq!(value("haulage_job_duration_seconds_count", &queue), count);
            assert_eq!(value("haulage_jobs_total", &format!(r#"{queue},outcome="success""#)), count);
        }
        assert_eq!(value("haulage_slots", ""), "2");
        assert_eq!(value("haulage_slots_busy", ""), "1");
        assert_eq!(value("haulage_jobs_held", ""), "3");
        assert_eq!(value("haulage_ready", ""), "1");
        let helps = text.lines().filter(|line| line.starts_with("# HELP haulage_jobs_total ")).count();
        assert_eq!(helps, 1, "one group of lines for each metric");
        assert!(text.ends_with('\n'));
    }
}
