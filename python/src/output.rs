//! What a worker of the command line writes: its log, its metrics, and what
//! handlers print.
//!
//! The log goes to stderr by way of a `LogWriter`, so that no reader holds up
//! whoever logs. What handlers print becomes lines of the log, and the stdout
//! that there was is kept for metrics and for the summary, so that nothing that
//! is printed can be taken for one of them. None of that needs the interpreter.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use haulage::{Timestamp, log::LogWriter};
use pyo3::prelude::*;
use serde_json::json;

use crate::{errors, process};

/// A line that gets longer than this is cut in two.
const LONGEST: usize = 8 << 10;

static LOG: OnceLock<LogWriter> = OnceLock::new();
/// The stdout that there was.
static STDOUT: OnceLock<OwnedFd> = OnceLock::new();
/// What has been printed, and is not in the log yet.
static PRINTED: OnceLock<Mutex<Printed>> = OnceLock::new();
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// Logs to this descriptor from now on, which is used up; without one, to stderr.
#[pyfunction]
#[pyo3(signature = (as_json, fd=None))]
pub(crate) fn log_start(as_json: bool, fd: Option<i32>) -> PyResult<()> {
    let failed = |error: io::Error| errors::unavailable(format!("cannot log: {error}"));
    let out = match fd {
        Some(fd) => adopted(fd),
        None => io::stderr().as_fd().try_clone_to_owned().map_err(failed)?,
    };
    AS_JSON.store(as_json, Ordering::Relaxed);
    let told = |dropped| {
        line("WARNING", "haulage", &format!("{dropped} lines of the log were dropped, as nobody read it"))
    };
    let log = LogWriter::start(File::from(out), told).map_err(failed)?;
    let _ = LOG.set(log);
    Ok(())
}

#[allow(unsafe_code)]
fn adopted(fd: i32) -> OwnedFd {
    use std::os::fd::FromRawFd as _;
    // SAFETY: whoever calls gives the descriptor away.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Writes a line to the log, which has its end already; whether there is a log.
#[pyfunction]
pub(crate) fn log_line(text: String) -> bool {
    LOG.get().is_some_and(|log| {
        log.line(text);
        true
    })
}

/// Waits for what was printed and logged to be written, for so many seconds at most.
#[pyfunction]
pub(crate) fn log_flush(py: Python<'_>, seconds: f64) {
    let until = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default();
    py.detach(|| {
        if let Some(printed) = PRINTED.get() {
            let mut printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
            printed.take();
            printed.end();
        }
        if let Some(log) = LOG.get() {
            log.flush(until.saturating_duration_since(Instant::now()));
        }
        process::before_attaching();
    });
}

/// From now on, what this process and its children write to descriptor 1 is
/// logged. The stdout that there was is kept; its descriptor.
#[pyfunction]
pub(crate) fn keep_stdout() -> PyResult<i32> {
    let failed = |error: io::Error| errors::unavailable(format!("cannot keep stdout: {error}"));
    let kept = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
    let (reader, writer) = io::pipe().map_err(failed)?;
    redirect(&writer).map_err(failed)?;
    set_nonblocking(&reader).map_err(failed)?;
    let waiting = File::from(reader.as_fd().try_clone_to_owned().map_err(failed)?);
    let printed = PRINTED
        .get_or_init(|| Mutex::new(Printed { pipe: File::from(OwnedFd::from(reader)), line: Vec::new() }));
    thread::Builder::new()
        .name("haulage-printed".into())
        .spawn(move || {
            while readable(&waiting) {
                if !printed.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    return;
                }
            }
        })
        .map_err(failed)?;
    Ok(STDOUT.get_or_init(|| kept).as_raw_fd())
}

/// Where metrics go.
pub(crate) fn metrics() -> Box<dyn io::Write + Send> {
    match STDOUT.get().map(|kept| kept.try_clone()) {
        Some(Ok(kept)) => Box::new(File::from(kept)),
        _ => Box::new(io::stdout()),
    }
}

/// Whether a person sees what goes to stdout.
#[pyfunction]
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

#[allow(unsafe_code)]
fn redirect(writer: &io::PipeWriter) -> io::Result<()> {
    // SAFETY: both descriptors are open; 1 is stdout for whoever uses it.
    if unsafe { libc::dup2(writer.as_raw_fd(), 1) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[allow(unsafe_code)]
fn set_nonblocking(reader: &io::PipeReader) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    unsafe {
        let flags = libc::fcntl(reader.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(reader.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Waits until there is something to read, or nobody is left who could write.
#[allow(unsafe_code)]
fn readable(pipe: &File) -> bool {
    let mut wanted = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: the pointer is to one value that lives on.
        match unsafe { libc::poll(&raw mut wanted, 1, -1) } {
            1.. => return true,
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return false,
        }
    }
}

struct Printed {
    pipe: File,
    line: Vec<u8>,
}

impl Printed {
    /// Logs what is there; whether there can be more.
    fn take(&mut self) -> bool {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = match self.pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            for byte in &buffer[..length] {
                if *byte == b'\n' || self.line.len() >= LONGEST {
                    self.end();
                }
                if *byte != b'\n' {
                    self.line.push(*byte);
                }
            }
            // A prompt, or a bar of progress, may never end its line: it is
            // logged with what comes next, or at the end.
        }
    }

    fn end(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        // What a terminal would overwrite, as after a carriage return, is left out.
        let text = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().trim_end();
        if !text.is_empty()
            && let Some(log) = LOG.get()
        {
            log.line(line("INFO", "program", text));
        }
        self.line.clear();
    }
}

/// A line of the log, in the form that Python's have.
fn line(level: &str, target: &str, message: &str) -> String {
    let time = Timestamp::from(SystemTime::now());
    if AS_JSON.load(Ordering::Relaxed) {
        let line = json!({ "timestamp": time.to_string(), "level": level, "target": target, "message": plain(message) });
        return format!("{line}\n");
    }
    format!("{time} {level} {target}: {}\n", plain(message))
}

/// Without what could play with a terminal: escaped, as `Debug` has it.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\'' | '\\' | '\t') || c.escape_debug().len() == 1 {
            plain.push(c);
        } else {
            plain.extend(c.escape_debug());
        }
    }
    plain
}
