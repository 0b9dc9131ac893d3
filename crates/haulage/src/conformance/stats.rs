//! `stats`: the queue in numbers.

use super::{
    Case,
    groups::tracked,
    trial::{Trial, TrialEnd, error, job, jobs, retry},
};
use crate::backend::{Outcome, Purge, Stats};

pub(super) const CASES: &[Case] = &[
    Case::new("stats: of an empty queue are zero", &[1], |t| Box::pin(empty(t))),
    Case::new("stats: every job counts once, under its status", &[1, 4], |t| Box::pin(every_status(t))),
    Case::new("stats: delays and retries that wait, until they are due", &[7], |t| Box::pin(delayed(t))),
    Case::new("stats: what waits behind its group", &[8], |t| Box::pin(blocked(t))).needs(tracked),
    Case::new("stats: for how long the oldest has been due", &[1], |t| Box::pin(oldest(t))),
];

async fn empty(t: &Trial<'_>) {
    let stats = t.stats().await;
    assert_eq!(Stats { stored_bytes: None, ..stats }, Stats::default());
}

async fn every_status(t: &Trial<'_>) {
    for end in TrialEnd::ALL {
        t.end(job(1), end).await;
    }
    t.start(job(2)).await;
    t.submit_all(jobs(3)).await;
    let stats = Stats { queues: Default::default(), ..t.stats().await };
    let expected = Stats {
        visible: 3,
        in_progress: 1,
        success: 1,
        error: 2,
        cancelled: 1,
        dead: 1,
        oldest_visible_seconds: stats.oldest_visible_seconds,
        stored_bytes: stats.stored_bytes,
        ..Stats::default()
    };
    assert_eq!(stats, expected);
    assert_eq!(stats.unfinished(), 4);
}

async fn delayed(t: &Trial<'_>) {
    let claimed = t.start(job(1)).await;
    t.submit(job(2).delay(t.ticks(4))).await;
    t.finish(&claimed.key, Outcome::Retry { error: error("later"), delay: t.ticks(4) }).await;
    let stats = t.stats().await;
    assert_eq!((stats.visible, stats.delayed, stats.oldest_visible_seconds), (0, 2, None));
    t.pass(4).await;
    let stats = t.stats().await;
    assert_eq!((stats.visible, stats.delayed), (2, 0));
    let claimed = t.take().await;
    t.finish(&claimed.key, retry("at once")).await;
    let stats = t.stats().await;
    assert_eq!((stats.visible, stats.delayed), (2, 0));
}

async fn blocked(t: &Trial<'_>) {
    let mut ids = t.submit_all(jobs(3).into_iter().map(|job| job.group("g")).collect()).await;
    let stats = t.stats().await;
    assert_eq!((stats.visible, stats.blocked, stats.in_progress), (1, 2, 0));
    let head = t.take().await;
    let stats = t.stats().await;
    assert_eq!((stats.visible, stats.blocked, stats.in_progress), (0, 2, 1));
    t.finish(&head.key, super::trial::success(1)).await;
    let stats = t.stats().await;
    assert_eq!((stats.visible, stats.blocked, stats.in_progress), (1, 1, 0));
    // One that is deleted counts no more.
    let last = ids.pop().expect("three were submitted");
    assert_eq!(t.backend.purge(Purge::Jobs(vec![last])).await.expect("purge"), 1);
    let stats = t.stats().await;
    assert_eq!((stats.visible, stats.blocked, stats.in_progress), (1, 0, 0));
}

async fn oldest(t: &Trial<'_>) {
    let assert_age = |stats: Stats, ticks: u32| {
        let age = stats.oldest_visible_seconds.expect("an age");
        let (least, tick) = (t.ticks(ticks).as_secs_f64(), t.ticks(1).as_secs_f64());
        assert!((least - 1e-3..least + tick).contains(&age), "{age} s should be {ticks} ticks");
    };
    t.submit(job(1)).await;
    t.pass(2).await;
    t.submit(job(2)).await;
    assert_age(t.stats().await, 2);
    let first = t.take().await;
    assert_age(t.stats().await, 0);
    // A retry waits since it is due, not since its submit.
    t.pass(2).await;
    let second = t.take().await;
    assert_eq!(t.stats().await.oldest_visible_seconds, None);
    t.finish(&first.key, Outcome::Retry { error: error("later"), delay: t.ticks(2) }).await;
    t.pass(5).await;
    assert_age(t.stats().await, 3);
    t.finish(&second.key, Outcome::Cancelled).await;
}
