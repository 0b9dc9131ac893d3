//! What operators rely on when they set alarms on the metrics.

use haulage_autoscale::{
    BusySlots, Estimate, JobSeconds, Metrics, Observation, QueueDepth, SCALE_IN, SCALE_OUT, ScaleInTo,
    Service, Slots, Target,
};
use proptest::prelude::*;

fn look(queue: (u64, u64, u64), service: (u32, u32, u32), slots: u32, seconds: f64) -> Observation {
    Observation {
        queue: QueueDepth { visible: queue.0, in_flight: queue.1, delayed: queue.2 },
        service: Service { running: service.0, pending: service.1, desired: service.2, deploying: false },
        slots: Slots::new(slots).expect("slots"),
        job_time: Estimate::configured(JobSeconds::new(seconds).expect("seconds")),
        busy: None,
    }
}

/// With what a task published of its slots.
fn with_busy(look: Observation, per_task: f64) -> Observation {
    Observation { busy: Some(BusySlots::new(per_task).expect("busy slots")), ..look }
}

fn target(seconds: f64) -> Target {
    Target::new(seconds).expect("target")
}

fn metrics(queue: (u64, u64, u64), service: (u32, u32, u32), target: f64) -> Metrics {
    look(queue, service, 1, 60.0).metrics(self::target(target))
}

#[test]
fn nothing_to_do_needs_nothing() {
    let idle = metrics((0, 0, 0), (0, 0, 0), 300.0);
    assert_eq!(idle.backlog_seconds.get(), 0.0);
    assert_eq!(idle.required_tasks.get(), 0);
    assert_eq!(idle.capacity_demand.get(), 0.0);
    assert_eq!(idle.scale_out_to.get(), 0);
}

#[test]
fn one_job_at_zero_tasks_asks_for_a_consumer() {
    let waiting = metrics((1, 0, 0), (0, 0, 0), 300.0);
    assert_eq!((waiting.required_tasks.get(), waiting.scale_out_to.get()), (1, 1));
    assert_eq!(waiting.backlog_seconds.get(), 60.0, "as of a service of one, so that it is a number");
}

#[test]
fn a_burst_at_zero_tasks_says_how_many_are_needed() {
    let burst = metrics((100, 0, 0), (0, 0, 0), 300.0);
    assert_eq!(burst.required_tasks.get(), 20);
    assert_eq!(burst.scale_out_to.get(), 20);
    assert_eq!(burst.capacity_demand.get(), 100.0, "a percentage does not lead away from zero");
}

#[test]
fn a_step_below_what_is_there_is_not_taken() {
    // 13 tasks. For 16 required there is a step; for 15, the step of 12 would scale in.
    let at_13 = |visible| metrics((visible, 0, 0), (13, 0, 13), 300.0);
    assert_eq!((at_13(77).required_tasks.get(), at_13(77).scale_out_to.get()), (16, 16));
    assert_eq!((at_13(75).required_tasks.get(), at_13(75).scale_out_to.get()), (15, 0));
}

#[test]
fn all_in_flight_is_not_idle() {
    let busy = metrics((0, 10, 0), (10, 0, 10), 60.0);
    assert_eq!(busy.required_tasks.get(), 10);
    assert_eq!(busy.capacity_demand.get(), 100.0);
    assert_eq!(busy.backlog_seconds.get(), 60.0);
}

#[test]
fn in_flight_counts_that_lag_behind_the_last_task_start_none() {
    let lagging = metrics((0, 1, 0), (0, 0, 0), 300.0);
    assert_eq!(lagging.scale_out_to.get(), 0);
}

#[test]
fn tasks_that_start_are_not_asked_for_again() {
    let starting = metrics((100, 0, 0), (0, 20, 20), 300.0);
    assert_eq!(starting.capacity_demand.get(), 100.0);
    assert_eq!(starting.scale_out_to.get(), 0);
    // Nor where ECS has not got round to starting them.
    assert_eq!(metrics((100, 0, 0), (0, 0, 20), 300.0), starting);
    assert_eq!(starting.running_tasks, 0);
}

