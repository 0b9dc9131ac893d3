//! Many at once: what must hold however the calls interleave.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{
    Case,
    groups::ordered,
    trial::{Trial, TrialEnd, error, every_outcome, job, jobs, retry, success},
};
use crate::{
    Backend, Error, JobId, Record, Status,
    backend::{Cancellation, ClaimKey, ClaimRequest, Claimed, Detail, Groups, Outcome, Redrive, Settlement},
};

pub(super) const CASES: &[Case] = &[
    Case::new("races: many claimers, and every job goes to one of them", &[1, 5], |t| Box::pin(claimers(t))),
    Case::new("races: many waiting claimers, and every job goes to one of them", &[1, 5], |t| {
        Box::pin(waiting_claimers(t))
    }),
    Case::new("races: many settle one claim, and one does", &[2, 3], |t| Box::pin(settlers(t))),
    Case::new("races: many submit one key, and one job is created", &[9], |t| Box::pin(submitters(t))),
    Case::new("races: many redrive one dead letter, and one does", &[2], |t| Box::pin(redrivers(t))),
    Case::new("races: a cancel and a claim", &[2, 4], |t| Box::pin(cancel_and_claim(t))),
    Case::new("races: a cancel and a settle", &[2, 4], |t| Box::pin(cancel_and_settle(t))),
    Case::new("races: a group under many claimers", &[8], |t| Box::pin(group(t))).needs(ordered),
    Case::new("races: status only moves along the arrows", &[2, 4], |t| Box::pin(arrows(t))),
    Case::new("races: everything at once, and every job ends once", &[1, 2, 3, 4, 5, 6], |t| {
        Box::pin(chaos(t))
    }),
];

/// How many tasks race.
const RACERS: usize = 12;

/// Runs a future for each number in a task of its own, all at once.
async fn race<T, F>(count: usize, racer: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let gate = Arc::new(tokio::sync::Barrier::new(count));
    let tasks = (0..count).map(|n| {
        let (gate, racer) = (Arc::clone(&gate), racer(n));
        tokio::spawn(async move {
            gate.wait().await;
            racer.await
        })
    });
    // Collected first, so that all of them are there before one is awaited.
    let tasks: Vec<_> = tasks.collect();
    join_all(tasks).await.into_iter().map(|task| task.expect("a racer")).collect()
}

fn assert_each_once(claimed: &[Claimed], ids: &[JobId]) {
    let keys: Vec<_> = claimed.iter().map(|c| c.key.clone()).collect();
    let distinct: HashSet<_> = keys.iter().map(|key| key.id.clone()).collect();
    assert_eq!(distinct.len(), keys.len(), "claimed twice: {keys:?}");
    assert_eq!(distinct, ids.iter().cloned().collect());
    assert!(keys.iter().all(|key| key.attempt == 1), "{keys:?}");
}

async fn submit_many(t: &Trial<'_>, count: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let size = t.backend.capabilities().max_submit.min(count - ids.len());
        ids.extend(t.submit_all(jobs(size as u64)).await);
    }
    ids
}

async fn claimers(t: &Trial<'_>) {
    let ids = submit_many(t, 120).await;
    let claimed = race(RACERS, |n| {
        let (backend, mut request) = (Arc::clone(&t.backend), t.request());
        request.max = 1 + n % 4;
        async move {
            let mut mine = Vec::new();
            loop {
                let batch = backend.claim(request.clone(), Default::default()).await.expect("claim");
                if batch.is_empty() {
                    return mine;
                }
                mine.extend(batch);
            }
        }
    })
    .await;
    let mut claimed = claimed.concat();
    while claimed.len() < ids.len() {
        // A queue may say "empty" too early.
        claimed.push(t.take().await);
    }
    assert_each_once(&claimed, &ids);
}

