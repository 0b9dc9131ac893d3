//! What the simulator is trusted for when a service is tuned with it.

use haulage_autoscale::sim::{self, Outcome, Policy, Setup, Shipped, Trace, Tuning, Verdict, compare};

fn trace(csv: &str) -> Trace {
    Trace::from_csv("test", csv).expect("a trace")
}

fn simulate(trace: &Trace, policy: Policy, setup: &Setup) -> Outcome {
    sim::simulate(trace, policy, setup).expect("valid numbers")
}

fn haulage(target: f64) -> Policy {
    Policy::Haulage(Tuning { target: Some(target), ..Tuning::default() })
}

fn all(trace: &Trace, setup: &Setup) -> Vec<Outcome> {
    Policy::all().into_iter().map(|policy| simulate(trace, policy, setup)).collect()
}

#[test]
fn the_same_seed_gives_the_same_result() {
    let setup = Setup { spot_losses_per_hour: 0.5, ..Setup::default() };
    let trace = Shipped::Steady.generate(3);
    assert_eq!(all(&trace, &setup), all(&trace, &setup));
    let other = all(&trace, &Setup { seed: 2, ..setup });
    assert_ne!(all(&trace, &setup), other, "other tasks are lost");
}

#[test]
fn every_policy_does_every_job_and_none_beats_the_bound() {
    for shipped in Shipped::ALL {
        let trace = shipped.generate(1);
        let outcomes = all(&trace, &Setup::default());
        for outcome in &outcomes {
            let name = format!("{} on {}", outcome.policy.name(), trace.name());
            assert_eq!(outcome.finished, trace.arrivals().len() as u64, "{name}");
            assert!(outcome.dollars >= outcomes[0].dollars * 0.999, "{name}");
            assert!(outcome.waiting.mean >= outcomes[0].waiting.mean, "{name}");
        }
    }
}

/// By hand: a job arrives at 0 and is counted from second 30 on. The look at
/// 30 puts it, the period ends at 40, the alarm looks at 45 and the task
/// starts. It is ready 60 s later, in the step after.
#[test]
fn the_first_job_waits_for_lag_look_alarm_and_start() {
    let outcome = simulate(&trace("0,60\n"), haulage(60.0), &Setup::default());
    assert_eq!(outcome.waiting.max, 106.0);
    let quick = Setup { startup_seconds: 10.0, count_lag: 0, ..Setup::default() };
    assert_eq!(simulate(&trace("0,60\n"), haulage(60.0), &quick).waiting.max, 26.0);
}

#[test]
fn capacity_goes_back_to_nothing() {
    let outcome = simulate(&trace("0,60\n0,60\n0,60\n0,60\n0,60\n"), haulage(60.0), &Setup::default());
    assert_eq!(outcome.tasks_max, 5);
    assert_eq!(outcome.samples.last().map(|sample| sample.tasks), Some(0));
    // Five tasks of: a start of 60 s, a job of 60 s, 2 minutes to be sure, and
    // what it takes to see it.
    let minutes = outcome.task_hours * 60.0 / 5.0;
    assert!((4.0..7.0).contains(&minutes), "{minutes}");
}

#[test]
fn a_burst_is_met_at_once_and_not_overshot() {
    let burst = trace(&"0,60\n".repeat(120));
    let outcome = simulate(&burst, haulage(240.0), &Setup::default());
    // 120 jobs in 240 s at 60 s each.
    assert!((25..=30).contains(&outcome.tasks_max), "{}", outcome.tasks_max);
    assert!(outcome.waiting.max < 106.0 + 240.0 + 60.0, "{}", outcome.waiting.max);
}

#[test]
fn a_long_job_is_not_scaled_in_nor_scaled_out_for() {
    let outcome = simulate(&trace("0,7200\n"), haulage(60.0), &Setup::default());
    assert_eq!((outcome.tasks_max, outcome.task_starts), (1, 1));
    assert_eq!(outcome.waiting.max, 106.0);
}

#[test]
fn the_reference_counts_visible_messages_and_scales_in_who_works() {
    let long = trace("0,7200\n");
    let reference = Policy::Reference { target: 600.0 };
    let unprotected = Setup { protected: false, ..Setup::default() };
    let lost = simulate(&long, reference, &unprotected);
    assert!(lost.task_starts > 10 && lost.finished == 0, "the job is begun again and again");
    assert_eq!(simulate(&long, haulage(60.0), &unprotected).task_starts, 1);
}

#[test]
fn a_wrong_guess_of_the_job_time_is_made_good_by_measuring() {
    let steady = Shipped::Steady.generate(1);
    let guess = Setup { job_seconds: Some(6.0), ..Setup::default() };
    let (right, wrong) =
        (simulate(&steady, haulage(180.0), &Setup::default()), simulate(&steady, haulage(180.0), &guess));
    assert!(
        wrong.waiting.p50 < 1.5 * right.waiting.p50 + 10.0,
        "{} {}",
        wrong.waiting.p50,
        right.waiting.p50
    );
}

#[test]
fn spot_losses_cost_time_and_no_job() {
    let steady = Shipped::Steady.generate(1);
    let setup = Setup { spot_losses_per_hour: 1.0, ..Setup::default() };
    let outcome = simulate(&steady, haulage(60.0), &setup);
    assert_eq!(outcome.finished, outcome.jobs);
    let calm = simulate(&steady, haulage(60.0), &Setup::default());
    assert!(outcome.task_starts > calm.task_starts + 20);
}

/// What docs/scaling.md says of the defaults of the others.
#[test]
fn for_the_same_money_jobs_wait_no_longer_than_with_the_others() {
    for shipped in [Shipped::Steady, Shipped::Bursts] {
        let comparisons = compare(&shipped.generate(1), &Setup::default()).expect("valid numbers");
        let defaults = |policy: Policy| Policy::all().contains(&policy);
        for comparison in comparisons.iter().filter(|c| defaults(c.other.policy)) {
            let other = comparison.other.policy.name();
            assert_eq!(comparison.verdict, Verdict::NoWorse, "{other} on {}", shipped.name());
        }
    }
}

#[test]
fn numbers_that_cannot_be_are_told() {
    let setup = Setup::default();
    for (policy, setup, words) in [
        (haulage(0.0), setup, "the backlog target in seconds"),
        (Policy::Keda { queue_length: f64::NAN }, setup, "KEDA's queueLength"),
        (Policy::BacklogPerInstance { latency: -1.0 }, setup, "the acceptable latency"),
        (haulage(60.0), Setup { job_seconds: Some(0.0), ..setup }, "seconds per job"),
        (haulage(60.0), Setup { max_tasks: 0, ..setup }, "the most tasks"),
        (haulage(60.0), Setup { min_tasks: 60, ..setup }, "no fewer than the fewest"),
        (haulage(60.0), Setup { startup_seconds: f64::INFINITY, ..setup }, "the start-up"),
        (haulage(60.0), Setup { dollars_per_task_hour: -1.0, ..setup }, "the price"),
    ] {
        let error = sim::simulate(&trace("0,60\n"), policy, &setup).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}
