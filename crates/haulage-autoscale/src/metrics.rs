//! The numbers that scaling acts on.

use serde::Serialize;

use crate::observation::{Observation, Service, Target};

/// The CloudWatch namespace of the metrics. Names that begin with `AWS/` are
/// reserved (CloudWatch API Reference, "PutMetricData").
pub const NAMESPACE: &str = "Haulage";

/// By which share of the target, or of the desired tasks, it may be off: what
/// is right to a tenth is right. The Horizontal Pod Autoscaler has the same.
const TOLERANCE: f64 = 0.1;

/// The time to drain what is due at the present capacity, in seconds. Jobs
/// that run count in full, since how far they are is not known.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct BacklogSeconds(f64);

/// How many tasks drain what is due within the target, rounded up.
///
/// Where the desired tasks are more than that, by a tenth at most, they are
/// it: a task that comes and goes costs its start-up each time. One job that
/// waits for a slot is never within the tolerance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RequiredTasks(u64);

/// The capacities that a step policy scales out to. It has 20 steps at most
/// ("Application Auto Scaling endpoints and quotas"); target tracking adds
/// what is between them, and beyond.
pub const SCALE_OUT: [u64; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 25, 32, 40, 50, 80, 125, 200];

/// The capacities that a step policy scales in to, 20 at most again. A
/// service of more than the last of them waits until that is enough.
pub const SCALE_IN: [u64; 20] = [0, 1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 28, 40, 56, 80, 115, 165, 240, 350, 500];

/// The required tasks, rounded down to one of [`SCALE_OUT`], where that is
/// more than the desired ones, and else 0.
///
/// A step policy sets it as an exact capacity. That leaves zero, and an old
/// look does no harm: to set the same capacity again changes nothing, where to
/// grow again by the same percentage would be too much. It is rounded here,
/// and not by the policy alone, as a step below what is there would scale in.
///
/// At zero tasks it takes a visible job: the in-flight count lags, and after
/// the last task has stopped it would start another one for nothing. A job that
/// a dead task held becomes visible when its lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ScaleOutTo(u64);

/// The required tasks, rounded up to one of [`SCALE_IN`], where that is fewer
/// than the desired ones, and else [`ScaleInTo::STAY`].
///
/// A step policy sets the highest of some minutes as an exact capacity. What
/// was required in any of them is kept, one sample at which nothing could be
/// spared holds all, and to act again on the same samples changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ScaleInTo(u64);

/// What the steps out leave to target tracking: the required tasks as percent
/// of the desired or the running ones, whichever are more. It is held at 100.
///
/// Target tracking multiplies, and by the tasks that run, not by those that
/// are desired ("Automatically scale your Amazon ECS service",
/// considerations). With the larger of the two below the line, it arrives at
/// no more than is required either way. And it is 100 while a step is to be
/// taken: a sample from before the step would multiply what the step made.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct CapacityDemand(f64);

impl BacklogSeconds {
    /// The name of the metric in CloudWatch.
    pub const NAME: &str = "BacklogSeconds";

    /// Seconds.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl RequiredTasks {
    /// The name of the metric in CloudWatch.
    pub const NAME: &str = "RequiredTasks";

    /// Tasks.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl ScaleOutTo {
    /// The name of the metric in CloudWatch.
    pub const NAME: &str = "ScaleOutTo";

    /// Tasks, or 0.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl ScaleInTo {
    /// The name of the metric in CloudWatch.
    pub const NAME: &str = "ScaleInTo";

    /// Nothing is to be scaled in: more tasks than any service has.
    pub const STAY: u64 = 1_000_000;

