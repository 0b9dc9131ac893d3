//! `haulage stats`

use std::{fmt::Write as _, time::Duration};

use haulage::backend::Stats;

use crate::{
    exit::Result,
    options,
    output::{Output, brief},
    session::Session,
};

/// Show how many jobs there are in each state, and how long they wait
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on showing, until Ctrl-C
    #[arg(long)]
    watch: bool,

    /// How often, with --watch
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = options::duration)]
    interval: Duration,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let output = session.output;
        let backend = session.existing().await?;
        let mut lines = show(output, &backend.stats().await?, 0)?;
        if !self.watch {
            return Ok(());
        }
        loop {
            // Not in a tight loop, whatever was asked for.
            tokio::time::sleep(self.interval.max(Duration::from_millis(100))).await;
            lines = show(output, &backend.stats().await?, lines)?;
        }
    }
}

/// Writes the numbers, on a terminal over the `above` lines of the last time;
/// tells how many lines that took.
fn show(output: Output, stats: &Stats, above: usize) -> Result<usize> {
    if output.json {
        return output.json(stats).map(|()| 0);
    }
    let mut text = String::new();
    if above > 0 && output.is_terminal() {
        // Up by so many lines, and clear from there.
        let _ = write!(text, "\x1b[{above}A\x1b[J");
    } else if above > 0 {
        text.push('\n');
    }
    let mut rows = vec![
        ("visible", stats.visible.to_string(), "may be claimed now"),
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
        rows.push(("stored", size(bytes), "on disk"));
    }
    for (name, value, meaning) in &rows {
        let _ = writeln!(text, "{name:<12} {value:>10}  {meaning}");
    }
    output.text(&text)?;
    Ok(rows.len())
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}
