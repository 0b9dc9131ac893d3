//! Named queues: which jobs a claim brings, pauses, and what is counted and found by queue.

use std::collections::BTreeMap;

use super::{
    Case,
    groups::ordered,
    trial::{Trial, TrialEnd, error, job, retry, success},
};
use crate::{
    Backend, Error, JobId, NewJob, QueueName, Queues, Status,
    backend::{ClaimRequest, Claimed, Groups, ListQuery, Outcome, Purge, Redrive},
};

/// The queues that the suite uses, besides the default one, for backends on which somebody
/// has to make them.
pub const NAMES: &[&str] = &["a", "b", "c", "high", "middle", "low", "Team_7-bulk", "for-a-day", "paused"];

pub(super) const CASES: &[Case] = &[
    Case::new("queues: a claim brings jobs of the queues that it names alone", &[1, 5], |t| {
        Box::pin(apart(t))
    }),
    Case::new("queues: a job keeps its queue for all its life", &[10], |t| Box::pin(kept(t))),
    Case::new("queues: in an order, the first comes first, and no other waits for good", &[1], |t| {
        Box::pin(in_order(t))
    }),
    Case::new("queues: by weights, each gets its share, and nothing is left idle", &[1], |t| {
        Box::pin(by_weight(t))
    }),
    Case::new("queues: a claim of many takes from all of them, the oldest of each first", &[1, 5], |t| {
        Box::pin(many(t))
    }),
    Case::new("queues: delays and retries wait in their queue", &[7], |t| Box::pin(delayed(t))),
    Case::new("queues: a group is one of its queue", &[8], |t| Box::pin(groups(t))).needs(ordered),
    Case::new(
        "queues: a lost job comes back to its queue, one suspect at a time from all of them",
        &[5, 6],
        |t| Box::pin(suspects(t)),
    )
    .needs(told_apart),
    Case::new("queues: of suspects that head two queues, a claim of many takes one", &[6], |t| {
        Box::pin(two_suspects(t))
    })
    .needs(told_apart),
    Case::new("queues: nothing of a paused queue is claimed until it goes on", &[1], |t| Box::pin(paused(t))),
    Case::new("queues: a waiting claim wakes when its queue goes on, or gets a job", &[1], |t| {
        Box::pin(wakes(t))
    }),
    Case::new("queues: stats tell them apart", &[4], |t| Box::pin(stats(t))),
    Case::new("queues: a queue without jobs is forgotten, unless it is paused", &[11], |t| {
        Box::pin(forgotten(t))
    }),
    Case::new("queues: lists, purges and redrives of one leave the others alone", &[2], |t| {
        Box::pin(filters(t))
    })
    .needs(|b| (!b.capabilities().list).then_some("no list by status")),
    Case::new("queues: what makes no sense is refused", &[1], |t| Box::pin(invalid(t))),
];

fn told_apart(backend: &dyn Backend) -> Option<&'static str> {
    (!backend.capabilities().suspects).then_some("does not tell suspects apart")
}

fn name(name: &str) -> QueueName {
    name.parse().expect("a name")
}

fn queues(text: &str) -> Queues {
    text.parse().expect("queues")
}

fn in_queue(queue: &str, body: u64) -> NewJob {
    job(body).queue(name(queue))
}

impl Trial<'_> {
    fn of(&self, served: &str, turn: u64) -> ClaimRequest {
        self.request().queues(queues(served), turn)
    }

    async fn claim_of(&self, served: &str, turn: u64, max: usize) -> Vec<Claimed> {
        let request = self.of(served, turn).max(max);
        self.backend.claim(request, Default::default()).await.expect("claim")
    }

    /// How many of so many claims, one after the other, came from each queue.
    async fn shares(&self, served: &str, claims: u64) -> BTreeMap<String, u64> {
        let mut shares = BTreeMap::new();
        for turn in 0..claims {
            let claimed = self.take_as(self.of(served, turn)).await;
            *shares.entry(claimed.spec.queue.to_string()).or_default() += 1;
        }
        shares
    }

    async fn pause(&self, queue: &str, paused: bool) -> bool {
        self.backend.set_paused(name(queue), paused).await.expect("a queue can be paused")
    }
}

fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

fn ids(claimed: &[Claimed]) -> Vec<JobId> {
    claimed.iter().map(|claimed| claimed.key.id.clone()).collect()
}

async fn apart(t: &Trial<'_>) {
    let ids_of = t.submit_all(vec![job(1), in_queue("a", 2), in_queue("b", 3)]).await;
    assert_eq!(t.claim_of("c", 0, 10).await, []);
    assert_eq!(ids(&t.claim_of("b", 0, 10).await), ids_of[2..]);
    assert_eq!(ids(&t.claim(10).await), ids_of[..1], "who names none serves the default queue");
    assert_eq!(t.claim_of("b,default", 0, 10).await, []);
    assert_eq!(ids(&t.claim_of("default,a", 0, 10).await), ids_of[1..2]);
}

async fn kept(t: &Trial<'_>) {
    let id = t.submit(in_queue("Team_7-bulk", 1).max_attempts(1)).await;
    assert_eq!(t.record(&id).await.spec.queue, name("Team_7-bulk"));
    let request = || t.of("Team_7-bulk", 0);
    let claimed = t.take_as(request()).await;
    assert_eq!(claimed.spec.queue, name("Team_7-bulk"));
    t.finish(&claimed.key, Outcome::release()).await;
    let claimed = t.take_as(request()).await;
    assert_eq!(t.finish(&claimed.key, retry("no")).await, Status::Error);
    assert_eq!(t.record(&id).await.spec.queue, name("Team_7-bulk"));
    assert_eq!(t.redrive(&[&id]).await.len(), 1);
    t.assert_idle().await;
    let claimed = t.take_as(request()).await;
    assert_eq!(t.finish(&claimed.key, success(1)).await, Status::Success);
    assert_eq!(t.record(&id).await.spec.queue, name("Team_7-bulk"));
    let record = t.record(&t.submit(job(2)).await).await;
    assert!(record.spec.queue.is_default());
    let json = serde_json::to_value(&record).expect("JSON");
    assert_eq!(json.get("queue"), None, "only where it was said");
}

async fn in_order(t: &Trial<'_>) {
    for queue in ["low", "high", "middle"] {
        t.submit_all((0..40).map(|n| in_queue(queue, n)).collect()).await;
    }
    let shares = t.shares("high,middle,low", 40).await;
    assert_eq!(shares, counts([("high", 36), ("low", 2), ("middle", 2)]));
    let shares = t.shares("high,middle,low", 9).await;
    assert_eq!(shares, counts([("high", 4), ("middle", 5)]), "the next where the first has none");
}

async fn by_weight(t: &Trial<'_>) {
    for queue in ["a", "b"] {
        t.submit_all((0..30).map(|n| in_queue(queue, n)).collect()).await;
    }
    assert_eq!(t.shares("a=6,b=1", 28).await, counts([("a", 24), ("b", 4)]));
    assert_eq!(t.shares("a=6,b=1", 14).await, counts([("a", 6), ("b", 8)]), "a has no more");
}

async fn many(t: &Trial<'_>) {
    let a = t.submit_all((0..5).map(|n| in_queue("a", n)).collect()).await;
    let mut b = Vec::new();
    // A queue that is elsewhere keeps those of one batch in order.
    for _ in 0..4 {
        b.extend(t.submit_all((0..10).map(|n| in_queue("b", n)).collect()).await);
    }
    let claimed = t.claim_of("a=1,b=1", 0, 6).await;
    let of = |queue: &str| -> Vec<_> {
        let of_it = claimed.iter().filter(|claimed| claimed.spec.queue == name(queue));
        of_it.map(|claimed| claimed.key.id.clone()).collect()
    };
    assert_eq!((of("a"), of("b")), (a[..3].to_vec(), b[..3].to_vec()));
    assert_eq!(t.claim_of("a,b", 0, 30).await.len(), 30);
    assert_eq!(t.claim_of("b,a", 0, 30).await.len(), 9, "what is left");
}

