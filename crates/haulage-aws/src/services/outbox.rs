//! What webhooks are told, written in the step that makes it true.
//!
//! Of a job without a webhook nothing here costs a call or a byte more.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use haulage::{
    Error, JobId, Json, Result, WebhookEvent,
    backend::{ClaimKey, Notice, Schedule},
};
use tracing::warn;

use crate::{
    schema::{
        fence::{unchanged, while_held},
        item::Row,
        name,
        update::{Write, moment},
        webhook::{self, event, no_progress, progress, progress_key},
    },
    services::{
        store::Store,
        table::Written,
        time_limit::within,
        transaction::{Beside, MAX_ITEMS, Together},
    },
};

/// With so many deliveries noted in a record, those are left out that have been told.
const MANY: usize = 50;
/// So many are noted, and no more.
const MOST: usize = 1000;

/// What became of a sign of life.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) written: Written,
    /// Whether the webhook, where there is one, is told of it.
    pub(crate) told: bool,
}

impl Store {
    /// Writes what may end a job, or an attempt of it, together with what its webhook is told of that. Every
    /// such write goes through here. `before` is the whole record as it was read, and where something is to be
    /// told, it has to be the same still: so what is told is what is written. `result` is that of a success.
    pub(crate) async fn change(&self, before: &Row, write: Write, result: Option<&Json>) -> Result<Written> {
        let id = before.id();
        // A message that is no job may bring a webhook with it.
        let may_tell = before.has_webhook() || write.sets(name::SPEC);
        let after = may_tell.then(|| Row(write.applied_to(&before.0)));
        let told = after.as_ref().and_then(|after| event(before, &write, after));
        let Some((event, mut record)) = told else { return self.table.write(id.as_str(), write).await };
        record.result = result.cloned();
        let Some(notice) = Notice::of(event, record, write.at) else {
            return self.table.write(id.as_str(), write).await;
        };
        let mut write = if before.status().is_some() { unchanged(write, before) } else { write };
        let mut beside = Vec::new();
        // The end is newer than all progress.
        let had_progress = event == WebhookEvent::Ended && before.moment(name::TOLD_AT).is_some();
        if had_progress && !self.is_unwanted(&id).await? {
            beside.push(Beside::Put(no_progress(&id, write.at)));
            write = write.remove(&[name::TOLD_AT]);
        }
        write = self.noting(before, write, &notice.delivery.id).await?;
        let queue = after.as_ref().and_then(|after| after.text(name::QUEUE)).unwrap_or_default();
        let schedule = Schedule::at(notice.delivery.created_at);
        beside.push(Beside::Put(webhook::item(notice, &schedule, queue)));
        let after = Row(write.applied_to(&before.0));
        Ok(match self.table.write_with(id.as_str(), write, beside).await? {
            Together::Done => Written::Done(after),
            Together::Refused(row) => Written::Refused(row),
            Together::OthersChanged => return Err(self.table.odd("why a write was refused")),
        })
    }

    /// Whether no more progress of this job is to be told.
    async fn is_unwanted(&self, id: &JobId) -> Result<bool> {
        Ok(self.table.get(&progress_key(id)).await?.is_some_and(|item| Row(item).is_unwanted()))
    }

    /// The record names what is to be told, so that a purge finds it.
    async fn noting(&self, before: &Row, write: Write, id: &str) -> Result<Write> {
        let noted = before.texts(name::DELIVERIES);
        if noted.is_empty() || !noted.len().is_multiple_of(MANY) {
            return Ok(write.join(name::DELIVERIES, id));
        }
        let keys = noted.iter().filter_map(|id| webhook::key(id));
        let left = self.table.get_many(keys, Some("#message_id")).await?;
        let is_left = |id: &&String| webhook::key(id).is_some_and(|key| left.contains_key(&key));
        let mut noted: Vec<String> = noted.iter().filter(is_left).cloned().collect();
        // A purge leaves the rest, which expire: there has to be room for the end of the job.
        noted.truncate(MOST - MANY);
        noted.push(id.to_owned());
        Ok(write.set(name::DELIVERIES, AttributeValue::Ss(noted)))
    }

