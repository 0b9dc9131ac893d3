//! The one place that writes: data to stdout, talk to stderr.

use std::{
    borrow::Cow,
    fmt::{Display, Write as _},
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use serde::Serialize;

use crate::{
    env,
    exit::{Code, Exit, Result},
};

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// JSON for programs in place of text for people.
    pub(crate) json: bool,
    colour: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, colour: io::stdout().is_terminal() && !env::no_color() }
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
        self.line(one_line(&text))
    }

    /// Talk to a person. Whether anybody hears it changes nothing.
    pub(crate) fn talk(&self, text: impl Display) {
        if !self.json {
            self.report(text);
        }
    }

    /// What went wrong, for a person or a program.
    pub(crate) fn report(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Talk that waits for an answer on the same line.
    pub(crate) fn prompt(&self, text: impl Display) {
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
    }

    /// Rows under a header, in columns; a cell that names a status is coloured.
    pub(crate) fn table(&self, header: &[&str], rows: &[Vec<String>]) -> String {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain(header.get(column).map(|name| name.len())).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..header.len()).map(width).collect();
        let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
        let mut text = String::new();
        for row in std::iter::once(&header).chain(rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width - cell.chars().count();
                let _ = write!(line, "{}{:padding$}  ", self.paint(cell), "");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The text, in the colour of the state that it names, if it names one.
    pub(crate) fn paint<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let colour = match text {
            "SUCCESS" | "ok" => 32,
            "ERROR" | "problem" => 31,
            "CANCELLED" | "warning" => 33,
            "IN_PROGRESS" => 36,
            _ => return Cow::Borrowed(text),
        };
        if self.colour { Cow::Owned(format!("\x1b[{colour}m{text}\x1b[0m")) } else { Cow::Borrowed(text) }
    }

    /// Whether a person sees what goes to stdout.
    pub(crate) fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }
}

/// Nobody reads on: that ends the program, and is nothing to complain of.
fn written(result: io::Result<()>) -> Result {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Exit::silent(Code::Ok),
        _ => Exit::new(Code::Failure, format!("cannot write to stdout: {error}")),
    })
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
/// without the control characters by which it could play with a terminal.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// The last line that says something, cut to `width`: tracebacks end with
/// what happened.
pub(crate) fn gist(text: &str, width: usize) -> String {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line = harmless(line).replace('\t', " ");
    match line.char_indices().nth(width) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
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

/// `1 job`, `2 jobs`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_are_lines() {
        assert_eq!(one_line("{\n  \"a\": \"x\\ny\"\r\n}"), "{   \"a\": \"x\\ny\"  }");
    }

    #[test]
    fn gist_is_the_end_without_tricks() {
        assert_eq!(
            gist("Traceback:\n  File\nValueError: \x1b[31mbad\x1b[0m\n\n", 80),
            "ValueError: [31mbad[0m"
        );
        assert_eq!(gist("äöüß", 2), "äö…");
        assert_eq!(gist("", 2), "");
    }

    #[test]
    fn columns_line_up() {
        let output = Output { json: false, colour: false };
        let rows = [vec!["a".to_owned(), "SUCCESS".to_owned()], vec!["ähm".to_owned(), "x".to_owned()]];
        assert_eq!(output.table(&["ID", "STATUS"], &rows), "ID   STATUS\na    SUCCESS\nähm  x\n");
    }
}
