//! Taking hold of jobs.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Row, params};
use uuid::Uuid;

use super::{
    fault::Fault,
    id,
    roster::{Left, Mask},
    spec::{self, spec_columns},
    tx::{Hot, Tx, micros},
};
use crate::{
    FailureKind, JobError, Json, QueueName, Status, Timestamp,
    backend::{ClaimKey, ClaimRequest, Claimed},
    lease::Lease,
    lifecycle::End,
};

/// What is due in a queue, ?4, in the order of claims: ?2 jobs, and ?3 suspects at
/// most. INDEXED BY keeps SQLite to the one index whose parts are in that order.
macro_rules! ready {
    () => {
        "SELECT * FROM (
             SELECT due, seq, FALSE AS suspected FROM job INDEXED BY job_ready
             WHERE status = 0 AND due IS NOT NULL AND queue IS ?4
             AND (suspect IS NOT NULL) = 0 AND (not_before IS NOT NULL) = 0
             ORDER BY due, seq LIMIT ?2)
         UNION ALL SELECT * FROM (
             SELECT due, seq, FALSE FROM job INDEXED BY job_ready
             WHERE status = 0 AND due IS NOT NULL AND queue IS ?4
             AND (suspect IS NOT NULL) = 0 AND (not_before IS NOT NULL) = 1
             AND due <= ?1 ORDER BY due, seq LIMIT ?2)
         UNION ALL SELECT * FROM (
             SELECT * FROM (
                 SELECT due, seq, TRUE FROM job INDEXED BY job_ready
                 WHERE status = 0 AND due IS NOT NULL AND queue IS ?4
                 AND (suspect IS NOT NULL) = 1 AND (not_before IS NOT NULL) = 0
                 ORDER BY due, seq LIMIT ?3)
             UNION ALL SELECT * FROM (
                 SELECT due, seq, TRUE FROM job INDEXED BY job_ready
                 WHERE status = 0 AND due IS NOT NULL AND queue IS ?4
                 AND (suspect IS NOT NULL) = 1 AND (not_before IS NOT NULL) = 1
                 AND due <= ?1 ORDER BY due, seq LIMIT ?3)
             ORDER BY due, seq LIMIT ?3)
         ORDER BY due, seq LIMIT ?2"
    };
}

/// Where a queue is paused, nothing in it is due.
macro_rules! not_paused {
    () => {
        " WHERE NOT EXISTS (SELECT 1 FROM paused WHERE paused.queue = coalesce(?4, 'default'))"
    };
}

const READY: &str = concat!("SELECT seq, suspected FROM (", ready!(), ")", not_paused!());
/// All that is needed of a job that is taken.
const ONE: &str = concat!(
    "SELECT job.seq, id, attempt, uncounted, submitted_at, body.json, suspect, checkpoint.json, ",
    spec_columns!(),
    " FROM job JOIN body ON body.seq = job.seq LEFT JOIN checkpoint ON checkpoint.seq = job.seq WHERE job.seq = ?1"
);

/// How many bytes of bodies are read by one claim, unless one alone has more: others
/// wait for it. Who has room for more claims again.
const BYTES: usize = 8 << 20;

/// What a try to claim brought, and what it left.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) found: Found,
    pub(super) left: Left,
}

#[derive(Debug)]
pub(super) enum Found {
    Jobs(Vec<Claimed>),
    /// Nothing is due; something will be at this moment, as far as is known.
    Nothing(Option<Timestamp>),
}

