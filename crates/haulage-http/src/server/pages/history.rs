//! What was due, ran and failed over the last day, by queue, as far as this server has seen it.
//!
//! No store keeps such numbers, so the server looks once a minute, where a look costs next to nothing, and keeps
//! what it saw in memory: a few hundred bytes for each queue and hour. It forgets them when it ends.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use haulage::{QueueName, Timestamp, backend::Stats};
use maud::{Markup, html};

use super::layout;
use crate::server::{Api, waiting::moment};

const EVERY: Duration = Duration::from_secs(60);
/// Of how much time a bar tells, in microseconds: a quarter of an hour.
const BAR: i64 = 15 * 60 * 1_000_000;
/// How many bars a day has.
const BARS: i64 = 96;
/// How high a bar may be, in the units of a picture that is as wide as it has bars.
const HEIGHT: u64 = 24;
/// Of how many queues it is known at most.
const MOST_QUEUES: usize = 200;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bar {
    /// The most that was seen at once.
    due: u64,
    running: u64,
    /// All that came to it.
    failed: u64,
}

#[derive(Debug, Default)]
struct Seen {
    /// When the first look was, and the last.
    looks: Option<(Timestamp, Timestamp)>,
    /// By queue and quarter of an hour since 1970.
    queues: BTreeMap<QueueName, BTreeMap<i64, Bar>>,
    /// How many had failed at the last look.
    failed: BTreeMap<QueueName, u64>,
}

/// What this server has seen.
#[derive(Debug, Default)]
pub(in crate::server) struct History(Mutex<Seen>);

impl History {
    fn record(&self, now: Timestamp, stats: &Stats) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_first, quarter) = (seen.looks.is_none(), now.as_micros() / BAR);
        for (queue, of) in &stats.queues {
            // What is kept of those that ended may be less than before: they expire, and are redriven.
            let before = seen.failed.insert(queue.clone(), of.error);
            let failed = of.error.saturating_sub(before.unwrap_or(if is_first { of.error } else { 0 }));
            if (of.due, of.in_progress, failed) == (0, 0, 0)
                || (seen.queues.len() >= MOST_QUEUES && !seen.queues.contains_key(queue))
            {
                continue;
            }
            let bar = seen.queues.entry(queue.clone()).or_default().entry(quarter).or_default();
            *bar = Bar {
                due: bar.due.max(of.due),
                running: bar.running.max(of.in_progress),
                failed: bar.failed + failed,
            };
        }
        seen.failed.retain(|queue, _| stats.queues.contains_key(queue));
        for bars in seen.queues.values_mut() {
            bars.retain(|of, _| *of > quarter - BARS);
        }
        seen.queues.retain(|_, bars| !bars.is_empty());
        seen.looks = Some((seen.looks.map_or(now, |(first, _)| first), now));
    }

    /// Of those queues that somebody may see.
    pub(super) fn show(&self, own: Option<&[QueueName]>) -> Markup {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((first, last)) = seen.looks else { return html! {} };
        let begins = last.as_micros() / BAR - BARS + 1;
        let is_seen = |queue: &QueueName| own.is_none_or(|own| own.contains(queue));
        let queues: Vec<_> = seen.queues.iter().filter(|(queue, _)| is_seen(queue)).collect();
        html! {
            @if !queues.is_empty() {
                section .history aria-labelledby="history" {
                    h2 #history { "The last day" }
                    (layout::table("The last day", html! {
                        thead { tr { @for name in ["Queue", "Due", "Running", "Failed"] { th scope="col" { (name) } } } }
                        tbody { @for (queue, bars) in queues { tr {
                            th .head scope="row" { (queue) }
                            (chart("Due", "due", bars, begins, |bar| bar.due))
                            (chart("Running", "running", bars, begins, |bar| bar.running))
                            (chart("Failed", "failed", bars, begins, |bar| bar.failed))
                        } } }
                    }))
                    p .note {
                        "Each bar is a quarter of an hour of the last 24: the most that were due or ran at once, and all that failed. \
                         This server looks once a minute. What was before " (moment(first)) " it has not seen."
                    }
                }
            }
        }
    }
}

