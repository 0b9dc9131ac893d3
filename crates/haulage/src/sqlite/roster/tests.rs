use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::*;
use crate::{
    Backend, Clock, NewJob, Timestamp,
    backend::ClaimRequest,
    sqlite::{
        NET, SqliteBackend,
        wake::{Wake, Word},
    },
};

const LIMIT: Duration = Duration::from_secs(60);

/// Processes of several versions may share a database.
#[test]
fn the_bit_of_a_queue_is_always_the_same() {
    let bit = |queue: &str| Mask::of(&queue.parse().expect("a name")).bit();
    assert_eq!(["default", "bulk", "gpu", "interactive", "a"].map(bit), [0, 28, 19, 25, 13]);
}

#[test]
fn queues_that_have_one_bit_are_heard_together() {
    let queue = |name: &str| name.parse::<QueueName>().expect("a name");
    let bulk = queue("bulk");
    let like_it = (0..).map(|n| queue(&format!("q{n}"))).find(|name| Mask::of(name) == Mask::of(&bulk));
    let both = Mask::of_all([&bulk, &like_it.expect("there are fewer bits than names")]);
    assert_eq!(both, Mask::of(&bulk));
    assert_eq!(both.and(both), both);
}

#[tokio::test]
async fn the_thread_that_listens_ends_with_its_process() {
    let (_folder, [wake]) = processes();
    let (shared, waits) = waiting(&wake);
    listening(&shared).await;
    let alive = Arc::downgrade(&shared);
    drop((shared, wake));
    waits.abort();
    assert!(waits.await.expect_err("it waits").is_cancelled());
    let ended = async {
        while alive.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, ended).await.expect("the thread goes on");
}

/// Several processes on one database, as far as waking each other goes.
fn processes<const N: usize>() -> (tempfile::TempDir, [Wake; N]) {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("x.db");
    (folder, [(); N].map(|()| Wake::open(&path).expect("open")))
}

/// A place whose owner has looked, found nothing, and waits.
fn waiting(wake: &Wake) -> (Arc<Shared>, tokio::task::JoinHandle<RosterPlace>) {
    waiting_for(wake, Mask::at(0))
}

fn waiting_for(wake: &Wake, queues: Mask) -> (Arc<Shared>, tokio::task::JoinHandle<RosterPlace>) {
    let mut place = wake.place(queues, Arc::default());
    let shared = Arc::clone(&place.shared);
    place.begin_look();
    place.looked(Left::Nothing);
    let wait = async move {
        place.wait().called().await;
        place
    };
    (shared, tokio::spawn(wait))
}

/// A process whose thread listens for these queues, as it had a worker of them that does
/// not wait any more.
async fn listens_only(wake: &Wake, queues: Mask) {
    let (shared, gone) = waiting_for(wake, queues);
    listening(&shared).await;
    gone.abort();
    gone.await.expect_err("it was ended");
}

/// Waits until the thread of this process listens.
async fn listening(shared: &Shared) {
    while shared.state().entries.is_empty()
        || shared.state().entries.iter().any(|entry| entry.fresh.load(Ordering::Relaxed))
    {
        tokio::task::yield_now().await;
    }
    // That it sleeps in the kernel shows nowhere; in most runs it does now.
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn called(wait: tokio::task::JoinHandle<RosterPlace>) -> RosterPlace {
    timeout(LIMIT, wait).await.expect("nobody was called").expect("no panic")
}

#[tokio::test]
async fn a_job_wakes_one_worker_of_an_idle_crowd() {
    // The submit, and the claim. Who has not looked for long does so by itself, which comes between
    // where the machine is slow.
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match turns_for_a_job().await {
            2 => return,
            more => seen.push(more),
        }
    }
    panic!("so many turns for most of the jobs, in three tries: {seen:?}");
}