async fn delayed(t: &Trial<'_>) {
    let due = t.now().after(t.ticks(3));
    t.submit_all(vec![in_queue("a", 1).delay(t.ticks(3)), in_queue("b", 2)]).await;
    let claimed = t.take_as(t.of("a,b", 0)).await;
    assert_eq!(claimed.spec.queue, name("b"), "the other one waits");
    let retry = Outcome::Retry { error: error("again"), delay: t.ticks(8) };
    assert_eq!(t.finish(&claimed.key, retry).await, Status::Submitted);
    assert_eq!(t.claim_of("a,b", 0, 10).await, []);
    t.pass(3).await;
    let claimed = t.take_as(t.of("b,a", 0)).await;
    assert_eq!(claimed.spec.queue, name("a"));
    assert!(claimed.lease_until.before(t.ticks(super::trial::LONG)) >= due);
    t.pass(8).await;
    t.assert_idle().await;
    assert_eq!(t.take_as(t.of("b", 0)).await.spec.queue, name("b"));
}

async fn groups(t: &Trial<'_>) {
    let of = |queue, body| in_queue(queue, body).group("user-1");
    let [first, second, other]: [JobId; 3] =
        t.submit_all(vec![of("a", 1), of("a", 2), of("b", 3)]).await.try_into().expect("three ids");
    let claimed = t.claim_of("a,b", 0, 10).await;
    assert_eq!(ids(&claimed), [first.clone(), other], "each queue has its own head of the group");
    // The group goes on in the one queue whatever the other does.
    assert_eq!(t.finish(&claimed[1].key, success(1)).await, Status::Success);
    assert_eq!(t.claim_of("a,b", 0, 10).await, []);
    assert_eq!(t.finish(&claimed[0].key, success(1)).await, Status::Success);
    let claimed = t.take_as(t.of("a,b", 0)).await;
    assert_eq!(claimed.key.id, second);
}

async fn suspects(t: &Trial<'_>) {
    let lease = 12;
    t.submit_all(vec![in_queue("a", 1), in_queue("b", 2), in_queue("a", 3)]).await;
    let by = |worker: &str, max| {
        let mut request = t.of("a,b", 0).max(max).lease(t.ticks(lease));
        request.worker = worker.into();
        t.backend.claim(request, Default::default())
    };
    assert_eq!(by("lost", 3).await.expect("claim").len(), 3);
    t.pass(lease).await;
    let fresh = t.submit(in_queue("b", 4)).await;
    let mut found = by("next", 10).await.expect("claim");
    t.pass(lease).await;
    found.extend(by("next", 10).await.expect("claim"));
    let watched = found.iter().filter(|claimed| claimed.watched.is_some()).count();
    assert_eq!((found.len(), watched), (2, 1), "one suspect, whichever its queue: {found:?}");
    assert!(ids(&found).contains(&fresh), "and what is none");
    let other = by("another", 10).await.expect("claim");
    assert_eq!(other.len(), 1, "another worker takes another one");
}

async fn two_suspects(t: &Trial<'_>) {
    let lease = 12;
    t.submit_all(vec![in_queue("a", 1), in_queue("b", 2)]).await;
    let mut request = t.of("a,b", 0).max(2).lease(t.ticks(lease));
    request.worker = "lost".into();
    assert_eq!(t.backend.claim(request, Default::default()).await.expect("claim").len(), 2);
    // It is due before they are: so both queues have been looked at before the first of them is taken.
    let fresh = t.submit(in_queue("a", 3)).await;
    for _ in 0..2 {
        t.pass(lease).await;
        assert_eq!(t.claim_of("c", 0, 1).await, []);
    }
    let found = t.claim_of("a=1,b=1", 0, 10).await;
    let watched = found.iter().filter(|claimed| claimed.watched.is_some()).count();
    assert_eq!((found.len(), watched, &found[0].key.id), (2, 1, &fresh), "{found:?}");
}

