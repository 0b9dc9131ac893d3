//! The policies that are compared.

use serde::Serialize;

use super::{
    Setup,
    cloudwatch::{Alarm, Breach, Missing, PERIOD, Series},
    direct::Scaler,
    keda::Keda,
    scaling::{Capacity, Cooldowns, Policy as Scaling, ScalableTarget, Step, StepPolicy, TargetTracking},
    view::View,
};
use crate::{
    Direct, Estimate, History, Invalid, JobSeconds, Metrics, Observation, SCALE_IN, SCALE_OUT, ScaleInWindow,
    Target, TaskRange, observation::positive,
};

/// Seconds until a custom metric can be seen: put by the Lambda, it is there
/// within seconds.
const OWN_METRIC: u32 = 5;
/// The same of a metric of SQS or of Container Insights: they come once a
/// minute, and describe the minute that has ended.
const SERVICE_METRIC: u32 = 60;
/// The last second of a minute, of which such a metric tells.
const END_OF_MINUTE: u32 = PERIOD - 1;
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
    /// This project's, as `terraform/modules/scaler` sets it up: the Lambda
    /// sets the desired count at each of its looks.
    Haulage(Tuning),
    /// The same with `scaler = "alarms"`: alarms on its metrics, step policies
    /// and target tracking.
    HaulageAlarms(Tuning),
}

/// The settings of this project's policies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tuning {
    /// Within how many seconds a backlog is to be drained; `None`: within the
    /// time of one job, which gives each job a slot of its own.
    pub target: Option<f64>,
    /// Capacity that was not required at any look of so many seconds is given
    /// back. The alarms take whole minutes: they round up.
    pub scale_in_window: ScaleInWindow,
    /// How often the Lambda samples, each minute: one of [`Self::SAMPLES`].
    pub samples_per_minute: u32,
}

impl Tuning {
    /// How often the Lambda may look, each minute.
    ///
    /// Twice at least: target tracking multiplies by the lowest value of a
    /// minute, a minute later. Of one sample, that may be from before it acted
    /// itself, and it would multiply what it has made.
    pub const SAMPLES: [u32; 4] = [2, 3, 4, 6];

    /// Windows that are worth a comparison, in seconds.
    pub const WINDOWS: [u32; 10] = [30, 45, 60, 90, 120, 180, 240, 300, 450, 600];

    /// The defaults for the alarms. They look once a minute, whatever was put
    /// in it, so more than four samples gain nothing.
    pub fn of_alarms() -> Self {
        Self { samples_per_minute: 4, ..Self::default() }
    }

    fn setting(self) -> String {
        let window = self.scale_in_window.get();
        match self.target {
            None => format!("target one job, window {window} s"),
            Some(target) => format!("target {target:.0} s, window {window} s"),
        }
    }

    fn validate(self) -> Result<(), Invalid> {
        if Self::SAMPLES.contains(&self.samples_per_minute) {
            return Ok(());
        }
        let value = f64::from(self.samples_per_minute);
        Err(Invalid { what: "the number of samples a minute", allowed: "2, 3, 4 or 6", value })
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self { target: None, scale_in_window: ScaleInWindow::DEFAULT, samples_per_minute: 6 }
    }
}

impl Policy {
    /// Those that can be had, with their defaults, and the bound.
    pub fn all() -> [Self; 6] {
        [
            Self::Clairvoyant,
            Self::Reference { target: 600.0 },
            Self::BacklogPerInstance { latency: 600.0 },
            Self::Keda { queue_length: 5.0 },
            Self::Haulage(Tuning::default()),
            Self::HaulageAlarms(Tuning::of_alarms()),
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
            Self::HaulageAlarms(_) => "haulage-alarms",
        }
    }

    /// The setting that is tuned, as text.
    pub fn setting(self) -> String {
        match self {
            Self::Clairvoyant => "bound".to_owned(),
            Self::Reference { target } => format!("target {target:.0} s"),
            Self::BacklogPerInstance { latency } => format!("latency {latency:.0} s"),
            Self::Keda { queue_length } => format!("queueLength {queue_length}"),
            Self::Haulage(tuning) | Self::HaulageAlarms(tuning) => tuning.setting(),
        }
    }

    /// Whether others made it.
    pub(crate) const fn is_of_others(self) -> bool {
        matches!(self, Self::Reference { .. } | Self::BacklogPerInstance { .. } | Self::Keda { .. })
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
            Self::HaulageAlarms(tuning) => Self::HaulageAlarms(Tuning { target: Some(seconds), ..tuning }),
        }
    }
}

