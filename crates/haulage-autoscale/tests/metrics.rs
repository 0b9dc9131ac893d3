//! What operators rely on when they set alarms on the metrics.

use haulage_autoscale::{
    Estimate, JobSeconds, Metrics, Observation, QueueDepth, SCALE_OUT, Service, Slots, Target,
};
use proptest::prelude::*;

fn look(queue: (u64, u64, u64), service: (u32, u32, u32), slots: u32, seconds: f64) -> Observation {
    Observation {
        queue: QueueDepth { visible: queue.0, in_flight: queue.1, delayed: queue.2 },
        service: Service { running: service.0, pending: service.1, desired: service.2 },
        slots: Slots::new(slots).expect("slots"),
        job_time: Estimate::configured(JobSeconds::new(seconds).expect("seconds")),
    }
}

fn metrics(queue: (u64, u64, u64), service: (u32, u32, u32), target: f64) -> Metrics {
    look(queue, service, 1, 60.0).metrics(Target::new(target).expect("target"))
}

#[test]
fn nothing_to_do_needs_nothing() {
    let idle = metrics((0, 0, 0), (0, 0, 0), 300.0);
    assert_eq!(idle.backlog_seconds.get(), 0.0);
    assert_eq!(idle.required_tasks.get(), 0);
    assert_eq!(idle.capacity_demand.get(), 0.0);
    assert!(!idle.queue_requires_consumer.get());
}

#[test]
fn one_job_at_zero_tasks_asks_for_a_consumer() {
    let waiting = metrics((1, 0, 0), (0, 0, 0), 300.0);
    assert!(waiting.queue_requires_consumer.get());
    assert_eq!(waiting.required_tasks.get(), 1);
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
    assert!(!lagging.queue_requires_consumer.get());
    assert_eq!(lagging.scale_out_to.get(), 0);
}

#[test]
fn tasks_that_start_are_not_asked_for_again() {
    let starting = metrics((100, 0, 0), (0, 20, 20), 300.0);
    assert!(!starting.queue_requires_consumer.get());
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
    assert_eq!(Metrics { running_tasks: 10, ..during }, before);
}

#[test]
fn tasks_on_their_way_out_do_not_hide_work() {
    // Scaled in to zero while two protected tasks still work: they would go on
    // alone for as long as they find jobs.
    let draining = metrics((5, 2, 0), (2, 0, 0), 300.0);
    assert!(draining.queue_requires_consumer.get());
    assert_eq!(draining.scale_out_to.get(), 2);
}

#[test]
fn a_tenth_more_or_less_moves_nothing() {
    for visible in [46, 50, 55] {
        assert_eq!(metrics((visible, 0, 0), (10, 0, 10), 300.0).required_tasks.get(), 10, "{visible}");
    }
    assert_eq!(metrics((56, 0, 0), (10, 0, 10), 300.0).required_tasks.get(), 12);
    assert_eq!(metrics((44, 0, 0), (10, 0, 10), 300.0).required_tasks.get(), 9);
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
    assert_eq!(cold.required_tasks.get(), 0);
    assert!(!cold.queue_requires_consumer.get());
}

#[test]
fn the_metrics_have_their_names() {
    let json = serde_json::to_value(metrics((1, 0, 0), (0, 0, 0), 300.0)).expect("JSON");
    assert_eq!(json["queue_requires_consumer"], true);
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

fn targets() -> impl Strategy<Value = Target> {
    (0.1..100_000.0_f64).prop_map(|seconds| Target::new(seconds).expect("target"))
}

proptest! {
    #[test]
    fn every_metric_is_a_number(look in observations(), target in targets()) {
        let metrics = look.metrics(target);
        for number in [
            metrics.backlog_seconds.get(), metrics.backlog_per_task.get(), metrics.capacity_demand.get(),
        ] {
            prop_assert!(number.is_finite() && number >= 0.0, "{number}");
        }
    }

    #[test]
    fn the_required_tasks_drain_within_the_target_or_a_tenth_more(
        look in observations(), target in targets(),
    ) {
        let required = look.metrics(target).required_tasks.get();
        let due = look.queue.due();
        prop_assume!(due > 0);
        let slots = u64::from(look.slots.get());
        // What a job takes beyond the target no task can shorten.
        let bound = target.get().max(look.job_time.get().get());
        let drain = |tasks: u64| due as f64 * look.job_time.get().get() / (tasks * slots) as f64;
        prop_assert!(drain(required) <= bound * 1.1 * (1.0 + 1e-6));
        // And none that could be done without: one fewer would be too slow,
        // or they are a tenth of what is there.
        let spare = required == u64::from(look.service.desired);
        let enough = if spare { required - required / 9 - 1 } else { required - 1 };
        prop_assert!(enough == 0 || drain(enough) > bound * (1.0 - 1e-6));
    }

    #[test]
    fn there_is_never_a_task_without_a_job(look in observations(), target in targets()) {
        let required = look.metrics(target).required_tasks.get();
        let jobs = look.queue.due().max(look.queue.delayed.min(1));
        // Up to a tenth of those that are there may be left.
        let spare = if required == u64::from(look.service.desired) { required / 9 } else { 0 };
        prop_assert!(required <= jobs + spare);
    }

    #[test]
    fn more_work_never_needs_fewer_tasks(look in observations(), target in targets(), more in 0..1000_u64) {
        let mut fuller = look;
        fuller.queue.visible += more;
        let (before, after) = (look.metrics(target), fuller.metrics(target));
        prop_assert!(before.required_tasks <= after.required_tasks);
        prop_assert!(before.backlog_seconds <= after.backlog_seconds);
        prop_assert!(before.queue_requires_consumer.get() <= after.queue_requires_consumer.get());
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
        let mut taken = look;
        taken.queue.in_flight += taken.queue.visible;
        taken.queue.visible = 0;
        prop_assert_eq!(look.metrics(target).required_tasks, taken.metrics(target).required_tasks);
        prop_assert_eq!(look.metrics(target).backlog_seconds, taken.metrics(target).backlog_seconds);
    }

    #[test]
    fn target_tracking_arrives_at_the_required_tasks(look in observations(), target in targets()) {
        let metrics = look.metrics(target);
        prop_assume!(look.service.desired > 0);
        let desired = f64::from(look.service.desired);
        let next = (desired * metrics.capacity_demand.get() / 100.0 - 1e-6).ceil() as u64;
        prop_assert_eq!(next, metrics.required_tasks.get());
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
    fn a_consumer_is_asked_for_only_from_zero(look in observations(), target in targets()) {
        let metrics = look.metrics(target);
        if metrics.queue_requires_consumer.get() {
            prop_assert!(look.service.is_at_zero() && look.queue.visible > 0);
            prop_assert!(metrics.required_tasks.get() >= 1);
        }
    }
}
