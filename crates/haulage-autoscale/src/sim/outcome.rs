//! What a policy came to.

use serde::Serialize;

use super::{
    Policy, Setup, Trace,
    ecs::{Done, Fleet},
};

/// Waiting times, in seconds: from when a job is due to its end, without the
/// time that it ran for. What a lost task had done on it counts as waiting, and
/// for a job that is not done, so does all the time to the end of the
/// simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Waits {
    /// The mean.
    pub mean: f64,
    /// Half of the jobs waited no longer.
    pub p50: f64,
    /// 99 of 100 jobs waited no longer.
    pub p99: f64,
    /// None waited longer.
    pub max: f64,
}

impl Waits {
    /// Of these waiting times; percentiles by the nearest rank.
    pub fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let Some(&max) = seconds.last() else { return Self::default() };
        let rank = |share: f64| seconds[((share * seconds.len() as f64).ceil() as usize).max(1) - 1];
        let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
        Self { mean, p50: rank(0.5), p99: rank(0.99), max }
    }
}

/// One sample of the simulation, each minute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the start.
    pub seconds: u32,
    /// Jobs that wait.
    pub queue: u64,
    /// Tasks that run.
    pub tasks: u32,
}

/// The result of a simulation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The trace's name.
    pub trace: String,
    /// The policy and its settings.
    #[serde(flatten)]
    pub policy: Policy,
    /// The fewest tasks.
    pub min_tasks: u32,
    /// Jobs that were submitted.
    pub jobs: u64,
    /// Those of them that ended.
    pub finished: u64,
    /// Waiting times.
    pub waiting: Waits,
    /// Tasks × hours that are paid for.
    pub task_hours: f64,
    /// What they cost.
    pub dollars: f64,
    /// Tasks that were started.
    pub task_starts: u64,
    /// The most jobs that there were at a time, waiting, hidden and running.
    pub jobs_max: u64,
    /// The most tasks that were desired at a time.
    pub desired_max: u32,
    /// The most jobs that waited at a time, at the full minutes.
    pub queue_max: u64,
    /// The most tasks that ran at a time, at the full minutes.
    pub tasks_max: u32,
    /// How queue and tasks went.
    pub samples: Vec<Sample>,
}

/// What a simulation has seen.
pub(crate) struct Seen {
    pub(crate) done: Vec<Done>,
    /// Waiting times of the jobs that are not done.
    pub(crate) unfinished: Vec<f64>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) jobs_max: u64,
    pub(crate) desired_max: u32,
}

impl Seen {
    pub(crate) fn new(jobs: usize) -> Self {
        Self {
            done: Vec::with_capacity(jobs),
            unfinished: Vec::new(),
            samples: Vec::new(),
            jobs_max: 0,
            desired_max: 0,
        }
    }
}

pub(crate) fn outcome(trace: &Trace, policy: Policy, setup: &Setup, fleet: &Fleet, seen: Seen) -> Outcome {
    let seconds = match policy {
        // Who knows when jobs come has no second without work to pay for.
        Policy::Clairvoyant => trace.work_seconds() / f64::from(setup.slots.get()),
        _ => fleet.billed_seconds,
    };
    let task_hours = seconds / 3600.0;
    let Seen { done, unfinished, samples, jobs_max, desired_max } = seen;
    Outcome {
        trace: trace.name().to_owned(),
        policy,
        min_tasks: setup.min_tasks,
        jobs: trace.arrivals().len() as u64,
        finished: done.len() as u64,
        waiting: Waits::of(done.iter().map(|job| job.waited).chain(unfinished).collect()),
        task_hours,
        dollars: task_hours * setup.dollars_per_task_hour,
        task_starts: fleet.starts,
        jobs_max,
        desired_max,
        queue_max: samples.iter().map(|sample| sample.queue).max().unwrap_or(0),
        tasks_max: samples.iter().map(|sample| sample.tasks).max().unwrap_or(0),
        samples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_waiting_times_that_there_were() {
        let waits = Waits::of((1..=200).rev().map(f64::from).collect());
        assert_eq!(waits, Waits { mean: 100.5, p50: 100.0, p99: 198.0, max: 200.0 });
        assert_eq!(Waits::of(vec![7.0]), Waits { mean: 7.0, p50: 7.0, p99: 7.0, max: 7.0 });
        assert_eq!(Waits::of(Vec::new()), Waits::default());
    }
}