async fn waiting_claimers(t: &Trial<'_>) {
    let (count, stop) = (60, CancellationToken::new());
    let (brought, mut bring) = tokio::sync::mpsc::unbounded_channel();
    let claimers: Vec<_> = (0..RACERS)
        .map(|_| {
            let (backend, brought, stop) = (Arc::clone(&t.backend), brought.clone(), stop.clone());
            let request = t.request().wait(t.ticks(50));
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    for claimed in backend.claim(request.clone(), stop.clone()).await.expect("claim") {
                        brought.send(claimed).expect("the case listens");
                    }
                }
            })
        })
        .collect();
    let mut ids = Vec::new();
    let mut claimed = Vec::new();
    for n in 0..count {
        ids.push(t.submit(job(n)).await);
        // Half of the time, everybody waits again.
        if n % 2 == 0 {
            claimed.push(bring.recv().await.expect("a claimer"));
        }
    }
    while claimed.len() < ids.len() {
        claimed.push(bring.recv().await.expect("a claimer"));
    }
    stop.cancel();
    join_all(claimers).await;
    assert_each_once(&claimed, &ids);
    assert!(bring.try_recv().is_err(), "more than there were");
}

async fn settlers(t: &Trial<'_>) {
    for _ in 0..10 {
        let claimed = t.start(job(1)).await;
        let answers = race(RACERS, |n| {
            let (backend, key) = (Arc::clone(&t.backend), claimed.key.clone());
            let outcome = every_outcome()[n % 5].clone();
            async move { backend.settle(vec![Settlement::new(key, outcome)]).await.expect("settle").remove(0) }
        })
        .await;
        let accepted: Vec<_> = answers.iter().flatten().collect();
        assert_eq!(accepted.len(), 1, "{answers:?}");
        let refused = answers.iter().filter(|a| matches!(a, Err(Error::LostClaim { .. }))).count();
        assert_eq!(refused, RACERS - 1, "{answers:?}");
        assert_eq!(t.status(&claimed.key.id).await, *accepted[0]);
        // Out of the way of the next one.
        t.backend.cancel(vec![claimed.key.id]).await.expect("cancel");
    }
}

async fn submitters(t: &Trial<'_>) {
    for round in 0..5 {
        let key = format!("key {round}");
        let answers = race(RACERS, |n| {
            let job = job(1).request_id(format!("racer {n}")).idempotency_key(&key);
            let backend = Arc::clone(&t.backend);
            async move { backend.submit(vec![job]).await.expect("submit").remove(0).expect("accepted") }
        })
        .await;
        assert_eq!(answers.iter().filter(|a| !a.duplicate).count(), 1, "{answers:?}");
        assert!(answers.iter().all(|a| a.id == answers[0].id), "{answers:?}");
    }
    assert_eq!(t.stats().await.unfinished(), 5);
}

async fn redrivers(t: &Trial<'_>) {
    let id = t.end(job(1), TrialEnd::Dead).await;
    let answers = race(RACERS, |n| {
        let (backend, id) = (Arc::clone(&t.backend), id.clone());
        let what = if n % 2 == 0 { Redrive::dead(5) } else { Redrive::Jobs(vec![id]) };
        async move { backend.redrive(what).await.expect("redrive") }
    })
    .await;
    assert_eq!(answers.concat(), std::slice::from_ref(&id), "one of them, once");
    assert_eq!(t.take().await.key, ClaimKey { id, attempt: 2 });
    t.assert_idle().await;
}

async fn cancel_and_claim(t: &Trial<'_>) {
    for _ in 0..20 {
        let id = t.submit(job(1)).await;
        let answers = race(2, |n| {
            let (backend, request, id) = (Arc::clone(&t.backend), t.request(), id.clone());
            async move {
                if n == 0 {
                    (Vec::new(), backend.cancel(vec![id]).await.expect("cancel"))
                } else {
                    (backend.claim(request, Default::default()).await.expect("claim"), Vec::new())
                }
            }
        })
        .await;
        let (claimed, cancellation) = (&answers[1].0, answers[0].1[0]);
        let record = t.record(&id).await;
        if claimed.is_empty() {
            assert_eq!((cancellation, record.status), (Cancellation::Done, Status::Cancelled));
        } else {
            assert_eq!((cancellation, record.status), (Cancellation::Requested, Status::InProgress));
            assert!(record.cancel_requested);
        }
    }
}

