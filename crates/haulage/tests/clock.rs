//! The wall clock is set, forward and back.
#![cfg(feature = "sqlite")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use haulage::sqlite::SqliteBackend;
use haulage::{
    Backend, Clock, JobId, Json, NewJob, Status, Timestamp, Webhook,
    backend::{
        ClaimKey, ClaimRequest, Claimed, ClaimedDelivery, Delivery, DeliveryOutcome, DeliveryRequest,
        DeliverySettlement, Detail, Heartbeat, HeartbeatStatus, Outcome, RedriveDeliveries, Settlement,
        Severity,
    },
    memory::MemoryBackend,
};

const HOUR: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(30);

/// A backend on a clock that only the test moves.
struct Place {
    backend: Arc<dyn Backend>,
    clock: Clock,
    _folder: tempfile::TempDir,
}

fn start() -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000)
}

async fn places() -> Vec<Place> {
    let clock = || Clock::manual(start());
    let folder = || tempfile::tempdir().expect("a folder");
    let (memory, sqlite) = (clock(), clock());
    let memory = Place {
        backend: Arc::new(MemoryBackend::with_clock(memory.clone())),
        clock: memory,
        _folder: folder(),
    };
    let folder = folder();
    let options = SqliteBackend::options(folder.path().join("x.db")).clock(sqlite.clone());
    let backend = Arc::new(options.open().await.expect("open"));
    vec![memory, Place { backend, clock: sqlite, _folder: folder }]
}

impl Place {
    fn set_back(&self) {
        self.clock.set(self.clock.now().before(HOUR));
    }

    async fn submit(&self, job: NewJob) -> JobId {
        self.backend.submit(vec![job]).await.expect("submit").remove(0).expect("accepted").id
    }

    async fn claim(&self, max: usize) -> Vec<Claimed> {
        let request = ClaimRequest::new("worker", LEASE).max(max);
        self.backend.claim(request, Default::default()).await.expect("claim")
    }

    /// The attempt of the job that a claim brings, once its dead worker has lost
    /// it: after a lease, another one at most, and the time until somebody looks.
    async fn attempt_in_time(&self) -> Option<u32> {
        for _ in 0..70 {
            self.clock.advance(Duration::from_secs(1));
            if let Some(claimed) = self.claim(1).await.pop() {
                return Some(claimed.key.attempt);
            }
        }
        None
    }

    async fn beat(&self, key: &ClaimKey) -> HeartbeatStatus {
        let beat = Heartbeat::new(key.clone(), LEASE);
        self.backend.heartbeat(vec![beat]).await.expect("heartbeat").remove(0)
    }

    async fn settle(&self, key: ClaimKey) -> Status {
        let done = Settlement::new(key, Outcome::Success(json(1)));
        self.backend.settle(vec![done]).await.expect("settle").remove(0).expect("it holds the job")
    }

    async fn due_at(&self, id: &JobId) -> Option<Timestamp> {
        let found = self.backend.get(vec![id.clone()], Detail::Status).await.expect("get").remove(0);
        found.into_record(id).expect("a record").due_at
    }
}

fn json(number: u32) -> Json {
    Json::parse(&number.to_string()).expect("a number")
}

fn job(number: u32) -> NewJob {
    NewJob::from_json(json(number))
}

#[tokio::test]
async fn jobs_submitted_while_the_clock_was_ahead_run_at_once() {
    for place in places().await {
        let name = place.backend.name();
        let mut ids = vec![place.submit(job(1)).await, place.submit(job(2)).await];
        let group = place.submit(job(3).group("g")).await;
        place.set_back();
        let stats = place.backend.stats().await.expect("stats");
        assert_eq!((stats.visible, stats.delayed), (3, 0), "{name}");
        ids.push(group);
        let claimed: Vec<_> = place.claim(9).await.into_iter().map(|c| c.key.id).collect();
        assert_eq!(claimed, ids, "{name}");
    }
}

#[tokio::test]
async fn a_job_released_after_the_clock_was_set_back_runs_at_once() {
    for place in places().await {
        let id = place.submit(job(1)).await;
        let claimed = place.claim(1).await.remove(0);
        place.set_back();
        let release = Settlement::new(claimed.key, Outcome::release());
        place.backend.settle(vec![release]).await.expect("settle").remove(0).expect("released");
        assert_eq!(place.claim(1).await[0].key.id, id, "{}", place.backend.name());
    }
}

