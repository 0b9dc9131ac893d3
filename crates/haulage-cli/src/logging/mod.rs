//! What the worker logs, to stderr.

mod text;

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd as _,
    sync::OnceLock,
    time::Duration,
};

use clap::ValueEnum;
use haulage::log::LogWriter;
use serde_json::json;
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
    output::sanitized_json,
};

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl Format {
    /// As the flag has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    /// What a command line asks for that cannot be read as a whole.
    pub(crate) fn of(args: &[std::ffi::OsString]) -> Self {
        let flag = args.windows(2).any(|pair| pair[0] == "--log-format" && pair[1] == "json");
        let flag = flag || args.iter().any(|arg| arg == "--log-format=json");
        let variable = || env::LOG_FORMAT.read().is_some_and(|value| value == "json");
        if args.iter().any(|arg| arg == "worker" || arg == "serve") && (flag || variable()) {
            Self::Json
        } else {
            Self::Text
        }
    }
}

/// The thread that writes to stderr, once there is a log.
static LOG: OnceLock<LogWriter> = OnceLock::new();

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
pub(crate) fn start(filter: &str, format: Format) -> Result {
    let targets = targets(filter)?;
    let failed = |error| Exit::new(Code::Failure, format!("cannot start logging: {error}"));
    // A descriptor of its own: whoever holds the lock of `io::stderr` may wait
    // for a reader, and others for the lock.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned().map_err(failed)?);
    let log = LogWriter::start(stderr, move |dropped| told(format, dropped)).map_err(failed)?;
    let log = LOG.get_or_init(|| log);
    let layer = match format {
        Format::Text => {
            let ansi = io::stderr().is_terminal() && !env::no_color();
            let layer = fmt::layer().with_ansi(ansi).fmt_fields(text::Fields).event_format(text::Lines);
            layer.with_writer(|| log.clone()).boxed()
        }
        Format::Json => {
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

/// Writes a line to stderr, by way of the log where there is one: then it
/// waits for no reader.
pub(crate) fn say(line: &str) {
    match LOG.get() {
        Some(log) => log.line(format!("{line}\n")),
        None => drop(writeln!(io::stderr().lock(), "{line}")),
    }
}

/// Waits for what was logged to be written, and no longer than `limit`.
pub(crate) fn flush(limit: Duration) {
    if let Some(log) = LOG.get() {
        log.flush(limit);
    }
}

/// A line of the JSON log that is written whatever the filter.
pub(crate) fn json_line(
    level: &str,
    message: &str,
    more: serde_json::Map<String, serde_json::Value>,
) -> String {
    let mut line = json!({
        "timestamp": haulage::Timestamp::from(std::time::SystemTime::now()).to_string(),
        "level": level,
        "message": message,
        "target": "haulage",
    });
    if let Some(object) = line.as_object_mut() {
        object.extend(more);
    }
    sanitized_json(&line.to_string()).into_owned()
}

fn told(format: Format, dropped: u64) -> String {
    let message =
        format!("{} of the log were dropped, as nobody read it", crate::output::count(dropped, "line"));
    match format {
        Format::Text => format!("haulage: {message}\n"),
        Format::Json => {
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
