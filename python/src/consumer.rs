//! The consumer's side.

use std::{
    io::Read as _,
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use haulage::{
    Consumer as CoreConsumer, RetryPolicy,
    consumer::Slots,
    metrics::{Emf, EmfWriter, Labels, Meter},
    shutdown::Shutdown,
};
use pyo3::{prelude::*, types::PyDict};

use crate::{
    calls::{CallQueue, Inner},
    client::Client,
    convert, errors,
    operation::{AsJson, Operation},
    output,
    pages::Pages,
    process::PerProcess,
};

const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;

/// The consumers that run, to be stopped when the interpreter ends.
static RUNNING: PerProcess<Mutex<Vec<(usize, Shutdown)>>> = PerProcess::new();
static ENDED: PerProcess<Condvar> = PerProcess::new();

fn running() -> MutexGuard<'static, Vec<(usize, Shutdown)>> {
    RUNNING.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stops every consumer at once, and waits for them for so long at most.
pub(crate) fn stop_all(limit: Duration) {
    let until = Instant::now() + limit;
    let mut all = running();
    for (_, shutdown) in all.iter() {
        shutdown.stop_now();
    }
    while !all.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        all =
            ENDED.get_or_init(Condvar::new).wait_timeout(all, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// What is left to do when a consumer has ended, or was given up.
struct CallGuard {
    number: usize,
    calls: Arc<Inner>,
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.calls.close();
        running().retain(|(other, _)| *other != self.number);
        ENDED.get_or_init(Condvar::new).notify_all();
    }
}

/// A consumer, to be run once.
#[pyclass(frozen, module = "haulage._haulage")]
#[derive(Debug)]
pub(crate) struct Consumer {
    consumer: Mutex<Option<CoreConsumer>>,
    queue: Py<CallQueue>,
    shutdown: Shutdown,
    meter: Meter,
    slots: Slots,
    emf: Option<Emf>,
    pages: Option<Py<Pages>>,
    /// Python writes the numbers of signals here, the moment they come in.
    signals: Mutex<Option<UnixStream>>,
}

#[pymethods]
impl Consumer {
    /// The options are those of the Rust builder, lengths of time in seconds.
    /// The pages, which are there already, are about this consumer from now on.
    #[new]
    #[pyo3(signature = (client, queue, pages=None, **options))]
    fn new(
        client: &Client,
        queue: Bound<'_, CallQueue>,
        pages: Option<Bound<'_, Pages>>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let py = queue.py();
        let producer = client.producer()?;
        let mut builder = CoreConsumer::builder(producer.backend().clone());
        let (mut max_batch_size, mut batch_timeout) = (1, Duration::ZERO);
        let mut retry = RetryPolicy::default();
        let (mut url, mut cluster, mut service) = (None, None, None);
        for (name, value) in options.into_iter().flat_map(|options| options.iter()) {
            let name: String = name.extract()?;
            if value.is_none() {
                continue;
            }
            let time = || convert::duration(&name, &value);
            let text = || convert::text(&name, &value);
            let count = || convert::count::<usize>(&name, &value);
            match name.as_str() {
                "concurrency" => builder = builder.concurrency(count()?),
                "lease" => builder = builder.lease(time()?),
                "heartbeat_interval" => builder = builder.heartbeat_interval(time()?),
                "claim_wait" => builder = builder.claim_wait(time()?),
                "shutdown_grace_period" => builder = builder.shutdown_grace_period(time()?),
                "cancel_grace_period" => builder = builder.cancel_grace_period(time()?),
                "until_empty" => builder = builder.until_empty(convert::flag(&name, &value)?),
                "max_jobs" => builder = builder.max_jobs(convert::count(&name, &value)?),
                "queues" => builder = builder.queues(convert::queues(&value)?),
                "worker_name" => builder = builder.worker_name(text()?),
                "max_batch_size" => max_batch_size = count()?,
                "batch_timeout" => batch_timeout = time()?,
                "retry_base" => retry.base = time()?,
                "retry_cap" => retry.cap = time()?,
                "url" => url = Some(text()?),
                "cluster_name" => cluster = Some(text()?),
                "service_name" => service = Some(text()?),
                _ => return Err(errors::invalid(format!("a worker has no option {name}"))),
            }
        }
        let calls = queue.get().inner.clone();
        let default_queue = Labels::of(url.as_deref().unwrap_or_default()).default_queue;
        let emf = match (cluster, service) {
            (Some(cluster), Some(service)) => Some(Emf { cluster, service, queue: default_queue }),
            (None, None) => None,
            _ => {
                return Err(errors::invalid("cluster_name and service_name go together; give both, or none"));
            }
        };
        let consumer = builder
            .retry_policy(retry)
            .dispatcher(max_batch_size, batch_timeout, move |call| calls.push(call))
            .build()
            .map_err(|error| errors::raise(py, &error))?;
        let (meter, slots) = (consumer.meter(), consumer.slots());
        if let Some(pages) = &pages {
            pages.get().show(meter.clone())?;
        }
        Ok(Self {
            consumer: Mutex::new(Some(consumer)),
            queue: queue.unbind(),
            shutdown: Shutdown::new(),
            meter,
            slots,
            emf,
            pages: pages.map(Bound::unbind),
            signals: Mutex::new(None),
        })
    }

    /// Works until it is told to stop; brings what became of the claims.
    fn run(&self) -> PyResult<Operation> {
        let consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let consumer = consumer.ok_or_else(|| errors::invalid("the worker has been run already"))?;
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (shutdown, calls) = (self.shutdown.clone(), self.queue.get().inner.clone());
        let emf = self.emf.clone().map(|emf| EmfWriter::start(emf, self.meter.clone(), output::metrics()));
        let emf = emf.transpose().map_err(|e| errors::unavailable(format!("cannot publish metrics: {e}")))?;
        Operation::start(async move {
            running().push((number, shutdown.clone()));
            let _guard = CallGuard { number, calls };
            let summary = consumer.run(shutdown).await;
            if let Some(emf) = emf {
                // It may wait for a full pipe; where it cannot be waited for, the end has come.
                let _ = tokio::task::spawn_blocking(|| emf.finish()).await;
            }
            Ok(AsJson(summary))
        })
    }

    /// Claim no more, finish what runs, give back the rest.
    fn stop(&self) {
        self.shutdown.stop();
    }

    /// Give back everything at once.
    fn stop_now(&self) {
        self.shutdown.stop_now();
    }

    /// What the slots are called, for metrics that tell them apart.
    fn set_slot_names(&self, names: Vec<String>) {
        self.slots.set_names(names);
    }

    /// Takes a slot out of service, for this reason: it has one call less at once from now on.
    fn quarantine(&self, slot: usize, reason: &str) {
        self.slots.quarantine(slot, reason);
    }

    /// Brings a slot back.
    fn restore(&self, slot: usize) {
        self.slots.restore(slot);
    }

    /// How many calls go on though their jobs are over.
    fn set_stuck(&self, calls: usize) {
        self.slots.set_stuck(calls);
    }

    /// Closes its pages.
    fn close(&self, py: Python<'_>) {
        if let Some(pages) = &self.pages {
            pages.get().close(py);
        }
    }

    /// How many jobs it holds.
    #[getter(busy)]
    fn held(&self) -> usize {
        self.meter.snapshot().held
    }

    /// Whether it works, in a word or two: `ok`, `not ready`, …
    #[getter]
    fn state(&self) -> &'static str {
        self.meter.snapshot().state.as_str()
    }

    /// A file descriptor for `signal.set_wakeup_fd`: SIGTERM, SIGINT and SIGHUP stop
    /// the worker, the second of them at once, whatever holds the interpreter.
    fn signal_fd(&self) -> PyResult<i32> {
        let failed = |e: std::io::Error| errors::unavailable(format!("cannot listen to signals: {e}"));
        let (writer, mut reader) = UnixStream::pair().map_err(failed)?;
        writer.set_nonblocking(true).map_err(failed)?;
        let shutdown = self.shutdown.clone();
        thread::Builder::new()
            .name("haulage-signals".into())
            .spawn(move || {
                let mut byte = [0];
                // Goes on where a signal interrupts it, as any may that the program handles.
                while reader.read_exact(&mut byte).is_ok() {
                    if !matches!(byte, [SIGHUP | SIGINT | SIGTERM]) {
                        continue;
                    }
                    if shutdown.is_stopping() { shutdown.stop_now() } else { shutdown.stop() }
                }
            })
            .map_err(failed)?;
        let fd = writer.as_raw_fd();
        *self.signals.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        Ok(fd)
    }

    /// Closes that descriptor, which Python must not use any more.
    fn close_signal_fd(&self) {
        *self.signals.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
