//! Writing down what is to be told to webhooks, with what it tells of.

use std::time::Duration;

use rusqlite::params;
use uuid::Uuid;

use super::{
    get, id,
    tx::{Hot, Tx},
};
use crate::{
    JobId, Json, Timestamp, Webhook, WebhookEvent,
    delivery::{Delivery, Notice, Schedule},
    lifecycle::End,
};

type Sql<T> = rusqlite::Result<T>;

impl Tx<'_> {
    /// The webhook of a job is to be told of its end, and of its result as far as that is told.
    pub(super) fn tell_end(&self, job: &Hot, end: &End) -> Sql<()> {
        let result = match end {
            End::Success(result) if result.size() <= Webhook::MAX_RESULT_BYTES => Some(result.clone()),
            _ => None,
        };
        self.tell_webhook(job, WebhookEvent::Ended, result)
    }

    /// The webhook of a job is to be told of this, if it is to be told of such. The job is as it is then.
    pub(super) fn tell_webhook(&self, job: &Hot, event: WebhookEvent, result: Option<Json>) -> Sql<()> {
        // The end is newer than all progress.
        let both = WebhookEvent::Ended.bit() | WebhookEvent::Progress.bit();
        if event == WebhookEvent::Ended && job.webhook & both == both {
            self.execute(
                "DELETE FROM delivery WHERE job = (SELECT id FROM job WHERE seq = ?1) AND event = ?2",
                params![job.seq, WebhookEvent::Progress.bit()],
            )?;
        }
        self.write_notice(job, event, result, Schedule::at(self.now))
    }

    fn write_notice(
        &self,
        job: &Hot,
        event: WebhookEvent,
        result: Option<Json>,
        schedule: Schedule,
    ) -> Sql<()> {
        if job.webhook & event.bit() == 0 {
            return Ok(());
        }
        let Some(mut record) = get::records(self.connection(), &[job.seq], self.now)?.pop() else {
            return Ok(());
        };
        record.result = result;
        match Notice::of(event, record, self.now) {
            Some(notice) => self.add_delivery(&notice, schedule),
            None => Ok(()),
        }
    }

    /// Takes back the progress of a job that is still to be told, unless somebody just tells it.
    fn take_progress(&self, job: &Hot) -> Sql<Option<Schedule>> {
        let taken = self.rows(
            "DELETE FROM delivery WHERE job = (SELECT id FROM job WHERE seq = ?1) AND event = ?2
                 AND NOT (trying AND due > ?3)
             RETURNING due, tries, since, error",
            params![job.seq, WebhookEvent::Progress.bit(), self.now.as_micros()],
            |row| {
                let since: Option<i64> = row.get(2)?;
                Ok(Schedule {
                    due: Timestamp::from_micros(row.get(0)?),
                    tries: row.get(1)?,
                    since: since.map(Timestamp::from_micros),
                    error: row.get(3)?,
                })
            },
        )?;
        // Whoever told one of two may have died.
        Ok(taken.into_iter().max_by_key(|taken| taken.tries))
    }

    /// The progress of a job is told now and then, and always the latest.
    pub(super) fn tell_progress(&self, job: &Hot) -> Sql<()> {
        if job.webhook & WebhookEvent::Progress.bit() == 0 {
            return Ok(());
        }
        let told_at: Option<Option<i64>> =
            self.row("SELECT told_at FROM job WHERE seq = ?1", [job.seq], |r| r.get(0))?;
        let told_at = told_at.flatten().map(Timestamp::from_micros);
        let schedule = Schedule::of_progress(self.take_progress(job)?, told_at, self.now);
        if schedule.tries == 0 {
            self.execute(
                "UPDATE job SET told_at = ?2 WHERE seq = ?1",
                params![job.seq, schedule.due.as_micros()],
            )?;
        }
        self.write_notice(job, WebhookEvent::Progress, None, schedule)
    }

    fn add_delivery(&self, notice: &Notice, schedule: Schedule) -> Sql<()> {
        let Notice { delivery, host, body } = notice;
        self.execute(
            "INSERT INTO delivery (id, job, queue, event, url, host, body, created_at, since, tries, due, error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                delivery.id,
                bytes(&delivery.job),
                delivery.queue,
                delivery.event.bit(),
                delivery.url,
                host,
                body,
                delivery.created_at.as_micros(),
                schedule.since.map(Timestamp::as_micros),
                schedule.tries,
                schedule.due.as_micros(),
                schedule.error,
            ],
        )?;
        Ok(())
    }

    /// What was made or tried while the clock was ahead is due by now: nobody is to wait until it is that late
    /// again. It has gone back by so much. It looks at all there is.
    pub(super) fn cut_deliveries(&self, back: Duration) -> Sql<()> {
        self.execute(
            "UPDATE delivery SET created_at = min(created_at, ?1), since = min(since, ?1),
                 dead_at = min(dead_at, ?1), due = min(due, ?1)
             WHERE created_at > ?1 OR since > ?1 OR dead_at > ?1 OR due > ?2",
            params![self.now.as_micros(), self.now.after(Delivery::latest(back)).as_micros()],
        )?;
        Ok(())
    }

    /// Nothing is told any more of a job that is purged: what would be told has what was in it.
    pub(super) fn forget_deliveries(&self, job: &Hot) -> Sql<()> {
        self.execute("DELETE FROM delivery WHERE job = (SELECT id FROM job WHERE seq = ?1)", [job.seq])?;
        Ok(())
    }

    /// Deletes up to so many deliveries that nobody has told in all their time, and tells how many.
    pub(super) fn sweep_deliveries(&self, rows: i64) -> Sql<usize> {
        self.execute(
            "DELETE FROM delivery WHERE seq IN (SELECT seq FROM delivery ORDER BY seq LIMIT ?2) AND created_at <= ?1",
            params![old(self.now).as_micros(), rows],
        )
    }

    /// Whether there are some.
    pub(super) fn has_old_deliveries(&self) -> Sql<bool> {
        let oldest = self.row("SELECT created_at FROM delivery ORDER BY seq LIMIT 1", [], |r| r.get(0))?;
        Ok(oldest.is_some_and(|at: i64| at <= old(self.now).as_micros()))
    }
}