    /// Writes what a running attempt says, while it is held; where that is `news` of its progress, and its webhook
    /// is told of such, both in one step. `seen` is the record as it was known last.
    pub(crate) async fn say(
        &self,
        key: &ClaimKey,
        seen: Option<Row>,
        write: Write,
        news: bool,
        lease: Duration,
    ) -> Result<Said> {
        let id = key.id.as_str();
        let plain = async |told| {
            let written = self.table.write(id, while_held(write.clone(), key)).await?;
            Ok::<_, Error>(Said { written, told })
        };
        let wants = |row: &Row| row.tells(WebhookEvent::Progress);
        // Whoever beats has time for another write then, also after a checkpoint that was slow.
        let soon = |told| within(lease / 16, || "what webhooks are told was not written".to_owned(), told);
        let told = match seen.filter(|_| news) {
            Some(before) if wants(&before) => soon(self.say_and_tell(key, before, &write)).await,
            None if news => match plain(true).await? {
                // This process does not hold it, and knows only now what its record is.
                Said { written: Written::Done(row), .. } if wants(&row) => {
                    soon(self.say_and_tell(key, row, &Write::at(write.at))).await
                }
                said => return Ok(said),
            },
            _ => return plain(true).await,
        };
        match told {
            Ok(written) => Ok(Said { written, told: true }),
            // The lease counts for more; the next sign of life tries again.
            Err(error) => {
                warn!(%error, job_id = %key.id, "its webhook could not be told of its progress yet");
                plain(false).await
            }
        }
    }

    async fn say_and_tell(&self, key: &ClaimKey, mut before: Row, write: &Write) -> Result<Written> {
        let item_key = progress_key(&key.id);
        for round in 0.. {
            self.give_up_after(round, &key.id)?;
            if !before.is_held_by(key.attempt) {
                return Ok(Written::Refused(Some(before)));
            }
            let there = self.table.get(&item_key).await?.map(Row);
            if there.as_ref().is_some_and(Row::is_unwanted) {
                return self.table.write(key.id.as_str(), while_held(write.clone(), key)).await;
            }
            let (waiting, overtaken) =
                there.as_ref().map(|there| there.taken_over(write.at)).unwrap_or_default();
            let told_at = there.as_ref().and_then(|there| there.moment(name::TOLD_AT));
            let told_at = told_at.max(before.moment(name::TOLD_AT));
            let schedule = Schedule::of_progress(waiting, told_at, write.at);
            let mut write = unchanged(while_held(write.clone(), key), &before);
            if schedule.tries == 0 {
                write = write.set(name::TOLD_AT, moment(schedule.due));
            }
            let after = Row(write.applied_to(&before.0));
            let record = after.record(write.at).ok_or_else(|| self.table.odd("the status of a record"))?;
            let notice = Notice::of(WebhookEvent::Progress, record, write.at);
            let notice = notice.ok_or_else(|| self.table.odd("what a webhook is told"))?;
            let queue = after.text(name::QUEUE).unwrap_or_default();
            let item = progress(notice, &schedule, overtaken.as_ref(), queue);
            let seen = there.map(|row| row.op().to_owned());
            match self.table.write_with(key.id.as_str(), write, vec![Beside::Replace(item, seen)]).await? {
                Together::Done => return Ok(Written::Done(after)),
                // Somebody has noted something else meanwhile: that it is to be cancelled, or a receipt.
                Together::Refused(Some(row)) if row.op() != before.op() => before = row,
                Together::Refused(row) => return Ok(Written::Refused(row)),
                Together::OthersChanged => {}
            }
        }
        Err(self.table.odd("the record"))
    }

    /// Makes the write that purges a job, and takes back what is to be told of it: that has in it what was in the
    /// job.
    pub(crate) async fn purge(&self, row: &Row, write: Write) -> Result<Written> {
        let write = unchanged(write, row);
        let mut keys: Vec<String> =
            row.texts(name::DELIVERIES).iter().filter_map(|id| webhook::key(id)).collect();
        keys.extend(row.moment(name::TOLD_AT).map(|_| progress_key(&row.id())));
        let id = row.id();
        if keys.is_empty() {
            return self.table.write(id.as_str(), write).await;
        }
        // First: whoever comes again after a crash finds the others, and deletes these once more.
        for rest in keys.split_off(keys.len().min(MAX_ITEMS - 1)) {
            self.table.delete(&rest).await?;
        }
        let after = Row(write.applied_to(&row.0));
        let beside = keys.into_iter().map(Beside::Delete).collect();
        match self.table.write_with(id.as_str(), write, beside).await? {
            Together::Done => Ok(Written::Done(after)),
            Together::Refused(row) => Ok(Written::Refused(row)),
            Together::OthersChanged => Err(self.table.odd("why a write was refused")),
        }
    }

    /// The whole record, for who has read a part of it.
    pub(crate) async fn whole(&self, id: &JobId) -> Result<Option<Row>> {
        Ok(self.table.get(id.as_str()).await?.and_then(Row::of))
    }
}
