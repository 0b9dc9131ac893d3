//! The slots of a worker that runs programs or asks a server: which are free, and which work.
//!
//! With GPUs, each slot is a device's, and is out of service alone. Without, all of them run on the
//! same hardware, so they are out of service together, and come back together once one job has gone well.

use std::{
    collections::VecDeque,
    fmt,
    ops::Range,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use haulage::{Context, Failure, Job, Json, Timestamp, consumer::Slots, shutdown::Shutdown};
use tokio::{
    process::Command,
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tracing::{Instrument as _, Span};

use crate::{
    devices::{
        Slot, gpus,
        health::{Disposition, Health, JobEnd, Judgement, Sign, Verdict, put_back},
    },
    handlers::{Handler, HandlerEnd, die_with_worker},
    output::sanitized_line,
};

/// How long a health check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// How many slots there are, and what becomes of those that break.
#[derive(Debug)]
pub(crate) struct Options {
    /// How many.
    pub(crate) slots: usize,
    /// The devices that they share, if any.
    pub(crate) gpus: Vec<String>,
    /// The command that has to succeed before a slot that broke is let try again; or no words.
    pub(crate) health_check: Vec<String>,
    /// For how long no slot may work until the worker gives up.
    pub(crate) quarantine_limit: Duration,
}

impl Options {
    /// The device of a slot; each has one before any has its second.
    fn device(&self, slot: usize) -> Option<&str> {
        let at = slot.checked_rem(self.gpus.len())?;
        Some(&self.gpus[at])
    }
}

/// The slots of one worker. A clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    options: Options,
    handler: Handler,
    shutdown: Shutdown,
    /// The consumer's view of them.
    service: OnceLock<Slots>,
    /// How many are in `idle`, or will be in a moment.
    free: Semaphore,
    state: Mutex<PoolState>,
    /// Why the worker gave up.
    broken: OnceLock<String>,
}

struct PoolState {
    idle: VecDeque<usize>,
    health: Health,
    /// Since when no job has gone well, where nothing is in service, or only on trial.
    dead_since: Option<Instant>,
    /// Whether one slot is in service for all of them.
    on_trial: bool,
}

impl Pool {
    pub(crate) fn new(options: Options, handler: Handler, shutdown: Shutdown) -> Self {
        let health = if options.gpus.is_empty() {
            Health::new([None])
        } else {
            Health::new((0..options.slots).map(|slot| options.device(slot).map(str::to_owned)))
        };
        let state =
            PoolState { idle: (0..options.slots).collect(), health, dead_since: None, on_trial: false };
        let free = Semaphore::new(options.slots);
        let (service, broken) = (OnceLock::new(), OnceLock::new());
        Self(Arc::new(Inner { options, handler, shutdown, service, free, state: Mutex::new(state), broken }))
    }

    /// How many there are.
    pub(crate) fn slots(&self) -> usize {
        self.0.options.slots
    }

    /// Tells it of the consumer, to be done before that runs.
    pub(crate) fn serve(&self, service: Slots) {
        if self.has_devices() {
            service.set_names((0..self.slots()).map(|slot| self.name(slot)));
        }
        let _ = self.0.service.set(service);
    }

    /// Why the worker has given up, if it has.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.0.broken.get().map(String::as_str)
    }

    /// Whether a job could be handed over; else, why not.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        self.0.handler.ready().await
    }

    /// Runs a job in a slot that is free.
    pub(crate) async fn run(&self, job: Job<Json>, context: Context) -> Result<Json, Failure> {
        // The consumer calls no more at once than are in service, so one is free, or is in a moment.
        let Ok(permit) = self.0.free.acquire().await else {
            return Err(Failure::not_ready("the worker has no slots any more"));
        };
        let Some(call) = PoolCall::begin(self, permit, &job, &context) else {
            return Err(Failure::not_ready("the worker has no slot for the job"));
        };
        let slot = Slot { number: call.slot, device: self.device(call.slot) };
        // What is recorded and logged of the job is of this device.
        let span = slot.device.map(|gpu| {
            context.set_slot(gpus::name(slot.number, slot.device));
            tracing::info_span!("slot", number = slot.number, gpu)
        });
        let end = self.0.handler.run(job, context, slot).instrument(span.unwrap_or_else(Span::none)).await;
        call.end(end)
    }

    fn device(&self, slot: usize) -> Option<&str> {
        self.0.options.device(slot)
    }

    fn has_devices(&self) -> bool {
        !self.0.options.gpus.is_empty()
    }

    /// What of `health` a slot is.
    fn place(&self, slot: usize) -> usize {
        if self.has_devices() { slot } else { 0 }
    }

    /// The slots that are out of service with a place of `health`.
    fn slots_of(&self, place: usize) -> Range<usize> {
        if self.has_devices() { place..place + 1 } else { 0..self.0.options.slots }
    }

    /// A place, for people.
    fn name(&self, place: usize) -> String {
        if self.has_devices() { gpus::name(place, self.device(place)) } else { "this worker".to_owned() }
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restore(&self, slots: Range<usize>) {
        if let Some(service) = self.0.service.get() {
            slots.for_each(|slot| service.restore(slot));
        }
    }

    /// Takes in what a call says of its slot. `true` where the slot is not free any more.
    fn judge(&self, slot: usize, end: &JobEnd<'_>) -> (Judgement, bool) {
        let place = self.place(slot);
        let mut state = self.lock();
        let was_out = state.health.is_out(place);
        let judgement = state.health.judge(place, std::slice::from_ref(end));
        if end.sign == Sign::Succeeded {
            state.dead_since = None;
        }
        // Where slots do not differ, a call that began before the quarantine may show that all is well.
        let was_limited = was_out || std::mem::take(&mut state.on_trial);
        let all_back = was_limited && !state.health.is_out(place);
        drop(state);
        if all_back && !self.has_devices() {
            self.restore(self.slots_of(place));
        }
        let reason = summary(&judgement.reason);
        match judgement.verdict {
            Verdict::GoOn => {}
            Verdict::Replace => tracing::warn!(%reason, "{} is said to be broken", self.name(place)),
            // At once, so that no other call comes in place of this one.
            Verdict::Quarantine => self.quarantine(place, &reason),
        }
        let is_out = judgement.verdict == Verdict::Quarantine && self.has_devices();
        (judgement, is_out)
    }

    fn quarantine(&self, place: usize, reason: &str) {
        let name = self.name(place);
        for slot in self.slots_of(place) {
            if let Some(service) = self.0.service.get() {
                service.quarantine(slot, format!("{name}: {reason}"));
            }
        }
        tracing::error!(%reason, "{name} does not work, and takes no jobs until it does");
        // At the end of the process, there is nothing to heal.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.clone().heal(place));
            self.look_at_all(reason);
        }
    }

    /// Looks at a place that is out of service, until it works.
    async fn heal(self, place: usize) {
        let name = self.name(place);
        loop {
            let wait = self.lock().health.wait(place);
            tokio::time::sleep(wait).await;
            if !self.lock().health.is_out(place) {
                return;
            }
            let fault = self.fault(place).await;
            let mut state = self.lock();
            // A call that had begun before may have gone well meanwhile.
            if !state.health.is_out(place) {
                return;
            }
            let Some(why) = fault else {
                tracing::warn!("{name} takes jobs again; the first one decides whether it stays in service");
                state.health.back(place);
                if self.has_devices() {
                    state.idle.push_back(place);
                    self.0.free.add_permits(1);
                } else {
                    state.on_trial = true;
                }
                drop(state);
                self.restore(place..place + 1);
                return;
            };
            state.health.still_out(place);
            drop(state);
            let reason = summary(&why);
            tracing::warn!(%reason, "{name} still does not work");
            self.look_at_all(&format!("{name}: {reason}"));
        }
    }

    /// Gives up where nothing has worked for long enough.
    fn look_at_all(&self, why: &str) {
        let now = Instant::now();
        let mut state = self.lock();
        if !state.health.all_out() {
            return;
        }
        let began = state.dead_since.is_none();
        let until = *state.dead_since.get_or_insert(now) + self.0.options.quarantine_limit;
        drop(state);
        if until <= now {
            let what = if self.has_devices() { "no slot works any more" } else { "no job gets through" };
            let _ = self.0.broken.set(format!("{what}: {why}"));
            self.0.shutdown.stop();
        } else if began {
            // What looks at the slots may hang, as the devices do.
            let (pool, why) = (self.clone(), why.to_owned());
            tokio::spawn(async move {
                tokio::time::sleep_until(until).await;
                pool.look_at_all(&why);
            });
        }
    }

    /// Why a place does not work; `None` where its health check, and what is asked before a first
    /// job, say that it does.
    async fn fault(&self, place: usize) -> Option<String> {
        if let [program, arguments @ ..] = self.0.options.health_check.as_slice() {
            let mut command = Command::new(program);
            command.args(arguments);
            if let Some(device) = self.device(place) {
                command.envs(gpus::environment(place, Some(device)));
            }
            let why = checked(command).await;
            if why.is_some() {
                return why;
            }
        }
        self.ready().await.err()
    }
}

