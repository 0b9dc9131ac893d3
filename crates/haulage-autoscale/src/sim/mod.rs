//! A simulator of scaling: what a policy makes of a trace of jobs.
//!
//! It feeds the functions of this crate, and models of what acts on them:
//! CloudWatch, Application Auto Scaling, ECS, and KEDA for comparison. Each
//! model's file names the documentation that it follows. Time goes in steps
//! of a second; the same trace, setup and seed give the same result on every
//! machine.
//!
//! What it leaves out: groups (jobs that may not run side by side), failures
//! of jobs, a lack of capacity in AWS, and the requests that are paid for. A
//! worker takes a job as soon as it can be had.
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
mod ecs;
mod keda;
mod outcome;
mod plot;
mod policy;
mod random;
mod scaling;
mod trace;

use std::collections::VecDeque;

pub use self::{
    compare::{Comparison, Verdict, compare},
    outcome::{Outcome, Sample, Waits},
    plot::{chart, svg},
    policy::{Policy, SCALE_IN, SCALE_IN_COOLDOWN, Tuning},
    trace::{Arrival, Shipped, Trace, TraceError},
};
use self::{
    ecs::{Done, Fleet, TaskKind, Waiting},
    policy::{Controller, View},
    random::Random,
};
use crate::{Invalid, JobSeconds, MEASURED_OVER, QueueDepth, Slots};

/// After the last arrival, the simulation goes on for this long at least, so
/// that the cost of scaling in is seen. In seconds.
const TAIL: u32 = 1800;
/// And not much longer than this, in case the jobs are never done: 30 days.
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
            protected: true,
            spot_losses_per_hour: 0.0,
            dollars_per_task_hour: 0.04048 + 4.0 * 0.004_445,
            seed: 1,
        }
    }
}

impl Setup {
    fn validate(&self) -> Result<(), Invalid> {
        let most = f64::from(self.max_tasks);
        if self.max_tasks == 0 {
            return Err(Invalid { what: "the most tasks", allowed: "1 or more", value: most });
        }
        if self.min_tasks > self.max_tasks {
            return Err(Invalid { what: "the most tasks", allowed: "no fewer than the fewest", value: most });
        }
        not_negative("the start-up in seconds", self.startup_seconds)?;
        not_negative("the Spot losses an hour", self.spot_losses_per_hour)?;
        not_negative("the price of a task and hour", self.dollars_per_task_hour)
    }

    fn job_seconds(&self, trace: &Trace) -> Result<JobSeconds, Invalid> {
        JobSeconds::new(self.job_seconds.unwrap_or_else(|| trace.mean_seconds()))
    }
}

fn not_negative(what: &'static str, value: f64) -> Result<(), Invalid> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(Invalid { what, allowed: "a finite number, 0 or more", value })
    }
}

/// Runs `trace` under `policy`, until the jobs are done and half an hour more.
///
/// Fails where a number of the policy or the setup cannot be.
pub fn simulate(trace: &Trace, policy: Policy, setup: &Setup) -> Result<Outcome, Invalid> {
    setup.validate()?;
    let mut controller = Controller::new(policy, setup, setup.job_seconds(trace)?)?;
    let kind = TaskKind {
        slots: setup.slots.get(),
        startup: setup.startup_seconds,
        protected: setup.protected,
        spot_losses_per_hour: setup.spot_losses_per_hour,
    };
    let mut fleet = Fleet::new(kind, controller.initial(), Random::new(setup.seed));
    let mut arrivals = trace.arrivals().iter().peekable();
    let mut queue: VecDeque<Waiting> = VecDeque::new();
    let mut done: Vec<Done> = Vec::with_capacity(trace.arrivals().len());
    let mut counts = Lagging::new(setup.count_lag);
    let mut measured = Measured::default();
    let mut samples = Vec::new();
    let last = trace.last_arrival().ceil() as u32;
    let mut now: u32 = 0;
    loop {
        let moment = f64::from(now);
        while let Some(job) = arrivals.next_if(|job| job.at <= moment) {
            queue.push_back(Waiting { arrived: job.at, visible: job.at, seconds: job.seconds });
        }
        fleet.tick(moment, &mut queue, &mut done);
        let depth = QueueDepth { visible: queue.len() as u64, in_flight: fleet.busy_slots(), delayed: 0 };
        let service = fleet.counts(moment);
        if now.is_multiple_of(cloudwatch::PERIOD) {
            samples.push(Sample { seconds: now, queue: depth.visible, tasks: service.running });
        }
        let all_done = done.len() == trace.arrivals().len();
        if (all_done && now >= last + TAIL) || now >= last.saturating_add(LONGEST_TAIL) {
            break;
        }
        let view = View { queue: counts.pass(depth), service, measured: measured.look(&done, moment) };
        fleet.scale(controller.tick(now, &view));
        now += 1;
    }
    fleet.close(f64::from(now));
    Ok(outcome::outcome(trace, policy, setup, &done, &fleet, samples))
}

/// The mean of the jobs that ended lately, and their number.
#[derive(Default)]
struct Measured {
    /// The first of them.
    first: usize,
    /// How many of `done` are in the sum.
    summed: usize,
    sum: f64,
}

impl Measured {
    fn look(&mut self, done: &[Done], now: f64) -> (f64, u64) {
        for job in &done[self.summed..] {
            self.sum += job.seconds;
        }
        self.summed = done.len();
        // They are in order of when they were noticed, which is close enough.
        while let Some(job) = done.get(self.first).filter(|job| job.at <= now - MEASURED_OVER) {
            self.sum -= job.seconds;
            self.first += 1;
        }
        let number = self.summed - self.first;
        (self.sum / number.max(1) as f64, number as u64)
    }
}

/// Counts as they were some seconds ago.
struct Lagging {
    past: VecDeque<QueueDepth>,
}

impl Lagging {
    fn new(lag: u32) -> Self {
        // Before the start the queue was empty.
        Self { past: vec![QueueDepth::default(); lag as usize].into() }
    }

    fn pass(&mut self, depth: QueueDepth) -> QueueDepth {
        self.past.push_back(depth);
        self.past.pop_front().unwrap_or(depth)
    }
}