/// How many turns at writing a job takes, with a crowd of workers that wait for it: the median of some.
async fn turns_for_a_job() -> u32 {
    const WORKERS: usize = 12;
    let folder = tempfile::tempdir().expect("tempdir");
    let open = || SqliteBackend::open(folder.path().join("x.db"));
    let producer = open().await.expect("open");
    let mut claims = tokio::task::JoinSet::new();
    let claim = |backend: SqliteBackend| async move {
        let request = ClaimRequest::new("one", LIMIT).wait(LIMIT);
        let jobs = backend.claim(request, Default::default()).await.expect("claim");
        assert_eq!(jobs.len(), 1, "nobody came in time");
        backend
    };
    let mut crowd = Vec::new();
    for _ in 0..WORKERS {
        let worker = open().await.expect("open");
        crowd.push(worker.wake.place(Mask::at(0), Arc::default()).shared.clone());
        claims.spawn(claim(worker));
    }
    let turns = || producer.wake.read(Word::Turns);
    let mut counts = Vec::new();
    while counts.len() < 3 * WORKERS {
        // So that all of them wait, and have for a moment.
        let mut before = turns();
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let all_wait = crowd.iter().all(|worker: &Arc<Shared>| !worker.state().entries.is_empty());
            if std::mem::replace(&mut before, turns()) == before && all_wait {
                break;
            }
        }
        producer.submit(vec![NewJob::new("x").expect("JSON")]).await.expect("submit");
        let worker = claims.join_next().await.expect("a claim").expect("no panic");
        // Others that were woken as well look meanwhile.
        tokio::time::sleep(Duration::from_millis(10)).await;
        counts.push(turns() - before);
        claims.spawn(claim(worker));
    }
    counts.sort_unstable();
    counts[counts.len() / 2]
}

#[tokio::test]
async fn who_is_called_and_ends_before_it_looks_calls_the_next() {
    let (_folder, [producer, one, other]) = processes();
    let (mut first, mut second) = (waiting(&one), waiting(&other));
    listening(&first.0).await;
    listening(&second.0).await;
    producer.call(Mask::at(0), 1);
    let (place, left) = tokio::select! {
        place = &mut first.1 => (place, second.1),
        place = &mut second.1 => (place, first.1),
    };
    drop(place.expect("no panic"));
    called(left).await;
}

#[tokio::test]
async fn a_worker_that_does_not_wait_any_more_keeps_no_call_from_others() {
    let (_folder, [producer, busy, idle]) = processes();
    listens_only(&busy, Mask::at(0)).await;
    let waits = waiting(&idle);
    listening(&waits.0).await;
    producer.call(Mask::at(0), 1);
    called(waits.1).await;
}

#[tokio::test]
async fn who_leaves_jobs_that_are_ready_calls_the_next() {
    for left in [Left::More, Left::Suspects, Left::OfOthers] {
        let (_folder, [one, other]) = processes();
        let waits = waiting(&other);
        listening(&waits.0).await;
        let mut place = one.place(Mask::at(0), Arc::default());
        place.begin_look();
        place.looked(left);
        called(waits.1).await;
    }
}

#[tokio::test]
async fn jobs_that_nobody_may_take_are_called_out_once_by_each() {
    let (_folder, [one, other]) = processes();
    let mut place = one.place(Mask::at(0), Arc::default());
    place.begin_look();
    place.looked(Left::OfOthers);
    let waits = waiting(&other);
    listening(&waits.0).await;
    place.looked(Left::OfOthers);
    assert_eq!(waits.0.state().entries.len(), 1, "again, though nothing is new");
    one.call(Mask::at(0), 0);
    place.looked(Left::More);
    called(waits.1).await;
}

#[tokio::test]
async fn who_watches_and_may_not_take_a_suspect_has_all_of_its_own_look() {
    let (_folder, [wake]) = processes();
    let list: Arc<[QueueName]> = [QueueName::default()].into();
    let place = || wake.place(Mask::at(0), Arc::clone(&list));
    let mut watches = place();
    watches.begin_look();
    watches.looked(Left::Suspects);
    drop(watches.wait());
    let mut others = [place(), place()];
    for other in &mut others {
        other.begin_look();
    }
    let [one, another] = &mut others;
    let waiting = [one.wait(), another.wait()];
    // Not when it was called: of two who watch, each would call the other for ever.
    watches.owes = true;
    watches.looked(Left::Suspects);
    watches.looked(Left::OfOthers);
    assert_eq!(watches.shared.state().entries.len(), 2);
    watches.looked(Left::Suspects);
    for called in waiting {
        timeout(LIMIT, called.called()).await.expect("nobody was called");
    }
}

#[tokio::test]
async fn who_watches_alone_is_called_in_its_turn() {
    let (_folder, [wake]) = processes();
    let [own, other] = ["own", "other"].map(|name| Arc::from([QueueName::new(name).expect("a name")]));
    // They have one bit.
    let place = |list: &Arc<[QueueName]>| wake.place(Mask::at(3), Arc::clone(list));
    let (mut first, mut alone, mut last) = (place(&other), place(&own), place(&other));
    let waits = [first.wait(), alone.wait(), last.wait()];
    assert_eq!(waits.each_ref().map(Waiting::watches), [true, true, false]);
    for expected in [1, 2, 0] {
        // By nobody else: the thread calls where something has changed.
        assert!(waits[0].place.shared.state().call_one(Mask::at(3)));
        let called = waits.each_ref().map(|waits| waits.entry.called.swap(false, Ordering::Relaxed));
        assert_eq!(called.iter().position(|called| *called), Some(expected));
    }
}

