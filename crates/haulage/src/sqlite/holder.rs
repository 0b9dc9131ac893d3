//! Who keeps a database locked, in words.

use std::path::Path;

use super::{
    locks,
    wake::{Wake, Word},
};

/// Names the process that has the write lock, as far as it can be known.
pub(super) fn describe(path: &Path, wake: &Wake) -> String {
    match locks::holder(path) {
        Some(pid) if pid > 0 => {
            let pid = u32::try_from(pid).unwrap_or_default();
            Process::look(pid).describe("", " holds it: close that, and try again")
        }
        // One of ours, or nobody at this moment.
        _ => match wake.read(Word::Writer) {
            0 => "another program holds it: close that, and try again".to_owned(),
            pid if pid == std::process::id() => "this process wrote last, and is busy with more".to_owned(),
            pid => Process::look(pid).describe("the last to write was ", ": see whether it hangs"),
        },
    }
}

struct Process {
    pid: u32,
    /// Its program and its state, where the system tells.
    known: Option<(String, char)>,
}

impl Process {
    fn look(pid: u32) -> Self {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        Self { pid, known: parse(&stat) }
    }

    fn describe(&self, before: &str, after: &str) -> String {
        let Self { pid, known } = self;
        match known {
            Some((program, 'T' | 't')) => format!(
                "{before}process {pid} ({program}), which is stopped: continue it (`kill -CONT {pid}`), or end it"
            ),
            Some((program, _)) => format!("{before}process {pid} ({program}){after}"),
            None => format!("{before}process {pid}{after}"),
        }
    }
}

/// The program's name and the state's letter in `/proc/PID/stat`; the name may
/// hold anything (proc(5)).
fn parse(stat: &str) -> Option<(String, char)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let name = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    Some((name, after.trim_start().chars().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_process_is_called_so() {
        let words = |stat| Process { pid: 7, known: parse(stat) }.describe("", " holds it");
        let stopped = "process 7 (my) (prog), which is stopped: continue it (`kill -CONT 7`), or end it";
        assert_eq!(words("7 (my) (prog) T 1 7 7 0 -1"), stopped);
        assert_eq!(words("7 (sh) S 1 7 7 0 -1"), "process 7 (sh) holds it");
        assert_eq!(words(""), "process 7 holds it");
    }
}