/// A policy at work.
#[derive(Debug)]
pub(crate) enum Controller {
    Fixed(u32),
    Keda(Keda),
    Aws(Aws),
    Direct(Scaler),
}

impl Controller {
    pub(crate) fn new(policy: Policy, setup: &Setup, job_seconds: JobSeconds) -> Result<Self, Invalid> {
        let range = TaskRange::new(setup.min_tasks, setup.max_tasks)?;
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
                Self::Aws(Aws::backlog_per_instance(
                    target,
                    setup,
                    TaskRange { min: range.min.max(1), ..range },
                ))
            }
            Policy::Haulage(tuning) => {
                tuning.validate()?;
                let target = Target::new(tuning.target.unwrap_or(job_seconds.get()))?;
                let direct = Direct { range, window: tuning.scale_in_window };
                let every = PERIOD / tuning.samples_per_minute;
                Self::Direct(Scaler::new(direct, target, setup, job_seconds, every))
            }
            Policy::HaulageAlarms(tuning) => {
                tuning.validate()?;
                let target = Target::new(tuning.target.unwrap_or(job_seconds.get()))?;
                Self::Aws(Aws::haulage(tuning, target, setup, job_seconds, range))
            }
        })
    }

    /// The tasks at the start.
    pub(crate) fn initial(&self) -> u32 {
        match self {
            Self::Fixed(tasks) => *tasks,
            Self::Keda(keda) => keda.range().min,
            Self::Aws(aws) => aws.target.range.min,
            Self::Direct(scaler) => scaler.least(),
        }
    }

    /// The desired tasks after this second.
    pub(crate) fn tick(&mut self, now: u32, view: &View) -> u32 {
        match self {
            Self::Fixed(tasks) => *tasks,
            Self::Keda(keda) => {
                keda.tick(now, view.queue.visible + view.queue.in_flight, view.service.desired)
            }
            Self::Aws(aws) => aws.tick(now, view),
            Self::Direct(scaler) => scaler.tick(now, view),
        }
    }
}

/// How the metrics of a policy come about.
#[derive(Clone, Copy, Debug)]
enum Metric {
    ReferenceBacklog { job_seconds: f64, slots: f64 },
    ReferenceRequiresConsumer,
    VisiblePerRunningTask,
    ScaleOutTo,
    ScaleInTo,
    CapacityDemand,
}

impl Metric {
    /// What is put, where there is anything to put; `ours` is what our Lambda makes of it.
    fn value(self, view: &View, ours: Option<Metrics>) -> Option<f64> {
        let visible = view.queue.visible as f64;
        let running = view.service.running;
        match self {
            Self::ReferenceBacklog { job_seconds, slots } => {
                Some(visible * job_seconds / (f64::from(running.max(1)) * slots))
            }
            Self::ReferenceRequiresConsumer => {
                Some(f64::from(u8::from(visible > 0.0 && view.service.is_at_zero())))
            }
            Self::VisiblePerRunningTask => (running > 0).then(|| visible / f64::from(running)),
            Self::ScaleOutTo => ours.map(|metrics| metrics.scale_out_to.get() as f64),
            Self::ScaleInTo => ours.map(|metrics| metrics.scale_in_to.get() as f64),
            Self::CapacityDemand => ours.map(|metrics| metrics.capacity_demand.get()),
        }
    }
}

/// Metrics, alarms and policies in AWS.
#[derive(Debug)]
pub(crate) struct Aws {
    metrics: Vec<Metric>,
    series: Vec<Series>,
    /// Seconds between samples.
    every: u32,
    /// Seconds after the full minute until the first.
    offset: u32,
    target: ScalableTarget,
    /// For the metrics of this crate.
    look: Option<Looking>,
}

/// The Lambda that puts this crate's metrics.
#[derive(Debug)]
struct Looking {
    setup: Setup,
    configured: Estimate,
    target: Target,
    history: History,
}

impl Looking {
    /// What it puts of what it sees. What was required before it reads from its own
    /// metrics, as the one that sets the count does.
    fn at(&mut self, now: u32, view: &View) -> Metrics {
        const WINDOW: u32 = Observation::BUSY_KNOWN_AFTER;
        let observation = view.observed(&self.setup, self.configured);
        let metrics = observation.metrics(self.target);
        let now = u64::from(now);
        self.history.forget_before(now.saturating_sub(u64::from(WINDOW) + History::LOOKS_APART));
        self.history.record(now, metrics.required_tasks.get());
        let idle = observation.may_be_idle(0) && self.history.was_idle(&observation, self.target, WINDOW);
        if idle { metrics.of_idle() } else { metrics }
    }
}

