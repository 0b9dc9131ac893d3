//! What the worker logs, to stderr.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use tracing_subscriber::{
    Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    env,
    exit::{Exit, Result},
};

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Starts logging. `filter` is a level, or pairs of target and level.
pub(crate) fn start(filter: &str, format: Format) -> Result {
    let targets: Targets = filter.parse().map_err(|error| {
        Exit::usage(format!("--log (or {}) is not a log filter: {error}; try info or debug", env::LOG.name))
    })?;
    let layer = fmt::layer().with_writer(io::stderr);
    let layer = match format {
        Format::Text => layer.with_ansi(io::stderr().is_terminal() && !env::no_color()).boxed(),
        Format::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let started = tracing_subscriber::registry().with(layer.with_filter(targets)).try_init();
    debug_assert!(started.is_ok(), "logging is started once");
    Ok(())
}
