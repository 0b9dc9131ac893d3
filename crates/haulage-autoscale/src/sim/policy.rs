//! The policies that are compared.

use serde::Serialize;

use super::{
    Setup,
    cloudwatch::{Alarm, Breach, Missing, PERIOD, Series},
    keda::Keda,
    scaling::{
        Adjustment, Cooldowns, Policy as Scaling, Range, ScalableTarget, Step, StepPolicy, TargetTracking,
    },
};
use crate::{
    Estimate, Invalid, JobSeconds, Observation, QueueDepth, SCALE_OUT, Service, Target, observation::positive,
};

/// Seconds until a custom metric can be seen: put by the Lambda, it is there
/// within seconds.
const OWN_METRIC: u32 = 5;
/// Seconds until a metric of SQS or of Container Insights can be seen: they
/// come once a minute, and describe the minute before.
const SERVICE_METRIC: u32 = 60;
/// The default of Application Auto Scaling for ECS services, in seconds.
const COOLDOWN: u32 = 300;

/// What decides how many tasks there are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "policy", rename_all = "kebab-case")]
pub enum Policy {
    /// Nobody: the most tasks all the time, for waiting times, and no second
    /// of a task without work, for costs. No policy does better at either, in
    /// the order of the queue.
    Clairvoyant,
    /// The reference module's: target tracking of the time to drain the
    /// visible messages, and a step to one task where work waits and none runs.
    Reference {
        /// Seconds; its default is 600.
        target: f64,
    },
    /// AWS's: target tracking of visible messages for each running task, by
    /// metric math. That is undefined at zero tasks, so one always runs.
    BacklogPerInstance {
        /// The acceptable latency, in seconds; the target is this ÷ seconds per job.
        latency: f64,
    },
    /// KEDA's SQS scaler.
    Keda {
        /// `queueLength`, messages for each replica; its default is 5.
        queue_length: f64,
    },
    /// This project's, as `terraform/modules/autoscaling` sets it up.
    Haulage(Tuning),
}

/// The settings of this project's policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tuning {
    /// Within how many seconds a backlog is to be drained; `None`: within the
    /// time of one job, which gives each job a slot of its own.
    pub target: Option<f64>,
    /// Capacity that was not required at any time in so many minutes is given
    /// back; target tracking does it after 15.
    pub scale_in_minutes: u32,
    /// How often the Lambda looks, each minute.
    pub looks_per_minute: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { target: None, scale_in_minutes: 2, looks_per_minute: 4 }
    }
}

impl Policy {
    /// The four that can be had, with their defaults, and the bound.
    pub fn all() -> [Self; 5] {
        [
            Self::Clairvoyant,
            Self::Reference { target: 600.0 },
            Self::BacklogPerInstance { latency: 600.0 },
            Self::Keda { queue_length: 5.0 },
            Self::Haulage(Tuning::default()),
        ]
    }

    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clairvoyant => "clairvoyant",
            Self::Reference { .. } => "reference",
            Self::BacklogPerInstance { .. } => "backlog-per-instance",
            Self::Keda { .. } => "keda",
            Self::Haulage(_) => "haulage",
        }
    }

    /// The setting that is tuned, as text.
    pub fn setting(self) -> String {
        match self {
            Self::Clairvoyant => "bound".to_owned(),
            Self::Reference { target } => format!("target {target:.0} s"),
            Self::BacklogPerInstance { latency } => format!("latency {latency:.0} s"),
            Self::Keda { queue_length } => format!("queueLength {queue_length}"),
            Self::Haulage(Tuning { target: None, .. }) => "target one job".to_owned(),
            Self::Haulage(Tuning { target: Some(target), .. }) => format!("target {target:.0} s"),
        }
    }

    /// The policy tuned for a backlog of `seconds`.
    #[must_use]
    pub(crate) fn tuned(self, seconds: f64, job_seconds: f64, slots: u32) -> Self {
        match self {
            Self::Clairvoyant => self,
            Self::Reference { .. } => Self::Reference { target: seconds },
            Self::BacklogPerInstance { .. } => Self::BacklogPerInstance { latency: seconds },
            Self::Keda { .. } => {
                let messages = seconds / job_seconds * f64::from(slots);
                Self::Keda { queue_length: messages.round().max(1.0) }
            }
            Self::Haulage(tuning) => Self::Haulage(Tuning { target: Some(seconds), ..tuning }),
        }
    }
}

