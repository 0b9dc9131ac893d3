//! A simulator of scaling: what a policy makes of a trace of jobs.
//!
//! It feeds the functions of this crate, and models of what acts on them:
//! CloudWatch, Application Auto Scaling, ECS, and KEDA for comparison. Each
//! model's file names the documentation that it follows. Time goes in steps
//! of a second; the same trace, setup and seed give the same result on every
//! machine.
//!
//! What it leaves out: groups (jobs that may not run side by side), a lack of
//! capacity in AWS, and the requests that are paid for. A worker takes a job
//! as soon as it can be had. A retry is an arrival of the trace that is hidden
//! at first, as is a job with a delay.
//!
//! ```
//! use haulage_autoscale::sim::{Policy, Setup, Shipped, simulate};
//!
//! let trace = Shipped::SilentNight.generate(1);
//! let outcome = simulate(&trace, Policy::all()[4], &Setup::default())?;
//! assert_eq!(outcome.jobs, 1);
//! assert!(outcome.waiting.p99 < 300.0);
//! # Ok::<(), haulage_autoscale::Invalid>(())
//! ```

mod cloudwatch;
mod compare;
mod counts;
mod direct;
mod ecs;
mod keda;
mod outcome;
mod plot;
mod policy;
mod random;
mod scaling;
mod trace;
mod view;

use std::collections::VecDeque;

pub use self::{
    compare::{Comparison, Summary, Verdict, compare},
    outcome::{Outcome, Sample, Waits},
    plot::{chart, svg},
    policy::{Policy, Tuning},
    trace::{Arrival, Shipped, Trace, TraceError},
};
use self::{
    counts::{Busy, Lagging, Measured},
    ecs::{Fleet, TaskKind, Waiting},
    outcome::Seen,
    policy::Controller,
    random::Random,
    view::View,
};
use crate::{Invalid, JobSeconds, QueueDepth, Slots, TaskRange, observation::not_negative};

/// After the last job, the simulation goes on for this long, so that the cost
/// of scaling in is seen. In seconds.
const TAIL: u32 = 1800;
/// But after the last arrival no longer than this, in case the jobs are never
/// done: 30 days.
const LONGEST_TAIL: u32 = 30 * 86_400;

/// What a service is made of, and its limits.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Jobs that a task runs side by side. Default: 1.
    pub slots: Slots,
    /// Seconds from the decision to start a task to its first job. Default: 60.
    pub startup_seconds: f64,
    /// The fewest tasks. Default: 0.
    pub min_tasks: u32,
    /// The most tasks. Default: 50.
    pub max_tasks: u32,
    /// The configured seconds per job; `None`, the default, is the true mean.
    pub job_seconds: Option<f64>,
    /// How old the counts of the queue are, in seconds; SQS says that they
    /// settle within a minute. Default: 30.
    pub count_lag: u32,
    /// When a Lambda looks first, in seconds after the full minute: EventBridge
    /// says nothing of the second at which it runs a rule. Alarms have their
    /// periods at the full ones. Default: 7, which is neither luck nor its
    /// opposite.
    pub sample_offset: u32,
    /// When alarms of standard resolution look, in seconds after the full
    /// minute. CloudWatch says only that they do so each minute ("Alarm
    /// evaluation"). Default: 5, as soon as what was put last can be seen.
    pub alarm_second: u32,
    /// Whether tasks that work are protected from scale-in. Default: yes.
    pub protected: bool,
    /// How often a task is lost to Spot, each hour. Default: 0.
    pub spot_losses_per_hour: f64,
    /// Dollars for a task and hour. Default: 0.05826, one vCPU and 4 GB on
    /// Fargate (x86, us-east-1: 0.04048 + 4 × 0.004445, "AWS Fargate pricing").
    pub dollars_per_task_hour: f64,
    /// For what is random in the service: Spot. Default: 1.
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            slots: Slots::ONE,
            startup_seconds: 60.0,
            min_tasks: 0,
            max_tasks: 50,
            job_seconds: None,
            count_lag: 30,
            sample_offset: 7,
            alarm_second: 5,
            protected: true,
            spot_losses_per_hour: 0.0,
            dollars_per_task_hour: 0.05826,
            seed: 1,
        }
    }
}

/// The most slots that are simulated: each takes memory.
const MOST_SLOTS: f64 = 1e6;