#[test]
fn a_deployment_that_doubles_the_tasks_changes_nothing() {
    let (during, before) =
        (metrics((30, 10, 0), (20, 0, 10), 300.0), metrics((30, 10, 0), (10, 0, 10), 300.0));
    assert_eq!(during.required_tasks, before.required_tasks);
    assert_eq!((during.scale_out_to, during.scale_in_to), (before.scale_out_to, before.scale_in_to));
}

#[test]
fn hidden_jobs_hold_a_task_and_start_none() {
    // A thousand jobs of a FIFO queue with a delay of hours, and an idle task.
    let delayed = look((0, 1000, 0), (1, 0, 1), 1, 60.0);
    for look in [delayed, with_busy(delayed, 0.0), with_busy(delayed, 1.0)] {
        let metrics = look.metrics(target(60.0));
        assert_eq!(metrics.required_tasks.get(), 1);
        assert_eq!((metrics.scale_out_to.get(), metrics.scale_in_to.get()), (0, ScaleInTo::STAY));
    }
    assert_eq!(metrics((0, 1000, 0), (0, 0, 0), 60.0).required_tasks.get(), 0);
    assert_eq!(metrics((5, 1000, 0), (0, 0, 0), 60.0).required_tasks.get(), 5);
}

/// Of two services on one queue, the second one takes what is above the most of the first.
#[test]
fn a_service_after_others_sees_what_they_leave() {
    let required = |queue, slots, seconds| {
        let look = look(queue, (0, 0, 0), 4, 60.0);
        look.after(slots, target(seconds)).metrics(target(seconds)).required_tasks.get()
    };
    assert_eq!(required((20, 0, 0), 0, 60.0), 5, "there are none before it");
    assert_eq!(required((20, 0, 0), 20, 60.0), 0, "the others have a slot for each");
    assert_eq!(required((24, 0, 0), 20, 60.0), 1);
    assert_eq!(required((24, 20, 0), 20, 60.0), 6, "theirs are all busy");
    assert_eq!(required((100, 20, 0), 20, 300.0), 1, "they take five jobs a slot, and twenty are left");
    assert_eq!(required((0, 500, 900), 20, 60.0), 0, "hidden ones are the first one's to wait for");
    assert_eq!(required((u64::MAX, 0, 0), u64::MAX, 60.0), 0);
}

#[test]
fn of_more_jobs_than_slots_only_those_count_that_consumers_say_are_at_work() {
    // Ten tasks of four slots.
    let look = look((0, 300, 0), (10, 0, 10), 4, 60.0);
    let required = |look: Observation| look.metrics(target(60.0)).required_tasks.get();
    assert_eq!(required(look), 10, "nobody says, so all may be");
    assert_eq!(required(with_busy(look, 0.0)), 1);
    assert_eq!(required(with_busy(look, 1.5)), 4, "15 jobs");
    assert_eq!(required(with_busy(look, 400.0)), 10, "no more than there are slots");
    // Where all fit into the slots, the queue knows better, and sooner.
    let all_busy = Observation { queue: QueueDepth { in_flight: 40, ..look.queue }, ..look };
    assert_eq!(required(with_busy(all_busy, 0.0)), 10);
}

#[test]
fn capacity_is_given_back_in_steps_that_keep_what_is_required() {
    let scale_in = |visible, desired| metrics((visible, 0, 0), (desired, 0, desired), 60.0).scale_in_to.get();
    assert_eq!(scale_in(0, 50), 0);
    assert_eq!(scale_in(1, 50), 1);
    assert_eq!(scale_in(17, 50), 20);
    assert_eq!(scale_in(41, 50), ScaleInTo::STAY, "the step up from it is what is there");
    assert_eq!(scale_in(45, 50), ScaleInTo::STAY, "within a tenth");
    assert_eq!(scale_in(60, 50), ScaleInTo::STAY);
    assert_eq!(scale_in(0, 0), ScaleInTo::STAY);
    assert_eq!(scale_in(501, 900), ScaleInTo::STAY, "beyond the steps");
    for required in 1..=500 {
        let kept = scale_in(required, 5000);
        assert!(kept >= required && kept * 2 <= required * 3, "{kept} for {required}");
    }
}