async fn paused(t: &Trial<'_>) {
    assert!(t.pause("a", true).await);
    assert!(!t.pause("a", true).await, "it is already");
    let id = t.submit(in_queue("a", 1)).await;
    let other = t.submit(in_queue("b", 2)).await;
    assert_eq!(t.status(&id).await, Status::Submitted);
    assert_eq!(ids(&t.claim_of("a,b", 0, 10).await), [other]);
    assert_eq!(t.claim_of("a", 0, 10).await, []);
    assert!(!t.pause("b", false).await, "it is not");
    assert!(t.pause("a", false).await);
    let claimed = t.take_as(t.of("a", 0)).await;
    assert_eq!(claimed.key.id, id);
    // What runs goes on.
    assert!(t.pause("a", true).await);
    t.beat(&claimed.key).await;
    assert_eq!(t.finish(&claimed.key, success(1)).await, Status::Success);
    // The default queue is one like any other.
    let id = t.submit(job(3)).await;
    assert!(t.pause("default", true).await);
    t.assert_idle().await;
    assert!(t.pause("default", false).await);
    assert_eq!(t.take().await.key.id, id);
}

async fn wakes(t: &Trial<'_>) {
    t.pause("a", true).await;
    let id = t.submit(in_queue("a", 1)).await;
    let mut waiter = t.wait_for(t.of("a,b", 0), 50).await;
    t.submit(in_queue("c", 2)).await;
    waiter.assert_waits().await;
    t.pause("a", false).await;
    assert_eq!(ids(&t.answer(&mut waiter).await), [id]);

    // However many jobs wait where this worker takes none.
    t.pause("a", true).await;
    t.submit_all(vec![in_queue("a", 3), job(4), in_queue("c", 5)]).await;
    let mut waiter = t.wait_for(t.of("a,b", 0), 50).await;
    let id = t.submit(in_queue("b", 6)).await;
    assert_eq!(ids(&t.answer(&mut waiter).await), [id]);
}

async fn stats(t: &Trial<'_>) {
    t.submit_all(vec![
        in_queue("a", 1),
        in_queue("a", 2).delay(t.ticks(50)),
        in_queue("a", 3).group("g"),
        in_queue("a", 4).group("g"),
        in_queue("b", 5),
        job(6),
    ])
    .await;
    t.take().await;
    let b = t.take_as(t.of("b", 0)).await;
    t.finish(&b.key, Outcome::Fail(error("no"))).await;
    t.pause("a", true).await;
    t.pass(2).await;
    let stats = t.stats().await;
    let tracked = t.backend.capabilities().groups == Groups::Tracked;
    // Elsewhere, who waits for its group counts as due.
    let (due, blocked) = if tracked { (2, 1) } else { (3, 0) };
    assert_eq!((stats.visible, stats.paused, stats.delayed, stats.blocked), (0, due, 1, blocked));
    assert_eq!((stats.in_progress, stats.error, stats.unfinished()), (1, 1, 5));
    assert_eq!(stats.oldest_visible_seconds, None, "what is paused waits for nobody's fault");
    assert_eq!(stats.queues.keys().map(QueueName::as_str).collect::<Vec<_>>(), ["a", "b", "default"]);
    let a = &stats.queues[&name("a")];
    assert_eq!((a.is_paused, a.due, a.delayed, a.blocked, a.unfinished()), (true, due, 1, blocked, 4));
    assert!(a.oldest_due_seconds.is_some_and(|age| age >= t.ticks(2).as_secs_f64()), "{a:?}");
    let b = &stats.queues[&name("b")];
    assert_eq!((b.is_paused, b.error, b.unfinished()), (false, 1, 0));
    assert_eq!(stats.queues[&QueueName::default()].in_progress, 1);
    assert_eq!(stats.unfinished_in(&queues("a,b")), 4);
    t.pause("a", false).await;
    let stats = t.stats().await;
    assert_eq!((stats.visible, stats.paused, stats.queues[&name("a")].is_paused), (due, 0, false));
    assert!(stats.oldest_visible_seconds.is_some());
}

