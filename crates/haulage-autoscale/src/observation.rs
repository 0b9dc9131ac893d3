//! What is seen of a queue and of the service that works it off.

use std::num::NonZeroU32;

/// A number that cannot be what it was given for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{what} has to be {allowed}, and {value} is not")]
pub struct Invalid {
    pub(crate) what: &'static str,
    pub(crate) allowed: &'static str,
    pub(crate) value: f64,
}

/// How many jobs one task runs side by side: the consumer's `concurrency`, at
/// least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots(NonZeroU32);

impl Slots {
    /// One job at a time, as for a model that fills its task.
    pub const ONE: Self = Self(NonZeroU32::MIN);

    /// Refuses 0: a task without slots would never drain anything.
    pub fn new(slots: u32) -> Result<Self, Invalid> {
        NonZeroU32::new(slots).map(Self).ok_or(Invalid {
            what: "slots per task",
            allowed: "1 or more",
            value: 0.0,
        })
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

/// How long a job takes once it runs, in seconds: a microsecond to a billion
/// seconds, some 32 years.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct JobSeconds(f64);

impl JobSeconds {
    /// The name of the metric that the consumers publish, in seconds.
    pub const NAME: &str = "JobSeconds";

    /// Refuses what is less or more, and NaN.
    pub fn new(seconds: f64) -> Result<Self, Invalid> {
        within_reason("seconds per job", seconds).map(Self)
    }

    /// The number of seconds.
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// Within how many seconds a backlog is to be drained: a microsecond to a
/// billion seconds. Shorter means more tasks, and less waiting.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Target(f64);

impl Target {
    /// Refuses what is less or more, and NaN.
    pub fn new(seconds: f64) -> Result<Self, Invalid> {
        within_reason("the backlog target in seconds", seconds).map(Self)
    }

    /// The number of seconds.
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// Jobs that ended within this many seconds make the measured seconds per job:
/// six hours. Long jobs are few in less, and load changes with the day.
pub const MEASURED_OVER: f64 = 21600.0;

/// How many jobs the configured seconds per job weigh as much as.
const PRIOR_JOBS: f64 = 30.0;

/// Seconds per job: as configured at first, and more and more as the consumers
/// measured them.
///
/// A few jobs say little where most are short and some very long. So the
/// configured time counts as 30 jobs beside those that were measured: after
/// 30 jobs the estimate is half-way, after 270 at nine tenths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    configured: JobSeconds,
    measured: Option<(JobSeconds, f64)>,
}

impl Estimate {
    /// What the operator expects (`avg_msg_proc_time_seconds`).
    pub const fn configured(seconds: JobSeconds) -> Self {
        Self { configured: seconds, measured: None }
    }

    /// The mean of so many jobs that ended lately, as the consumers published
    /// it. Without jobs, or with what no mean can be, the configured time is in
    /// force. That is for when none ended. Where it could not be read how long
    /// they took, there is no estimate at all: to fall back would be a jump.
    #[must_use]
    pub fn with_measured(self, mean: f64, jobs: u64) -> Self {
        let measured = JobSeconds::new(mean).ok().filter(|_| jobs > 0).map(|mean| (mean, jobs as f64));
        Self { measured, ..self }
    }

    /// The one in force.
    pub fn get(self) -> JobSeconds {
        let Some((mean, jobs)) = self.measured else { return self.configured };
        let share = jobs / (jobs + PRIOR_JOBS);
        JobSeconds(share * mean.get() + (1.0 - share) * self.configured.get())
    }
}

/// Within how many seconds the busiest minute is looked for: ten minutes. A
/// task publishes once a minute, and jobs come and go within these.
pub const BUSY_OVER: f64 = 600.0;

/// How many slots of a task were busy in the busiest minute of late, on the
/// average of the tasks, as the consumers published it: finite, and 0 or more.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct BusySlots(f64);

impl BusySlots {
    /// The name of the metric that the consumers publish.
    pub const NAME: &str = "BusySlots";

    /// Refuses negative numbers, infinity and NaN.
    pub fn new(per_task: f64) -> Result<Self, Invalid> {
        not_negative("the busy slots of a task", per_task).map(Self)
    }

    /// The number of slots.
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// The counts of an SQS queue. Each is approximate and may lag by a minute
/// ("Amazon SQS Developer Guide: Available CloudWatch metrics").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// `ApproximateNumberOfMessages`: could be received now.
    pub visible: u64,
    /// `ApproximateNumberOfMessagesNotVisible`: received, and not settled yet.
    /// That is jobs which run, and those which wait hidden: for a retry, or
    /// for a delay beyond what SQS has (any delay on a FIFO queue).
    pub in_flight: u64,
    /// `ApproximateNumberOfMessagesDelayed`: not due yet, 15 minutes at most.
    pub delayed: u64,
}

/// The counts of an ECS service (`DescribeServices`).
///
/// While the service is deployed, old and new tasks run side by side, and
/// after a scale-in protected tasks go on; `running` may be above `desired`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `runningCount`.
    pub running: u32,
    /// `pendingCount`: being placed, or pulling their image.
    pub pending: u32,
    /// `desiredCount`: what scaling policies change.
    pub desired: u32,
    /// Whether a deployment replaces tasks.
    pub deploying: bool,
}

impl Service {
    /// Whether the service is scaled to zero. Tasks that still run are about
    /// to go, and nothing follows them unless it is scaled out.
    pub const fn is_at_zero(self) -> bool {
        self.desired == 0
    }
}

/// One sample of one queue and its service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The queue.
    pub queue: QueueDepth,
    /// The service.
    pub service: Service,
    /// Jobs that a task runs side by side.
    pub slots: Slots,
    /// Seconds per job.
    pub job_time: Estimate,
    /// The busy slots of a task; `None` where no consumer published any lately.
    pub busy: Option<BusySlots>,
}

impl Observation {
    /// After how many seconds a job that has begun shows in what its task
    /// publishes: three minutes, one more than that takes.
    pub const BUSY_KNOWN_AFTER: u32 = 180;

