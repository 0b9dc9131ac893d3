//! Whether this project's policy is beaten, at equal cost.

use std::{num::NonZero, panic::resume_unwind, thread};

use serde::Serialize;

use super::{Outcome, Policy, Setup, Trace, simulate};
use crate::Invalid;

/// The targets of the others, in multiples of the mean seconds per job.
const TARGETS: [f64; 9] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 30.0];
/// Ours are as close as this, from one job to 30: what is compared is what the
/// same money can buy, and not where it happens to be tried.
const CLOSE: f64 = 1.08;
/// And there is one below the time of any job, which gives each a slot of its
/// own, however short the jobs turn out to be.
const A_SLOT_EACH: f64 = 0.1;
/// Differences below this share are taken for equal; the models are not as
/// exact as that.
const EQUAL: f64 = 0.02;
/// As are differences of less than this many seconds.
const EQUAL_SECONDS: f64 = 1.0;
/// Nor is a cent felt, which is much of what a night with one job costs.
const EQUAL_DOLLARS: f64 = 0.01;
/// Where there is one job, its wait depends on where between two looks it
/// arrives. They are up to so many seconds apart, and by luck are not compared.
const EQUAL_SECONDS_OF_ONE_JOB: f64 = 15.0;

/// How this project's policy stands to another on a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Some target costs no more, and its p99 waiting time is no longer.
    NoWorse,
    /// Every target costs more, or has jobs wait longer.
    Worse,
}

/// Another policy beside the best that this project's does for its money.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The other one.
    pub other: Outcome,
    /// Ours with the shortest p99 waiting time of those that cost no more; if
    /// all cost more, the cheapest.
    pub ours: Outcome,
    /// How they stand.
    pub verdict: Verdict,
}

/// All comparisons on a trace in one.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Settings of the others.
    pub of: usize,
    /// Against so many of them ours is no worse.
    pub no_worse: usize,
    /// Where ours does worst.
    pub worst: Comparison,
}

impl Summary {
    /// None, where nothing was compared.
    pub fn of(comparisons: &[Comparison]) -> Option<Self> {
        let worst = comparisons.iter().max_by(|a, b| a.excess().total_cmp(&b.excess()))?;
        let no_worse = comparisons.iter().filter(|c| c.verdict == Verdict::NoWorse).count();
        Some(Self { of: comparisons.len(), no_worse, worst: worst.clone() })
    }
}

impl Comparison {
    /// By what factor ours is worse, in money where it costs more, and else in
    /// waiting, of which a second more or less is nothing.
    fn excess(&self) -> f64 {
        let dollars = self.ours.dollars / self.other.dollars;
        let over = self.ours.waiting.p99 - equal_seconds(&self.other);
        let waiting = over.max(1.0) / self.other.waiting.p99.max(1.0);
        if self.ours.dollars > most_dollars(&self.other) { dollars.max(waiting) } else { waiting }
    }
}

/// Each other policy, with its defaults and over a range of targets, beside
/// the one of `ours` that does best for the same money, with whatever target.
/// All are tried with a least number of tasks of 0 and of 1. Fails where a
/// number of the setup cannot be.
pub fn compare(trace: &Trace, setup: &Setup, ours: &[Policy]) -> Result<Vec<Comparison>, Invalid> {
    let job_seconds = setup.job_seconds(trace)?.get();
    let tuned =
        |policy: Policy, times: f64| policy.tuned(times * job_seconds, job_seconds, setup.slots.get());
    let targets = std::iter::successors(Some(1.0), |times| Some(times * CLOSE))
        .take_while(|times| *times <= 30.0)
        .chain([A_SLOT_EACH]);
    let ours = targets.flat_map(|times| ours.iter().map(move |policy| tuned(*policy, times)));
    let ours = simulated(trace, setup, ours.flat_map(|policy| [(policy, 0), (policy, 1)]).collect())?;
    let others = Policy::all().into_iter().filter(|policy| policy.is_of_others());
    let sweep = |policy: Policy| {
        let mut policies = vec![policy];
        policies.extend(TARGETS.map(|times| tuned(policy, times)));
        policies
    };
    let least = |policy: Policy| match policy {
        // It cannot go to zero.
        Policy::BacklogPerInstance { .. } => vec![(policy, 1)],
        _ => vec![(policy, 0), (policy, 1)],
    };
    let others = simulated(trace, setup, others.flat_map(sweep).flat_map(least).collect())?;
    Ok(others.into_iter().filter_map(|other| beside(other, &ours)).collect())
}