async fn forgotten(t: &Trial<'_>) {
    let claimed = {
        t.submit(in_queue("for-a-day", 1).result_ttl(t.ticks(2))).await;
        t.take_as(t.of("for-a-day", 0)).await
    };
    t.pause("paused", true).await;
    t.finish(&claimed.key, success(1)).await;
    t.pass(3).await;
    let stats = t.stats().await;
    assert_eq!(stats.queues.keys().map(QueueName::as_str).collect::<Vec<_>>(), ["paused"]);
    t.pause("paused", false).await;
    assert_eq!(t.stats().await.queues, BTreeMap::new());
}

async fn filters(t: &Trial<'_>) {
    let mut dead = BTreeMap::new();
    for (queue, body) in [("a", 1), ("default", 2), ("a", 3), ("b", 4)] {
        let id = t.submit(in_queue(queue, body).max_attempts(1)).await;
        let claimed = t.take_as(t.of(queue, 0).lease(t.ticks(super::trial::END_LEASE))).await;
        assert_eq!(t.finish(&claimed.key, retry("no")).await, TrialEnd::Dead.status());
        dead.entry(queue).or_insert_with(Vec::new).push(id);
    }
    t.submit(in_queue("a", 5)).await;
    for queue in ["a", "b", "default"] {
        for status in [None, Some(Status::Error), Some(Status::Submitted), Some(Status::InProgress)] {
            let query = ListQuery::new().queue(name(queue)).status(status);
            let found = t.backend.list(query).await.expect("list");
            let expected = match status {
                None => dead[queue].len() + usize::from(queue == "a"),
                Some(Status::Error) => dead[queue].len(),
                Some(Status::Submitted) => usize::from(queue == "a"),
                Some(_) => 0,
            };
            assert_eq!(found.len(), expected, "{queue}, {status:?}");
            assert!(found.iter().all(|record| record.spec.queue == name(queue)), "{found:?}");
        }
    }
    let of = |queue: &str, limit| Redrive::Dead { limit, queue: Some(name(queue)), after: None };
    assert_eq!(t.backend.redrive(of("a", 1)).await.expect("redrive"), dead["a"][..1], "the oldest");
    assert_eq!(t.backend.redrive(of("c", 10)).await.expect("redrive"), []);
    assert_eq!(t.backend.redrive(of("default", 10)).await.expect("redrive"), dead["default"]);
    let purge = |queue: &str, status| {
        t.backend.purge(Purge::Status { status, older_than: t.ticks(0), queue: Some(name(queue)) })
    };
    assert_eq!(purge("a", Status::Submitted).await.expect("purge"), 2);
    assert_eq!(purge("c", Status::Error).await.expect("purge"), 0);
    assert_eq!(purge("a", Status::Error).await.expect("purge"), 1);
    let stats = t.stats().await;
    assert_eq!((stats.visible, stats.error), (1, 1), "what is in the others is there");
    assert_eq!(stats.queues.keys().map(QueueName::as_str).collect::<Vec<_>>(), ["b", "default"]);
}

async fn invalid(t: &Trial<'_>) {
    t.submit(job(1)).await;
    for bad in [Queues::InOrder(Vec::new()), Queues::ByWeight([(QueueName::default(), 0)].into())] {
        let answer = t.backend.claim(t.request().queues(bad, 0), Default::default()).await;
        assert!(matches!(answer, Err(Error::Invalid(_))), "{answer:?}");
    }
}
