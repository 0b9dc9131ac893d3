//! The results of many jobs, of which few are in memory at a time.

use tokio::time::Instant;

use crate::{
    Backend, Error, Record, Result, Status,
    backend::{Detail, Lookup},
    retry::Outage,
};

/// How many results are looked up together at first, and at most.
const FIRST: usize = 2;
const MOST: usize = 64;
/// How many bytes of results are in memory at a time, as far as the last ones tell.
const BYTES: usize = 8 << 20;

/// Looks up the results of jobs that are known to be over.
pub(super) struct Results<'a> {
    backend: &'a dyn Backend,
    /// How many are looked up together.
    portion: usize,
    outage: Outage,
    /// Why some could not be had, the last time, and when to try again.
    failure: Option<Error>,
    again: Instant,
    /// That was the backend, and not some result.
    away: bool,
}

impl<'a> Results<'a> {
    pub(super) fn new(backend: &'a dyn Backend) -> Self {
        let outage = Outage::new("look for results");
        Self { backend, portion: FIRST, outage, failure: None, again: Instant::now(), away: false }
    }

    /// How many of those that are over to ask for at once.
    pub(super) fn portion(&self) -> usize {
        self.portion
    }

    /// Why some cannot be had for now.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.clone()
    }

    /// When to try those again.
    pub(super) fn again(&self) -> Instant {
        self.again
    }

    /// Whether a record that was found has a result that is not in it.
    pub(super) fn is_without(record: &Record) -> bool {
        record.status == Status::Success && record.result.is_none()
    }

    /// Looks these up, and tells of all that were found. Those that cannot be had for
    /// now come back.
    ///
    /// # Errors
    ///
    /// The first of those that cannot be had at all, once the others were told.
    pub(super) async fn look_up(
        &mut self,
        over: Vec<(usize, Record)>,
        done: &mut (impl FnMut(usize, Record) + Send),
    ) -> Result<Vec<(usize, Record)>> {
        if over.is_empty() || (self.away && Instant::now() < self.again) {
            return Ok(over);
        }
        let ids = over.iter().map(|(_, record)| record.id.clone()).collect();
        let lookups = match self.backend.get(ids, Detail::Result).await {
            Ok(lookups) => lookups,
            Err(error @ Error::Unavailable { .. }) => {
                self.failed(error);
                self.away = true;
                return Ok(over);
            }
            Err(error) => return Err(error),
        };
        self.away = false;
        let full = over.len() >= self.portion;
        let (mut bytes, mut left, mut failure, mut lost) = (0, Vec::new(), None, None);
        for ((index, record), lookup) in over.into_iter().zip(lookups) {
            let for_now = matches!(lookup, Lookup::Incomplete { for_good: false, .. });
            match lookup.into_record(&record.id) {
                Ok(record) => {
                    bytes += record.result.as_ref().map_or(0, |result| result.size());
                    done(index, record);
                }
                Err(error) if for_now => {
                    failure = Some(error);
                    left.push((index, record));
                }
                Err(error) => lost = lost.or(Some(error)),
            }
        }
        self.portion = match bytes {
            _ if bytes > BYTES => (self.portion / 2).max(1),
            // Fewer than there may be tell nothing of how large more are.
            _ if full && bytes < BYTES / 4 => (self.portion * 2).min(MOST),
            _ => self.portion,
        };
        if let Some(failure) = failure {
            self.failed(failure);
        }
        lost.map_or(Ok(left), Err)
    }

    /// None of those that could not be had is left.
    pub(super) fn all_told(&mut self) {
        self.outage.over();
        self.failure = None;
    }

    fn failed(&mut self, failure: Error) {
        self.again = self.outage.failed(&failure);
        self.failure = Some(failure);
    }
}