impl Aws {
    fn reference(target: Target, setup: &Setup, job_seconds: JobSeconds, range: TaskRange) -> Self {
        let (job_seconds, slots) = (job_seconds.get(), f64::from(setup.slots.get()));
        let work_waits = Alarm::all(Breach::AtLeast, 1.0, 1, Missing::NotBreaching);
        let tracking = TargetTracking::new(target.get(), Cooldowns::new(COOLDOWN, COOLDOWN));
        let from_zero = step(work_waits, &[1]);
        Self {
            metrics: vec![Metric::ReferenceBacklog { job_seconds, slots }, Metric::ReferenceRequiresConsumer],
            series: vec![Series::new(OWN_METRIC), Series::new(OWN_METRIC)],
            every: PERIOD,
            offset: setup.sample_offset,
            target: ScalableTarget {
                range,
                alarm_second: setup.alarm_second,
                policies: vec![(0, Scaling::Tracking(tracking)), (1, from_zero)],
            },
            look: None,
        }
    }

    fn backlog_per_instance(target: f64, setup: &Setup, range: TaskRange) -> Self {
        let tracking = TargetTracking::new(target, Cooldowns::new(COOLDOWN, COOLDOWN));
        Self {
            metrics: vec![Metric::VisiblePerRunningTask],
            series: vec![Series::new(SERVICE_METRIC)],
            every: PERIOD,
            offset: END_OF_MINUTE,
            target: ScalableTarget {
                range,
                alarm_second: setup.alarm_second,
                policies: vec![(0, Scaling::Tracking(tracking))],
            },
            look: None,
        }
    }

    /// Three policies: a step to what is required, as soon as one data point
    /// says so; target tracking for what is between the steps; and a step back
    /// to the most that was required in some minutes.
    fn haulage(
        tuning: Tuning,
        target: Target,
        setup: &Setup,
        job_seconds: JobSeconds,
        range: TaskRange,
    ) -> Self {
        let most = SCALE_IN[SCALE_IN.len() - 1] as f64;
        let minutes = tuning.scale_in_window.get().div_ceil(PERIOD) as usize;
        let more = Alarm::maximum(Breach::AtLeast, 1.0, 1, Missing::NotBreaching);
        let fewer = Alarm::maximum(Breach::AtMost, most, minutes, Missing::NotBreaching);
        let tracking = TargetTracking::out_only_of_minimum(100.0, Cooldowns::new(COOLDOWN, 0));
        Self {
            metrics: vec![Metric::ScaleOutTo, Metric::CapacityDemand, Metric::ScaleInTo],
            series: vec![
                Series::high_resolution(OWN_METRIC),
                Series::new(OWN_METRIC),
                Series::new(OWN_METRIC),
            ],
            every: PERIOD / tuning.samples_per_minute,
            offset: setup.sample_offset,
            target: ScalableTarget {
                range,
                alarm_second: setup.alarm_second,
                policies: vec![
                    (0, step(more, &SCALE_OUT)),
                    (1, Scaling::Tracking(tracking)),
                    (2, step(fewer, &SCALE_IN)),
                ],
            },
            look: Some(Looking {
                setup: *setup,
                configured: Estimate::configured(job_seconds),
                target,
                history: History::default(),
            }),
        }
    }

    fn tick(&mut self, now: u32, view: &View) -> u32 {
        if now >= self.offset && (now - self.offset).is_multiple_of(self.every) {
            let ours = self.look.as_mut().map(|look| look.at(now, view));
            for (metric, series) in self.metrics.iter().zip(&mut self.series) {
                if let Some(value) = metric.value(view, ours) {
                    series.put(now, value);
                }
            }
        }
        let found = Capacity { desired: view.service.desired, running: view.service.running };
        self.target.evaluate(now, found, &self.series)
    }
}

/// A policy that sets the capacity which the metric says, rounded to one of these.
fn step(alarm: Alarm, capacities: &[u64]) -> Scaling {
    let step = |&to: &u64| Step { from: to as f64 - alarm.threshold, to: to as u32 };
    let steps = capacities.iter().map(step).collect();
    Scaling::Step(StepPolicy { alarm, steps })
}