#[test]
fn tasks_on_their_way_out_do_not_hide_work() {
    // Scaled in to zero while two protected tasks still work: they would go on
    // alone for as long as they find jobs.
    let draining = metrics((5, 2, 0), (2, 0, 0), 300.0);
    assert_eq!(draining.scale_out_to.get(), 2);
}

#[test]
fn a_tenth_less_moves_nothing_and_one_job_more_does() {
    let at_10 = |visible| metrics((visible, 0, 0), (10, 0, 10), 300.0).required_tasks.get();
    assert_eq!([41, 45, 50].map(at_10), [10; 3]);
    assert_eq!([40, 51, 55, 56].map(at_10), [8, 11, 11, 12]);
    // All ten busy for an hour, and one job that waits.
    let waits = look((1, 10, 0), (10, 0, 10), 1, 3600.0).metrics(target(60.0));
    assert_eq!((waits.required_tasks.get(), waits.capacity_demand.get()), (11, 110.0));
}

#[test]
fn a_task_takes_whole_jobs_within_the_target() {
    let of_slots = |slots, seconds| {
        look((60, 0, 0), (1, 0, 1), slots, 60.0).metrics(target(seconds)).required_tasks.get()
    };
    let required = |seconds| of_slots(1, seconds);
    // One job in up to 1.8 times its time, and two from there: a tenth too long.
    assert_eq!([30.0, 60.0, 90.0, 108.0, 110.0, 120.0].map(required), [60, 60, 60, 60, 30, 30]);
    assert_eq!([150.0, 180.0].map(required), [30, 20]);
    // Four slots take five in one and a quarter, and six in one and a half.
    assert_eq!([60.0, 75.0, 90.0, 120.0].map(|seconds| of_slots(4, seconds)), [15, 12, 10, 8]);
    // A measured time a little above the configured one changes nothing.
    assert_eq!(look((60, 0, 0), (1, 0, 1), 1, 61.0).metrics(target(180.0)).required_tasks.get(), 20);
}

#[test]
fn target_tracking_adds_to_the_larger_of_desired_and_running() {
    // No step between 12 and 16.
    let demand = |running, pending, desired| {
        metrics((14, 0, 0), (running, pending, desired), 60.0).capacity_demand.get()
    };
    assert_eq!(demand(12, 0, 12), 1400.0 / 12.0);
    assert_eq!(demand(2, 10, 12), 1400.0 / 12.0, "some start");
    assert_eq!(demand(14, 0, 12), 100.0, "some are on their way out");
    assert_eq!(metrics((16, 0, 0), (12, 0, 12), 60.0).capacity_demand.get(), 100.0, "a step does it");
}

#[test]
fn jobs_longer_than_the_target_get_a_slot_each_and_no_more() {
    let long = look((3, 1, 0), (1, 0, 1), 1, 3600.0).metrics(Target::new(60.0).expect("target"));
    assert_eq!(long.required_tasks.get(), 4);
    let shared = look((3, 1, 0), (1, 0, 1), 2, 3600.0).metrics(Target::new(60.0).expect("target"));
    assert_eq!(shared.required_tasks.get(), 2);
}

#[test]
fn delayed_jobs_hold_a_task_and_start_none() {
    assert_eq!(metrics((0, 0, 7), (3, 0, 3), 300.0).required_tasks.get(), 1);
    let cold = metrics((0, 0, 7), (0, 0, 0), 300.0);
    assert_eq!((cold.required_tasks.get(), cold.scale_out_to.get()), (0, 0));
}

#[test]
fn the_metrics_have_their_names() {
    let json = serde_json::to_value(metrics((1, 0, 0), (0, 0, 0), 300.0)).expect("JSON");
    assert_eq!(json["required_tasks"], 1);
    assert_eq!(json["backlog_seconds"], 60.0);
}

fn observations() -> impl Strategy<Value = Observation> {
    (
        (0..200_000_u64, 0..120_000_u64, 0..1000_u64),
        (0..500_u32, 0..500_u32, 0..500_u32),
        1..64_u32,
        0.01..100_000.0_f64,
    )
        .prop_map(|(queue, service, slots, seconds)| look(queue, service, slots, seconds))
}