#[tokio::test]
async fn of_a_job_that_comes_between_look_and_wait_is_heard() {
    let (_folder, [producer, worker]) = processes();
    let mut place = worker.place(Mask::at(0), Arc::default());
    place.begin_look();
    producer.call(Mask::at(0), 1);
    place.looked(Left::Nothing);
    timeout(LIMIT, place.wait().called()).await.expect("it was missed");
}

#[tokio::test]
async fn a_job_calls_who_serves_its_queue() {
    let [default, night] = ["default", "night"].map(|name| Mask::of(&QueueName::new(name).expect("a name")));
    let (_folder, [producer, one, other]) = processes();
    let first = waiting_for(&one, default);
    listening(&first.0).await;
    let second = waiting_for(&other, night);
    listening(&second.0).await;
    producer.call(night, 1);
    called(second.1).await;
    assert_eq!(first.0.state().entries.len(), 1, "it serves another queue");
    // Its thread has listened for less until now.
    let more = waiting_for(&one, night);
    timeout(LIMIT, listening(&more.0)).await.expect("it does not listen for more");
    producer.call(night, 1);
    called(more.1).await;
}

const A: Mask = Mask::at(3);
const B: Mask = Mask::at(4);
const BOTH: Mask = Mask(A.0 | B.0);

#[tokio::test]
async fn a_worker_of_two_queues_that_does_not_wait_any_more_keeps_no_call_from_who_serves_one() {
    let (_folder, [producer, busy, one, other]) = processes();
    listens_only(&busy, BOTH).await;
    let for_a = waiting_for(&one, A);
    listening(&for_a.0).await;
    let for_b = waiting_for(&other, B);
    listening(&for_b.0).await;
    producer.call(B, 1);
    called(for_b.1).await;
}

#[tokio::test]
async fn of_several_workers_in_one_process_the_one_that_serves_the_queue_is_called() {
    let (_folder, [producer, workers]) = processes();
    listens_only(&workers, BOTH).await;
    let [(shared, _first), (_, _second), (_, both)] =
        [A, A, BOTH].map(|queues| waiting_for(&workers, queues));
    while shared.state().entries.len() < 3 {
        tokio::task::yield_now().await;
    }
    // As if the thread had begun to listen when all were there.
    shared.state().entries.iter().for_each(|entry| entry.fresh.store(false, Ordering::Relaxed));
    producer.call(B, 1);
    called(both).await;
}

#[tokio::test]
async fn a_process_whose_worker_of_a_queue_is_busy_keeps_no_call_for_it() {
    let (_folder, [producer, mixed, other]) = processes();
    listens_only(&mixed, BOTH).await;
    let (shared, idle) = waiting_for(&mixed, A);
    while shared.state().entries.is_empty() {
        tokio::task::yield_now().await;
    }
    let for_b = waiting_for(&other, B);
    listening(&for_b.0).await;
    producer.call(B, 1);
    called(for_b.1).await;
    drop(idle);
}

#[tokio::test]
async fn who_serves_two_queues_and_leaves_a_job_in_one_calls_who_serves_that() {
    let (_folder, [one, for_a, for_b]) = processes();
    let a = waiting_for(&for_a, A);
    listening(&a.0).await;
    let b = waiting_for(&for_b, B);
    listening(&b.0).await;
    let mut place = one.place(BOTH, Arc::default());
    place.begin_look();
    place.looked(Left::More);
    called(b.1).await;
    drop(a);
}

/// A claim of a process that has others, polled by hand.
type Claim<'a> =
    std::pin::Pin<Box<dyn Future<Output = crate::Result<Vec<crate::backend::Claimed>>> + Send + 'a>>;

struct Crowd<'a> {
    backend: &'a SqliteBackend,
    clock: &'a Clock,
    claims: Vec<Claim<'a>>,
}

impl<'a> Crowd<'a> {
    fn join(&mut self, queue: &str, patience: Duration) {
        let request = ClaimRequest::new("worker", LIMIT).wait(patience);
        let request = request.queues(queue.parse::<QueueName>().expect("a name"), 0);
        self.claims.push(self.backend.claim(request, Default::default()));
    }

