//! Where bodies come from: an argument, a file, stdin; one document, or a
//! line each.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read as _},
    path::{Path, PathBuf},
};

use haulage::{Error, Json};

use crate::exit::{Code, Exit, Result};

/// How many bad lines are shown before the rest is only counted.
const SHOWN: usize = 10;

/// Reads one JSON document that was written on the command line; `name` says where.
pub(crate) fn argument(text: &str, name: &str) -> Result<Json> {
    parse(text.as_bytes(), name, "put double quotes inside the shell's: '\"…\"'")
}

/// Reads one JSON document from a file or stdin; `name` says which.
pub(crate) fn document(bytes: &[u8], name: &str) -> Result<Json> {
    parse(bytes, name, "make a JSON string of it, such as by `jq --raw-input --slurp .`")
}

fn parse(bytes: &[u8], name: &str, quoted: &str) -> Result<Json> {
    let error = match Json::from_slice(bytes) {
        Ok(json) => return Ok(json),
        Err(error) => error,
    };
    if bytes.trim_ascii().is_empty() {
        return Err(Exit::usage(format!(
            "{name} is empty; a job's body is a JSON document, and may be null"
        )));
    }
    let exit = Exit::from(error).about(&format!("{name} is not JSON"));
    Err(if is_plain_text(bytes) {
        exit.and(&format!("to send it as a text, {quoted}"))
    } else if is_lines(bytes) {
        exit.and("for a job for each line, give --jsonl")
    } else {
        exit.and("nothing was submitted; correct it and try again")
    })
}

/// Words that somebody may have forgotten to quote.
fn is_plain_text(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii();
    text.first().is_some_and(u8::is_ascii_alphabetic) && !text.contains(&b'\n')
}

/// A document on the first line, and more behind it.
fn is_lines(bytes: &[u8]) -> bool {
    let mut lines = bytes.trim_ascii().splitn(2, |&byte| byte == b'\n');
    lines.next().is_some_and(|first| Json::from_slice(first).is_ok()) && lines.next().is_some()
}

/// All of stdin.
pub(crate) fn stdin() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes).map_err(|e| unreadable(Path::new("-"), &e))?;
    Ok(bytes)
}

/// All of a file; `-` is stdin.
pub(crate) fn file(path: &Path) -> Result<Vec<u8>> {
    if path == Path::new("-") { stdin() } else { std::fs::read(path).map_err(|e| unreadable(path, &e)) }
}

fn unreadable(path: &Path, error: &io::Error) -> Exit {
    let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
    Exit::usage(format!("cannot read {name}: {error}"))
}

/// JSON Lines that can be read twice: once to check, once to submit.
#[derive(Debug)]
pub(crate) struct Lines {
    name: String,
    source: Source,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Memory(Vec<u8>),
}

/// What the check of all lines found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// How many bodies there are.
    pub(crate) count: u64,
    /// The largest body, in bytes.
    pub(crate) largest: usize,
    /// Its line, from 1.
    pub(crate) largest_line: usize,
}

