//! What a record remembers of a job's attempts.

use serde::{Deserialize, Serialize};

use crate::{JobError, Record, Status, Timestamp};

/// One attempt of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Attempt {
    /// Its number: [`Record::attempt`] at the time.
    #[serde(rename = "attempt")]
    pub number: u32,
    /// Who ran it.
    pub worker: Option<String>,
    /// In which of its slots, where these differ: [`Record::slot`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// When it was claimed.
    pub started_at: Timestamp,
    /// When it was over; `None` while it is not.
    pub ended_at: Option<Timestamp>,
    /// Why it ended without a result: the end of the message,
    /// [`Attempt::MAX_ERROR_BYTES`] of it. `None` after a success, while it runs,
    /// and where it was given back without a word.
    pub error: Option<JobError>,
}

impl Attempt {
    /// How many a record remembers: the last ones.
    pub const KEPT: usize = 10;
    /// The longest message of an error here, in bytes.
    pub const MAX_ERROR_BYTES: usize = 1024;

    /// One that was over at this moment.
    pub fn over(
        number: u32,
        worker: Option<String>,
        started_at: Timestamp,
        ended_at: Timestamp,
        error: Option<&JobError>,
    ) -> Self {
        let error = error.map(|error| error.cut(Self::MAX_ERROR_BYTES));
        Self { number, worker, slot: None, started_at, ended_at: Some(ended_at), error }
    }

    /// The same, in this slot.
    #[must_use]
    pub fn in_slot(mut self, slot: Option<String>) -> Self {
        self.slot = slot;
        self
    }
}

impl Record {
    /// Sets the attempts from those that the store remembers, in any order, and the
    /// latest, of which the record itself tells.
    pub fn remember(&mut self, mut past: Vec<Attempt>) {
        past.sort_by_key(|attempt| attempt.number);
        // If it went back to the queue, it is among those of the past.
        if past.last().is_none_or(|last| last.number < self.attempt) {
            past.extend(self.latest_attempt());
        }
        let forgotten = past.len().saturating_sub(Attempt::KEPT);
        self.attempts = past.split_off(forgotten);
    }

    fn latest_attempt(&self) -> Option<Attempt> {
        let failed = !matches!(self.status, Status::InProgress | Status::Success);
        let error = self.error.as_ref().filter(|_| failed);
        Some(Attempt {
            number: self.attempt,
            worker: self.worker.clone(),
            slot: self.slot.clone(),
            started_at: self.started_at?,
            ended_at: self.finished_at,
            error: error.map(|error| error.cut(Attempt::MAX_ERROR_BYTES)),
        })
    }
}
