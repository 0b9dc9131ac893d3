//! `haulage guard`, hidden: the process of the guard.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    thread,
    time::Duration,
};

use super::tree;
use crate::{exit::Result, handlers::unix};

/// How often it reads at most: a worker that starts thousands of programs a
/// second does not wake it for each.
const PAUSE: Duration = Duration::from_millis(20);

/// End what a worker's jobs have started, once the worker is gone
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the worker's marks begin with
    token: String,

    /// A folder to delete
    folder: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self) -> Result {
        let running = follow(io::stdin().lock());
        for leader in running.values().filter(|leader| **leader > 0) {
            unix::signal_group(*leader, libc::SIGKILL);
        }
        if !running.is_empty() {
            let mark = |number: &u64| format!("{}-{number}", self.token).into_bytes();
            let marks: BTreeSet<_> = running.keys().map(mark).collect();
            tree::end(|mark| marks.contains(mark));
        }
        if let Some(folder) = self.folder {
            // The worker has done so, if it could.
            let _ = fs::remove_dir_all(folder);
        }
        Ok(())
    }
}

/// Reads what the worker tells, until it is gone; what runs then. Lines are
/// `NUMBER LEADER` for a program that runs, `NUMBER` for one that has ended.
fn follow(mut pipe: impl io::Read) -> BTreeMap<u64, libc::pid_t> {
    let mut running = BTreeMap::new();
    let (mut text, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match pipe.read(&mut buffer) {
            Ok(length @ 1..) => text.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return running,
        }
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<_> = text.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let mut numbers = line.split_ascii_whitespace();
            let Some(number) = numbers.next().and_then(|number| number.parse().ok()) else { continue };
            match numbers.next().and_then(|leader| leader.parse().ok()) {
                Some(leader) => drop(running.insert(number, leader)),
                None => drop(running.remove(&number)),
            }
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_runs_when_the_worker_is_gone() {
        struct Parts(Vec<&'static [u8]>);
        impl io::Read for Parts {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let Some(part) = self.0.pop() else { return Ok(0) };
                buffer[..part.len()].copy_from_slice(part);
                Ok(part.len())
            }
        }
        // Taken from the end.
        let parts = Parts(vec![b"0 0\n11 78", b"\n2\n3 1", b"1 0\n1 40\n2 0\n2 41\n1"]);
        // 11 was not said to its end.
        assert_eq!(follow(parts), BTreeMap::from([(3, 10)]));
    }
}
