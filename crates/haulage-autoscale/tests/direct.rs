//! What a service that is set to what it requires can be trusted for.

use haulage_autoscale::{
    BusySlots, Direct, Estimate, History, JobSeconds, Observation, QueueDepth, ScaleInWindow, Service, Slots,
    Target, TaskRange,
};
use proptest::prelude::*;

const EVERY: u64 = 15;

fn target(seconds: f64) -> Target {
    Target::new(seconds).expect("target")
}

/// Jobs of a minute, in tasks of one slot that all run.
fn look(visible: u64, in_flight: u64, desired: u32) -> Observation {
    Observation {
        queue: QueueDepth { visible, in_flight, delayed: 0 },
        service: Service { running: desired, pending: 0, desired, deploying: false },
        slots: Slots::ONE,
        job_time: Estimate::configured(JobSeconds::new(60.0).expect("seconds")),
        busy: None,
    }
}

fn deploying(look: Observation) -> Observation {
    Observation { service: Service { deploying: true, ..look.service }, ..look }
}

fn direct(min: u32, max: u32, window: u32) -> Direct {
    Direct {
        range: TaskRange::new(min, max).expect("range"),
        window: ScaleInWindow::new(window).expect("window"),
    }
}

/// Of looks that are so far apart, the last one now.
fn history(apart: u64, required: &[u64]) -> History {
    let mut history = History::default();
    for (nth, required) in required.iter().enumerate() {
        history.record(10_000 + apart * nth as u64, *required);
    }
    history
}

/// A service of up to 50 tasks with a window of a minute, and a target of one job.
fn next(look: Observation, required: &[u64]) -> Option<u32> {
    direct(0, 50, 60).desired(&look, target(60.0), &history(EVERY, required))
}

#[test]
fn out_at_once_and_to_what_is_required_exactly() {
    assert_eq!(next(look(13, 0, 0), &[13]), Some(13));
    assert_eq!(next(look(30, 7, 7), &[7, 7, 37]), Some(37));
    assert_eq!(next(look(300, 0, 7), &[300]), Some(50), "no more than the most");
    assert_eq!(next(look(0, 7, 7), &[7]), None);
}

#[test]
fn in_to_the_most_that_was_required_in_the_window() {
    let idle = look(0, 0, 20);
    assert_eq!(next(idle, &[9, 9, 3, 7, 2, 0, 0]), Some(7), "9 was required before the window");
    assert_eq!(next(idle, &[20, 0, 0, 0, 0]), None, "the look at its beginning counts");
    assert_eq!(next(idle, &[0, 0, 0, 0, 0]), Some(0));
    let least = direct(2, 50, 60).desired(&idle, target(60.0), &history(EVERY, &[0; 5]));
    assert_eq!(least, Some(2), "no fewer than the fewest");
}

#[test]
fn what_was_required_before_may_be_more_than_there_is() {
    // An operator has set it to 3 meanwhile.
    assert_eq!(next(look(0, 1, 3), &[9, 9, 9, 9, 1]), None);
}

#[test]
fn where_looks_are_missing_it_goes_out_and_never_in() {
    let idle = look(0, 0, 20);
    assert_eq!(next(idle, &[0, 0]), None, "half a minute says nothing of a minute");
    let apart = |seconds| direct(0, 50, 60).desired(&idle, target(60.0), &history(seconds, &[0, 0, 0]));
    assert_eq!((apart(90), apart(91)), (Some(0), None));
    assert_eq!(next(look(30, 0, 20), &[30]), Some(30));
    assert_eq!(direct(0, 50, 60).desired(&idle, target(60.0), &History::default()), None);
}

#[test]
fn a_deployment_is_followed_out_only() {
    assert_eq!(next(deploying(look(0, 0, 20)), &[0; 9]), None);
    assert_eq!(next(deploying(look(30, 0, 20)), &[30; 9]), Some(30));
}

/// Three jobs that are hidden look like three that run, but for what the tasks say.
#[test]
fn hidden_jobs_hold_no_task_once_the_slots_have_been_idle_for_the_window() {
    let saying = |busy| Observation { busy: BusySlots::new(busy).ok(), ..look(0, 3, 3) };
    // Three minutes, which is longer than the window.
    let same = [3; 13];
    assert_eq!(next(look(0, 3, 3), &same), None, "nobody says");
    assert_eq!(next(saying(0.1), &same), None, "they run");
    assert_eq!(next(saying(0.0), &same), Some(0), "they do not");
    assert_eq!(next(saying(0.0), &same[1..]), None, "they may have begun just now");
    let mut fewer = same;
    fewer[6] = 2;
    assert_eq!(next(saying(0.0), &fewer), None, "one of them has");
    let waiting = Observation { queue: QueueDepth { visible: 1, in_flight: 2, delayed: 0 }, ..saying(0.0) };
    assert_eq!(next(waiting, &same), None);
    assert_eq!(next(deploying(saying(0.0)), &same), None);
    let two = direct(2, 50, 60).desired(&saying(0.0), target(60.0), &history(EVERY, &same));
    assert_eq!(two, Some(2), "no fewer than the fewest");
    let hour = direct(0, 50, 3600).desired(&saying(0.0), target(60.0), &history(EVERY, &same));
    assert_eq!(hour, None, "the window is longer");
    let at_zero =
        Observation { queue: QueueDepth { in_flight: 3, ..QueueDepth::default() }, ..look(0, 0, 0) };
    assert_eq!(next(at_zero, &[0; 13]), None, "and they start none");
}

