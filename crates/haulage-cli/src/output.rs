//! The one place that writes: data to stdout, talk to stderr.

use std::{
    borrow::Cow,
    ffi::OsString,
    fmt::{Display, Write as _},
    io::{self, IsTerminal as _, Write as _},
    sync::OnceLock,
    time::Duration,
};

use clap::ValueEnum;
use haulage::log::LogWriter;
use serde::Serialize;
use serde_json::json;

use crate::{
    env,
    exit::{Code, Exit, Result},
};

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl LogFormat {
    /// As the flag has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }

    /// What a command line asks for that cannot be read as a whole.
    pub(crate) fn of(args: &[OsString]) -> Self {
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

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// JSON for programs in place of text for people.
    pub(crate) json: bool,
    /// How the lines of stderr look, those of a worker's log.
    pub(crate) log: LogFormat,
    colour: bool,
}

impl Output {
    pub(crate) fn new(json: bool, log: LogFormat) -> Self {
        Self { json, log, colour: io::stdout().is_terminal() && !env::no_color() }
    }

    /// Text without colour, whatever stdout is.
    #[cfg(test)]
    pub(crate) fn plain(log: LogFormat) -> Self {
        Self { json: false, log, colour: false }
    }

    /// Data: `text` and the end of its line.
    pub(crate) fn line(&self, text: impl Display) -> Result {
        written(writeln!(io::stdout().lock(), "{text}"))
    }

    /// Data that has its line ends already.
    pub(crate) fn text(&self, text: &str) -> Result {
        let mut stdout = io::stdout().lock();
        written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
    }

    /// Data: a value as JSON, on one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result {
        let text = serde_json::to_string(value).map_err(haulage::Error::from)?;
        self.json_text(&one_line(&text))
    }

    /// Data: JSON that there is already, and the end of its line. On a terminal,
    /// what could play with it is escaped; for a program it is the same text,
    /// byte by byte.
    pub(crate) fn json_text(&self, json: &str) -> Result {
        if self.is_terminal() { self.line(sanitized_json(json)) } else { self.line(json) }
    }

    /// Talk to a person. Whether anybody hears it changes nothing.
    pub(crate) fn talk(&self, text: impl Display) {
        if !self.json {
            self.report(text);
        }
    }

    /// What went wrong, for a person or a program. It waits for no reader where
    /// a worker's log goes to stderr, too.
    pub(crate) fn report(&self, text: impl Display) {
        let line = format!("{text}\n");
        match LOG.get() {
            Some(log) => log.line(line),
            None => drop(io::stderr().lock().write_all(line.as_bytes())),
        }
    }

    /// Why the program ends: one object with `--json`, a line of the log where
    /// that is JSON.
    pub(crate) fn exit(&self, exit: &Exit) {
        let Exit { code, messages } = exit;
        if messages.is_empty() {
            return;
        }
        if self.json {
            let error = json!({
                "code": code.name(),
                "exit_code": code.number(),
                "message": messages.join("\n"),
            });
            self.report(sanitized_json(&json!({ "error": error }).to_string()));
        } else if self.log == LogFormat::Json {
            let more = [("code", json!(code.name())), ("exit_code", json!(code.number()))];
            let more = more.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
            self.report(json_line("ERROR", &messages.join("\n"), more));
        } else {
            let lines = messages.iter().map(|message| format!("haulage: {}", sanitized(message)));
            self.report(lines.collect::<Vec<_>>().join("\n"));
        }
    }

    /// Talk that waits for an answer on the same line.
    pub(crate) fn prompt(&self, text: impl Display) {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
    }

    /// Rows under a header, in columns; a cell that names a status is coloured.
    pub(crate) fn table(&self, header: &[&str], rows: &[Vec<String>]) -> String {
        let widths: Vec<usize> = (0..header.len()).map(|n| column_width(header, rows, n)).collect();
        let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
        let mut text = String::new();
        for row in std::iter::once(&header).chain(rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width - columns(cell);
                let _ = write!(line, "{}{:padding$}", self.paint(cell), "", padding = padding + GAP);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The text, in the colour of the state that it names, if it names one.
    pub(crate) fn paint<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let colour = match text {
            "SUCCESS" | "ok" | "passed" => 32,
            "ERROR" | "problem" | "failed" => 31,
            "CANCELLED" | "warning" | "left out" => 33,
            "IN_PROGRESS" => 36,
            _ => return Cow::Borrowed(text),
        };
        if self.colour { Cow::Owned(format!("\x1b[{colour}m{text}\x1b[0m")) } else { Cow::Borrowed(text) }
    }

    /// How many columns the terminal has, where stdout is one.
    pub(crate) fn width(&self) -> Option<usize> {
        let size = self.is_terminal().then(|| console::Term::stdout().size_checked()).flatten();
        size.map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0)
    }

    /// Whether a person sees what goes to stdout.
    pub(crate) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }
}

