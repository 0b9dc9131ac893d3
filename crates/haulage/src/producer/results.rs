//! The results of many jobs, of which few are in memory at a time.

use tokio::time::sleep_until;

use crate::{
    Backend, Record, Result, Status,
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
}

impl<'a> Results<'a> {
    pub(super) fn new(backend: &'a dyn Backend) -> Self {
        Self { backend, portion: FIRST, outage: Outage::new("look for results") }
    }

    /// How many of those that are over to ask for at once.
    pub(super) fn portion(&self) -> usize {
        self.portion
    }

    /// Whether a record that was found has a result that is not in it.
    pub(super) fn is_without(record: &Record) -> bool {
        record.status == Status::Success && record.result.is_none()
    }

    /// Looks these up, tries on where the backend cannot be reached, and tells of each.
    pub(super) async fn look_up(
        &mut self,
        mut over: Vec<(usize, Record)>,
        done: &mut (impl FnMut(usize, Record) + Send),
    ) -> Result<()> {
        let (mut bytes, full) = (0, over.len() >= self.portion);
        while !over.is_empty() {
            let ids = over.iter().map(|(_, record)| record.id.clone()).collect();
            let mut failure = None;
            match self.backend.get(ids, Detail::Result).await {
                Ok(lookups) => {
                    let mut left = Vec::new();
                    for ((index, record), lookup) in over.into_iter().zip(lookups) {
                        if let Lookup::Incomplete { for_good: false, .. } = &lookup {
                            failure = lookup.into_record(&record.id).err();
                            left.push((index, record));
                            continue;
                        }
                        let record = lookup.into_record(&record.id)?;
                        bytes += record.result.as_ref().map_or(0, |result| result.size());
                        done(index, record);
                    }
                    over = left;
                }
                Err(error @ crate::Error::Unavailable { .. }) => failure = Some(error),
                Err(error) => return Err(error),
            }
            match failure {
                Some(error) => sleep_until(self.outage.failed(&error)).await,
                None => self.outage.over(),
            }
        }
        self.portion = match bytes {
            _ if bytes > BYTES => (self.portion / 2).max(1),
            // Fewer than there may be tell nothing of how large more are.
            _ if full && bytes < BYTES / 4 => (self.portion * 2).min(MOST),
            _ => self.portion,
        };
        Ok(())
    }
}
