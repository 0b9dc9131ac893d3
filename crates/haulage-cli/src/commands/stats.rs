//! `haulage stats`

use std::{fmt::Write as _, time::Duration};

use haulage::{
    QueueName,
    backend::{Backlog, QueueBacklog, QueueStats, Stats},
};

use super::whole_read;
use crate::{
    exit::Result,
    options,
    output::{self, Output, brief, cut},
    session::Session,
};

/// Show how many jobs there are in each state, and how long they wait
///
/// On AWS, it shows the counts of SQS, for a request each: they may be a minute old, jobs that
/// wait for a retry are among those in progress, and of what ended only the dead-letter queue is
/// counted. With --exact the records are counted there, for which the whole table is read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  haulage stats --watch\n  haulage stats --json | jq .visible")]
pub(crate) struct Args {
    /// Go on showing, until Ctrl-C
    #[arg(long)]
    watch: bool,

    /// Count every record, even if all of them have to be read
    #[arg(long, conflicts_with = "watch")]
    exact: bool,

    /// How often, with --watch
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = options::duration)]
    interval: Duration,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let output = session.output;
        let backend = session.records().await?;
        let mut above = 0;
        loop {
            let numbers = if self.exact || backend.capabilities().cheap_looks {
                Numbers::Exact(whole_read::all(output, &*backend, backend.stats()).await?)
            } else {
                Numbers::Backlog(backend.backlog().await?)
            };
            above = show(output, &numbers, above)?;
            if !self.watch {
                return Ok(());
            }
            // Not in a tight loop, whatever was asked for.
            tokio::time::sleep(self.interval.max(Duration::from_millis(100))).await;
        }
    }
}

/// What a look tells.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
enum Numbers {
    Exact(Stats),
    Backlog(Backlog),
}

/// Writes the numbers, on a terminal over the `above` lines of the last time;
/// tells how many lines that took.
fn show(output: Output, numbers: &Numbers, above: usize) -> Result<usize> {
    if output.json {
        return output.json(numbers).map(|()| 0);
    }
    let mut text = String::new();
    if above > 0 && output.is_terminal() {
        // Up by so many lines, and clear from there.
        let _ = write!(text, "\x1b[{above}A\x1b[J");
    } else if above > 0 {
        text.push('\n');
    }
    let lines = match numbers {
        Numbers::Exact(stats) => lines(stats, output.width()),
        Numbers::Backlog(backlog) => backlog_lines(backlog, output.width()),
    };
    lines.iter().for_each(|line| text.extend([line, "\n"]));
    output.text(&text)?;
    Ok(lines.len())
}

/// The numbers, a line each, which no terminal of this width wraps: a wrapped one would be two of
/// those that the next look goes up by.
fn lines(stats: &Stats, width: Option<usize>) -> Vec<String> {
    let mut rows = vec![
        ("visible", stats.visible.to_string(), "may be claimed now"),
        ("paused", stats.paused.to_string(), "could be claimed, were their queue not paused"),
        ("delayed", stats.delayed.to_string(), "wait for their delay or retry"),
        ("blocked", stats.blocked.to_string(), "wait for their group"),
        ("in progress", stats.in_progress.to_string(), "are being worked on"),
        ("success", stats.success.to_string(), "succeeded"),
        ("error", stats.error.to_string(), "failed"),
        ("cancelled", stats.cancelled.to_string(), "were cancelled"),
        ("dead", stats.dead.to_string(), "of the failed are dead letters: see `haulage dead list`"),
    ];
    if let Some(seconds) = stats.oldest_visible_seconds {
        let age = brief(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        rows.push(("oldest", age, "is how long the oldest visible job has waited"));
    }
    if let Some(bytes) = stats.stored_bytes {
        rows.push(("stored", output::bytes(bytes), "on disk"));
    }
    rows.retain(|(name, value, _)| *name != "paused" || value != "0");
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    // One that has its jobs in no queue of its own has all of them above.
    if stats.queues.iter().any(|(name, queue)| !name.is_default() || queue.is_paused) {
        let of_queue = |(name, queue): (&QueueName, &QueueStats)| {
            let waiting = queue.unfinished() - queue.in_progress;
            of_queue(name, waiting, queue.in_progress, queue.is_paused)
        };
        lines.extend(stats.queues.iter().map(of_queue));
    }
    fitting(&lines, width)
}

/// The same of what a queue counts by itself.
fn backlog_lines(backlog: &Backlog, width: Option<usize>) -> Vec<String> {
    let rows = [
        ("visible", backlog.visible, "may be claimed now, or wait for their group"),
        ("delayed", backlog.delayed, "wait for their delay"),
        ("in progress", backlog.in_progress, "are being worked on, or wait for a retry"),
        ("dead", backlog.dead, "messages in the dead-letter queue: see `haulage dead list`"),
    ];
    let mut lines: Vec<String> =
        rows.map(|(name, number, meaning)| line(&(name, number.to_string(), meaning))).into();
    if backlog.queues.iter().any(|(name, queue)| !name.is_default() || queue.is_paused) {
        let of_queue = |(name, queue): (&QueueName, &QueueBacklog)| {
            of_queue(name, queue.visible + queue.delayed, queue.in_progress, queue.is_paused)
        };
        lines.extend(backlog.queues.iter().map(of_queue));
    }
    fitting(&lines, width)
}

/// The line of one queue.
fn of_queue(name: &QueueName, waiting: u64, in_progress: u64, is_paused: bool) -> String {
    let paused = if is_paused { "; it is paused" } else { "" };
    let meaning = format!("wait in {name}, {in_progress} are being worked on{paused}");
    line(&("queue", waiting.to_string(), &meaning))
}

fn line((name, value, meaning): &(&str, String, &str)) -> String {
    format!("{name:<12} {value:>10}  {meaning}")
}

fn fitting(lines: &[String], width: Option<usize>) -> Vec<String> {
    lines.iter().map(|line| cut(line, width.unwrap_or(usize::MAX)).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::columns;

    #[test]
    fn a_look_takes_as_many_lines_at_any_width() {
        let mut stats = Stats::default();
        stats.oldest_visible_seconds = Some(1.0);
        let mut paused = QueueStats::default();
        (paused.is_paused, paused.due) = (true, 2);
        stats.add("bulk".parse().expect("a name"), paused);
        stats.stored_bytes = Some(5_000_000);
        let whole = lines(&stats, None);
        for width in 1..100 {
            let cut = lines(&stats, Some(width));
            assert_eq!(cut.len(), whole.len());
            assert!(
                cut.iter().all(|line| columns(line) <= width && !line.contains('\n')),
                "{width}: {cut:#?}"
            );
        }
        assert_eq!(lines(&stats, Some(40))[0], "visible               0  may be claimed…");
        assert_eq!(lines(&stats, Some(100)), whole);
        assert_eq!(whole[1], "paused                2  could be claimed, were their queue not paused");
        let queue = "queue                 2  wait in bulk, 0 are being worked on; it is paused";
        assert_eq!(whole.last().map(String::as_str), Some(queue));
    }
}