#[test]
fn in_flight_counts_at_zero_start_nothing() {
    let stopping = Service { running: 1, ..Service::default() };
    let ended = Observation { service: stopping, ..look(0, 1, 0) };
    assert_eq!(next(ended, &[1]), None);
    assert_eq!(next(Observation { service: stopping, ..look(1, 1, 0) }, &[2]), Some(2));
    let at_least = direct(1, 50, 60).desired(&ended, target(60.0), &history(EVERY, &[1]));
    assert_eq!(at_least, Some(1), "the fewest are there whatever is counted");
}

#[test]
fn a_service_outside_its_range_is_brought_back_into_it() {
    assert_eq!(next(look(80, 0, 60), &[80; 5]), Some(50));
    assert_eq!(next(look(80, 0, 60), &[80]), None, "in, so by the window");
    let least = direct(5, 50, 60).desired(&look(0, 0, 2), target(60.0), &history(EVERY, &[0]));
    assert_eq!(least, Some(5));
}

/// A target of ten jobs leaves eight, and a quarter of those is two minutes.
#[test]
fn where_the_target_allows_waiting_a_ripple_starts_no_task() {
    let patient =
        |look, required: &[u64]| direct(0, 50, 60).desired(&look, target(600.0), &history(EVERY, required));
    let ripple = look(14, 1, 1);
    assert_eq!(patient(ripple, &[1, 1, 1, 1, 1, 1, 1, 1, 2]), None);
    assert_eq!(patient(ripple, &[2, 2, 2, 2, 1, 2, 2, 2, 2]), None);
    assert_eq!(patient(ripple, &[1, 2, 2, 2, 2, 2, 2, 2, 2, 2]), Some(2), "it has lasted");
    assert_eq!(patient(ripple, &[2, 2]), Some(2), "or so it may");
    assert_eq!(patient(look(15, 1, 1), &[1, 1, 1, 1, 1, 1, 1, 1, 2]), Some(2), "it is no ripple");
    assert_eq!(patient(look(1, 0, 0), &[0, 0, 0, 0, 0, 0, 0, 0, 1]), None, "nor is the first task");
}

#[test]
fn a_target_that_allows_no_waiting_has_none() {
    let impatient = |seconds| direct(0, 50, 60).looks_back(&look(3, 1, 1), target(seconds));
    assert_eq!([60.0, 120.0].map(impatient), [0, 0]);
    let patient = |seconds| direct(0, 50, 60).looks_back(&look(1, 0, 0), target(seconds));
    assert_eq!([120.0, 180.0, 600.0, 1e6].map(patient), [0, 15, 120, 600]);
}

#[test]
fn it_looks_back_only_where_something_may_change() {
    let direct = direct(1, 50, 300);
    let back = |look| direct.looks_back(&look, target(60.0));
    assert_eq!(back(look(0, 20, 20)), 0, "all are required");
    assert_eq!(back(look(0, 0, 1)), 0, "there are no fewer");
    assert_eq!(back(deploying(look(0, 0, 20))), 0);
    assert_eq!(back(look(0, 3, 20)), 300);
    let idle = |look| Observation { busy: BusySlots::new(0.0).ok(), ..look };
    assert_eq!((back(idle(look(0, 20, 20))), back(idle(look(0, 1, 1)))), (300, 0));
}

#[test]
fn ranges_and_windows_that_cannot_be_are_refused() {
    let error = TaskRange::new(0, 0).expect_err("no task").to_string();
    assert_eq!(error, "the most tasks has to be 1 or more, and 0 is not");
    assert!(TaskRange::new(3, 2).is_err() && TaskRange::new(3, 3).is_ok());
    let error = ScaleInWindow::new(29).expect_err("too short").to_string();
    assert_eq!(error, "the scale-in window in seconds has to be from 30 to 3600, and 29 is not");
    assert!(ScaleInWindow::new(3601).is_err());
    assert!([30, 3600].into_iter().all(|seconds| ScaleInWindow::new(seconds).is_ok()));
}