pub(super) fn claim(tx: &mut Tx<'_>, request: &ClaimRequest) -> Result<Claim, Fault> {
    let lease = Lease::new(tx.now, request.lease);
    if let Some(id) = request.id.as_deref().filter(|_| request.again) {
        // Before all else: these are claimed already.
        let brought = brought_before(tx, id, lease)?;
        if !brought.is_empty() {
            return Ok(Claim { found: Found::Jobs(brought), left: Left::More });
        }
    }
    if let Some(moment) = tx.no_claims_before {
        return Ok(Claim { found: Found::Nothing(Some(moment)), left: Left::Nothing });
    }
    tx.take_silent()?;
    let watched_until = tx.watched_until(&request.worker)?;
    let max = i64::try_from(request.max).unwrap_or(i64::MAX);
    let rows = if let Some(queue) = request.queues.only() {
        let suspects = i64::from(watched_until.is_none());
        tx.rows(READY, params![tx.now.as_micros(), max, suspects, queue], |r| r.get(0))?
    } else {
        let mut lines = Lines { tx, max, found: HashMap::new(), has_suspect: watched_until.is_some() };
        request.queues.draw(request.turn, request.max, |queue| lines.next(queue))?
    };
    let mut one = tx.prepare(ONE)?;
    let (mut due, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    let (mut unusable, mut ended) = (0, false);
    for seq in &rows {
        let claimed = match one.query_row([seq], |row| read(row, lease.until)) {
            Ok(claimed) => claimed,
            Err(error) if is_of_the_row(&error) => {
                ended |= end_unusable(tx, *seq, &error)?;
                unusable += 1;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        bytes += claimed.body.size();
        due.push((*seq, claimed));
        if bytes >= BYTES {
            break;
        }
    }
    let cut = due.len() + unusable < rows.len();
    if due.is_empty() && ended {
        // There may be others behind them, at once.
        return Ok(Claim { found: Found::Nothing(Some(tx.now)), left: Left::More });
    }
    if due.is_empty() {
        let left = what_is_left(tx, request, watched_until)?;
        return Ok(Claim { found: Found::Nothing(next_due(tx, request, watched_until)?), left });
    }
    let mut claims = Vec::with_capacity(due.len());
    let mut take = tx.prepare(
        "UPDATE job SET status = 1, attempt = ?2, due = ?3, started_at = ?4, worker = ?5, lease = ?6, check_at = ?7,
         claim = ?8, slot = NULL, progress = NULL, progress_message = NULL WHERE seq = ?1",
    )?;
    for (seq, claimed) in due {
        take.execute(params![
            seq,
            claimed.key.attempt,
            lease.until.as_micros(),
            tx.now.as_micros(),
            request.worker,
            micros(lease.length),
            lease.check_at.as_micros(),
            request.id,
        ])?;
        tx.count_move(&claimed.spec.queue, Status::Submitted, Status::InProgress);
        claims.push(claimed);
    }
    let more = cut || (claims.len() == request.max && is_any_due(tx, request, false)?);
    Ok(Claim { found: Found::Jobs(claims), left: if more { Left::More } else { Left::Nothing } })
}

/// The jobs that a request of this id has brought and still has, with their leases anew.
fn brought_before(tx: &Tx<'_>, id: &str, lease: Lease) -> Result<Vec<Claimed>, Fault> {
    // Rare enough for a look at all that is held.
    let rows =
        tx.rows("SELECT seq FROM job WHERE status = 1 AND claim = ?1", [id], |r| r.get::<_, i64>(0))?;
    let (mut one, mut brought) = (tx.prepare(ONE)?, Vec::new());
    let mut renew = tx.prepare("UPDATE job SET due = ?2, lease = ?3, check_at = ?4 WHERE seq = ?1")?;
    for seq in rows {
        let mut claimed = one.query_row([seq], |row| read(row, lease.until))?;
        // It was counted when it was claimed.
        claimed.key.attempt = claimed.key.attempt.saturating_sub(1);
        claimed.counted = claimed.counted.saturating_sub(1);
        renew.execute(params![
            seq,
            lease.until.as_micros(),
            micros(lease.length),
            lease.check_at.as_micros()
        ])?;
        brought.push(claimed);
    }
    Ok(brought)
}

/// Whether what a row has in place of a job cannot be read, which is so in a damaged
/// file alone.
fn is_of_the_row(error: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    matches!(
        error,
        Error::QueryReturnedNoRows
            | Error::FromSqlConversionFailure(..)
            | Error::InvalidColumnType(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)
    )
}

/// Ends a job that nobody can run, so that it holds up no other. False where there is none.
fn end_unusable(tx: &mut Tx<'_>, seq: i64, error: &rusqlite::Error) -> rusqlite::Result<bool> {
    let why = match error {
        rusqlite::Error::QueryReturnedNoRows => "its body is not in the database".to_owned(),
        error => format!("the database has no job that can be read in its place: {error}"),
    };
    tracing::error!(row = seq, error = why, "a job cannot be run, and ends: the database is damaged");
    let Some(job) = tx.row(Hot::BY_SEQ, [seq], Hot::read)? else { return Ok(false) };
    tx.finish(&job, End::failed(JobError::new(FailureKind::InvalidBody, why)))?;
    Ok(true)
}

/// Whether a job is due in these queues, of those that are suspect or of the others.
fn is_any_due(tx: &Tx<'_>, request: &ClaimRequest, suspect: bool) -> rusqlite::Result<bool> {
    for queue in request.queues.names() {
        if tx.row(ANY, params![tx.now.as_micros(), suspect, queue], |r| r.get(0))? == Some(true) {
            return Ok(true);
        }
    }
    Ok(false)
}

const ANY: &str = "SELECT (
         EXISTS (SELECT 1 FROM job INDEXED BY job_ready WHERE status = 0 AND due IS NOT NULL AND queue IS ?3
             AND (suspect IS NOT NULL) = ?2 AND (not_before IS NOT NULL) = 0)
         OR EXISTS (SELECT 1 FROM job INDEXED BY job_ready WHERE status = 0 AND due IS NOT NULL AND queue IS ?3
             AND (suspect IS NOT NULL) = ?2 AND (not_before IS NOT NULL) = 1 AND due <= ?1)
     ) AND NOT EXISTS (SELECT 1 FROM paused WHERE paused.queue = coalesce(?3, 'default'))";

/// What this worker, which found nothing, may have been called for and only others may take: a suspect, or a
/// job of a queue that has the same bit.
fn what_is_left(
    tx: &Tx<'_>,
    request: &ClaimRequest,
    watched_until: Option<Timestamp>,
) -> rusqlite::Result<Left> {
    if watched_until.is_some() && is_any_due(tx, request, true)? {
        return Ok(Left::Suspects);
    }
    let queues = Mask::of_all(request.queues.names());
    let others = tx.rows("SELECT queue FROM counts WHERE submitted > 0 AND queue <> 'default'", [], |r| {
        Ok(QueueName::stored(r.get_ref(0)?.as_str_or_null()?))
    })?;
    let is_of_others =
        |queue: &QueueName| Mask::of(queue).meets(queues) && request.queues.names().all(|own| own != queue);
    Ok(if others.iter().any(is_of_others) { Left::OfOthers } else { Left::Nothing })
}

fn read(row: &Row<'_>, lease_until: Timestamp) -> rusqlite::Result<Claimed> {
    let id = id::show(Uuid::from_bytes(row.get(1)?));
    let attempt = row.get::<_, u32>(2)?.saturating_add(1);
    let submitted_at = Timestamp::from_micros(row.get(4)?);
    let body = Json::from_stored(row.get_ref(5)?.as_str()?);
    let mut claimed =
        Claimed::new(ClaimKey { id, attempt }, body, spec::read(row)?, submitted_at, lease_until);
    claimed.counted = attempt.saturating_sub(row.get(3)?);
    claimed.watched = row.get::<_, Option<i64>>(6)?.map(spec::duration);
    claimed.checkpoint = row.get_ref(7)?.as_str_or_null()?.map(Json::from_stored);
    Ok(claimed)
}

/// What is due in each of several queues, as far as it was looked at.
struct Lines<'a> {
    tx: &'a Tx<'a>,
    max: i64,
    /// Rows, and whether they are suspects.
    found: HashMap<QueueName, VecDeque<(i64, bool)>>,
    /// A worker has one suspect at a time.
    has_suspect: bool,
}

impl Lines<'_> {
    fn next(&mut self, queue: &QueueName) -> rusqlite::Result<Option<i64>> {
        if !self.found.contains_key(queue) {
            let suspects = i64::from(!self.has_suspect);
            let params = params![self.tx.now.as_micros(), self.max, suspects, queue];
            let rows = self.tx.rows(READY, params, |r| Ok((r.get(0)?, r.get(1)?)))?;
            self.found.insert(queue.clone(), rows.into());
        }
        let line = self.found.get_mut(queue);
        for (seq, suspect) in line.into_iter().flat_map(|line| std::iter::from_fn(|| line.pop_front())) {
            if !suspect || !self.has_suspect {
                self.has_suspect |= suspect;
                return Ok(Some(seq));
            }
        }
        Ok(None)
    }
}

