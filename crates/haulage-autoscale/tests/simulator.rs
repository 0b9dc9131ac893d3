//! What the simulator is trusted for when a service is tuned with it.

use haulage_autoscale::{
    ScaleInWindow, Slots,
    sim::{self, Outcome, Policy, Setup, Shipped, Trace, Tuning, Verdict, compare},
};
use proptest::prelude::*;

fn trace(csv: &str) -> Trace {
    Trace::from_csv("test", csv).expect("a trace")
}

fn simulate(trace: &Trace, policy: Policy, setup: &Setup) -> Outcome {
    sim::simulate(trace, policy, setup).expect("valid numbers")
}

fn haulage(target: f64) -> Policy {
    Policy::Haulage(Tuning { target: Some(target), ..Tuning::default() })
}

fn alarms(target: f64) -> Policy {
    Policy::HaulageAlarms(Tuning { target: Some(target), ..Tuning::of_alarms() })
}

/// Both forms of this project's.
fn both(target: f64) -> [Policy; 2] {
    [haulage(target), alarms(target)]
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
/// 37 finds it, and the task starts in the next second; with alarms, the period
/// ends at 40 and the alarm looks at 45. It is ready 60 s later, in the step after.
#[test]
fn the_first_job_waits_for_lag_look_and_start_and_with_alarms_for_those() {
    let quick = Setup { startup_seconds: 10.0, count_lag: 0, ..Setup::default() };
    for (policy, waits) in [(haulage(60.0), [98.0, 18.0]), (alarms(60.0), [106.0, 26.0])] {
        let all = [Setup::default(), quick].map(|s| simulate(&trace("0,60\n"), policy, &s).waiting.max);
        assert_eq!(all, waits, "{}", policy.name());
    }
}

#[test]
fn capacity_goes_back_to_nothing_at_once() {
    for policy in both(60.0) {
        let outcome = simulate(&trace(&"0,60\n".repeat(50)), policy, &Setup::default());
        assert_eq!(outcome.tasks_max, 50);
        assert_eq!(outcome.samples.last().map(|sample| sample.tasks), Some(0));
        // Fifty tasks of: a start of 60 s, a job of 60 s, the age of the counts, 2
        // minutes to be sure, and what it takes to see it.
        let minutes = outcome.task_hours * 60.0 / 50.0;
        assert!((4.5..6.5).contains(&minutes), "{minutes}");
        let tasks: Vec<u32> = outcome.samples.iter().map(|sample| sample.tasks).collect();
        assert!(tasks.iter().all(|tasks| [0, 50].contains(tasks)), "{tasks:?}");
    }
}

#[test]
fn a_shorter_window_gives_capacity_back_sooner() {
    let jobs = trace(&"0,60\n".repeat(50));
    let minutes = |window| {
        let scale_in_window = ScaleInWindow::new(window).expect("a window");
        let policy = Policy::Haulage(Tuning { scale_in_window, ..Tuning::default() });
        (simulate(&jobs, policy, &Setup::default()).task_hours * 60.0 / 50.0).round()
    };
    assert_eq!([30, 120, 600].map(minutes), [3.0, 5.0, 13.0]);
}

#[test]
fn a_burst_is_met_at_once_and_not_overshot() {
    let burst = trace(&"0,60\n".repeat(120));
    for policy in both(240.0) {
        let outcome = simulate(&burst, policy, &Setup::default());
        // 120 jobs in 240 s at 60 s each.
        assert!((25..=30).contains(&outcome.tasks_max), "{}", outcome.tasks_max);
        assert!(outcome.waiting.max < 106.0 + 240.0 + 60.0, "{}", outcome.waiting.max);
    }
}

/// Where there is no step, and with no more tasks than a step policy reaches.
#[test]
fn any_number_of_tasks_is_reached_at_once() {
    let setup = Setup { max_tasks: 5000, ..Setup::default() };
    for jobs in [13, 723, 4999] {
        let outcome = simulate(&trace(&"0,600\n".repeat(jobs)), haulage(600.0), &setup);
        assert_eq!((outcome.desired_max as usize, outcome.waiting.max), (jobs, 98.0));
    }
}

/// A job a minute keeps one task busy, and three more that come at once are a
/// ripple for a target of ten jobs: they wait for their turn.
#[test]
fn a_ripple_starts_no_task_where_the_target_allows_waiting() {
    let calm: String = (0..60).map(|minute| format!("{},55\n", 60 * minute)).collect();
    let jobs = trace(&(calm + &"1800,20\n".repeat(10)));
    let most = |target| simulate(&jobs, haulage(target), &Setup::default()).desired_max;
    assert_eq!((most(600.0), most(180.0)), (1, 4));
}

#[test]
fn a_long_job_is_not_scaled_in_nor_scaled_out_for() {
    for (policy, waits) in both(60.0).into_iter().zip([98.0, 106.0]) {
        let outcome = simulate(&trace("0,7200\n"), policy, &Setup::default());
        assert_eq!((outcome.tasks_max, outcome.task_starts), (1, 1));
        assert_eq!(outcome.waiting.max, waits);
    }
}

#[test]
fn the_reference_counts_visible_messages_and_scales_in_who_works() {
    let long = trace("0,7200\n");
    let reference = Policy::Reference { target: 600.0 };
    let unprotected = Setup { protected: false, ..Setup::default() };
    let lost = simulate(&long, reference, &unprotected);
    assert!(lost.task_starts > 10 && lost.finished == 0, "the job is begun again and again");
    assert_eq!(lost.waiting.p99, 30.0 * 86_400.0, "a job that is never done has waited all the time");
    assert_eq!(simulate(&long, haulage(60.0), &unprotected).task_starts, 1);
}

/// Ten jobs of two hours on ten tasks, and one more: it gets a task of its own
/// within minutes.
#[test]
fn one_job_more_than_slots_gets_a_task() {
    let jobs = trace(&("0,7200\n".repeat(10) + "1800,60\n"));
    for (policy, waits) in both(60.0).into_iter().zip([110.0, 400.0]) {
        let outcome = simulate(&jobs, policy, &Setup::default());
        assert_eq!(outcome.desired_max, 11);
        assert!(outcome.waiting.max < waits, "{}", outcome.waiting.max);
    }
}

/// A thousand jobs with a delay of two hours: no more than a task until then.
#[test]
fn hidden_jobs_hold_one_task_and_start_none() {
    let delayed = trace(&"60,30,7200\n".repeat(1000));
    let running = Setup { min_tasks: 1, max_tasks: 200, ..Setup::default() };
    let cold = Setup { min_tasks: 0, ..running };
    let all = both(30.0).into_iter().flat_map(|policy| [(policy, running), (policy, cold)]);
    for (policy, setup) in all {
        let outcome = simulate(&delayed, policy, &setup);
        let until_due = outcome.samples.iter().filter(|sample| sample.seconds < 7260);
        assert_eq!(until_due.map(|sample| sample.tasks).max(), Some(setup.min_tasks));
        assert_eq!((outcome.tasks_max, outcome.finished), (200, 1000));
    }
    // KEDA counts what is in flight.
    let keda = simulate(&delayed, Policy::Keda { queue_length: 5.0 }, &running);
    assert!(keda.task_hours > 390.0, "{}", keda.task_hours);
}

/// A job that waits for five days, after one that runs at once.
#[test]
fn a_job_that_waits_hidden_for_days_holds_no_task() {
    let days = trace("60,30\n61,30,432000\n");
    for policy in both(60.0) {
        let outcome = simulate(&days, policy, &Setup { min_tasks: 0, ..Setup::default() });
        assert_eq!((outcome.finished, outcome.task_starts), (2, 2), "{}", policy.name());
        assert!(outcome.task_hours < 0.6, "{}: {}", policy.name(), outcome.task_hours);
    }
}

/// Two hours in which each attempt fails, and up to 700 jobs wait for a retry.
#[test]
fn retries_of_an_outage_are_not_scaled_out_for() {
    let outage = Shipped::Outage.generate(1);
    let during = |policy| {
        let outcome = simulate(&outage, policy, &Setup::default());
        let samples = outcome.samples.iter().filter(|sample| (9000..14_400).contains(&sample.seconds));
        samples.map(|sample| sample.tasks).max().expect("samples")
    };
    assert!(both(60.0).into_iter().all(|policy| during(policy) <= 20));
    assert_eq!(during(Policy::Keda { queue_length: 5.0 }), 50);
}

/// A step to 32 tasks, in a minute in which target tracking finds more required.
#[test]
fn target_tracking_does_not_multiply_what_a_step_made() {
    let jobs = "0,60\n0,60\n317,60\n377,60\n437,60\n437,60\n".to_owned() + &"471,60\n".repeat(32);
    let setup = Setup { max_tasks: 200, ..Setup::default() };
    for offset in 0..60 {
        let outcome = simulate(
            &trace(&jobs),
            Policy::HaulageAlarms(Tuning::of_alarms()),
            &Setup { sample_offset: offset, ..setup },
        );
        assert!(outcome.desired_max <= 38, "{offset}: {}", outcome.desired_max);
    }
}

#[test]
fn the_second_of_the_look_matters_little() {
    let steady = Shipped::Steady.generate(1);
    for policy in both(60.0) {
        let p99 = |sample_offset| {
            simulate(&steady, policy, &Setup { sample_offset, ..Setup::default() }).waiting.p99
        };
        let all = [0, 3, 7, 11, 14].map(p99);
        let (least, most) = (all.into_iter().fold(f64::MAX, f64::min), all.into_iter().fold(0.0, f64::max));
        assert!(most - least < 20.0, "{all:?}");
    }
}

/// So many jobs of `seconds` that arrive together, hidden at first where there is a delay.
#[derive(Clone, Copy, Debug)]
struct Batch {
    at: u32,
    jobs: usize,
    seconds: u32,
    delay: u32,
}

fn batches(batches: &[Batch]) -> Trace {
    let lines =
        |batch: &Batch| format!("{},{},{}\n", batch.at, batch.seconds, batch.delay).repeat(batch.jobs);
    trace(&batches.iter().map(lines).collect::<String>())
}

fn batch() -> impl Strategy<Value = Batch> {
    let delay = prop_oneof![4 => Just(0), 1 => 0..900_u32];
    (0..1800_u32, 1..40_usize, 5..900_u32, delay).prop_map(|(at, jobs, seconds, delay)| Batch {
        at,
        jobs,
        seconds,
        delay,
    })
}

/// Seconds for a task to start, and the second of the minute at which alarms look.
fn startups() -> impl Strategy<Value = (u32, u32)> {
    prop_oneof![(0..400_u32, 5..=15_u32), (60..400_u32, 0..60_u32)]
}

fn setups() -> impl Strategy<Value = Setup> {
    let slots = prop_oneof![Just(1), 1..4_u32];
    (0..90_u32, 0..60_u32, startups(), slots).prop_map(|(count_lag, sample_offset, startup, slots)| Setup {
        count_lag,
        sample_offset,
        startup_seconds: f64::from(startup.0),
        alarm_second: startup.1,
        slots: Slots::new(slots).expect("slots"),
        max_tasks: 1000,
        ..Setup::default()
    })
}

fn tunings() -> impl Strategy<Value = Tuning> {
    let target = prop_oneof![Just(None), (10.0..1000.0_f64).prop_map(Some)];
    (target, 30..360_u32, proptest::sample::select(&Tuning::SAMPLES)).prop_map(
        |(target, window, samples_per_minute)| Tuning {
            target,
            scale_in_window: ScaleInWindow::new(window).expect("a window"),
            samples_per_minute,
        },
    )
}

proptest! {
    // What fails is printed, and goes into a test of its own, like the one below.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever alarms, policies and lags make of it together: with alarms that
    /// look in time, and with tasks that take a minute to start, whenever they do.
    #[test]
    fn there_are_never_more_tasks_than_jobs(
        jobs in proptest::collection::vec(batch(), 1..8), setup in setups(), tuning in tunings()
    ) {
        for policy in [Policy::Haulage(tuning), Policy::HaulageAlarms(tuning)] {
            let outcome = simulate(&batches(&jobs), policy, &setup);
            prop_assert!(
                u64::from(outcome.desired_max) <= outcome.jobs_max,
                "{} tasks, {} jobs: {}", outcome.desired_max, outcome.jobs_max, policy.name()
            );
            prop_assert_eq!(outcome.finished, outcome.jobs);
            prop_assert_eq!(outcome.samples.last().map(|sample| sample.tasks), Some(0));
        }
    }
}

/// Target tracking acts twice, a minute apart, the second time when its
/// cooldown is over. With one sample a minute that sample may be from before the
/// first time, and there were 75 tasks for 74 jobs.
#[test]
fn target_tracking_does_not_multiply_what_it_made() {
    let jobs = batches(&[
        Batch { at: 717, jobs: 27, seconds: 392, delay: 0 },
        Batch { at: 957, jobs: 33, seconds: 158, delay: 0 },
        Batch { at: 537, jobs: 14, seconds: 520, delay: 0 },
    ]);
    for samples_per_minute in Tuning::SAMPLES {
        let scale_in_window = ScaleInWindow::new(60).expect("a window");
        let tuning = Tuning { target: None, scale_in_window, samples_per_minute };
        for sample_offset in 0..60 {
            let quick = Setup { startup_seconds: 5.0, count_lag: 69, max_tasks: 1000, ..Setup::default() };
            let outcome = simulate(&jobs, Policy::HaulageAlarms(tuning), &Setup { sample_offset, ..quick });
            assert_eq!(outcome.jobs_max, 74);
            assert!(
                outcome.desired_max <= 74,
                "{} tasks: {samples_per_minute} samples, from second {sample_offset}",
                outcome.desired_max
            );
        }
    }
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

#[test]
fn the_bound_is_without_losses_and_policies_have_the_same_luck() {
    let steady = Shipped::Steady.generate(1);
    let setup = Setup { spot_losses_per_hour: 1.0, ..Setup::default() };
    assert_eq!(
        simulate(&steady, Policy::Clairvoyant, &setup).waiting,
        simulate(&steady, Policy::Clairvoyant, &Setup::default()).waiting
    );
}

/// What docs/scaling.md says of the defaults of the others.
#[test]
fn for_the_same_money_jobs_wait_no_longer_than_with_the_others() {
    let defaults = |policy: Policy| Policy::all().contains(&policy);
    let forms = [Policy::Haulage(Tuning::default()), Policy::HaulageAlarms(Tuning::of_alarms())];
    for (ours, shipped) in
        forms.into_iter().flat_map(|ours| [Shipped::Steady, Shipped::Bursts].map(|s| (ours, s)))
    {
        let comparisons = compare(&shipped.generate(1), &Setup::default(), &[ours]).expect("valid numbers");
        for comparison in comparisons.iter().filter(|c| defaults(c.other.policy)) {
            let other = comparison.other.policy.name();
            assert_eq!(
                comparison.verdict,
                Verdict::NoWorse,
                "{} and {other} on {}",
                ours.name(),
                shipped.name()
            );
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
        (haulage(60.0), Setup { sample_offset: 60, ..setup }, "the second of the first sample"),
        (haulage(60.0), Setup { alarm_second: 60, ..setup }, "the second at which alarms look"),
        (
            Policy::Haulage(Tuning { samples_per_minute: 1, ..Tuning::default() }),
            setup,
            "the number of samples a minute has to be 2, 3, 4 or 6",
        ),
        (
            haulage(60.0),
            Setup { slots: Slots::new(4_000_000_000).expect("slots"), ..setup },
            "the number of slots in all",
        ),
        (haulage(60.0), Setup { min_tasks: 60, ..setup }, "no fewer than the fewest"),
        (haulage(60.0), Setup { startup_seconds: f64::INFINITY, ..setup }, "the start-up"),
        (haulage(60.0), Setup { dollars_per_task_hour: -1.0, ..setup }, "the price"),
    ] {
        let error = sim::simulate(&trace("0,60\n"), policy, &setup).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}
