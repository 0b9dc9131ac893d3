//! Ending claims.

use rusqlite::{CachedStatement, params};

use super::{
    fault::Fault,
    heartbeat::held,
    id,
    tx::{FORGET_CHECKPOINT, Tx},
    wake::Signal,
    writer::{Weight, Writer},
};
use crate::{
    Error, Json, QueueName, Status,
    backend::{Capabilities, ClaimKey, Outcome, Settlement},
    lifecycle::{self, Transition},
};

/// How much these add to a transaction.
pub(super) fn weight(settlements: &[Settlement]) -> Weight {
    let bytes = settlements.iter().map(|settlement| match &settlement.outcome {
        Outcome::Success(result) => result.size(),
        _ => settlement.update.checkpoint.as_ref().map_or(0, Json::size),
    });
    Weight { rows: settlements.len(), bytes: bytes.sum(), ..Weight::default() }
}

/// How many bytes of results go into the database at once, unless one alone has
/// more: others wait for it.
const BYTES: usize = 4 << 20;

/// The settlements in the parts in which they are written down.
pub(super) fn parts(settlements: Vec<Settlement>) -> Vec<Vec<Settlement>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0_usize);
    for settlement in settlements {
        let size = weight(std::slice::from_ref(&settlement)).bytes;
        if bytes > 0 && bytes.saturating_add(size) > BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes = bytes.saturating_add(size);
        if let Some(part) = parts.last_mut() {
            part.push(settlement);
        }
    }
    parts
}

/// Settles in as many transactions as there are parts.
pub(super) async fn in_parts(
    writer: &Writer,
    settlements: Vec<Settlement>,
    limits: Capabilities,
) -> Result<Vec<Result<Status, Error>>, Error> {
    let (mut answers, mut failure) = (Vec::with_capacity(settlements.len()), None);
    for part in parts(settlements) {
        let (weight, count) = (weight(&part), part.len());
        let settled = match failure {
            None => writer.run(weight, move |tx| settle(tx, part, &limits)).await,
            Some(error) => Err(error),
        };
        failure = settled.as_ref().err().cloned();
        match settled {
            Ok(settled) => answers.extend(settled),
            Err(error) if answers.is_empty() => return Err(error),
            // What came before is stored, and this is for its caller to try again.
            Err(error) => answers.extend(std::iter::repeat_n(Err(error), count)),
        }
    }
    Ok(answers)
}

/// Each settlement, and the status that the job has after it.
pub(super) fn settle(
    tx: &mut Tx<'_>,
    settlements: Vec<Settlement>,
    limits: &Capabilities,
) -> Result<Vec<Result<Status, Error>>, Fault> {
    let mut answers = Vec::with_capacity(settlements.len());
    let mut fast = Fast::new(tx)?;
    for Settlement { key, outcome, update } in settlements {
        if let Outcome::Success(result) = &outcome
            && result.size() <= limits.max_payload
            && update.slot.is_none()
            && fast.succeed(tx, &key, result)?
        {
            answers.push(Ok(Status::Success));
            continue;
        }
        let Some(job) = held(tx, &key)? else {
            answers.push(Err(Error::LostClaim { id: key.id, attempt: key.attempt }));
            continue;
        };
        let update = if matches!(outcome, Outcome::Success(_)) { update.of_success() } else { update };
        tx.tell(&job, &update)?;
        answers.push(Ok(match lifecycle::settle(&job.terms(tx.now), outcome, limits) {
            Transition::End(end) => tx.finish(&job, end)?,
            Transition::Wait(wait) => tx.put_back(&job, &wait)?,
        }));
    }
    Ok(answers)
}

/// The short way of most settlements: success, of a job without a group and a webhook
/// that is not suspect and keeps its body, in the default queue. It does in one search what
/// the long way does in two, under the same conditions.
struct Fast<'a> {
    end: CachedStatement<'a>,
    store: CachedStatement<'a>,
    forget: CachedStatement<'a>,
}

impl<'a> Fast<'a> {
    fn new(tx: &Tx<'a>) -> rusqlite::Result<Self> {
        Ok(Self {
            end: tx.prepare(
                "UPDATE job SET status = 2, due = NULL, finished_at = ?4, expires_at = ?4 + result_ttl
                 WHERE seq = ?1 AND id = ?2 AND attempt = ?3 AND status = 1 AND group_id IS NULL
                 AND suspect IS NULL AND queue IS NULL AND NOT drop_body AND NOT webhook",
            )?,
            store: tx.prepare("INSERT INTO result (seq, json) VALUES (?1, ?2)")?,
            forget: tx.prepare(FORGET_CHECKPOINT)?,
        })
    }

    /// Whether that was all there was to do; if not, nothing was done.
    fn succeed(&mut self, tx: &mut Tx<'_>, key: &ClaimKey, result: &Json) -> rusqlite::Result<bool> {
        let Some(id) = id::parse(&key.id) else { return Ok(false) };
        let seq = id::seq(id);
        if self.end.execute(params![seq, id.as_bytes(), key.attempt, tx.now.as_micros()])? == 0 {
            return Ok(false);
        }
        self.store.execute(params![seq, result.as_str()])?;
        self.forget.execute([seq])?;
        tx.count_move(&QueueName::default(), Status::InProgress, Status::Success);
        tx.notify(Signal::Outcomes);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Backend, JobId, NewJob, backend::ClaimRequest, sqlite::SqliteBackend};

    fn success(key: ClaimKey, bytes: usize) -> Settlement {
        // With its two quotes.
        Settlement::new(key, Outcome::Success(Json::from_stored(format!("\"{}\"", "x".repeat(bytes - 2)))))
    }

    #[test]
    fn results_are_written_together_up_to_a_number_of_bytes() {
        let sizes = |sizes: &[usize]| {
            let one = |bytes: &usize| success(ClaimKey { id: JobId::from("a"), attempt: 1 }, *bytes);
            parts(sizes.iter().map(one).collect()).iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), [0]);
        assert_eq!(sizes(&[2; 1000]), [1000]);
        assert_eq!(sizes(&[BYTES / 2, BYTES / 2, 2]), [2, 1]);
        assert_eq!(sizes(&[BYTES + 2, BYTES + 2, 2, BYTES]), [1, 1, 1, 1]);
    }

    #[tokio::test]
    async fn what_is_written_down_is_told_where_what_follows_is_not() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("x.db");
        let backend = SqliteBackend::open(&path).await.expect("open");
        let jobs = (0..4).map(|n| NewJob::new(&n).expect("JSON")).collect();
        backend.submit(jobs).await.expect("submit");
        let request = ClaimRequest::new("worker", Duration::from_secs(60)).max(4);
        let claimed = backend.claim(request, Default::default()).await.expect("claim");
        let other = rusqlite::Connection::open(&path).expect("open");
        let damage = "CREATE TRIGGER damaged BEFORE INSERT ON result WHEN NEW.seq = 2
             BEGIN SELECT RAISE(ABORT, 'damaged'); END";
        other.execute_batch(damage).expect("damage");
        let settle = async |jobs: &[usize]| {
            let settlements = jobs.iter().map(|n| success(claimed[*n].key.clone(), BYTES)).collect();
            backend.settle(settlements).await
        };
        let answers = settle(&[0, 1, 2]).await.expect("the first is written down");
        assert!(matches!(answers[..], [Ok(Status::Success), Err(_), Err(_)]), "{answers:?}");
        settle(&[1, 2]).await.expect_err("nothing is written down");
        other.execute_batch("DROP TRIGGER damaged").expect("mend");
        let answers = settle(&[1, 2, 3]).await.expect("all are written down");
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
}
