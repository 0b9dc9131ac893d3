//! What the core logs, on its way to Python's `logging`.
//!
//! Nothing here waits for the interpreter: lines go into a queue, and a
//! thread of Python's takes them out.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Condvar, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use pyo3::prelude::*;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

use crate::process::{self, PerProcess};

/// Lines that nobody takes are dropped beyond this many, rather than kept.
const MOST: usize = 10_000;

/// A line: Python's level, the logger, the text, and of which job it is.
type Line = (u8, String, String, Option<Job>);
/// Its id, the request id, the attempt, and the slot in which that ran, if slots have names.
type Job = (String, String, u64, String);

/// Lines on their way.
#[derive(Default)]
struct Lines {
    waiting: VecDeque<Line>,
    /// Some were taken out that are not written yet.
    taken: bool,
}

static LINES: PerProcess<Mutex<Lines>> = PerProcess::new();
static NEWS: PerProcess<Condvar> = PerProcess::new();
static CLOSED: AtomicBool = AtomicBool::new(false);
/// The lowest of Python's levels that anybody wants.
static LEVEL: AtomicUsize = AtomicUsize::new(30);

fn lines() -> MutexGuard<'static, Lines> {
    LINES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

fn news() -> &'static Condvar {
    NEWS.get_or_init(Condvar::new)
}

/// Sets the lowest of Python's levels that anybody wants.
#[pyfunction]
pub(crate) fn log_level(level: usize) {
    static START: Once = Once::new();
    START.call_once(|| {
        let _ = tracing::subscriber::set_global_default(ToPython);
    });
    LEVEL.store(level, Ordering::Relaxed);
}

/// Waits for lines, and takes them; `None` when there will be no more.
#[pyfunction]
pub(crate) fn next_logs(py: Python<'_>) -> Option<Vec<Line>> {
    py.detach(|| {
        let mut lines = lines();
        lines.taken = false;
        news().notify_all();
        while lines.waiting.is_empty() && !CLOSED.load(Ordering::SeqCst) {
            lines = news().wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        let taken: Vec<_> = lines.waiting.drain(..).collect();
        lines.taken = !taken.is_empty();
        drop(lines);
        process::before_attaching();
        (!taken.is_empty()).then_some(taken)
    })
}

/// Waits until Python has written what was logged so far, for so many seconds at most.
#[pyfunction]
pub(crate) fn logs_written(py: Python<'_>, seconds: f64) {
    py.detach(|| {
        let limit = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let under_way = |lines: &mut Lines| lines.taken || !lines.waiting.is_empty();
        drop(news().wait_timeout_while(lines(), limit, under_way));
        process::before_attaching();
    });
}

/// Lets the thread that takes the lines end.
pub(crate) fn close() {
    let _lines = lines();
    CLOSED.store(true, Ordering::SeqCst);
    news().notify_all();
}

struct ToPython;

fn python_level(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

impl Subscriber for ToPython {
    /// Asked again for each event, as the level may change: to have all of
    /// them asked anew takes a lock of `tracing`, which a thread that is not
    /// there after a fork may hold.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_event() && metadata.target().starts_with("haulage") {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Spans are not: each line names its job by itself.
        metadata.is_event()
            && usize::from(python_level(*metadata.level())) >= LEVEL.load(Ordering::Relaxed)
            && metadata.target().starts_with("haulage")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let logger = metadata.target().replace("::", ".");
        let (request_id, attempt, slot) = (text.request_id, text.attempt, text.slot.unwrap_or_default());
        let job = text.job_id.map(|id| (id.clone(), request_id.unwrap_or(id), attempt, slot));
        let line = (python_level(*metadata.level()), logger, text.message + &text.fields, job);
        let mut lines = lines();
        if lines.waiting.len() < MOST {
            lines.waiting.push_back(line);
            drop(lines);
            news().notify_all();
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
    job_id: Option<String>,
    request_id: Option<String>,
    attempt: u64,
    slot: Option<String>,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        match field.name() {
            "job_id" => self.job_id = Some(format!("{value:?}")),
            "request_id" => self.request_id = Some(format!("{value:?}")),
            "slot" => self.slot = Some(format!("{value:?}")),
            _ => {}
        }
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "attempt" {
            self.attempt = value;
        }
        self.record_debug(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