fn observations() -> impl Strategy<Value = Observation> {
    let queue = (0..2000_u64, 0..500_u64, 0..10_u64);
    let service = (0..200_u32, 0..200_u32, any::<bool>());
    (queue, service, 1..8_u32, 1.0..1000.0_f64).prop_map(|(queue, service, slots, seconds)| Observation {
        queue: QueueDepth { visible: queue.0, in_flight: queue.1, delayed: queue.2 },
        service: Service { running: service.0, pending: 0, desired: service.1, deploying: service.2 },
        slots: Slots::new(slots).expect("slots"),
        job_time: Estimate::configured(JobSeconds::new(seconds).expect("seconds")),
        busy: None,
    })
}

fn directs() -> impl Strategy<Value = Direct> {
    (0..20_u32, 0..300_u32, 30..=3600_u32)
        .prop_map(|(min, more, window)| direct(min, (min + more).max(1), window))
}

/// The looks before, each so many seconds after the last, and what they required.
fn looks() -> impl Strategy<Value = Vec<(u64, u64)>> {
    proptest::collection::vec((1..120_u64, 0..300_u64), 0..40)
}

fn remembered(looks: &[(u64, u64)], required: u64) -> (u64, History) {
    let mut history = History::default();
    let mut now = 10_000;
    for (after, required) in looks {
        now += after;
        history.record(now, *required);
    }
    now += 15;
    history.record(now, required);
    (now, history)
}

proptest! {
    // What fails is printed, and goes into a test of its own.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_seen_the_next_count_is_within_bounds(
        look in observations(), direct in directs(), looks in looks(), seconds in 1.0..10_000.0_f64,
    ) {
        let target = target(seconds);
        let required = look.metrics(target).required_tasks.get();
        let (_, history) = remembered(&looks, required);
        let desired = u64::from(look.service.desired);
        let Some(next) = direct.desired(&look, target, &history) else { return Ok(()) };
        let (min, max) = (u64::from(direct.range.min()), u64::from(direct.range.max()));
        prop_assert!((min..=max).contains(&u64::from(next)));
        prop_assert!(u64::from(next) != desired);
        if u64::from(next) > desired {
            // Never a task that this look does not require.
            prop_assert!(u64::from(next) <= required.max(min));
        } else {
            // Never one that it does, and none at all while ECS deploys.
            prop_assert!(u64::from(next) >= required.min(max) || look.queue.visible == 0 && desired == 0);
            prop_assert!(!look.service.deploying);
        }
    }

    #[test]
    fn in_keeps_what_any_look_of_the_window_required(
        look in observations(), direct in directs(), looks in looks(), seconds in 1.0..10_000.0_f64,
    ) {
        let target = target(seconds);
        let (now, history) = remembered(&looks, look.metrics(target).required_tasks.get());
        let next = direct.desired(&look, target, &history).filter(|next| *next < look.service.desired);
        let Some(next) = next else { return Ok(()) };
        let mut at = 10_000;
        for (after, required) in looks {
            at += after;
            if at + u64::from(direct.window.get()) >= now {
                prop_assert!(u64::from(next) >= required.min(u64::from(direct.range.max())), "{} of {}", next, required);
            }
        }
    }

    #[test]
    fn without_a_past_it_never_goes_in_and_goes_out_as_before(
        look in observations(), direct in directs(), looks in looks(), seconds in 1.0..60.0_f64,
    ) {
        // No target that allows waiting.
        let look = Observation { job_time: Estimate::configured(JobSeconds::new(60.0).expect("seconds")), ..look };
        let target = target(seconds);
        let required = look.metrics(target).required_tasks.get();
        let desired = look.service.desired;
        let knowing = direct.desired(&look, target, &remembered(&looks, required).1);
        let unknowing = direct.desired(&look, target, &remembered(&[], required).1);
        prop_assert!(unknowing.is_none_or(|next| next > desired));
        prop_assert_eq!(unknowing, knowing.filter(|next| *next > desired));
    }

    #[test]
    fn to_look_again_at_what_was_set_changes_nothing(
        look in observations(), direct in directs(), looks in looks(), seconds in 1.0..10_000.0_f64,
    ) {
        let target = target(seconds);
        let required = |look: &Observation| look.metrics(target).required_tasks.get();
        let (now, mut history) = remembered(&looks, required(&look));
        let Some(next) = direct.desired(&look, target, &history) else { return Ok(()) };
        let set = Observation { service: Service { desired: next, ..look.service }, ..look };
        // Tasks that are there, or not, have something to say of those in flight.
        prop_assume!(required(&set) == required(&look) && (next > 0 || look.queue.visible > 0));
        history.record(now, required(&set));
        prop_assert_eq!(direct.desired(&set, target, &history), None);
    }
}