async fn cancel_and_settle(t: &Trial<'_>) {
    for n in 0..20 {
        let claimed = t.start(job(1)).await;
        let outcome = if n % 2 == 0 { success(1) } else { retry("again") };
        let (backend, id, settlement) = (
            Arc::clone(&t.backend),
            claimed.key.id.clone(),
            Settlement::new(claimed.key.clone(), outcome.clone()),
        );
        let cancel = tokio::spawn(async move { backend.cancel(vec![id]).await.expect("cancel")[0] });
        let settled =
            t.backend.settle(vec![settlement]).await.expect("settle").remove(0).expect("the holder");
        let cancelled = cancel.await.expect("the canceller");
        let status = t.status(&claimed.key.id).await;
        let expected = match (&outcome, cancelled) {
            (Outcome::Success(_), Cancellation::Requested | Cancellation::TooLate(Status::Success)) => {
                (Status::Success, Status::Success)
            }
            // The retry first: then the job waited, and was cancelled at once.
            (Outcome::Retry { .. }, Cancellation::Done) => (Status::Submitted, Status::Cancelled),
            (Outcome::Retry { .. }, Cancellation::Requested) => (Status::Cancelled, Status::Cancelled),
            other => panic!("{other:?}"),
        };
        assert_eq!((settled, status), expected, "{outcome:?}, {cancelled:?}");
    }
}