/// Deliveries from then or before are kept no longer.
fn old(now: Timestamp) -> Timestamp {
    now.before(Delivery::KEPT)
}

/// The id as it is stored.
pub(super) fn bytes(job: &JobId) -> Vec<u8> {
    id::parse(job).map(Uuid::into_bytes).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use crate::{
        Backend, Json, NewJob, Status, Webhook,
        backend::{ClaimRequest, DeliveryQuery, DeliveryRequest, Detail, Outcome, Settlement},
        sqlite::SqliteBackend,
    };

    #[tokio::test]
    async fn an_end_and_what_is_told_of_it_are_written_together_or_not_at_all() {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("x.db");
        let backend = SqliteBackend::open(&path).await.expect("open");
        let job = NewJob::new(&1).expect("JSON").webhook(Webhook::new("https://a.example"));
        let id = backend.submit(vec![job]).await.expect("submit").remove(0).expect("accepted").id;
        let request = ClaimRequest::new("worker", Duration::from_secs(60));
        let key = backend.claim(request, Default::default()).await.expect("claim").remove(0).key;
        let other = rusqlite::Connection::open(&path).expect("open");
        let damage =
            "CREATE TRIGGER damaged BEFORE INSERT ON delivery BEGIN SELECT RAISE(ABORT, 'damaged'); END";
        other.execute_batch(damage).expect("damage");
        let settle = async || {
            let result = Outcome::Success(Json::from_stored("1"));
            backend.settle(vec![Settlement::new(key.clone(), result)]).await
        };
        let status = async || {
            let found = backend.get(vec![id.clone()], Detail::Status).await.expect("get").remove(0);
            found.into_record(&id).expect("a record").status
        };
        settle().await.expect_err("it cannot be told");
        assert_eq!(status().await, Status::InProgress, "so it has not ended");
        other.execute_batch("DROP TRIGGER damaged").expect("mend");
        settle().await.expect("settle").remove(0).expect("settled");
        assert_eq!(status().await, Status::Success);
        // Another process finds it.
        let later = SqliteBackend::open(&path).await.expect("open");
        let deliveries = later.deliveries().expect("webhooks");
        assert_eq!(deliveries.list_deliveries(DeliveryQuery::new(10)).await.expect("list").len(), 1);
        let lease = Duration::from_secs(60);
        let request = DeliveryRequest { max: 9, per_host: 9, in_flight: BTreeMap::new(), lease };
        assert_eq!(deliveries.claim_deliveries(request).await.expect("claim").deliveries.len(), 1);
    }
}