/// Why a health check fails.
async fn checked(mut command: Command) -> Option<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C is for the worker.
    command.process_group(0).kill_on_drop(true);
    die_with_worker(command.as_std_mut());
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Some(format!("its health check cannot be started: {error}")),
    };
    match tokio::time::timeout(CHECK_LIMIT, child.wait_with_output()).await {
        Err(_) => Some(format!("its health check took longer than {CHECK_LIMIT:?}")),
        Ok(Err(error)) => Some(format!("its health check cannot be read: {error}")),
        Ok(Ok(output)) if output.status.success() => None,
        Ok(Ok(output)) => {
            let said = [output.stderr, output.stdout].map(|said| String::from_utf8_lossy(&said).into_owned());
            let said = said.iter().flat_map(|said| said.lines().rev()).find(|line| !line.trim().is_empty());
            let said = said.map_or("it said nothing".into(), |line| sanitized_line(line.trim()));
            Some(format!("its health check ended with {}: {said}", output.status))
        }
    }
}

/// The first line, which says what happened.
fn summary(reason: &str) -> String {
    reason.trim().lines().next().unwrap_or_default().to_owned()
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A call in its slot, which is free again when this is dropped.
struct PoolCall<'a> {
    pool: &'a Pool,
    slot: usize,
    job: String,
    attempt: u32,
    deadline: Option<Timestamp>,
    has_ended: bool,
}