/// What a policy can see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) queue: QueueDepth,
    pub(crate) service: Service,
    /// Seconds per job of the jobs that ended lately, and their number.
    pub(crate) measured: (f64, u64),
}

/// A policy at work.
#[derive(Debug)]
pub(crate) enum Controller {
    Fixed(u32),
    Keda(Keda),
    Aws(Aws),
}

impl Controller {
    pub(crate) fn new(policy: Policy, setup: &Setup, job_seconds: JobSeconds) -> Result<Self, Invalid> {
        let range = Range { min: setup.min_tasks, max: setup.max_tasks };
        Ok(match policy {
            Policy::Clairvoyant => Self::Fixed(setup.max_tasks),
            Policy::Keda { queue_length } => {
                let queue_length = positive("KEDA's queueLength", queue_length)?;
                Self::Keda(Keda::new(queue_length, range))
            }
            Policy::Reference { target } => {
                Self::Aws(Aws::reference(Target::new(target)?, setup, job_seconds, range))
            }
            Policy::BacklogPerInstance { latency } => {
                let latency = positive("the acceptable latency in seconds", latency)?;
                let target = latency / job_seconds.get() * f64::from(setup.slots.get());
                // Undefined at zero tasks.
                Self::Aws(Aws::backlog_per_instance(target, Range { min: range.min.max(1), ..range }))
            }
            Policy::Haulage(tuning) => {
                let target = Target::new(tuning.target.unwrap_or(job_seconds.get()))?;
                Self::Aws(Aws::haulage(tuning, target, setup, job_seconds, range))
            }
        })
    }

    /// The tasks at the start.
    pub(crate) fn initial(&self) -> u32 {
        match self {
            Self::Fixed(tasks) => *tasks,
            Self::Keda(_) => 0,
            Self::Aws(aws) => aws.target.range.min,
        }
    }

    /// The desired tasks after this second.
    pub(crate) fn tick(&mut self, now: u32, view: &View) -> u32 {
        match self {
            Self::Fixed(tasks) => *tasks,
            Self::Keda(keda) => keda.tick(now, view.queue.due(), view.service.desired),
            Self::Aws(aws) => aws.tick(now, view),
        }
    }
}

/// Where demand is at most this percentage, down to it. What is above the last
/// stays, as with target tracking.
pub const SCALE_IN: [i32; 5] = [10, 25, 50, 75, 90];
/// Seconds after a scale-in until the next: by then the metric shows it.
pub const SCALE_IN_COOLDOWN: u32 = 180;

/// How the metrics of a policy come about.
#[derive(Clone, Copy, Debug)]
enum Metric {
    ReferenceBacklog { job_seconds: f64, slots: f64 },
    ReferenceRequiresConsumer,
    VisiblePerRunningTask,
    ScaleOutTo,
    CapacityDemand,
}

/// Metrics, alarms and policies in AWS.
#[derive(Debug)]
pub(crate) struct Aws {
    metrics: Vec<Metric>,
    series: Vec<Series>,
    /// Seconds between looks.
    every: u32,
    target: ScalableTarget,
    /// For the metrics of this crate.
    look: Option<(Setup, Estimate, Target)>,
}

impl Aws {
    fn reference(target: Target, setup: &Setup, job_seconds: JobSeconds, range: Range) -> Self {
        let (job_seconds, slots) = (job_seconds.get(), f64::from(setup.slots.get()));
        let work_waits = Alarm::all(Breach::AtLeast, 1.0, 1, Missing::NotBreaching);
        let tracking = TargetTracking::new(target.get(), Cooldowns::new(COOLDOWN, COOLDOWN));
        let from_zero = step(work_waits, Adjustment::Exact, &[(0.0, 1)], Cooldowns::new(0, 0));
        Self {
            metrics: vec![Metric::ReferenceBacklog { job_seconds, slots }, Metric::ReferenceRequiresConsumer],
            series: vec![Series::new(OWN_METRIC), Series::new(OWN_METRIC)],
            every: PERIOD,
            target: ScalableTarget {
                range,
                policies: vec![(0, Scaling::Tracking(tracking)), (1, from_zero)],
            },
            look: None,
        }
    }

