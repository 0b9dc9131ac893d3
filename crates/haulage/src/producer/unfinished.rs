//! Jobs that wait or run, by what they have in common: those that can be cancelled.

use std::collections::HashSet;

use super::Producer;
use crate::{JobId, Result, Status, backend::ListQuery};

/// How many records are asked for in one call.
const PAGE: usize = 50_000;

/// What [`Producer::unfinished`] has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// Jobs that wait, newest first, then jobs that run, and those that came back meanwhile.
    pub ids: Vec<JobId>,
    /// How many of them run.
    pub running: usize,
}

impl Producer {
    /// All jobs of a query that wait or run, whatever its limit. To cancel them, give them
    /// to [`Backend::cancel`](crate::Backend::cancel), some thousand in one call.
    ///
    /// # Errors
    ///
    /// As [`Backend::list`](crate::Backend::list).
    pub async fn unfinished(&self, query: ListQuery) -> Result<Unfinished> {
        let (mut found, mut seen) = (Unfinished::default(), HashSet::new());
        // Once more those that wait: one may have come back from its worker in between.
        for status in [Status::Submitted, Status::InProgress, Status::Submitted] {
            if query.status.is_some_and(|wanted| wanted != status) {
                continue;
            }
            let mut page = query.clone().status(status).limit(PAGE);
            loop {
                let records = self.backend().list(page.clone()).await?;
                page = page.before(records.last().map(|record| record.id.clone()));
                let last = records.len() < PAGE;
                for record in records {
                    // Most are found twice.
                    if seen.insert(record.id.clone()) {
                        found.ids.push(record.id);
                        found.running += usize::from(status == Status::InProgress);
                    }
                }
                if last {
                    break;
                }
            }
        }
        Ok(found)
    }
}