    /// Tasks, or [`ScaleInTo::STAY`].
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl CapacityDemand {
    /// The name of the metric in CloudWatch.
    pub const NAME: &str = "CapacityDemand";

    /// Percent.
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// All metrics of one observation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Metrics {
    /// Tasks that run, as ECS counts them; for dashboards.
    pub running_tasks: u32,
    /// Time to drain what is due.
    pub backlog_seconds: BacklogSeconds,
    /// Tasks for the target.
    pub required_tasks: RequiredTasks,
    /// The step to scale out to, or 0.
    pub scale_out_to: ScaleOutTo,
    /// The step to scale in to, or [`ScaleInTo::STAY`].
    pub scale_in_to: ScaleInTo,
    /// What the steps out leave, in percent.
    pub capacity_demand: CapacityDemand,
}

impl Metrics {
    /// The name of [`Metrics::running_tasks`] in CloudWatch.
    pub const RUNNING_TASKS: &str = "RunningTasks";

    /// What alarms are told where none of what is in flight is work
    /// ([`History::was_idle`](crate::History::was_idle)): tasks go, and none comes.
    /// That leaves the fewest tasks of the scalable target.
    #[must_use]
    pub fn of_idle(self) -> Self {
        let demand = CapacityDemand(self.capacity_demand.0.min(100.0));
        Self { scale_out_to: ScaleOutTo(0), scale_in_to: ScaleInTo(0), capacity_demand: demand, ..self }
    }
}

impl Observation {
    /// The metrics, for a service that is to drain its queue within `target`.
    pub fn metrics(&self, target: Target) -> Metrics {
        let due = self.due() as f64;
        let tasks = f64::from(capacity(self.service));
        let slots = f64::from(self.slots.get());
        let desired = u64::from(self.service.desired);
        let required = self.required_tasks(target);
        let starts = self.queue.visible > 0 || !self.service.is_at_zero();
        let up = SCALE_OUT.into_iter().rev().find(|step| *step <= required);
        let up = up.filter(|step| *step > desired && starts);
        let down = SCALE_IN.into_iter().find(|step| *step >= required).filter(|step| *step < desired);
        let there = self.service.desired.max(self.service.running).max(1);
        let demand = if up.is_some() { 100.0 } else { 100.0 * required as f64 / f64::from(there) };
        Metrics {
            running_tasks: self.service.running,
            // At zero tasks it is that of a service of one: it stays finite, and
            // grows with the queue.
            backlog_seconds: BacklogSeconds(due * self.job_time.get().get() / (tasks * slots)),
            required_tasks: RequiredTasks(required),
            scale_out_to: ScaleOutTo(up.unwrap_or(0)),
            scale_in_to: ScaleInTo(down.unwrap_or(ScaleInTo::STAY)),
            capacity_demand: CapacityDemand(demand),
        }
    }

    fn required_tasks(&self, target: Target) -> u64 {
        let desired = u64::from(self.service.desired);
        let jobs_per_task = self.jobs_within(target, self.slots.get().into());
        // A task that is there need not be started again for a job that will be due.
        let held = self.hidden() > 0 && !self.service.is_at_zero();
        let tasks = self.due().div_ceil(jobs_per_task).max(u64::from(held));
        let spare = desired.saturating_sub(tasks);
        if tasks > 0 && spare as f64 <= TOLERANCE * desired as f64 { tasks.max(desired) } else { tasks }
    }

    /// How many jobs so many slots take within the target.
    ///
    /// Whole ones, as a slot that has begun a job has to end it. And one in each at least:
    /// where a job takes longer than the target, more slots than jobs would not make it faster.
    pub(crate) fn jobs_within(&self, target: Target, slots: u64) -> u64 {
        let exact = slots as f64 * target.get() / self.job_time.get().get();
        let (down, up) = (exact.floor(), exact.ceil());
        let jobs = if up <= exact * (1.0 + TOLERANCE) { up } else { down };
        (jobs as u64).max(slots)
    }
}

/// The tasks that the service has, or will have without another change.
///
/// Tasks that start count. If they did not, the backlog would look as long as
/// before until they run, and be scaled out for again. Tasks beyond the
/// desired ones (a deployment, protection) are about to go.
fn capacity(service: Service) -> u32 {
    service.desired.max(1)
}