    /// Until the thread listens to other processes, it may have them look again.
    async fn come_to_rest(&mut self) {
        let shared = Arc::clone(&self.backend.wake.place(Mask::at(0), Arc::default()).shared);
        let rest = async {
            loop {
                let (looked, _) = self.settle().await;
                let is_at_rest = {
                    let (state, now) = (shared.state(), shared.now());
                    // Those the thread will call.
                    let is_next =
                        |entry: &Arc<Entry>| entry.fresh.load(Ordering::Relaxed) && entry.seen != now;
                    state.entries.len() == self.claims.len() && !state.entries.iter().any(is_next)
                };
                if looked == 0 && is_at_rest {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, rest).await.expect("they look again and again");
    }

    /// Lets all of them do what they can; how many have looked and wait again, and what those bring that end.
    async fn settle(&mut self) -> (usize, Vec<usize>) {
        let shared = Arc::clone(&self.backend.wake.place(Mask::at(0), Arc::default()).shared);
        let entries = || shared.state().entries.iter().cloned().collect::<Vec<_>>();
        let (before, mut brought) = (entries(), Vec::new());
        for _ in 0..4 {
            let mut waiting = Vec::new();
            for mut claim in self.claims.drain(..) {
                match (&mut claim).now_or_never() {
                    Some(jobs) => brought.push(jobs.expect("claim").len()),
                    None => waiting.push(claim),
                }
            }
            self.claims = waiting;
            // Behind what they have asked for.
            self.backend.cancel(vec![crate::JobId::from("nobody")]).await.expect("cancel");
        }
        let is_new = |entry: &Arc<Entry>| !before.iter().any(|other| Arc::ptr_eq(entry, other));
        (entries().iter().filter(|entry| is_new(entry)).count(), brought)
    }
}

#[tokio::test]
async fn of_those_of_a_process_who_wait_for_the_same_one_looks_now_and_then() {
    let folder = tempfile::tempdir().expect("tempdir");
    let clock = Clock::manual(Timestamp::from_micros(1));
    let options = SqliteBackend::options(folder.path().join("x.db")).clock(clock.clone());
    let backend = options.open().await.expect("open");
    let mut crowd = Crowd { backend: &backend, clock: &clock, claims: Vec::new() };
    for queue in ["a", "a", "a", "a", "b", "b"] {
        crowd.join(queue, LIMIT);
    }
    crowd.come_to_rest().await;
    assert_eq!(crowd.claims.len(), 6, "all of them wait");
    for _ in 0..3 {
        crowd.clock.advance(NET);
        assert_eq!(crowd.settle().await, (2, vec![]), "two lists of queues");
    }
    // Whoever watches goes, and then whoever would take over.
    for left in [5, 4] {
        drop(crowd.claims.remove(0));
        assert_eq!(crowd.claims.len(), left);
    }
    crowd.settle().await;
    crowd.clock.advance(NET);
    assert_eq!(crowd.settle().await, (2, vec![]));
    // Who is called to take over finds a job, and goes.
    crowd.join("a", LIMIT);
    crowd.settle().await;
    let job = NewJob::new("x").expect("JSON").queue("a".parse().expect("a name"));
    backend.submit(vec![job.clone().delay(100 * NET)]).await.expect("submit");
    let other = rusqlite::Connection::open(folder.path().join("x.db")).expect("open");
    drop(crowd.claims.remove(0));
    other.execute_batch("UPDATE job SET due = 1 WHERE status = 0").expect("make it due");
    assert_eq!(crowd.settle().await.1, [1]);
    crowd.clock.advance(NET);
    assert_eq!(crowd.settle().await, (2, vec![]), "one of each list");
    // A job for which nobody is called is found all the same, and one that is due later in time.
    crowd.join("a", LIMIT);
    crowd.settle().await;
    backend.submit(vec![job.clone().delay(3 * NET)]).await.expect("submit");
    crowd.clock.advance(NET);
    assert_eq!(crowd.settle().await, (2, vec![]));
    crowd.clock.advance(2 * NET);
    assert_eq!(crowd.settle().await.1, [1], "its time has come");
    backend.submit(vec![job.delay(100 * NET)]).await.expect("submit");
    crowd.settle().await;
    other.execute_batch("UPDATE job SET due = 1 WHERE status = 0").expect("make it due");
    crowd.clock.advance(NET);
    assert_eq!(crowd.settle().await.1, [1], "the net");
}
