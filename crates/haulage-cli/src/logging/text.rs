//! Lines of the log for people: one for each event, whatever is in it.

use std::fmt;

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

use crate::output::count;

/// `2026-11-28T03:14:15.926535Z  INFO job{job_id=… attempt=1}: program: loading weights`
pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (dim, level, plain) = match writer.has_ansi_escapes() {
            true => ("\x1b[2m", colour(*event.metadata().level()), "\x1b[0m"),
            false => ("", "", ""),
        };
        let time = haulage::Timestamp::from(std::time::SystemTime::now());
        write!(writer, "{dim}{time}{plain} {level}{:>5}{plain} ", event.metadata().level())?;
        // Before the message, in which a program may say what it likes.
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            write!(writer, "{}", span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                write!(writer, "{{{fields}}}")?;
            }
            writer.write_str(": ")?;
        }
        write!(writer, "{dim}{}:{plain} ", event.metadata().target())?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

const fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

/// The message as it is, then `name=value` for each field, quoted where need be.
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Visitor { writer, first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Visitor<'writer> {
    writer: Writer<'writer>,
    first: bool,
    result: fmt::Result,
}

impl Visit for Visitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let space = if std::mem::take(&mut self.first) { "" } else { " " };
        let part = match field.name() {
            "message" => escaped(value),
            "error" => format!("error={}", quoted(&first_line(value))),
            name => format!("{name}={}", quoted(value)),
        };
        self.result = self.result.and_then(|()| write!(self.writer, "{space}{part}"));
    }
}

/// Of a long error, what it begins with: it is in the record as a whole, and
/// what a program wrote to stderr is in the log already.
fn first_line(error: &str) -> String {
    let error = error.trim_end();
    match error.split_once('\n') {
        Some((first, rest)) => {
            format!("{} (and {})", first.trim_end(), count(rest.lines().count() as u64, "more line"))
        }
        None => error.to_owned(),
    }
}

/// As a word, or in quotes.
fn quoted(value: &str) -> String {
    let word = |c: char| !c.is_whitespace() && !matches!(c, '"' | '=' | '\\') && is_plain(c);
    if !value.is_empty() && value.chars().all(word) { value.to_owned() } else { format!("{value:?}") }
}

/// On one line, and nothing that plays with a terminal.
fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            line.push(c);
        } else {
            line.extend(c.escape_debug());
        }
    }
    line
}

/// Whether it shows as itself: `Debug` escapes what does not.
fn is_plain(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_a_word_or_is_quoted() {
        assert_eq!(quoted("30s"), "30s");
        assert_eq!(quoted("sqlite://a.db?x=1"), r#""sqlite://a.db?x=1""#);
        assert_eq!(quoted(""), r#""""#);
        assert_eq!(quoted("a b"), r#""a b""#);
        assert_eq!(quoted("x\n2026-11-28T00:00:00Z  INFO a: b"), r#""x\n2026-11-28T00:00:00Z  INFO a: b""#);
    }

    #[test]
    fn nothing_in_a_line_ends_it_or_moves_a_cursor() {
        assert_eq!(
            escaped("a\nb\u{1b}[2J\u{9b}1m\u{202e}c\0\u{2028}"),
            r"a\nb\u{1b}[2J\u{9b}1m\u{202e}c\0\u{2028}"
        );
        assert_eq!(escaped(r#"it's "C:\x" – ä"#), r#"it's "C:\x" – ä"#);
    }

    #[test]
    fn a_long_error_is_its_first_line() {
        assert_eq!(first_line("exit code 1\n"), "exit code 1");
        assert_eq!(first_line("exit code 1: bad\n\nits stderr:\nx"), "exit code 1: bad (and 3 more lines)");
    }
}
