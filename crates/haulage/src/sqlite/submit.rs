//! Accepting jobs.

use rusqlite::params;
use uuid::Uuid;

use super::{
    fault::Fault,
    id, spec,
    tx::{Tx, micros},
};
use crate::{Error, Json, NewJob, Timestamp, Webhook, backend::Submitted};

pub(super) fn submit(tx: &mut Tx<'_>, jobs: &[NewJob]) -> Result<Vec<Result<Submitted, Error>>, Fault> {
    let mut add_job = tx.prepare(
        "INSERT INTO job (seq, id, status, max_attempts, due, submitted_at, result_ttl, not_before,
         queue, group_id, request_id, spec, idempotency_key, start_by, drop_body, webhook)
         VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    let mut add_body = tx.prepare("INSERT INTO body (seq, json) VALUES (?1, ?2)")?;
    let (mut seq, last) = tx.next_seq()?;
    let millis = id::millis(tx.now, last);
    let mut submitted = Vec::with_capacity(jobs.len());
    for job in jobs {
        if seq > id::MAX_SEQ {
            return Err(Error::Unavailable {
                message: "the database has no row numbers left".into(),
                source: None,
            }
            .into());
        }
        let id = id::make(millis, seq);
        if let Some(first) = first_with_key(tx, job, id, seq)? {
            submitted.push(first.map(|first| Submitted { id: id::show(first), duplicate: true }));
            continue;
        }
        let not_before = (!job.delay.is_zero()).then(|| tx.now.after(job.delay).as_micros());
        // A job of a group starts behind it, and is let go where it is the first.
        let due = job.spec.group.is_none().then(|| not_before.unwrap_or(tx.now.as_micros()));
        add_job.execute(params![
            seq,
            id.as_bytes(),
            job.spec.max_attempts,
            due,
            tx.now.as_micros(),
            micros(job.spec.result_ttl),
            not_before,
            job.spec.queue,
            job.spec.group,
            job.spec.request_id,
            spec::document(&job.spec)?,
            job.idempotency_key,
            job.spec.start_within.map(|limit| tx.now.after(limit).as_micros()),
            job.spec.drop_body,
            job.spec.webhook.as_ref().map_or(0, Webhook::bits),
        ])?;
        add_body.execute(params![seq, job.body.as_str()])?;
        tx.count_new(&job.spec.queue, due.is_none());
        match &job.spec.group {
            Some(group) => tx.settle_group(&job.spec.queue, group)?,
            None => tx.notify_due(&job.spec.queue, due.map(Timestamp::from_micros)),
        }
        submitted.push(Ok(Submitted { id: id::show(id), duplicate: false }));
        seq += 1;
    }
    Ok(submitted)
}

/// The job that has taken this job's idempotency key already, or that it has
/// another body; if none has, `id` in row `seq` takes it.
fn first_with_key(
    tx: &Tx<'_>,
    job: &NewJob,
    id: Uuid,
    seq: i64,
) -> Result<Option<Result<Uuid, Error>>, Fault> {
    let Some(key) = &job.idempotency_key else { return Ok(None) };
    let first = tx.row(
        "SELECT id, seq FROM idempotency AS k WHERE key = ?1 AND (until > ?2 OR EXISTS (
             SELECT 1 FROM job WHERE job.seq = k.seq AND job.id = k.id AND status < 2))",
        params![key, tx.now.as_micros()],
        |r| Ok((r.get(0)?, r.get::<_, i64>(1)?)),
    )?;
    let Some((first, its_seq)) = first else {
        let until = tx.now.after(job.idempotency_window).as_micros();
        tx.execute(
            "INSERT OR REPLACE INTO idempotency (key, id, seq, until, sweep_at) VALUES (?1, ?2, ?3, ?4, ?4)",
            params![key, id.as_bytes(), seq, until],
        )?;
        return Ok(None);
    };
    // Of a job whose record is gone, nobody knows the body.
    let body = tx.row(
        "SELECT json FROM job JOIN body USING (seq) WHERE seq = ?1 AND id = ?2
         AND (expires_at IS NULL OR expires_at > ?3)",
        params![its_seq, first, tx.now.as_micros()],
        |r| Ok(Json::from_stored(r.get_ref(0)?.as_str()?)),
    )?;
    let first = Uuid::from_bytes(first);
    if body.is_some_and(|body| body.compact() != job.body.compact()) {
        return Ok(Some(Err(Error::IdempotencyConflict { key: key.clone(), id: id::show(first) })));
    }
    Ok(Some(Ok(first)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        Backend, Clock, Timestamp,
        backend::{ClaimRequest, Outcome, Settlement},
        job::NewJob,
        sqlite::SqliteBackend,
    };

    #[tokio::test]
    async fn a_body_that_has_expired_is_not_compared_whether_it_is_swept_yet_or_not() {
        let folder = tempfile::tempdir().expect("tempdir");
        let clock = Clock::manual(Timestamp::from_micros(0));
        let options = SqliteBackend::options(folder.path().join("x.db")).clock(clock.clone());
        let backend = options.open().await.expect("create");
        let job = |body: u32| {
            let ttl = Duration::from_secs(1);
            NewJob::new(&body).expect("JSON").idempotency_key("key").result_ttl(ttl)
        };
        backend.submit(vec![job(1)]).await.expect("submit");
        let request = ClaimRequest::new("tester", Duration::from_secs(60));
        let key = backend.claim(request, Default::default()).await.expect("claim").remove(0).key;
        let first = key.id.clone();
        backend.settle(vec![Settlement::new(key, Outcome::Cancelled)]).await.expect("settle");
        clock.advance(Duration::from_secs(2));
        let again = backend.submit(vec![job(2)]).await.expect("submit").remove(0).expect("accepted");
        assert!(again.duplicate && again.id == first, "{again:?}");
    }
}