#[tokio::test]
async fn a_delay_still_delays_and_the_order_is_that_of_due_times() {
    for place in places().await {
        let late = place.submit(job(1).delay(LEASE)).await;
        let first = place.submit(job(2)).await;
        place.clock.advance(LEASE);
        let last = place.submit(job(3)).await;
        let delayed = place.submit(job(4).delay(LEASE)).await;
        let claimed: Vec<_> = place.claim(9).await.into_iter().map(|c| c.key.id).collect();
        assert_eq!(claimed, [first, late, last], "{}: not {delayed}", place.backend.name());
    }
}

#[tokio::test]
async fn a_lease_of_a_dead_worker_from_when_the_clock_was_ahead_ends_in_time() {
    for place in places().await {
        place.submit(job(1)).await;
        place.claim(1).await;
        place.set_back();
        assert_eq!(place.attempt_in_time().await, Some(2), "{}", place.backend.name());
    }
}

#[tokio::test]
async fn a_dead_worker_that_had_notice_while_the_clock_was_ahead_loses_its_job_in_time() {
    for place in places().await {
        place.submit(job(1)).await;
        place.claim(1).await;
        place.clock.advance(HOUR);
        assert!(place.claim(1).await.is_empty(), "its holder has notice");
        place.set_back();
        assert_eq!(place.attempt_in_time().await, Some(2), "{}", place.backend.name());
    }
}

#[tokio::test]
async fn jobs_that_a_dead_worker_lost_before_the_clock_was_set_back_do_not_wait_for_it() {
    for place in places().await {
        let ids = [place.submit(job(1)).await, place.submit(job(2)).await];
        place.claim(2).await;
        place.clock.advance(LEASE * 3);
        assert!(place.claim(2).await.is_empty(), "its holder has notice");
        place.clock.advance(LEASE);
        // They come back one at a time.
        let first = place.claim(2).await.remove(0).key;
        place.set_back();
        place.settle(first.clone()).await;
        let second = place.claim(2).await.remove(0).key;
        assert_eq!([first.id, second.id], ids, "{}", place.backend.name());
    }
}

#[tokio::test]
async fn a_heartbeat_after_the_clock_was_set_back_sets_its_lease_down() {
    for place in places().await {
        let id = place.submit(job(1)).await;
        let claimed = place.claim(1).await.remove(0);
        place.set_back();
        let until = place.clock.now().after(LEASE);
        assert_eq!(place.beat(&claimed.key).await, HeartbeatStatus::Held(until));
        assert_eq!(place.due_at(&id).await, Some(until), "{}", place.backend.name());
    }
}

#[tokio::test]
async fn the_doctor_warns_of_times_that_are_ahead_of_the_clock() {
    let place = places().await.remove(1);
    let clock = async || {
        let findings = place.backend.check().await.expect("check");
        let found =
            findings.into_iter().find(|finding| finding.check == "clock").expect("a look at the clock");
        (found.severity, found.message)
    };
    for n in 0..3 {
        place.submit(job(n)).await;
    }
    place.submit(job(9).delay(2 * HOUR)).await;
    place.claim(1).await;
    assert_eq!(clock().await.0, Severity::Ok, "a delay is in order");
    place.set_back();
    let (severity, message) = clock().await;
    assert_eq!(severity, Severity::Warning, "{message}");
    assert_eq!(message, "4 jobs have times that are up to 1h ahead of this machine's clock");
}

/// As after a suspend: leases are over, and everybody is there.
#[tokio::test]
async fn a_step_forward_takes_no_job_from_a_worker_that_lives() {
    for place in places().await {
        let name = place.backend.name();
        place.submit(job(1).max_attempts(1)).await;
        let held = place.claim(1).await.remove(0);
        for _ in 0..3 {
            place.clock.set(place.clock.now().after(HOUR));
            place.backend.stats().await.expect("stats");
            assert_eq!(place.claim(1).await, [], "{name}: it has had no chance to heartbeat");
            assert!(matches!(place.beat(&held.key).await, HeartbeatStatus::Held(_)), "{name}");
        }
        assert_eq!(place.settle(held.key).await, Status::Success, "{name}");
    }
}

#[tokio::test]
async fn a_step_forward_frees_the_job_of_a_worker_that_is_dead() {
    for place in places().await {
        place.submit(job(1)).await;
        place.claim(1).await;
        place.clock.set(place.clock.now().after(HOUR));
        assert_eq!(place.claim(1).await, []);
        place.clock.advance(LEASE);
        assert_eq!(place.claim(1).await[0].key.attempt, 2, "{}", place.backend.name());
    }
}

