//! The text that Prometheus reads ("Exposition formats", text format 0.0.4).

use std::fmt::Write as _;

use super::{Histogram, Snapshot};

impl Snapshot {
    /// All numbers in the text format of Prometheus, version 0.0.4. `queue` is
    /// the label of that name; see [`queue_name`](super::queue_name).
    pub fn prometheus(&self, queue: &str) -> String {
        let mut page = Page { text: String::with_capacity(4096), queue: escaped(queue) };
        page.begin(
            "haulage_job_duration_seconds",
            "histogram",
            "How long jobs took up a slot, of attempts that succeeded, failed or are to be tried again.",
        );
        page.histogram(&self.job_seconds);
        page.begin("haulage_jobs_total", "counter", "Claims by how they ended.");
        for (outcome, count) in [
            ("success", self.ended.succeeded),
            ("error", self.ended.failed),
            ("retry", self.ended.retried),
            ("cancelled", self.ended.cancelled),
            ("released", self.ended.released),
            ("lost", self.ended.lost),
        ] {
            page.line("haulage_jobs_total", &format!(",outcome=\"{outcome}\""), count);
        }
        page.begin(
            "haulage_outages_total",
            "counter",
            "How often the worker stopped claiming, as what its handler needs was not there.",
        );
        page.line("haulage_outages_total", "", self.outages);
        for (name, help, value) in [
            ("haulage_slots", "Calls of the handler that may run at once.", self.slots),
            ("haulage_slots_busy", "Slots that are taken.", self.busy),
            ("haulage_jobs_held", "Jobs in the slots, or waiting for their batch to fill.", self.held),
            (
                "haulage_ready",
                "Whether the worker takes jobs, and the queue and what its handler needs answer, 1 or 0.",
                usize::from(self.state.is_ready()),
            ),
        ] {
            page.begin(name, "gauge", help);
            page.line(name, "", value);
        }
        page.text
    }
}

struct Page {
    text: String,
    queue: String,
}

impl Page {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{name}{{queue=\"{}\"{labels}}} {value}", self.queue);
    }

    fn histogram(&mut self, histogram: &Histogram) {
        let bounds = Histogram::BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut up_to = 0;
        for (bound, bucket) in bounds.zip(histogram.buckets()) {
            up_to += bucket.count;
            self.line("haulage_job_duration_seconds_bucket", &format!(",le=\"{bound}\""), up_to);
        }
        self.line("haulage_job_duration_seconds_sum", "", histogram.sum().as_secs_f64());
        self.line("haulage_job_duration_seconds_count", "", up_to);
    }
}

/// As the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::metrics::Recorder;

    #[test]
    fn buckets_count_up() {
        let mut recorder = Recorder::new(2);
        let event =
            crate::event::Event::Succeeded { id: crate::JobId::from("a"), attempt: 1, took: Duration::ZERO };
        for millis in [5, 700, 800, 100_000_000] {
            recorder.observe(&event, Duration::from_millis(millis));
            recorder.count(&event);
        }
        recorder.publish(super::super::State::Ready, 1, 3);
        let text = recorder.meter().snapshot().prometheus("a\"b\\");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
        };
        let bucket =
            |le: &str| value(&format!(r#"haulage_job_duration_seconds_bucket{{queue="a\"b\\",le="{le}"}}"#));
        assert_eq!(["0.01", "0.5", "1", "43200", "+Inf"].map(bucket), ["1", "1", "3", "3", "4"]);
        assert_eq!(value(r#"haulage_job_duration_seconds_sum{queue="a\"b\\"}"#), "100001.505");
        assert_eq!(value(r#"haulage_job_duration_seconds_count{queue="a\"b\\"}"#), "4");
        assert_eq!(value(r#"haulage_jobs_total{queue="a\"b\\",outcome="success"}"#), "4");
        assert_eq!(value(r#"haulage_slots{queue="a\"b\\"}"#), "2");
        assert_eq!(value(r#"haulage_slots_busy{queue="a\"b\\"}"#), "1");
        assert_eq!(value(r#"haulage_jobs_held{queue="a\"b\\"}"#), "3");
        assert_eq!(value(r#"haulage_ready{queue="a\"b\\"}"#), "1");
        assert!(text.ends_with('\n'));
    }
}
