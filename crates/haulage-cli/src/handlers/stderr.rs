//! A program's stderr: line by line, with the end of it kept.

use super::TAIL;
use crate::output::{count, sanitized, sanitized_line};

/// A line that gets longer than this is cut in two.
const LONGEST: usize = 8 << 10;

/// Cuts what comes into lines. What a terminal would overwrite, as progress
/// bars do after a carriage return, is left out.
#[derive(Debug, Default)]
pub(super) struct Lines {
    current: Vec<u8>,
    returned: bool,
    tail: Vec<u8>,
    cut: bool,
}

impl Lines {
    /// Takes the next bytes, and passes each line that they end to `emit`.
    pub(super) fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(&str)) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end(&mut emit),
                b'\r' => self.returned = true,
                _ => {
                    if std::mem::take(&mut self.returned) {
                        self.current.clear();
                    }
                    self.current.push(byte);
                    if self.current.len() >= LONGEST {
                        self.end(&mut emit);
                    }
                }
            }
        }
    }

    /// Ends the last line, and gives the end of all that came.
    pub(super) fn finish(mut self, mut emit: impl FnMut(&str)) -> String {
        if !self.current.is_empty() {
            self.end(&mut emit);
        }
        let excess = self.tail.len().saturating_sub(TAIL);
        let tail = sanitized(&String::from_utf8_lossy(&self.tail[excess..]));
        // A character that was cut in two is of no use.
        let tail = tail.trim_start_matches(char::REPLACEMENT_CHARACTER).trim_end();
        if self.cut || excess > 0 { format!("… {tail}") } else { tail.to_owned() }
    }

    fn end(&mut self, emit: &mut impl FnMut(&str)) {
        self.returned = false;
        let line = String::from_utf8_lossy(&self.current);
        let line = sanitized_line(&line);
        if !line.trim().is_empty() {
            emit(line.trim_end());
        }
        self.tail.extend_from_slice(&self.current);
        self.tail.push(b'\n');
        self.current.clear();
        if self.tail.len() > 4 * TAIL {
            self.tail.drain(..self.tail.len() - TAIL);
            self.cut = true;
        }
    }
}

/// How much of what a program prints is logged.
#[derive(Debug)]
pub(super) struct Allowance {
    left: usize,
    /// Lines, and their bytes, that were more.
    beyond: (u64, u64),
}

impl Allowance {
    /// What a line takes at least: as much is put around it.
    const LEAST: usize = 100;

    pub(super) const fn new(bytes: usize) -> Self {
        Self { left: bytes, beyond: (0, 0) }
    }

    /// Whether this line is still within it.
    pub(super) fn takes(&mut self, line: &str) -> bool {
        let cost = line.len().max(Self::LEAST);
        // The first that is too much is the end of it.
        if self.beyond.0 == 0 && cost <= self.left {
            self.left -= cost;
            return true;
        }
        self.beyond = (self.beyond.0 + 1, self.beyond.1 + line.len() as u64);
        false
    }

    /// Says what was left out, where anything was.
    pub(super) fn remark(&self) -> Option<String> {
        let (lines, bytes) = self.beyond;
        (lines > 0).then(|| {
            format!(
                "{} of {} more were not logged, by --log-limit",
                count(lines, "line"),
                count(bytes, "byte")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(parts: &[&[u8]]) -> (Vec<String>, String) {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for part in parts {
            lines.push(part, |line| seen.push(line.to_owned()));
        }
        let tail = lines.finish(|line| seen.push(line.to_owned()));
        (seen, tail)
    }

    #[test]
    fn cuts_lines() {
        let (seen, tail) = feed(&[b"one\r\ntw", b"o\n\n  \nthree"]);
        assert_eq!(seen, ["one", "two", "three"]);
        assert_eq!(tail, "one\ntwo\n\n  \nthree");
    }

    #[test]
    fn leaves_out_what_a_progress_bar_overwrites() {
        let (seen, tail) = feed(&[b"10%\r20%\r100%", b"\r\ndone\n"]);
        assert_eq!(seen, ["100%", "done"]);
        assert_eq!(tail, "100%\ndone");
    }

    #[test]
    fn has_an_end() {
        let mut allowance = Allowance::new(450);
        let passed: Vec<_> = ["a", &"b".repeat(200), "c", &"d".repeat(99), "e"]
            .into_iter()
            .filter(|line| allowance.takes(line))
            .map(str::len)
            .collect();
        assert_eq!(passed, [1, 200, 1]);
        let remark = allowance.remark().expect("something was left out");
        assert_eq!(remark, "2 lines of 100 bytes more were not logged, by --log-limit");
        assert_eq!(Allowance::new(100).remark(), None);
    }

    #[test]
    fn plays_no_tricks() {
        let (seen, tail) = feed(&[b"\x1b[31mred\x1b[0m\0\x9b \xe2\x80\xae!\n\x1b[2J"]);
        assert_eq!(seen, ["red\u{fffd} !"]);
        assert_eq!(tail, "red\u{fffd} !");
    }

    #[test]
    fn keeps_the_end() {
        let text = "ä".repeat(20_000);
        let (seen, tail) = feed(&[text.as_bytes(), b"\nlast"]);
        assert!(seen.len() > 1);
        assert!(
            tail.starts_with("… ä") && tail.ends_with("\nlast") && tail.len() <= TAIL + 4,
            "{}",
            tail.len()
        );
    }
}
