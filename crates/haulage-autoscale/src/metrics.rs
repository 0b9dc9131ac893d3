//! The numbers that scaling acts on.

use serde::Serialize;

use crate::observation::{Observation, Service, Target};

/// The CloudWatch namespace of the metrics. Names that begin with `AWS/` are
/// reserved (CloudWatch API Reference, "PutMetricData").
pub const NAMESPACE: &str = "Haulage";

/// By which share of the desired tasks the exact need may be off. The
/// Horizontal Pod Autoscaler has the same tolerance.
const TOLERANCE: f64 = 0.1;

/// The time to drain what is due at the present capacity, in seconds. Jobs
/// that run count in full, since how far they are is not known.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct BacklogSeconds(f64);

/// Due jobs, those that run included, for each task.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
pub struct BacklogPerTask(f64);

/// Whether work waits while the service is scaled to zero, which target
/// tracking alone never leaves: it multiplies what is there.
///
/// Not while a task is desired, even if none is to be had: asking again would
/// not help, and a policy that sets an exact capacity would scale in. Only
/// visible jobs count: the in-flight count lags, and after the last task has
/// stopped it would start another one for nothing. A job that a dead task
/// held becomes visible when its lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct QueueRequiresConsumer(bool);

/// How many tasks drain what is due within the target: rounded up, and those
/// that are desired where that is right to a tenth, since a task that comes
/// and goes costs its start-up each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RequiredTasks(u64);

/// The capacities that a step policy scales out to. It has 20 steps at most
/// ("Application Auto Scaling endpoints and quotas"); target tracking adds
/// what is between them, and beyond.
pub const SCALE_OUT: [u64; 20] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 32, 40, 50, 64, 80, 100, 150, 200];

/// The required tasks, rounded down to one of [`SCALE_OUT`], where that is
/// more than the desired ones, and else 0.
///
/// A step policy sets it as an exact capacity. That leaves zero, and an old
/// look does no harm: to set the same capacity again changes nothing, where to
/// grow again by the same percentage would be too much. It is rounded here,
/// and not by the policy alone, as a step below what is there would scale in.
/// At zero it waits for [`QueueRequiresConsumer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ScaleOutTo(u64);

/// The required tasks as percent of the desired ones: 100 is just right.
///
/// This is what target tracking holds at 100, since it computes the next
/// capacity as desired × metric ÷ target, which is then the required one. At
/// zero tasks, from which no percentage leads away, it is 100 where work
/// waits: a look from before the first tasks must not multiply them.
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

impl BacklogPerTask {
    /// The name of the metric in CloudWatch.
    pub const NAME: &str = "BacklogPerTask";

    /// Jobs.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl QueueRequiresConsumer {
    /// The name of the metric in CloudWatch, where it is 1 or 0.
    pub const NAME: &str = "QueueRequiresConsumer";

    /// The answer.
    pub const fn get(self) -> bool {
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
    /// Due jobs for each task.
    pub backlog_per_task: BacklogPerTask,
    /// Whether work waits at zero tasks.
    pub queue_requires_consumer: QueueRequiresConsumer,
    /// Tasks for the target.
    pub required_tasks: RequiredTasks,
    /// The step to scale out to, or 0.
    pub scale_out_to: ScaleOutTo,
    /// Required tasks as percent of the desired ones.
    pub capacity_demand: CapacityDemand,
}

impl Metrics {
    /// The name of [`Metrics::running_tasks`] in CloudWatch.
    pub const RUNNING_TASKS: &str = "RunningTasks";
}

impl Observation {
    /// The metrics, for a service that is to drain its queue within `target`.
    pub fn metrics(&self, target: Target) -> Metrics {
        let due = self.queue.due() as f64;
        let tasks = f64::from(capacity(self.service));
        let slots = f64::from(self.slots.get());
        let required = self.required_tasks(target);
        let from_zero = self.queue.visible > 0 && self.service.is_at_zero();
        let step = SCALE_OUT.into_iter().rev().find(|step| *step <= required).unwrap_or(0);
        let more = step > u64::from(self.service.desired) && (from_zero || !self.service.is_at_zero());
        let demand = match self.service.desired {
            0 => f64::from(u8::from(required > 0)),
            desired => required as f64 / f64::from(desired),
        };
        Metrics {
            running_tasks: self.service.running,
            // At zero tasks these two are those of a service of one: they stay
            // finite, and grow with the queue.
            backlog_seconds: BacklogSeconds(due * self.job_time.get().get() / (tasks * slots)),
            backlog_per_task: BacklogPerTask(due / tasks),
            queue_requires_consumer: QueueRequiresConsumer(from_zero),
            required_tasks: RequiredTasks(required),
            scale_out_to: ScaleOutTo(if more { step } else { 0 }),
            capacity_demand: CapacityDemand(100.0 * demand),
        }
    }

    fn required_tasks(&self, target: Target) -> u64 {
        let slots = f64::from(self.slots.get());
        // A job runs in one slot: where it takes longer than the target,
        // more slots than jobs would not make it faster.
        let jobs_per_slot = (target.get() / self.job_time.get().get()).max(1.0);
        let tasks = self.queue.due() as f64 / (jobs_per_slot * slots);
        let desired = f64::from(self.service.desired);
        if tasks > 0.0 && (tasks - desired).abs() <= TOLERANCE * desired {
            return u64::from(self.service.desired);
        }
        // A retry or a delayed job comes within 15 minutes; a task that is
        // there need not be started again for it.
        let held = self.queue.due() > 0 || (self.queue.delayed > 0 && !self.service.is_at_zero());
        // What rounding adds must not become a task.
        ((tasks - 1e-9).ceil() as u64).max(u64::from(held))
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