impl<'a> PoolCall<'a> {
    fn begin(
        pool: &'a Pool,
        permit: SemaphorePermit<'_>,
        job: &Job<Json>,
        context: &Context,
    ) -> Option<Self> {
        let slot = pool.lock().idle.pop_front()?;
        // It comes back with the slot, which may take longer than this call.
        permit.forget();
        Some(Self {
            pool,
            slot,
            job: job.id.to_string(),
            attempt: context.attempt(),
            deadline: context.deadline(),
            has_ended: false,
        })
    }

    /// What becomes of the job.
    fn end(mut self, end: HandlerEnd) -> Result<Json, Failure> {
        let (sign, words) = match &end {
            HandlerEnd::Done(_) => (Sign::Succeeded, ""),
            HandlerEnd::Failed(failure) if failure.is_retryable() => (Sign::Failed, failure.message()),
            HandlerEnd::Failed(_) => (Sign::Silent, ""),
            HandlerEnd::Broken(why) => (Sign::Broken, why.as_str()),
        };
        let words = words.to_owned();
        let disposition = self.judged(sign, &words);
        match (end, disposition) {
            (_, Disposition::PutBack) => {
                let name = self.pool.name(self.pool.place(self.slot));
                Err(put_back(format!("{name}: {words}"), self.attempt))
            }
            (HandlerEnd::Done(result), _) => Ok(result),
            (HandlerEnd::Failed(failure), _) => Err(failure),
            (HandlerEnd::Broken(why), _) => Err(Failure::retry(why)),
        }
    }

    fn judged(&mut self, sign: Sign, words: &str) -> Disposition {
        let (judgement, is_out) = self.pool.judge(self.slot, &JobEnd { job: &self.job, sign, words });
        if !is_out {
            self.give_back();
        }
        self.has_ended = true;
        judgement.dispositions.first().copied().unwrap_or(Disposition::Keep)
    }

    fn give_back(&self) {
        self.pool.lock().idle.push_back(self.slot);
        self.pool.0.free.add_permits(1);
    }
}

impl Drop for PoolCall<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        // The consumer does not wait for what runs into its timeout; a device that hangs shows so.
        let now = Timestamp::from(SystemTime::now());
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.judged(Sign::Failed, "a job ran into its timeout");
        } else {
            self.give_back();
        }
    }
}