    fn backlog_per_instance(target: f64, range: Range) -> Self {
        let tracking = TargetTracking::new(target, Cooldowns::new(COOLDOWN, COOLDOWN));
        Self {
            metrics: vec![Metric::VisiblePerRunningTask],
            series: vec![Series::new(SERVICE_METRIC)],
            every: PERIOD,
            target: ScalableTarget { range, policies: vec![(0, Scaling::Tracking(tracking))] },
            look: None,
        }
    }

    /// Three policies: a step to what is required, as soon as one data point
    /// says so; target tracking for what is between the steps; and steps back
    /// once the highest demand of some minutes was lower.
    fn haulage(tuning: Tuning, target: Target, setup: &Setup, job_seconds: JobSeconds, range: Range) -> Self {
        let scale_out = SCALE_OUT.map(|tasks| ((tasks - SCALE_OUT[0]) as f64, tasks as i32));
        let most = SCALE_IN[SCALE_IN.len() - 1];
        let above = |percent: i32| f64::from(percent - most) + 1e-6;
        let lower = std::iter::once(f64::NEG_INFINITY).chain(SCALE_IN.map(above));
        let scale_in: Vec<_> = lower.zip(SCALE_IN.map(|to| to - 100)).collect();
        let low = Alarm::maximum(
            Breach::AtMost,
            f64::from(most),
            tuning.scale_in_minutes as usize,
            Missing::NotBreaching,
        );
        let high = Alarm::all(Breach::AtLeast, 1.0, 1, Missing::NotBreaching);
        let tracking = TargetTracking::out_only(100.0, Cooldowns::new(COOLDOWN, 0));
        Self {
            metrics: vec![Metric::ScaleOutTo, Metric::CapacityDemand],
            series: vec![Series::high_resolution(OWN_METRIC), Series::new(OWN_METRIC)],
            every: PERIOD / tuning.looks_per_minute.clamp(1, 6),
            target: ScalableTarget {
                range,
                policies: vec![
                    (0, step(high, Adjustment::Exact, &scale_out, Cooldowns::new(0, 0))),
                    (1, Scaling::Tracking(tracking)),
                    (1, step(low, Adjustment::Percent, &scale_in, Cooldowns::new(0, SCALE_IN_COOLDOWN))),
                ],
            },
            look: Some((*setup, Estimate::configured(job_seconds), target)),
        }
    }

    fn tick(&mut self, now: u32, view: &View) -> u32 {
        if now.is_multiple_of(self.every) {
            for index in 0..self.metrics.len() {
                if let Some(value) = self.value(self.metrics[index], view) {
                    self.series[index].put(now, value);
                }
            }
        }
        self.target.evaluate(now, view.service.desired, &self.series)
    }

    fn value(&self, metric: Metric, view: &View) -> Option<f64> {
        let visible = view.queue.visible as f64;
        let running = view.service.running;
        match metric {
            Metric::ReferenceBacklog { job_seconds, slots } => {
                Some(visible * job_seconds / (f64::from(running.max(1)) * slots))
            }
            Metric::ReferenceRequiresConsumer => {
                Some(f64::from(u8::from(visible > 0.0 && view.service.is_at_zero())))
            }
            Metric::VisiblePerRunningTask => (running > 0).then(|| visible / f64::from(running)),
            Metric::ScaleOutTo => self.observed(view).map(|metrics| metrics.scale_out_to.get() as f64),
            Metric::CapacityDemand => self.observed(view).map(|metrics| metrics.capacity_demand.get()),
        }
    }

    fn observed(&self, view: &View) -> Option<crate::Metrics> {
        let (setup, estimate, target) = self.look.as_ref()?;
        let observation = Observation {
            queue: view.queue,
            service: view.service,
            slots: setup.slots,
            job_time: estimate.with_measured(view.measured.0, view.measured.1),
        };
        Some(observation.metrics(*target))
    }
}

fn step(alarm: Alarm, adjustment: Adjustment, steps: &[(f64, i32)], cooldowns: Cooldowns) -> Scaling {
    let steps = steps.iter().map(|&(from, adjust)| Step { from, adjust }).collect();
    Scaling::Step(StepPolicy { alarm, adjustment, steps, cooldowns })
}
