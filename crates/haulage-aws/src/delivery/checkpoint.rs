//! Checkpoints: a small one is in the record, a larger one beside it.
//!
//! Each heartbeat writes the record, and is paid for by its size, whether the checkpoint has
//! changed or not. So one of more than a kilobyte is an item of its own, or an object of
//! the bucket; the record says where.

use std::time::Duration;

use haulage::{
    Error, Json, NewJob, Progress, Result, Status, Timestamp,
    backend::{ClaimKey, Update},
};

use tracing::warn;

use crate::{
    random,
    schema::{
        body::{DocumentPlace, Packed},
        fence::while_held,
        item::{Row, seconds, spelled},
        name,
        object_retention::{keep_days, object_key},
        update::{Item, Write, moment, text},
    },
    state::Inner,
};

/// The largest checkpoint that is in the record, in bytes.
const IN_RECORD: usize = 1024;

/// What an attempt says, as its record will say it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    progress: Option<Progress>,
    slot: Option<String>,
    checkpoint: Option<Checkpoint>,
}

#[derive(Debug)]
enum Checkpoint {
    Here(Json),
    At(DocumentPlace),
}

impl Told {
    /// The same without a checkpoint, which could not be stored.
    pub(crate) fn without_checkpoint(update: &Update) -> Self {
        Self { progress: update.progress.clone(), slot: update.slot.clone(), checkpoint: None }
    }

    /// With this slot, unless it says another.
    pub(crate) fn in_slot(mut self, slot: Option<String>) -> Self {
        self.slot = self.slot.or(slot);
        self
    }

    /// The slot in which it ran, where that is known.
    pub(crate) fn slot(&self) -> Option<&str> {
        self.slot.as_deref()
    }

    /// Where the checkpoint is, if it is not in the record.
    pub(crate) fn place(&self) -> Option<&DocumentPlace> {
        match &self.checkpoint {
            Some(Checkpoint::At(place)) => Some(place),
            _ => None,
        }
    }

    /// Whether it takes the place of an earlier checkpoint.
    pub(crate) fn has_checkpoint(&self) -> bool {
        self.checkpoint.is_some()
    }

    pub(crate) fn has_progress(&self) -> bool {
        self.progress.is_some()
    }

    /// Writes it, too.
    pub(crate) fn written(&self, mut write: Write) -> Write {
        if let Some(progress) = &self.progress {
            write = write.set(name::PROGRESS, text(serde_json::to_string(progress).unwrap_or_default()));
        }
        if let Some(slot) = &self.slot {
            write = write.set(name::SLOT, text(slot));
        }
        match &self.checkpoint {
            Some(Checkpoint::Here(json)) => {
                write.set(name::CHECKPOINT, text(json.as_str())).remove(&[name::CHECKPOINT_AT])
            }
            Some(Checkpoint::At(place)) => write
                .set(name::CHECKPOINT_AT, text(place.to_text().unwrap_or_default()))
                .remove(&[name::CHECKPOINT]),
            None => write,
        }
    }
}

impl Inner {
    /// Stores a checkpoint that does not go into the record, before that names it.
    pub(crate) async fn tell(&self, key: &ClaimKey, result_ttl: Duration, update: &Update) -> Result<Told> {
        let mut told = Told::without_checkpoint(update);
        let Some(json) = &update.checkpoint else { return Ok(told) };
        if json.size() <= IN_RECORD {
            told.checkpoint = Some(Checkpoint::Here(json.clone()));
            return Ok(told);
        }
        let packed = Packed::new(json, self.config.compression);
        let days = keep_days(Duration::ZERO, result_ttl);
        let mark = random::mark();
        let place = match self.store.bucket.as_ref().filter(|_| packed.size() > self.config.offload_above) {
            Some(bucket) => {
                let end = if packed.is_zstd() { "json.zst" } else { "json" };
                let name = format!("checkpoint-{}-{mark}.{end}", key.attempt);
                let object = object_key(days, self.queues.store(), key.id.as_str(), &name);
                bucket.put(&object, &packed).await?;
                DocumentPlace::Object(object)
            }
            None => {
                let item_key = format!("checkpoint#{}#{mark}", key.id);
                let item = item(&item_key, &packed, days, self.now());
                for written in self.store.table.insert(vec![item]).await {
                    written.map_err(|not_written| not_written.error)?;
                }
                DocumentPlace::Item(item_key)
            }
        };
        told.checkpoint = Some(Checkpoint::At(place));
        Ok(told)
    }

    /// What an earlier attempt has left for this one, which has just been claimed. Where it
    /// cannot be had for now, the job goes back, and no attempt is counted.
    pub(crate) async fn left_for(&self, row: &Row) -> Result<Option<Json>> {
        let error = match self.store.checkpoint(row).await {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(error @ Error::Unavailable { .. }) => error,
            Err(error) => {
                warn!(%error, job_id = %row.id(), "its checkpoint cannot be had; it begins without");
                return Ok(None);
            }
        };
        let now = self.now();
        let write = Write::at(now)
            .set(name::STATUS, spelled(Status::Submitted))
            .set(name::DUE_AT, moment(now))
            .add(name::UNCOUNTED, 0, 1)
            .add(name::LEFT, 0, 1);
        let key = ClaimKey { id: row.id(), attempt: row.attempt() };
        self.store.table.write(row.id().as_str(), while_held(write, &key)).await?;
        Err(error)
    }
}

fn item(key: &str, packed: &Packed, days: u32, now: Timestamp) -> Item {
    let kept = Duration::from_secs(u64::from(days) * 24 * 3600);
    [(name::ID, text(key)), (name::BODY, packed.to_attribute()), (name::EXPIRATION, seconds(now.after(kept)))]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// For how long the record of a claim is kept that is not this process's.
pub(crate) const UNKNOWN_TTL: Duration = NewJob::DEFAULT_RESULT_TTL;