fn chart(name: &str, class: &str, bars: &BTreeMap<i64, Bar>, begins: i64, value: fn(&Bar) -> u64) -> Markup {
    let values = || {
        bars.iter().map(|(quarter, bar)| (quarter - begins, value(bar))).filter(|(x, of)| *x >= 0 && *of > 0)
    };
    let most = values().map(|(_, of)| of).max().unwrap_or(0);
    let path = values().map(|(x, of)| {
        // What is not nothing can be seen.
        let height = (of * HEIGHT / most).max(1);
        format!("M{x} {HEIGHT}v-{height}h1v{height}z")
    });
    let all: u64 = values().map(|(_, of)| of).sum();
    html! {
        td .chart data-name=(name) {
            svg .(class) viewBox={ "0 0 " (BARS) " " (HEIGHT) } preserveAspectRatio="none" aria-hidden="true" {
                path d=(path.collect::<String>());
            }
            span { @match (most, class) {
                (0, _) => "none",
                (_, "failed") => { (all) " in all" }
                _ => { (most) " at most" }
            } }
        }
    }
}

/// Looks until the server ends.
pub(in crate::server) async fn look(api: Arc<Api>) {
    if !api.backend.capabilities().cheap_looks {
        return;
    }
    let clock = api.backend.clock();
    while !api.stopping.is_cancelled() {
        match api.backend.stats().await {
            Ok(stats) => api.history.record(clock.now(), &stats),
            Err(error) => tracing::debug!(%error, "the numbers of this minute are not known"),
        }
        tokio::select! {
            () = clock.sleep(EVERY) => (),
            () = api.stopping.cancelled() => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use haulage::backend::QueueStats;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000 + minute * 60_000_000)
    }

    fn stats(queue: &str, due: u64, in_progress: u64, error: u64) -> Stats {
        let mut of = QueueStats::default();
        (of.due, of.in_progress, of.error) = (due, in_progress, error);
        let mut stats = Stats::default();
        stats.add(queue.parse().expect("a name"), of);
        stats
    }

    /// The picture and the words of each column of the one queue.
    fn shown(history: &History) -> Vec<(String, String)> {
        let page = history.show(None).into_string();
        let between = |part: &str, from: &str, to: &str| {
            part.split_once(from)
                .and_then(|(_, rest)| rest.split_once(to))
                .map_or(String::new(), |(found, _)| found.to_owned())
        };
        page.split("<td")
            .skip(1)
            .map(|part| (between(part, "d=\"", "\""), between(part, "<span>", "<")))
            .collect()
    }

    #[test]
    fn a_bar_is_the_most_of_a_quarter_of_an_hour_and_all_that_failed_in_it() {
        let history = History::default();
        history.record(at(0), &stats("bulk", 4, 0, 7));
        history.record(at(1), &stats("bulk", 8, 2, 9));
        history.record(at(2), &stats("bulk", 1, 1, 5));
        history.record(at(3), &stats("bulk", 0, 0, 6));
        history.record(at(15), &stats("bulk", 4, 0, 6));
        let bars = |parts: &[(i64, u64)]| {
            parts.iter().map(|(x, h)| format!("M{x} 24v-{h}h1v{h}z")).collect::<String>()
        };
        let expected = [
            (bars(&[(94, 24), (95, 12)]), "8 at most".to_owned()),
            (bars(&[(94, 24)]), "2 at most".to_owned()),
            // What had failed before the first look, nobody knows when.
            (bars(&[(94, 24)]), "3 in all".to_owned()),
        ];
        assert_eq!(shown(&history), expected);
        let page = history.show(None).into_string();
        assert!(page.contains("What was before 2027-01-15 08:00:00 UTC it has not seen."), "{page}");
    }

    #[test]
    fn what_is_older_than_a_day_is_forgotten() {
        let history = History::default();
        history.record(at(0), &stats("bulk", 4, 0, 0));
        history.record(at(24 * 60 - 15), &stats("bulk", 0, 0, 0));
        assert_eq!(shown(&history)[0].0, "M0 24v-24h1v24z");
        history.record(at(24 * 60), &stats("bulk", 0, 0, 0));
        assert_eq!(history.show(None).into_string(), "");
    }

    #[test]
    fn a_queue_is_shown_to_those_who_may_see_it() {
        let history = History::default();
        history.record(at(0), &stats("bulk", 4, 0, 0));
        let queue = |name: &str| name.parse::<QueueName>().expect("a name");
        assert_eq!(history.show(Some(&[queue("other")])).into_string(), "");
        assert!(history.show(Some(&[queue("bulk")])).into_string().contains("4 at most"));
    }

    #[test]
    fn so_many_queues_are_known_and_no_more() {
        let history = History::default();
        for n in 0..MOST_QUEUES + 5 {
            history.record(at(0), &stats(&format!("q{n}"), 1, 0, 0));
        }
        assert_eq!(history.0.lock().expect("a lock").queues.len(), MOST_QUEUES);
    }
}