#[tokio::test]
async fn a_claim_waits_no_longer_because_the_clock_was_set_back() {
    for place in places().await {
        let request = ClaimRequest::new("worker", LEASE).wait(Duration::from_secs(20));
        let backend = place.backend.clone();
        let waiting = tokio::spawn(async move { backend.claim(request, Default::default()).await });
        // Whether it has begun to wait by now or not.
        tokio::task::yield_now().await;
        place.set_back();
        while !waiting.is_finished() {
            place.clock.advance(Duration::from_secs(1));
            assert!(place.clock.now() < start(), "{}: it waits on", place.backend.name());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(waiting.await.expect("join").expect("claim"), []);
    }
}

/// More than a day, and less than deliveries are kept.
const AHEAD: Duration = Duration::from_secs(10 * 24 * 3600);

/// What is due now, of what is to be told to webhooks.
async fn due(place: &Place) -> Vec<DeliverySettlement> {
    let request = DeliveryRequest { max: 9, per_host: 9, in_flight: BTreeMap::new(), lease: LEASE };
    let deliveries = place.backend.deliveries().expect("webhooks");
    let claimed = deliveries.claim_deliveries(request).await.expect("claim").deliveries;
    let settlement = |claimed: ClaimedDelivery| {
        let Delivery { id, tries, .. } = claimed.delivery;
        DeliverySettlement { id, tries, outcome: DeliveryOutcome::Done }
    };
    claimed.into_iter().map(settlement).collect()
}

async fn settle_delivery(place: &Place, settlement: DeliverySettlement, outcome: DeliveryOutcome) {
    let deliveries = place.backend.deliveries().expect("webhooks");
    let settlement = DeliverySettlement { outcome, ..settlement };
    assert_eq!(deliveries.settle_deliveries(vec![settlement]).await.expect("settle"), [true]);
}

#[tokio::test]
async fn what_is_to_be_told_is_told_though_the_clock_was_ahead() {
    let error = || "HTTP 503".to_owned();
    for place in places().await {
        let ended = async || {
            let job = NewJob::new(&1).expect("JSON").webhook(Webhook::new("https://a.example"));
            let id = place.submit(job).await;
            place.backend.cancel(vec![id]).await.expect("cancel");
        };
        let back = || place.clock.set(place.clock.now().before(AHEAD));
        assert!(due(&place).await.is_empty());
        // It was tried while the clock was ahead.
        ended().await;
        place.clock.advance(AHEAD);
        let first = due(&place).await.remove(0);
        let again = DeliveryOutcome::Again { after: HOUR, error: error() };
        settle_delivery(&place, first.clone(), again).await;
        back();
        let second = due(&place).await.remove(0);
        assert_eq!((&second.id, second.tries), (&first.id, 2));
        settle_delivery(&place, second, DeliveryOutcome::Done).await;
        // It was put off while the clock was ahead by hours.
        ended().await;
        let first = due(&place).await.remove(0);
        place.clock.advance(10 * HOUR);
        let second = due(&place).await.remove(0);
        assert_eq!((&second.id, second.tries), (&first.id, 2), "its lease is over");
        let again = DeliveryOutcome::Again { after: HOUR, error: error() };
        settle_delivery(&place, second, again).await;
        place.clock.set(place.clock.now().before(10 * HOUR));
        let third = due(&place).await.remove(0);
        assert_eq!((&third.id, third.tries), (&first.id, 3));
        settle_delivery(&place, third, DeliveryOutcome::Done).await;
        // It was made then, and nobody looked.
        place.clock.advance(AHEAD);
        ended().await;
        back();
        let made = due(&place).await.remove(0);
        // It died then, and is redriven.
        place.clock.advance(AHEAD);
        settle_delivery(&place, made.clone(), DeliveryOutcome::Dead { error: error() }).await;
        assert!(due(&place).await.is_empty());
        back();
        assert!(due(&place).await.is_empty());
        let deliveries = place.backend.deliveries().expect("webhooks");
        let dead = RedriveDeliveries::Dead { limit: 9, queue: None, by: place.clock.now() };
        assert_eq!(deliveries.redrive_deliveries(dead).await.expect("redrive"), [made.id]);
        assert_eq!(due(&place).await.len(), 1);
    }
}