async fn group(t: &Trial<'_>) {
    let count = 30;
    for n in 0..count {
        t.submit_all(vec![job(n).group("a"), job(n).group("b")]).await;
    }
    // Each racer notes when it holds a job of the group, and when no longer.
    let notes = Arc::new(std::sync::Mutex::new(HashMap::<String, Vec<(u64, bool)>>::new()));
    let left = Arc::new(std::sync::atomic::AtomicU64::new(2 * count));
    race(RACERS, |_| {
        let (backend, request) = (Arc::clone(&t.backend), t.request().max(2));
        let (notes, left) = (Arc::clone(&notes), Arc::clone(&left));
        async move {
            use std::sync::atomic::Ordering::SeqCst;
            while left.load(SeqCst) > 0 {
                let batch = backend.claim(request.clone(), Default::default()).await.expect("claim");
                for claimed in batch {
                    let group = claimed.spec.group.clone().expect("its group");
                    let body = claimed.body.decode().expect("its number");
                    let note = |held| {
                        notes.lock().expect("notes").entry(group.clone()).or_default().push((body, held));
                    };
                    note(true);
                    tokio::task::yield_now().await;
                    assert!(claimed.key.attempt <= 2, "{:?}", claimed.key);
                    let outcome = if claimed.key.attempt == 1 { Outcome::release() } else { success(1) };
                    note(false);
                    let settlement = Settlement::new(claimed.key, outcome);
                    let status = backend.settle(vec![settlement]).await.expect("settle").remove(0);
                    if status.expect("the holder") == Status::Success {
                        left.fetch_sub(1, SeqCst);
                    }
                }
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let twice = |n| [(n, true), (n, false), (n, true), (n, false)];
    let expected: Vec<_> = (0..count).flat_map(twice).collect();
    let notes = notes.lock().expect("notes");
    assert_eq!(notes.get("a"), Some(&expected));
    assert_eq!(notes.get("b"), Some(&expected));
}

/// How far a record is: it never goes back in this order.
fn stage(record: &Record) -> (u32, u8) {
    let step = match record.status {
        Status::InProgress => 0,
        Status::Submitted => 1,
        Status::Success | Status::Error | Status::Cancelled => 2,
    };
    (record.attempt, step)
}

async fn arrows(t: &Trial<'_>) {
    let id = t.submit(job(1).max_attempts(30)).await;
    let watcher = tokio::spawn({
        let (backend, id) = (Arc::clone(&t.backend), id.clone());
        async move {
            let mut last: Option<Record> = None;
            loop {
                let found = backend.get(vec![id.clone()], Detail::Full).await.expect("get").remove(0);
                let record = found.into_record(&id).expect("the record");
                assert!(record.status != Status::InProgress || record.attempt > 0, "{record:?}");
                if let Some(last) = last {
                    assert!(stage(&record) >= stage(&last), "{last:?} became {record:?}");
                    if last.status.is_terminal() {
                        assert_eq!(record, last);
                        return record;
                    }
                }
                last = Some(record);
                tokio::task::yield_now().await;
            }
        }
    });
    for n in 0..24 {
        let request = t.request().lease(t.ticks(3));
        // The one before was settled, or lost.
        let lost = n > 0 && n % 3 == 0;
        let claimed = if lost { t.retake_as(3, request).await } else { t.take_as(request).await };
        match n % 3 {
            0 => drop(t.finish(&claimed.key, retry("again")).await),
            1 => drop(t.finish(&claimed.key, Outcome::release()).await),
            _ => {}
        }
        tokio::task::yield_now().await;
    }
    let last = t.retake(3).await;
    t.finish(&last.key, success(1)).await;
    assert_eq!(watcher.await.expect("the watcher").status, Status::Success);
}

/// What a worker did in [`chaos`].
#[derive(Default)]
struct Log {
    claims: Vec<ClaimKey>,
    ends: Vec<(JobId, Status)>,
}

async fn chaos(t: &Trial<'_>) {
    let grouped = t.backend.capabilities().groups >= Groups::Ordered;
    let mut ids = Vec::new();
    for n in 0..60 {
        let mut job = job(n).max_attempts(3);
        if n % 3 == 0 {
            job = job.delay(t.ticks((n % 5) as u32));
        }
        if n % 4 == 0 && grouped {
            job = job.group(format!("g{}", n % 3));
        }
        ids.push(t.submit(job).await);
    }

    let stop = CancellationToken::new();
    let workers: Vec<_> = (0..6)
        .map(|n| {
            let request = t.request().max(1 + n % 3).lease(t.ticks(3)).wait(t.ticks(2));
            tokio::spawn(work(Arc::clone(&t.backend), request, stop.clone(), t.ticks(1)))
        })
        .collect();
    let canceller = tokio::spawn({
        let (backend, some) = (Arc::clone(&t.backend), ids.iter().step_by(7).cloned().collect::<Vec<_>>());
        async move {
            for id in some {
                backend.cancel(vec![id]).await.expect("cancel");
                tokio::task::yield_now().await;
            }
        }
    });

    // How many ticks that takes depends on the machine: where what writes is held up, they pass all
    // the same. A case has a limit for the time that it takes.
    while t.stats().await.unfinished() > 0 {
        t.pass(1).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    canceller.await.expect("the canceller");
    let mut log = Log::default();
    for worker in workers {
        let part = worker.await.expect("a worker");
        log.claims.extend(part.claims);
        log.ends.extend(part.ends);
    }

    let claims: HashSet<_> = log.claims.iter().collect();
    assert_eq!(claims.len(), log.claims.len(), "an attempt was given twice");
    let mut ends: BTreeMap<JobId, Status> = BTreeMap::new();
    for (id, status) in log.ends {
        assert_eq!(ends.insert(id.clone(), status), None, "{id} ended twice");
    }
    for id in &ids {
        let record = t.record(id).await;
        assert!(record.status.is_terminal(), "{record:?}");
        assert!(record.attempt - record.uncounted <= record.spec.max_attempts, "{record:?}");
        let counted = log.claims.iter().filter(|key| key.id == *id).count();
        assert_eq!(counted, record.attempt as usize, "{record:?}");
        match ends.get(id) {
            Some(status) => assert_eq!(*status, record.status, "{record:?}"),
            None => assert!(record.dead || record.status == Status::Cancelled, "nobody ended {record:?}"),
        }
    }
}

/// A worker that does all that workers do, and dies now and then.
async fn work(
    backend: Arc<dyn Backend>,
    request: ClaimRequest,
    stop: CancellationToken,
    tick: Duration,
) -> Log {
    let mut log = Log::default();
    while !stop.is_cancelled() {
        for claimed in backend.claim(request.clone(), stop.clone()).await.expect("claim") {
            let key = claimed.key;
            log.claims.push(key.clone());
            let body: u64 = claimed.body.decode().expect("its number");
            let outcome = match (body + 5 * u64::from(key.attempt)) % 8 {
                0..=2 => success(body),
                3 => retry("again"),
                4 => Outcome::Retry { error: error("later"), delay: tick },
                5 => Outcome::Fail(error("no use")),
                6 => Outcome::Release { after: tick, reason: Some("put off".into()), begun: true },
                _ => continue, // dies
            };
            let settlement = Settlement::new(key.clone(), outcome);
            let mut answers = backend.settle(vec![settlement.clone(), settlement]).await.expect("settle");
            assert!(answers.pop().is_some_and(|second| second.is_err()), "settled twice");
            match answers.remove(0) {
                Ok(status) if status.is_terminal() => log.ends.push((key.id, status)),
                Ok(_) | Err(Error::LostClaim { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        tokio::task::yield_now().await;
    }
    log
}