impl Lines {
    /// Lines of a file; `-` is stdin. What cannot be read twice, a pipe for
    /// instance, is read into memory.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::in_memory("stdin".into(), stdin()?));
        }
        let name = path.display().to_string();
        if std::fs::metadata(path).map_err(|e| unreadable(path, &e))?.is_file() {
            return Ok(Self { name, source: Source::File(path.to_owned()) });
        }
        Ok(Self::in_memory(name, file(path)?))
    }

    /// Lines that were read already; `name` says where they are from.
    pub(crate) fn in_memory(name: String, bytes: Vec<u8>) -> Self {
        Self { name, source: Source::Memory(bytes) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Checks every line.
    pub(crate) fn survey(&self) -> Result<Survey> {
        let mut survey = Survey::default();
        let mut bad = Vec::new();
        let mut more = 0;
        for line in self.read()? {
            let (number, bytes) = line?;
            match Json::from_slice(&bytes) {
                Ok(body) => {
                    survey.count += 1;
                    if body.size() > survey.largest {
                        (survey.largest, survey.largest_line) = (body.size(), number);
                    }
                }
                Err(_) if bad.len() == SHOWN => more += 1,
                Err(error) => bad.push(self.misplaced(number, &error)),
            }
        }
        if bad.is_empty() {
            return Ok(survey);
        }
        if more > 0 {
            bad.push(format!("and {more} more bad lines in {}", self.name));
        }
        bad.push("nothing was submitted; fix these lines and try again".into());
        Err(Exit { code: Code::Usage, messages: bad })
    }

    /// The bodies, with their line numbers, from 1.
    pub(crate) fn bodies(&self) -> Result<impl Iterator<Item = Result<(usize, Json)>> + use<'_>> {
        Ok(self.read()?.map(|line| {
            let (number, bytes) = line?;
            // Checked before: this is news.
            let body = Json::from_slice(&bytes).map_err(|e| {
                Exit::usage(format!("{} has changed meanwhile: {}", self.name, self.misplaced(number, &e)))
            })?;
            Ok((number, body))
        }))
    }

    fn misplaced(&self, number: usize, error: &Error) -> String {
        match error {
            Error::InvalidJson { column, message, .. } => {
                format!("{} line {number} column {column}: {message}", self.name)
            }
            other => format!("{} line {number}: {other}", self.name),
        }
    }

    /// Lines with something on them.
    fn read(&self) -> Result<impl Iterator<Item = Result<(usize, Vec<u8>)>> + use<'_>> {
        let mut reader: Box<dyn BufRead + '_> = match &self.source {
            Source::File(path) => Box::new(BufReader::with_capacity(
                1 << 16,
                File::open(path).map_err(|e| unreadable(path, &e))?,
            )),
            Source::Memory(bytes) => Box::new(Cursor::new(bytes.as_slice())),
        };
        let mut number = 0;
        Ok(std::iter::from_fn(move || {
            loop {
                let mut line = Vec::new();
                match reader.read_until(b'\n', &mut line) {
                    Ok(0) => return None,
                    Ok(_) => number += 1,
                    Err(e) => return Some(Err(unreadable(Path::new(&self.name), &e))),
                }
                // Without its end, or a mistake at the end is placed on the next line.
                line.truncate(line.trim_ascii_end().len());
                if !line.is_empty() {
                    return Some(Ok((number, line)));
                }
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Lines {
        Lines::in_memory("f".into(), text.as_bytes().to_vec())
    }

    #[test]
    fn says_what_to_do_about_a_document_that_is_not_json() {
        for (bytes, remedy) in [
            (
                &b"hello\n"[..],
                "; to send it as a text, make a JSON string of it, such as by `jq --raw-input --slurp .`",
            ),
            (b"1\n{\"a\": 2}\n", "; for a job for each line, give --jsonl"),
            (b"{\"a\": 1,\n", "; nothing was submitted; correct it and try again"),
        ] {
            let exit = document(bytes, "stdin").map(drop).expect_err("bad");
            assert_eq!(exit.code, Code::Usage);
            let message = exit.messages.concat();
            assert!(message.starts_with("stdin is not JSON: ") && message.ends_with(remedy), "{message}");
        }
    }

    #[test]
    fn counts_and_measures() {
        let survey = lines("1\n\n  \r\n\"four\"\r\n[]").survey().expect("good");
        assert_eq!((survey.count, survey.largest, survey.largest_line), (3, 6, 4));
        let bodies: Vec<_> = lines("1\n\n2").bodies().expect("read").map(|b| b.expect("good")).collect();
        assert_eq!(bodies.iter().map(|(n, b)| (*n, b.as_str())).collect::<Vec<_>>(), [(1, "1"), (3, "2")]);
    }

    #[test]
    fn names_every_bad_line_up_to_a_point() {
        let exit = lines("1\n{\"a\":x}\n2\n[1,\n").survey().expect_err("bad");
        assert_eq!(exit.code, Code::Usage);
        assert_eq!(
            exit.messages,
            [
                "f line 2 column 6: expected value",
                "f line 4 column 3: EOF while parsing a value",
                "nothing was submitted; fix these lines and try again"
            ]
        );
        let exit = lines(&"x\n".repeat(25)).survey().expect_err("bad");
        assert_eq!(exit.messages.len(), SHOWN + 2);
        assert_eq!(exit.messages[SHOWN], "and 15 more bad lines in f");
    }
}