    /// Jobs that need a slot now, or have one.
    pub fn due(&self) -> u64 {
        self.queue.visible.saturating_add(self.in_slots())
    }

    /// Jobs that are neither done nor due, as far as can be seen.
    pub(crate) fn hidden(&self) -> u64 {
        self.queue.delayed.saturating_add(self.queue.in_flight - self.in_slots())
    }

    /// Whether nothing but hidden jobs may keep more than the fewest tasks from going:
    /// no job waits, and no slot had one in the last ten minutes, as far as that is
    /// known. [`History::was_idle`](crate::History::was_idle) says whether so it is.
    pub fn may_be_idle(&self, fewest: u32) -> bool {
        self.queue.visible == 0
            && self.busy.is_some_and(|busy| busy.get() == 0.0)
            && self.service.desired > fewest
            && !self.service.deploying
    }

    /// Of several services on one queue, what is left to this one: without what
    /// those before it can take within the target, with so many slots at
    /// their most. Each so looks at the queue for itself.
    #[must_use]
    pub fn after(self, slots: u64, target: Target) -> Self {
        let QueueDepth { visible, in_flight, delayed } = self.queue;
        let in_theirs = in_flight.min(slots);
        let theirs = self.jobs_within(target, slots).saturating_sub(in_theirs);
        // A job that is hidden is the first one's to wait for.
        let delayed = if slots == 0 { delayed } else { 0 };
        let queue =
            QueueDepth { visible: visible.saturating_sub(theirs), in_flight: in_flight - in_theirs, delayed };
        Self { queue, ..self }
    }

    /// How many of those in flight are in slots.
    ///
    /// SQS counts those that are hidden along with them. Where there are more
    /// than all slots hold, some are hidden, and what the consumers say is
    /// better. Where there are fewer, SQS is: it knows at once what they
    /// publish a minute later.
    fn in_slots(&self) -> u64 {
        let running = self.service.running;
        let slots = u64::from(running) * u64::from(self.slots.get());
        if self.queue.in_flight <= slots {
            return self.queue.in_flight;
        }
        let busy = self.busy.map(|busy| (busy.get() * f64::from(running)).ceil() as u64);
        busy.unwrap_or(slots).min(slots)
    }
}

/// So that whatever is computed from it is a number that CloudWatch takes.
fn within_reason(what: &'static str, seconds: f64) -> Result<f64, Invalid> {
    if (1e-6..=1e9).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(Invalid { what, allowed: "from 0.000001 to 1000000000", value: seconds })
    }
}

pub(crate) fn positive(what: &'static str, value: f64) -> Result<f64, Invalid> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(Invalid { what, allowed: "a finite number above 0", value })
    }
}

pub(crate) fn not_negative(what: &'static str, value: f64) -> Result<f64, Invalid> {
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(Invalid { what, allowed: "a finite number, 0 or more", value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_cannot_be_are_refused_by_name() {
        for bad in [0.0, -1.0, 1e-7, 1e10, f64::MAX, f64::NAN, f64::INFINITY] {
            assert!(JobSeconds::new(bad).is_err(), "{bad}");
            assert!(Target::new(bad).is_err(), "{bad}");
        }
        let error = Target::new(-5.0).expect_err("negative").to_string();
        assert_eq!(
            error,
            "the backlog target in seconds has to be from 0.000001 to 1000000000, and -5 is not"
        );
        let error = Slots::new(0).expect_err("zero").to_string();
        assert_eq!(error, "slots per task has to be 1 or more, and 0 is not");
    }

    #[test]
    fn measurements_take_over_from_the_configured_time_and_without_any_it_is_in_force() {
        let configured = Estimate::configured(JobSeconds::new(60.0).expect("valid"));
        let seconds = |mean, jobs| configured.with_measured(mean, jobs).get().get();
        assert_eq!(configured.get().get(), 60.0);
        assert_eq!(seconds(120.0, 30), 90.0);
        assert_eq!(seconds(120.0, 270), 114.0);
        assert!((seconds(120.0, 1_000_000) - 120.0).abs() < 0.01);
        for (mean, jobs) in
            [(120.0, 0), (0.0, 5), (f64::NAN, 5), (-1.0, 5), (f64::INFINITY, 5), (f64::MAX, 5)]
        {
            assert_eq!(seconds(mean, jobs), 60.0, "{mean} {jobs}");
        }
    }
}