/// Any number at all, and as often one that is let in, to the very ends.
fn numbers() -> impl Strategy<Value = f64> {
    let within = (-6.0..=9.0_f64).prop_map(|exponent| 10_f64.powf(exponent));
    prop_oneof![proptest::num::f64::ANY, within, Just(1e-6), Just(1e9)]
}

fn targets() -> impl Strategy<Value = Target> {
    (0.1..100_000.0_f64).prop_map(target)
}

proptest! {
    // What fails is printed, and goes into a test of its own.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is counted, configured and measured: CloudWatch refuses NaN,
    /// infinity and what is beyond 2^360 (CloudWatch API Reference, "MetricDatum"),
    /// or by older editions of it nearer to zero than 2^-360.
    #[test]
    fn cloudwatch_takes_every_metric(
        queue in (any::<u64>(), any::<u64>(), any::<u64>()),
        service in (any::<u32>(), any::<u32>(), any::<u32>()),
        slots in 1..=u32::MAX,
        [job_seconds, target, mean, busy] in proptest::array::uniform4(numbers()),
        jobs in any::<u64>(),
    ) {
        let usual = look(queue, service, slots, 60.0);
        let look = Observation {
            job_time: JobSeconds::new(job_seconds).map_or(usual.job_time, Estimate::configured)
                .with_measured(mean, jobs),
            busy: BusySlots::new(busy).ok(),
            ..usual
        };
        let metrics = look.metrics(Target::new(target).unwrap_or(self::target(60.0)));
        for number in [
            metrics.backlog_seconds.get(), metrics.capacity_demand.get(),
            metrics.required_tasks.get() as f64, metrics.scale_out_to.get() as f64,
            metrics.scale_in_to.get() as f64,
        ] {
            prop_assert!(number == 0.0 || (2_f64.powi(-360)..=2_f64.powi(360)).contains(&number), "{number}");
        }
    }

    #[test]
    fn the_required_tasks_drain_within_the_target_or_a_tenth_more(
        look in observations(), target in targets(),
    ) {
        let required = look.metrics(target).required_tasks.get();
        let due = look.due();
        prop_assume!(due > 0);
        let slots = f64::from(look.slots.get());
        // What a job takes beyond the target no task can shorten.
        let seconds = look.job_time.get().get();
        let bound = target.get().max(seconds) * 1.1 * (1.0 + 1e-9);
        // A task takes whole jobs, and its slots share them.
        let drain = |tasks: u64| (due.div_ceil(tasks) as f64 / slots).max(1.0) * seconds;
        prop_assert!(drain(required) <= bound);
        // And none that could be done without: one fewer would be too slow, or
        // leave no time to spare, or they are a tenth of what is there.
        let spare = required == u64::from(look.service.desired);
        let enough = if spare { required - required / 9 - 1 } else { required - 1 };
        prop_assert!(enough == 0 || drain(enough) > target.get() * (1.0 - 1e-9));
    }

    #[test]
    fn there_is_never_a_task_without_a_job(look in observations(), target in targets()) {
        let required = look.metrics(target).required_tasks.get();
        let hidden = u64::from(look.queue.in_flight + look.queue.delayed > 0);
        // Up to a tenth of those that are there may be left.
        let spare = if required == u64::from(look.service.desired) { required / 9 } else { 0 };
        prop_assert!(required <= look.due().max(hidden) + spare);
    }

    #[test]
    fn more_work_never_needs_fewer_tasks(look in observations(), target in targets(), more in 0..1000_u64) {
        let mut fuller = look;
        fuller.queue.visible += more;
        let (before, after) = (look.metrics(target), fuller.metrics(target));
        prop_assert!(before.required_tasks <= after.required_tasks);
        prop_assert!(before.backlog_seconds <= after.backlog_seconds);
    }

    #[test]
    fn a_shorter_target_never_needs_fewer_tasks(
        look in observations(), target in targets(), factor in 0.01..1.0_f64,
    ) {
        let shorter = Target::new(target.get() * factor).expect("target");
        prop_assert!(look.metrics(target).required_tasks <= look.metrics(shorter).required_tasks);
    }

    #[test]
    fn jobs_that_were_taken_count_like_jobs_that_wait(look in observations(), target in targets()) {
        let slots = u64::from(look.service.running) * u64::from(look.slots.get());
        let mut look = look;
        look.queue.in_flight %= slots + 1;
        let mut taken = look;
        let moved = look.queue.visible.min(slots - look.queue.in_flight);
        taken.queue.in_flight += moved;
        taken.queue.visible -= moved;
        prop_assert_eq!(look.metrics(target).required_tasks, taken.metrics(target).required_tasks);
        prop_assert_eq!(look.metrics(target).backlog_seconds, taken.metrics(target).backlog_seconds);
    }

    #[test]
    fn hidden_jobs_never_need_more_than_one_task(
        look in observations(), target in targets(), more in 1..100_000_u64, busy in 0.0..64.0_f64,
    ) {
        let slots = u64::from(look.service.running) * u64::from(look.slots.get());
        let mut full = with_busy(look, busy);
        full.queue.in_flight = full.queue.in_flight.max(slots + 1);
        let mut fuller = full;
        fuller.queue.in_flight += more;
        let required = full.metrics(target).required_tasks;
        prop_assert_eq!(required, fuller.metrics(target).required_tasks);
        let none = Observation { queue: QueueDepth { in_flight: 0, ..look.queue }, ..look };
        let idle = with_busy(full, 0.0).metrics(target).required_tasks.get();
        prop_assert!(idle <= none.metrics(target).required_tasks.get().max(1));
    }

    /// Whether it multiplies the tasks that run, or those that are desired.
    #[test]
    fn target_tracking_arrives_at_the_required_tasks_at_most(look in observations(), target in targets()) {
        let metrics = look.metrics(target);
        let next = |base: u32| (f64::from(base) * metrics.capacity_demand.get() / 100.0 - 1e-6).ceil() as u64;
        let (running, desired, required) =
            (look.service.running, look.service.desired, metrics.required_tasks.get());
        prop_assert!(next(running).max(next(desired)) <= required.max(u64::from(running.max(desired))));
        if metrics.scale_out_to.get() == 0 && running == desired && desired > 0 {
            prop_assert_eq!(next(desired), required);
        }
    }

    #[test]
    fn scale_out_never_scales_in_nor_overshoots(look in observations(), target in targets()) {
        let metrics = look.metrics(target);
        let (to, required) = (metrics.scale_out_to.get(), metrics.required_tasks.get());
        let desired = u64::from(look.service.desired);
        if to > 0 {
            prop_assert!(SCALE_OUT.contains(&to) && to > desired && to <= required);
        } else if desired > 0 || look.queue.visible > 0 {
            // What target tracking is left with is a step at most.
            let next = SCALE_OUT.into_iter().find(|step| *step > desired);
            prop_assert!(next.is_none_or(|next| next > required));
        }
    }

    #[test]
    fn scale_in_never_scales_out_nor_takes_what_is_required(look in observations(), target in targets()) {
        let metrics = look.metrics(target);
        let to = metrics.scale_in_to.get();
        if to == ScaleInTo::STAY {
            let enough = SCALE_IN.into_iter().find(|step| *step >= metrics.required_tasks.get());
            prop_assert!(enough.is_none_or(|step| step >= u64::from(look.service.desired)));
        } else {
            prop_assert!(SCALE_IN.contains(&to));
            prop_assert!(to < u64::from(look.service.desired) && to >= metrics.required_tasks.get());
            prop_assert_eq!(metrics.scale_out_to.get(), 0);
        }
    }

    #[test]
    fn from_zero_tasks_only_a_visible_job_starts_one(look in observations(), target in targets()) {
        let metrics = look.metrics(target);
        if look.service.is_at_zero() {
            prop_assert_eq!(metrics.scale_out_to.get() > 0, look.queue.visible > 0);
        }
    }
}
