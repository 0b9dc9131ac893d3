//! A program's stderr: line by line, with the end of it kept.

use super::TAIL;

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
        let tail = String::from_utf8_lossy(&self.tail[excess..]);
        // A character that was cut in two is of no use.
        let tail = tail.trim_start_matches(char::REPLACEMENT_CHARACTER).trim_end();
        if self.cut || excess > 0 { format!("… {tail}") } else { tail.to_owned() }
    }

    fn end(&mut self, emit: &mut impl FnMut(&str)) {
        self.returned = false;
        let line = String::from_utf8_lossy(&self.current);
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