/// Policies with their fewest tasks, in their order, on all processors.
fn simulated(trace: &Trace, setup: &Setup, each: Vec<(Policy, u32)>) -> Result<Vec<Outcome>, Invalid> {
    let run = |(policy, min_tasks): &(Policy, u32)| {
        let mut outcome = simulate(trace, *policy, &Setup { min_tasks: *min_tasks, ..*setup })?;
        outcome.samples.clear();
        Ok(outcome)
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let parts = each.chunks(each.len().div_ceil(processors).max(1));
    thread::scope(|scope| {
        let run_part = |part: &[(Policy, u32)]| part.iter().map(run).collect::<Result<Vec<_>, _>>();
        let parts: Vec<_> = parts.map(|part| scope.spawn(move || run_part(part))).collect();
        let parts = parts.into_iter().map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic)));
        Ok(parts.collect::<Result<Vec<_>, _>>()?.concat())
    })
}

/// What costs no more than this costs the same.
fn most_dollars(other: &Outcome) -> f64 {
    other.dollars + (other.dollars * EQUAL).max(EQUAL_DOLLARS)
}

/// What waits no longer than this beyond `other` waits as long.
fn equal_seconds(other: &Outcome) -> f64 {
    let seconds = if other.jobs == 1 { EQUAL_SECONDS_OF_ONE_JOB } else { EQUAL_SECONDS };
    seconds.max(other.waiting.p99 * EQUAL)
}

fn beside(other: Outcome, ours: &[Outcome]) -> Option<Comparison> {
    let affordable = ours.iter().filter(|ours| ours.dollars <= most_dollars(&other));
    let best = affordable.min_by(|a, b| a.waiting.p99.total_cmp(&b.waiting.p99));
    let cheapest = ours.iter().min_by(|a, b| a.dollars.total_cmp(&b.dollars))?;
    let limit = other.waiting.p99 + equal_seconds(&other);
    let verdict = match best {
        Some(best) if best.waiting.p99 <= limit => Verdict::NoWorse,
        _ => Verdict::Worse,
    };
    Some(Comparison { ours: best.unwrap_or(cheapest).clone(), other, verdict })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Waits;

    fn outcome(dollars: f64, p99: f64) -> Outcome {
        Outcome {
            trace: "t".to_owned(),
            policy: Policy::Clairvoyant,
            min_tasks: 0,
            jobs: 100,
            finished: 100,
            waiting: Waits { mean: 0.0, p50: 0.0, p99, max: p99 },
            task_hours: 1.0,
            dollars,
            task_starts: 0,
            jobs_max: 1,
            desired_max: 0,
            queue_max: 0,
            tasks_max: 0,
            samples: Vec::new(),
        }
    }

    #[test]
    fn the_verdict_is_about_what_the_same_money_buys() {
        let ours = [outcome(3.0, 50.0), outcome(2.0, 100.0), outcome(1.0, 400.0)];
        let verdict = |dollars, p99| {
            let comparison = beside(outcome(dollars, p99), &ours).expect("some of ours");
            (comparison.verdict, comparison.ours.dollars)
        };
        assert_eq!(verdict(2.5, 100.0), (Verdict::NoWorse, 2.0));
        assert_eq!(verdict(2.5, 90.0), (Verdict::Worse, 2.0));
        assert_eq!(verdict(9.0, 60.0), (Verdict::NoWorse, 3.0));
        assert_eq!(verdict(0.5, 9000.0), (Verdict::Worse, 1.0));
    }

    /// One job after a silent night.
    #[test]
    fn of_one_job_only_what_is_felt_counts() {
        let night = |dollars, p99| Outcome { jobs: 1, finished: 1, ..outcome(dollars, p99) };
        let verdict = |ours, other| beside(other, &[ours]).expect("ours").verdict;
        assert_eq!(verdict(night(0.012, 98.0), night(0.006, 91.0)), Verdict::NoWorse);
        assert_eq!(verdict(night(0.017, 98.0), night(0.006, 91.0)), Verdict::Worse, "a cent more");
        assert_eq!(verdict(night(0.006, 107.0), night(0.006, 91.0)), Verdict::Worse, "a look later");
        assert_eq!(verdict(outcome(0.006, 98.0), outcome(0.006, 91.0)), Verdict::Worse, "of many jobs");
    }
}
