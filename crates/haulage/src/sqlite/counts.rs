//! How many jobs each queue has, by their statuses: what a transaction changes of it.

use std::collections::BTreeMap;

use rusqlite::{Connection, ToSql, params};

use crate::{QueueName, Status};

/// How a transaction changes the counts of each queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    default: Change,
    named: BTreeMap<QueueName, Change>,
}

/// By how much each column of `counts` changes; the first five are the statuses.
type Change = [i64; 7];

const DEAD: usize = 5;
const BLOCKED: usize = 6;

impl Counts {
    fn of(&mut self, queue: &QueueName) -> &mut Change {
        if queue.is_default() { &mut self.default } else { self.named.entry(queue.clone()).or_default() }
    }

    pub(super) fn add(&mut self, queue: &QueueName, status: Status, by: i64) {
        self.of(queue)[status as usize] += by;
    }

    pub(super) fn add_dead(&mut self, queue: &QueueName, by: i64) {
        self.of(queue)[DEAD] += by;
    }

    pub(super) fn add_blocked(&mut self, queue: &QueueName, by: i64) {
        self.of(queue)[BLOCKED] += by;
    }

    /// Writes them down. A queue that has no jobs any more is forgotten, so that
    /// names that are made up for a day do not stay for ever.
    pub(super) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        let execute = |sql: &str, params: &[&dyn ToSql]| connection.prepare_cached(sql)?.execute(params);
        let named = self.named.iter().map(|(name, change)| (name.as_str(), change));
        for (name, c) in [(QueueName::DEFAULT, &self.default)].into_iter().chain(named) {
            if c.iter().all(|n| *n == 0) {
                continue;
            }
            let known = execute(
                "UPDATE counts SET submitted = submitted + ?1, in_progress = in_progress + ?2,
                 success = success + ?3, error = error + ?4, cancelled = cancelled + ?5,
                 dead = dead + ?6, blocked = blocked + ?7 WHERE queue = ?8",
                params![c[0], c[1], c[2], c[3], c[4], c[5], c[6], name],
            )?;
            if known == 0 {
                execute(
                    "INSERT INTO counts (queue, submitted, in_progress, success, error, cancelled, dead, blocked)
                     VALUES (?8, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![c[0], c[1], c[2], c[3], c[4], c[5], c[6], name],
                )?;
            } else if name != QueueName::DEFAULT && c.iter().sum::<i64>() < 0 {
                execute(
                    "DELETE FROM counts WHERE queue = ?1
                     AND submitted + in_progress + success + error + cancelled = 0",
                    params![name],
                )?;
            }
        }
        Ok(())
    }
}
