use super::*;
use crate::{Backend, NewJob, sqlite::SqliteBackend};

const SHORT: Duration = Duration::from_millis(100);

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(Error::Unavailable { message, .. }) => message,
        other => panic!("not an outage: {other:?}"),
    }
}

#[tokio::test]
async fn whoever_is_stopped_while_it_is_his_turn_stops_nobody_else() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("x.db");
    let stopped = Turns::new(Arc::new(Wake::open(&path).expect("open")));
    let _turn = stopped.take().expect("free");
    let backend = SqliteBackend::open(&path).await.expect("create");
    backend.submit(vec![NewJob::new("meanwhile").expect("JSON")]).await.expect("submit");
    assert_eq!(backend.stats().await.expect("stats").unfinished(), 1);
}

#[tokio::test]
async fn what_was_refused_because_of_a_lock_is_not_done_later() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("x.db");
    let backend = SqliteBackend::options(&path).busy_timeout(SHORT).open().await.expect("create");
    let other = Connection::open(&path).expect("open");
    other.execute_batch("BEGIN IMMEDIATE").expect("lock");
    assert_eq!(backend.stats().await.expect("a reader needs no lock").unfinished(), 0);
    let job = NewJob::new("late").expect("JSON");
    let submitting = message(backend.submit(vec![job]).await);
    assert!(submitting.contains("locked for more than 100ms: nothing was stored"), "{submitting}");
    other.execute_batch("ROLLBACK").expect("unlock");
    // A writer that a machine under load does not let run in that time is refused, too.
    let job = || NewJob::new("in time").expect("JSON");
    while let Err(error) = backend.submit(vec![job()]).await {
        assert!(message(Err::<(), _>(error)).contains("nothing was stored"));
    }
    assert_eq!(backend.stats().await.expect("stats").unfinished(), 1);
}

#[tokio::test]
async fn a_record_that_cannot_be_swept_holds_up_nothing_else() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("x.db");
    let clock = Clock::manual(crate::Timestamp::from_micros(0));
    let backend = SqliteBackend::options(&path).clock(clock.clone()).open().await.expect("create");
    let job = || NewJob::new("a job").expect("JSON").result_ttl(Duration::from_secs(1));
    let first = backend.submit(vec![job()]).await.expect("submit").remove(0).expect("accepted").id;
    backend.cancel(vec![first.clone()]).await.expect("cancel");
    // As of a damaged page.
    let other = Connection::open(&path).expect("open");
    other
        .execute_batch(
            "CREATE TRIGGER damaged BEFORE DELETE ON result BEGIN SELECT RAISE(ABORT, 'damaged'); END;
             INSERT INTO result SELECT seq, '1' FROM job;",
        )
        .expect("damage");
    for _ in 0..3 {
        clock.advance(2 * LOOK_EVERY);
        backend.submit(vec![job()]).await.expect("submit");
    }
    // What was swept before it came to that is there again, and counted.
    assert_eq!(backend.stats().await.expect("stats").unfinished(), 3);
    let rows = || other.query_row("SELECT count(*) FROM job", [], |r| r.get::<_, u32>(0)).expect("count");
    assert_eq!(rows(), 4);
    other.execute_batch("DROP TRIGGER damaged").expect("mend");
    clock.advance(2 * LOOK_EVERY);
    backend.submit(vec![job()]).await.expect("submit");
    let swept = async {
        while rows() > 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), swept).await.expect("it is swept once it can be");
}

#[tokio::test]
async fn a_panic_in_a_call_fails_that_transaction_and_no_other() {
    let folder = tempfile::tempdir().expect("tempdir");
    let backend = SqliteBackend::open(folder.path().join("x.db")).await.expect("open");
    let call =
        backend.connections.writer.run(Weight::default(), |_| -> Result<(), Fault> { panic!("a mistake") });
    assert!(message(call.await).contains("panicked"));
    backend.submit(vec![NewJob::new("after").expect("JSON")]).await.expect("submit");
    assert_eq!(backend.stats().await.expect("stats").unfinished(), 1);
}
