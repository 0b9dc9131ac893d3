//! A log that nobody has to read: writing to it never waits.
//!
//! A pipe or a terminal whose reader has stopped (a stalled log shipper,
//! Ctrl-S) holds up whoever writes to it. In a worker that would be the engine,
//! or the thread that hears signals. A [`LogWriter`] takes lines at once, and
//! writes them from a thread of its own.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::shutdown::without_stop_signals;

/// How many bytes wait to be written at most.
const MOST_BYTES: usize = 4 << 20;
/// How many bytes are handed to the system at once.
const PART: usize = 64 << 10;

/// Writes lines from a thread of its own. A clone writes to the same place.
///
/// Up to 4 MiB wait there for whoever reads. Lines beyond that are dropped and
/// counted, and the count is written once there is a reader again. As
/// [`io::Write`], each call is one line or several, written whole or dropped
/// whole:
///
/// ```
/// use std::{io::{self, Write as _}, time::Duration};
/// use haulage::log::LogWriter;
///
/// # fn main() -> io::Result<()> {
/// let log = LogWriter::start(io::sink(), |dropped| format!("{dropped} lines were dropped\n"))?;
/// log.clone().write_all(b"a line\n")?; // never waits
/// assert!(log.flush(Duration::from_secs(1)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LogWriter(Arc<Handle>);

/// What the clones share; the thread ends with it.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().orphaned = true;
        self.0.filled.notify_one();
    }
}

struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or never will be.
    filled: Condvar,
    /// Something was written.
    written: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    /// The thread holds lines that it has not written yet.
    writing: bool,
    /// Nobody is left who could write a line.
    orphaned: bool,
}

impl LogWriter {
    /// Starts the thread, which writes to `out`. `told` makes the line, with
    /// its end, that says how many lines were dropped.
    ///
    /// What `out` answers with an error is passed over: a log has nobody to
    /// tell.
    ///
    /// # Errors
    ///
    /// Where the system has no thread left.
    pub fn start(
        out: impl Write + Send + 'static,
        told: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let shared =
            Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new(), written: Condvar::new() });
        let writer = Self(Arc::new(Handle(shared.clone())));
        // It is there before the signals are caught, and must not take one meanwhile.
        without_stop_signals(|| {
            thread::Builder::new().name("haulage-log".into()).spawn(move || shared.write(out, told))
        })?;
        Ok(writer)
    }

    /// Takes a line, or several, with their ends. Never waits.
    pub fn line(&self, line: impl Into<Vec<u8>>) {
        let line = line.into();
        let shared = &self.0.0;
        let mut queue = shared.lock();
        if queue.bytes + line.len() > MOST_BYTES {
            queue.dropped += 1;
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        drop(queue);
        shared.filled.notify_one();
    }

    /// Waits until everything that was taken so far is written, or `limit` has
    /// passed; whether it is written.
    pub fn flush(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let shared = &self.0.0;
        let mut queue = shared.lock();
        while queue.writing || !queue.lines.is_empty() || queue.dropped > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = shared.written.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Write for LogWriter {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.line(lines);
        Ok(lines.len())
    }

    /// Does not wait; see [`LogWriter::flush`](LogWriter#method.flush) for that.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogWriter")
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, until nobody is left from whom anything could.
    fn write(&self, mut out: impl Write, told: impl Fn(u64) -> String) {
        let mut part = Vec::with_capacity(PART);
        loop {
            let mut queue = self.lock();
            queue.writing = false;
            self.written.notify_all();
            while queue.lines.is_empty() && queue.dropped == 0 {
                if queue.orphaned {
                    return;
                }
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            part.clear();
            while part.len() < PART
                && let Some(line) = queue.lines.pop_front()
            {
                queue.bytes -= line.len();
                part.extend_from_slice(&line);
            }
            // Behind the lines that were before them.
            if queue.lines.is_empty() && queue.dropped > 0 {
                part.extend_from_slice(told(std::mem::take(&mut queue.dropped)).as_bytes());
            }
            queue.writing = true;
            drop(queue);
            let _ = out.write_all(&part).and_then(|()| out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Writes only when it is let.
    struct Gate {
        go: Receiver<()>,
        seen: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go.recv();
            let _ = self.seen.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(dropped: u64) -> String {
        format!("{dropped} dropped\n")
    }

    #[test]
    fn a_log_that_nobody_reads_holds_up_nobody() {
        let ((go, gate), (seen, written)) = (channel(), channel());
        let log = LogWriter::start(Gate { go: gate, seen }, told).expect("a thread");
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        for _ in 0..10_000 {
            log.line(line.clone());
        }
        assert!(!log.flush(Duration::ZERO), "nothing is written yet");
        // A reader again: everything that was kept, then how much was not.
        drop(go);
        assert!(log.flush(LONG));
        drop(log);
        let text = String::from_utf8(written.iter().flatten().collect()).expect("text");
        let (kept, last) = text.trim_end().rsplit_once('\n').expect("lines");
        let dropped: usize = last.strip_suffix(" dropped").expect("a count").parse().expect("a number");
        assert_eq!(kept.lines().count() + dropped, 10_000);
        // What waits, and what the thread had in its hands.
        assert!(kept.len() < MOST_BYTES + PART + 1024, "{}", kept.len());
    }

    #[test]
    fn lines_come_in_order_and_the_thread_ends() {
        let (seen, written) = channel();
        let (go, gate) = channel();
        drop(go);
        let mut log = LogWriter::start(Gate { go: gate, seen }, told).expect("a thread");
        log.line("one\n");
        log.clone().line("two\n");
        log.write_all(b"three\n").expect("never fails");
        drop(log);
        // Ends with the thread.
        let text: Vec<u8> = written.iter().flatten().collect();
        assert_eq!(text, b"one\ntwo\nthree\n");
    }

    /// It lives before anybody listens to signals, and one that it took then would be lost.
    #[cfg(target_os = "linux")]
    #[test]
    fn its_thread_takes_no_signal_that_asks_the_process_to_end() {
        struct Mask(Sender<String>);
        impl Write for Mask {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let status = std::fs::read_to_string("/proc/thread-self/status")?;
                let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
                let _ = self.0.send(blocked.unwrap_or_default().trim().to_owned());
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (send, masks) = channel();
        LogWriter::start(Mask(send), |_| String::new()).expect("a thread").line("one\n");
        let mask = u64::from_str_radix(&masks.recv_timeout(LONG).expect("it writes"), 16).expect("a mask");
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            assert_ne!(mask & (1 << (signal - 1)), 0, "signal {signal} in {mask:x}");
        }
    }
}
