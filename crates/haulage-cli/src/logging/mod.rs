//! What the worker logs, to stderr.

mod text;

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd as _,
};

use haulage::log::LogWriter;
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    env,
    exit::{Code, Exit, Result},
    output::{self, LogFormat, count, json_line, sanitized_json},
};

/// What is logged of whom. The SDK of AWS says at the level INFO what concerns nobody but its
/// authors, for each call that fails: it is heard where the filter names it, or is for all of DEBUG.
fn targets(filter: &str) -> Result<Targets> {
    let targets: Targets = filter.parse().map_err(|error| {
        Exit::usage(format!("--log (or {}) is not a log filter: {error}; try info or debug", env::LOG.name))
    })?;
    let is_named = targets.iter().any(|(target, _)| target.starts_with("aws_"));
    if is_named || targets.default_level() != Some(LevelFilter::INFO) {
        return Ok(targets);
    }
    Ok(targets.with_target("aws_", LevelFilter::WARN))
}

/// Starts logging. `filter` is a level, or pairs of target and level.
pub(crate) fn start(filter: &str, format: LogFormat) -> Result {
    let targets = targets(filter)?;
    let failed = |error| Exit::new(Code::Failure, format!("cannot start logging: {error}"));
    // A descriptor of its own: whoever holds the lock of `io::stderr` may wait
    // for a reader, and others for the lock.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned().map_err(failed)?);
    let log = LogWriter::start(stderr, move |dropped| told(format, dropped)).map_err(failed)?;
    let log = output::write_through(log);
    let layer = match format {
        LogFormat::Text => {
            let ansi = io::stderr().is_terminal() && !env::no_color();
            let layer = fmt::layer().with_ansi(ansi).fmt_fields(text::Fields).event_format(text::Lines);
            layer.with_writer(|| log.clone()).boxed()
        }
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_span_list(false);
            layer.with_writer(|| Harmless(log.clone())).boxed()
        }
    };
    let started = tracing_subscriber::registry().with(layer.with_filter(targets)).try_init();
    debug_assert!(started.is_ok(), "logging is started once");
    // Where nobody reads stderr, the usual hook would wait there.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(())
}

fn told(format: LogFormat, dropped: u64) -> String {
    let message = format!("{} of the log were dropped, as nobody read it", count(dropped, "line"));
    match format {
        LogFormat::Text => format!("haulage: {message}\n"),
        LogFormat::Json => {
            let more = [("dropped".to_owned(), dropped.into())].into_iter().collect();
            json_line("WARN", &message, more) + "\n"
        }
    }
}

/// Lines of JSON, with what could play with a terminal escaped.
struct Harmless(LogWriter);

impl Write for Harmless {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(lines) {
            Ok(text) => self.0.line(sanitized_json(text).into_owned()),
            Err(_) => self.0.line(lines),
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn the_sdk_is_quiet_at_info() {
        const SDK: &str = "aws_smithy_runtime_api::client::connection";
        for (filter, sdk, ours) in [
            ("info", Level::WARN, Level::INFO),
            ("info,haulage=debug", Level::WARN, Level::DEBUG),
            ("info,aws_smithy_runtime_api=info", Level::INFO, Level::INFO),
            ("debug", Level::DEBUG, Level::DEBUG),
            ("error", Level::ERROR, Level::ERROR),
        ] {
            let targets = targets(filter).unwrap_or_else(|_| panic!("{filter}"));
            for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
                assert_eq!(targets.would_enable(SDK, &level), level <= sdk, "{filter}: {level}");
                assert_eq!(
                    targets.would_enable("haulage::consumer", &level),
                    level <= ours,
                    "{filter}: {level}"
                );
            }
        }
    }
}
