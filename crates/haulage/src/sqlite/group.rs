//! Jobs that run in order: of each group, the oldest is claimable, and no other.

use rusqlite::params;

use super::tx::{Hot, Tx, code};
use crate::{QueueName, Status, Timestamp};

type Sql<T> = rusqlite::Result<T>;

impl Tx<'_> {
    /// Sees to the group of a job that has changed, where it has one.
    pub(super) fn advance_group(&mut self, job: &Hot) -> Sql<()> {
        match &job.group {
            Some(group) => self.settle_group(&job.queue, group),
            None => Ok(()),
        }
    }

    /// Makes the oldest unfinished job of a queue's group, and only that one,
    /// claimable; none while one of them is held.
    pub(super) fn settle_group(&mut self, queue: &QueueName, group: &str) -> Sql<()> {
        // One at most, but for a moment after a redrive or a requeue.
        let active = self.rows(
            "SELECT seq, status FROM job WHERE group_id = ?1 AND queue IS ?2 AND due IS NOT NULL",
            params![group, queue],
            |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)),
        )?;
        let head = self.row(
            "SELECT seq, coalesce(not_before, submitted_at) FROM job
             WHERE group_id = ?1 AND queue IS ?2 AND status < 2 ORDER BY seq LIMIT 1",
            params![group, queue],
            |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)),
        )?;
        let held = active.iter().any(|(_, status)| *status == code(Status::InProgress));
        let open = head.filter(|_| !held);
        for (seq, status) in &active {
            if *status == code(Status::Submitted) && open.is_none_or(|(head, _)| head != *seq) {
                self.execute("UPDATE job SET due = NULL WHERE seq = ?1", [seq])?;
                self.counts.add_blocked(queue, 1);
            }
        }
        if let Some((head, place)) = open
            && active.iter().all(|(seq, _)| *seq != head)
        {
            let due = self.now.as_micros().max(place);
            self.execute("UPDATE job SET due = ?2 WHERE seq = ?1", params![head, due])?;
            self.counts.add_blocked(queue, -1);
            self.notify_due(queue, Some(Timestamp::from_micros(due)));
        }
        Ok(())
    }
}