/// From now on, what is said on stderr goes through this thread, too.
pub(crate) fn write_through(log: LogWriter) -> &'static LogWriter {
    LOG.get_or_init(|| log)
}

/// Waits for what was logged to be written, and no longer than `limit`.
pub(crate) fn flush(limit: Duration) {
    if let Some(log) = LOG.get() {
        log.flush(limit);
    }
}

/// Nobody reads on: that ends the program, and is nothing to complain of.
fn written(result: io::Result<()>) -> Result {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Exit::silent(Code::Ok),
        _ => Exit::new(Code::Failure, format!("cannot write to stdout: {error}")),
    })
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

/// JSON on one line. A line end in it can only be white space between its
/// parts, since strings have theirs escaped.
pub(crate) fn one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

/// Text from elsewhere, such as an error that ends in a program's stderr,
/// without what could play with a terminal: control characters and whole
/// sequences of them, and marks that turn the direction of writing. Lines and
/// tabs stay.
pub(crate) fn sanitized(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => skip_sequence(&mut rest),
            '\u{9b}' => skip_parameters(&mut rest),
            '\n' | '\t' => plain.push(c),
            _ if plays(c) => {}
            _ => plain.push(c),
        }
    }
    plain
}

/// The same, on one line.
pub(crate) fn sanitized_line(text: &str) -> String {
    sanitized(text).replace(['\n', '\t'], " ")
}

/// JSON from elsewhere, with what could play with a terminal escaped: it can
/// only be in strings, and means the same there.
pub(crate) fn sanitized_json(json: &str) -> Cow<'_, str> {
    let odd = |c: char| plays(c) && !matches!(c, '\n' | '\t' | '\r');
    if !json.contains(odd) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if odd(c) {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Whether a terminal does something else with it than to show it. The marks
/// of direction are those of Unicode Standard Annex 9, and two ends of lines.
fn plays(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What follows an escape character (ECMA-48, sections 5.3 and 5.4; 8.3.89 for
/// the strings).
fn skip_sequence(rest: &mut std::str::Chars<'_>) {
    /// The longest title or link that is taken for one.
    const LONGEST: usize = 1024;
    let mut ahead = rest.clone();
    match ahead.next() {
        Some('[') => {
            *rest = ahead;
            skip_parameters(rest);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            let ended = ahead.by_ref().take(LONGEST).any(|c| matches!(c, '\x07' | '\x1b' | '\u{9c}'));
            if ended {
                // Where it ended with an escape, there is its other half.
                *rest = ahead.clone();
                if ahead.next() == Some('\\') {
                    *rest = ahead;
                }
            }
        }
        _ => {}
    }
}

/// The rest of a control sequence: parameters, and a letter that says what it is.
fn skip_parameters(rest: &mut std::str::Chars<'_>) {
    let mut ahead = rest.clone();
    while let Some(c) = ahead.next() {
        match c {
            ' '..='?' => *rest = ahead.clone(),
            '@'..='~' => {
                *rest = ahead;
                return;
            }
            _ => return,
        }
    }
}

/// What is between two columns of a table.
pub(crate) const GAP: usize = 2;

/// How wide a column of a table is.
pub(crate) fn column_width(header: &[&str], rows: &[Vec<String>], column: usize) -> usize {
    let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| columns(cell));
    cells.chain(header.get(column).map(|name| columns(name))).max().unwrap_or(0)
}

/// How many columns of a terminal a text takes: two for a character of Chinese.
pub(crate) fn columns(text: &str) -> usize {
    console::measure_text_width(text)
}

/// The text, cut to so many columns of a terminal.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return Cow::Borrowed(text);
    }
    let fits = |end: &usize| columns(&text[..*end]) < width;
    let end = text.char_indices().map(|(end, _)| end).take_while(fits).last().unwrap_or(0);
    Cow::Owned(format!("{}…", text[..end].trim_end()))
}