impl Setup {
    fn validate(&self) -> Result<(), Invalid> {
        let most = f64::from(self.max_tasks);
        let slots = most * f64::from(self.slots.get());
        if slots > MOST_SLOTS {
            return Err(Invalid {
                what: "the number of slots in all",
                allowed: "a million or less",
                value: slots,
            });
        }
        for (what, second) in [
            ("the second of the first sample", self.sample_offset),
            ("the second at which alarms look", self.alarm_second),
        ] {
            if second >= 60 {
                return Err(Invalid { what, allowed: "0 to 59", value: f64::from(second) });
            }
        }
        TaskRange::new(self.min_tasks, self.max_tasks)?;
        not_negative("the start-up in seconds", self.startup_seconds)?;
        not_negative("the Spot losses an hour", self.spot_losses_per_hour)?;
        not_negative("the price of a task and hour", self.dollars_per_task_hour)?;
        Ok(())
    }

    fn job_seconds(&self, trace: &Trace) -> Result<JobSeconds, Invalid> {
        JobSeconds::new(self.job_seconds.unwrap_or_else(|| trace.mean_seconds()))
    }
}

/// Runs `trace` under `policy`, until the jobs are done and half an hour more.
///
/// Fails where a number of the policy or the setup cannot be.
pub fn simulate(trace: &Trace, policy: Policy, setup: &Setup) -> Result<Outcome, Invalid> {
    setup.validate()?;
    let mut controller = Controller::new(policy, setup, setup.job_seconds(trace)?)?;
    let bound = matches!(policy, Policy::Clairvoyant);
    let kind = TaskKind {
        slots: setup.slots.get(),
        startup: setup.startup_seconds,
        protected: setup.protected,
        // No waiting is shorter than without losses.
        spot_losses_per_hour: if bound { 0.0 } else { setup.spot_losses_per_hour },
    };
    let mut fleet = Fleet::new(kind, controller.initial(), Random::new(setup.seed));
    let jobs = trace.arrivals();
    let mut by_due: Vec<&Arrival> = jobs.iter().collect();
    by_due.sort_by(|a, b| a.due().total_cmp(&b.due()));
    let (mut arrived, mut due) = (0, 0);
    let mut queue: VecDeque<Waiting> = VecDeque::new();
    let mut seen = Seen::new(jobs.len());
    let mut counts = Lagging::new(setup.count_lag);
    let mut measured = Measured::default();
    let mut busy = Busy::default();
    let last = trace.last_due().ceil() as u32;
    // When there was a job to do last.
    let mut working = 0;
    let mut now: u32 = 0;
    loop {
        let moment = f64::from(now);
        arrived += jobs[arrived..].iter().take_while(|job| job.at <= moment).count();
        while let Some(job) = by_due.get(due).filter(|job| job.due() <= moment) {
            queue.push_back(Waiting { arrived: job.due(), visible: job.due(), seconds: job.seconds });
            due += 1;
        }
        fleet.tick(moment, &mut queue, &mut seen.done);
        let hidden = arrived.saturating_sub(due) as u64;
        let in_slots = fleet.busy_slots();
        let depth = QueueDepth { visible: queue.len() as u64, in_flight: in_slots + hidden, delayed: 0 };
        let service = fleet.counts(moment);
        if now.is_multiple_of(cloudwatch::PERIOD) {
            seen.samples.push(Sample { seconds: now, queue: depth.visible, tasks: service.running });
            busy.publish(in_slots, service.running);
        }
        seen.jobs_max = seen.jobs_max.max(depth.visible + depth.in_flight);
        seen.desired_max = seen.desired_max.max(service.desired);
        if seen.done.len() < jobs.len() {
            working = now;
        }
        if now >= working.max(last) + TAIL || now >= last.saturating_add(LONGEST_TAIL) {
            break;
        }
        let measured = measured.look(&seen.done, moment);
        let view = View { queue: counts.pass(depth), service, measured, busy: busy.look() };
        fleet.scale(controller.tick(now, &view));
        now += 1;
    }
    let left = fleet.close(f64::from(now));
    seen.unfinished = queue.iter().chain(&left).map(|job| f64::from(now) - job.arrived).collect();
    Ok(outcome::outcome(trace, policy, setup, &fleet, seen))
}