/// When something will be due, for a worker that holds a watched job until then.
fn next_due(
    tx: &Tx<'_>,
    request: &ClaimRequest,
    watched_until: Option<Timestamp>,
) -> rusqlite::Result<Option<Timestamp>> {
    let first = |sql: &str, params: &[&dyn rusqlite::ToSql]| {
        Ok::<_, rusqlite::Error>(tx.row(sql, params, |r| r.get::<_, Option<i64>>(0))?.flatten())
    };
    let mut next = vec![first("SELECT min(check_at) FROM job WHERE status = 1", &[])?];
    for queue in request.queues.names() {
        next.push(first(NEXT, &[&watched_until.map_or(0, Timestamp::as_micros), queue])?);
    }
    Ok(next.into_iter().flatten().min().map(Timestamp::from_micros))
}

/// When something will be due in a queue, ?2.
const NEXT: &str = "SELECT min(at) FROM (
         SELECT min(due) AS at FROM job
         WHERE status = 0 AND due IS NOT NULL AND queue IS ?2
         AND (suspect IS NOT NULL) = 0 AND (not_before IS NOT NULL) = 1
         UNION ALL SELECT * FROM (SELECT ?1 FROM job
         WHERE status = 0 AND due IS NOT NULL AND queue IS ?2
         AND (suspect IS NOT NULL) = 1 AND (not_before IS NOT NULL) = 0 LIMIT 1)
         UNION ALL SELECT max(?1, (SELECT min(due) FROM job
         WHERE status = 0 AND due IS NOT NULL AND queue IS ?2
         AND (suspect IS NOT NULL) = 1 AND (not_before IS NOT NULL) = 1)))
     WHERE NOT EXISTS (SELECT 1 FROM paused WHERE paused.queue = coalesce(?2, 'default'))";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{FutureExt, future::join_all};

    use super::*;
    use crate::{
        Backend, Clock, JobId, NewJob,
        backend::{Detail, Lookup, Outcome, Settlement},
        sqlite::{SqliteBackend, wake::Word},
    };

    #[test]
    fn a_claim_walks_the_index_of_its_queue_and_sorts_only_what_it_takes() {
        let connection = rusqlite::Connection::open_in_memory().expect("open");
        connection.execute_batch(include_str!("schema_1.sql")).expect("the schema");
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {READY}")).expect("prepare");
        let params = params![0, 10, 1, QueueName::default()];
        let rows = plan.query_map(params, |r| r.get::<_, String>(3)).expect("a plan");
        let plan = rows.collect::<rusqlite::Result<Vec<_>>>().expect("its steps").join("\n");
        let walks = plan.matches("SEARCH job USING INDEX job_ready (queue=? AND <expr>=?").count()
            + plan.matches("SEARCH job USING COVERING INDEX job_ready (queue=? AND <expr>=?").count();
        assert_eq!(walks, 4, "{plan}");
        assert!(!plan.contains("SCAN job"), "{plan}");
    }

    #[tokio::test]
    async fn a_row_that_is_damaged_is_the_end_of_its_job_and_holds_up_no_other() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("x.db");
        // It stands still, so a look that is only due later never comes.
        let clock = Clock::manual(Timestamp::from_micros(1));
        let backend = SqliteBackend::options(&path).clock(clock).open().await.expect("open");
        let jobs = (0..4).map(|n| NewJob::new(&n).expect("JSON").metadata("n", n.to_string())).collect();
        let ids: Vec<_> =
            backend.submit(jobs).await.expect("submit").into_iter().map(|new| new.expect("new").id).collect();
        let other = rusqlite::Connection::open(&path).expect("open");
        let damage = "DELETE FROM body WHERE seq = 1; UPDATE job SET spec = '{' WHERE seq = 2;";
        other.execute_batch(damage).expect("damage");
        // It hides nobody, and can be looked at itself.
        let found = backend.get(ids.clone(), Detail::Full).await.expect("get");
        assert!(found.iter().all(|found| matches!(found, Lookup::Found(_))), "{found:?}");
        let request = ClaimRequest::new("worker", Duration::from_secs(60)).max(1);
        assert_eq!(backend.claim(request.clone(), Default::default()).await.expect("claim"), []);
        // Those behind it come at once, and not when a look is due in any case.
        let request = request.wait(Duration::from_secs(60));
        let mut claimed = Vec::new();
        while claimed.len() < 2 {
            let jobs = backend.claim(request.clone(), Default::default());
            let jobs = tokio::time::timeout(Duration::from_secs(60), jobs)
                .await
                .expect("no job came")
                .expect("claim");
            claimed.extend(jobs.into_iter().map(|claimed| claimed.key.id));
        }
        assert_eq!(claimed, ids[2..]);
        for (id, why) in ids.iter().zip(["its body is not in the database", "no job that can be read"]) {
            let found = backend.get(vec![id.clone()], Detail::Full).await.expect("get").remove(0);
            let record = found.into_record(id).expect("the record");
            let error = record.error.expect("an error");
            assert_eq!((record.status, error.kind), (Status::Error, FailureKind::InvalidBody));
            assert!(error.message.contains(why), "{error}");
        }
        let stats = backend.stats().await.expect("stats");
        assert_eq!((stats.visible, stats.in_progress, stats.error), (0, 2, 2));
    }

    /// A claim that waits, for a job of this queue.
    async fn waiting(backend: &SqliteBackend, queue: &str, max: usize) -> Vec<Claimed> {
        let queue: QueueName = queue.parse().expect("a name");
        let request = ClaimRequest::new("worker", Duration::from_secs(60)).max(max);
        let request = request.queues(queue, 0).wait(Duration::from_secs(60));
        let claim = backend.claim(request, Default::default());
        tokio::time::timeout(Duration::from_secs(60), claim).await.expect("no job came").expect("claim")
    }

    /// Behind what was asked for before.
    async fn let_them_look(backend: &SqliteBackend) {
        backend.cancel(vec![JobId::from("nobody")]).await.expect("cancel");
    }

    #[tokio::test]
    async fn a_claim_that_leaves_jobs_has_another_look() {
        // One of another process is told of two jobs, and takes one: as there is room for
        // no more, or as its body is large.
        for (max, body) in [(1, String::new()), (2, "x".repeat(BYTES))] {
            let folder = tempfile::tempdir().expect("tempdir");
            let path = folder.path().join("x.db");
            let clock = Clock::manual(Timestamp::from_micros(1));
            let open =
                async || SqliteBackend::options(&path).clock(clock.clone()).open().await.expect("open");
            let (producer, consumer) = (open().await, open().await);
            let mut claims = [(); 2].map(|()| Box::pin(waiting(&consumer, "default", max)));
            for _ in 0..2 {
                assert!(claims.iter_mut().all(|claim| claim.now_or_never().is_none()));
                let_them_look(&consumer).await;
            }
            let jobs = [(); 2].map(|()| NewJob::new(&body).expect("JSON"));
            producer.submit(jobs.into()).await.expect("submit");
            for jobs in join_all(claims).await {
                assert_eq!(jobs.len(), 1);
            }
        }
    }

    #[tokio::test]
    async fn a_claim_that_is_made_again_brings_its_jobs_though_others_have_to_be_ended_first() {
        let folder = tempfile::tempdir().expect("tempdir");
        let clock = Clock::manual(Timestamp::from_micros(1));
        let options = SqliteBackend::options(folder.path().join("x.db")).clock(clock.clone());
        let backend = options.open().await.expect("open");
        backend.submit(vec![NewJob::new(&1).expect("JSON")]).await.expect("submit");
        let request = ClaimRequest::new("one", Duration::from_secs(60)).id("c-1");
        let first = backend.claim(request.clone(), Default::default()).await.expect("claim");
        // More than are ended in one transaction.
        let late = NewJob::new(&2).expect("JSON").start_within(Duration::from_secs(1));
        backend.submit(vec![late; 1000]).await.expect("submit");
        clock.advance(Duration::from_secs(2));
        let again = backend.claim(request.again(), Default::default()).await.expect("claim");
        assert_eq!(again.len(), 1, "it does not wait");
        assert_eq!(again[0].key, first[0].key);
    }

    #[tokio::test]
    async fn a_claim_that_is_called_for_another_queue_passes_it_on() {
        let mask = |queue: &str| Mask::of(&queue.parse().expect("a name"));
        let other = (0..).map(|n| format!("q{n}")).find(|name| mask(name) == mask("queue"));
        let other = other.expect("there are fewer bits than names");
        let folder = tempfile::tempdir().expect("tempdir");
        let clock = Clock::manual(Timestamp::from_micros(1));
        let options = SqliteBackend::options(folder.path().join("x.db")).clock(clock);
        let backend = options.open().await.expect("open");
        let mut first = Box::pin(waiting(&backend, &other, 1));
        let mut second = Box::pin(waiting(&backend, "queue", 1));
        for _ in 0..2 {
            assert!((&mut first).now_or_never().is_none());
            assert!((&mut second).now_or_never().is_none());
            let_them_look(&backend).await;
        }
        let job = NewJob::new(&1).expect("JSON").queue("queue".parse().expect("a name"));
        backend.submit(vec![job]).await.expect("submit");
        tokio::select! {
            jobs = second => assert_eq!(jobs.len(), 1),
            _ = first => panic!("it is not of its queue"),
        }
    }

    #[tokio::test]
    async fn others_get_their_turn_between_large_bodies_and_between_large_results() {
        const JOBS: usize = 24;
        let folder = tempfile::tempdir().expect("tempdir");
        let backend = SqliteBackend::open(folder.path().join("x.db")).await.expect("open");
        let large = NewJob::new(&"x".repeat(1 << 20)).expect("JSON");
        for _ in 0..JOBS {
            backend.submit(vec![large.clone()]).await.expect("submit");
        }
        let turns = || backend.wake.read(Word::Turns);
        let (mut claimed, mut claims) = (Vec::new(), 0);
        while claimed.len() < JOBS {
            let request = ClaimRequest::new("one", Duration::from_secs(60)).max(JOBS);
            let jobs = backend.claim(request, Default::default()).await.expect("claim");
            assert!(!jobs.is_empty(), "{} of {JOBS} are left", JOBS - claimed.len());
            claimed.extend(jobs);
            claims += 1;
        }
        assert!(claims >= 3, "{claims} claims read all bodies");
        let settlements = || {
            let success =
                |job: &Claimed| Settlement::new(job.key.clone(), Outcome::Success(job.body.clone()));
            claimed.iter().map(success).collect()
        };
        let before = turns();
        let request = ClaimRequest::new("one", Duration::from_secs(60));
        let (settled, more) = backend.settle_and_claim(settlements(), request).await.expect("settle");
        assert!(settled.len() == JOBS && settled.iter().all(Result::is_ok), "{settled:?}");
        assert!(more.is_empty() && turns() - before >= 4, "{} turns for all results", turns() - before);
        let again = backend.settle(settlements()).await.expect("settle");
        assert!(again.len() == JOBS && again.iter().all(Result::is_err), "an answer for each: {again:?}");
    }
}