/// The first line that says something: errors begin with what happened.
pub(crate) fn summary_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    sanitized_line(line)
}

/// A duration for people, in its largest unit.
pub(crate) fn brief(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// The same, and under a second in milliseconds.
pub(crate) fn brief_or_millis(duration: Duration) -> String {
    if duration.as_secs() > 0 { brief(duration) } else { format!("{}ms", duration.as_millis()) }
}

/// How long something took, to three figures or so: `740ms`, `12s 340ms`, `1h 2m 3s`.
pub(crate) fn span(duration: Duration) -> String {
    let exact = match duration.as_secs() {
        0 => Duration::from_micros(duration.as_micros().try_into().unwrap_or(0)),
        1..60 => Duration::from_millis(duration.as_millis().try_into().unwrap_or(0)),
        seconds => Duration::from_secs(seconds),
    };
    humantime::format_duration(exact).to_string()
}

/// `1 job`, `2 jobs`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_are_lines() {
        assert_eq!(one_line("{\n  \"a\": \"x\\ny\"\r\n}"), "{   \"a\": \"x\\ny\"  }");
    }

    #[test]
    fn a_summary_is_the_first_line_without_tricks() {
        let text = "\n ValueError: \x1b[31mbad\x1b[0m\n\nTraceback:\n  File\n";
        assert_eq!(summary_line(text), "ValueError: bad");
        assert_eq!(summary_line(""), "");
    }

    #[test]
    fn what_is_cut_fits() {
        for (text, width, cut_to) in [
            ("äöüß", 3, "äö…"),
            ("äöüß", 4, "äöüß"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("", 0, ""),
        ] {
            assert_eq!(cut(text, width), cut_to, "{text} to {width}");
        }
    }

    #[test]
    fn nothing_from_elsewhere_plays_with_the_terminal() {
        for (text, plain) in [
            ("a\tb\nc", "a\tb\nc"),
            ("\x1b[2J\x1b[1;31mred\x1b[0m", "red"),
            ("\u{9b}31mred", "red"),
            ("\x1b]0;title\x07x\x1b]8;;http://a\x1b\\y", "xy"),
            // What is no whole sequence loses its control character only.
            ("\x1b]no end", "]no end"),
            ("\x1b[ä", "ä"),
            ("\x1b[12", ""),
            ("a\0b\rc\x08\x7f\u{85}", "abc"),
            ("\u{202e}fdp.exe\u{2066}", "fdp.exe"),
            ("ä – 日本語 👩\u{200d}🔬", "ä – 日本語 👩\u{200d}🔬"),
        ] {
            assert_eq!(sanitized(text), plain, "{text:?}");
        }
        assert_eq!(sanitized_line("a\nb\tc"), "a b c");
    }

    #[test]
    fn json_is_the_same_without_tricks() {
        let json = "{\"a\": \"\u{9b}2J\u{202e}\x1b\u{7f}ä\"}\n";
        assert_eq!(sanitized_json(json), "{\"a\": \"\\u009b2J\\u202e\\u001b\\u007fä\"}\n");
        assert!(matches!(sanitized_json("[1]\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn columns_line_up() {
        let output = Output::plain(LogFormat::Text);
        let rows = [vec!["a".to_owned(), "SUCCESS".to_owned()], vec!["ähm".to_owned(), "x".to_owned()]];
        assert_eq!(output.table(&["ID", "STATUS"], &rows), "ID   STATUS\na    SUCCESS\nähm  x\n");
    }
}
