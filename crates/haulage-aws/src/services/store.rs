//! The records, and the documents that belong to them: the table and the bucket.

use std::collections::HashSet;

use haulage::{
    Clock, Error, JobId, Json, Record, Result, Status, Timestamp, backend::Detail, lifecycle::Transition,
};
use tracing::{debug, warn};

use crate::{
    random,
    schema::{
        body::{DocumentPlace, Packed, unpack},
        fence::unchanged,
        item::{Row, ended, seconds, sort},
        name,
        update::{Write, text},
    },
    services::{
        bucket::Bucket,
        queues::Retentions,
        table::{Table, Written},
        unrecorded::Unrecorded,
    },
};

/// How often a record that others keep changing is looked at again.
const MAX_LOOKS: u32 = 50;

/// Where records and documents are kept.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) clock: Clock,
    pub(crate) table: Table,
    pub(crate) bucket: Option<Bucket>,
    /// For how long after its end a message of a job may turn up, by its queue.
    pub(crate) retentions: Retentions,
    /// The records of this process's submits that could not be written yet.
    pub(crate) unrecorded: Unrecorded,
}

impl Store {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    // --- documents ---

    /// Says what to do about a document that is too large for the table.
    pub(crate) fn hint_at_bucket(&self, error: Error) -> Error {
        match error {
            Error::TooLarge { what, size, limit, .. } if self.bucket.is_none() => Error::TooLarge {
                what,
                size,
                limit,
                hint: "with an S3 bucket (bucket=… in the URL), large ones go there".into(),
            },
            other => other,
        }
    }

    pub(crate) fn bucket(&self) -> Result<&Bucket> {
        self.bucket.as_ref().ok_or_else(|| {
            Error::Config(
                "the document is in an S3 bucket, and none is configured here; add bucket=… to the URL"
                    .into(),
            )
        })
    }

    /// Fetches a document from wherever it is.
    pub(crate) async fn fetch(&self, place: &DocumentPlace) -> Result<Option<Json>> {
        let packed = match place {
            DocumentPlace::Record => None,
            DocumentPlace::Item(key) | DocumentPlace::Message(key) => {
                let item = self.table.get(key).await?;
                item.and_then(|item| item.get(name::BODY).and_then(Packed::from_attribute))
            }
            DocumentPlace::Object(key) => self.bucket()?.get(key).await?,
        };
        packed.map(unpack).transpose()
    }

    /// A document of a job, in its record or where the record says.
    async fn document(&self, row: &Row, here: &str, at: &str) -> Result<Option<Json>> {
        if let Some(packed) = row.0.get(here).and_then(Packed::from_attribute) {
            return unpack(packed).map(Some);
        }
        let Some(place) = row.text(at) else { return Ok(None) };
        let document = match DocumentPlace::from_text(place) {
            // Its message has it.
            Some(place @ DocumentPlace::Message(_)) => return self.fetch(&place).await,
            Some(place) => self.fetch(&place).await?,
            None => None,
        };
        document
            .map(Some)
            .ok_or_else(|| Error::Config(format!("job {}: the {here} was at {place} and is gone", row.id())))
    }

    /// What an attempt has left for the next one.
    pub(crate) async fn checkpoint(&self, row: &Row) -> Result<Option<Json>> {
        self.document(row, name::CHECKPOINT, name::CHECKPOINT_AT).await
    }

    /// Deletes what is kept besides the record; what stays expires.
    pub(crate) async fn delete_documents(&self, places: impl IntoIterator<Item = DocumentPlace>) {
        for place in places {
            let deleted = match &place {
                DocumentPlace::Record => Ok(()),
                DocumentPlace::Item(key) | DocumentPlace::Message(key) => self.table.delete(key).await,
                DocumentPlace::Object(key) => match &self.bucket {
                    Some(bucket) => bucket.delete(key).await,
                    None => Ok(()),
                },
            };
            if let Err(error) = deleted {
                warn!(%error, "it is deleted when it expires");
            }
        }
    }

    /// The same for consumers, which need not be allowed to delete items: those are emptied,
    /// and have expired.
    pub(crate) async fn let_go(&self, places: impl IntoIterator<Item = DocumentPlace>) {
        let (items, objects): (Vec<_>, Vec<_>) = places
            .into_iter()
            .partition(|place| matches!(place, DocumentPlace::Item(_) | DocumentPlace::Message(_)));
        for place in items {
            let (DocumentPlace::Item(key) | DocumentPlace::Message(key)) = place else { continue };
            let now = self.now();
            let write = Write::at(now).set(name::EXPIRATION, seconds(now)).remove(&[name::BODY]);
            if let Err(error) = self.table.write(&key, write.when("attribute_exists(#message_id)")).await {
                debug!(%error, "it is deleted when it expires");
            }
        }
        self.delete_documents(objects).await;
    }

    // --- records ---

    /// The record with what was asked for.
    pub(crate) async fn show(&self, row: &Row, mut record: Record, detail: Detail) -> Result<Record> {
        if detail >= Detail::Result && record.status == Status::Success {
            record.result = self.document(row, name::RESULT, name::RESULT_AT).await?;
        }
        if detail >= Detail::Full {
            if !(record.spec.drop_body && record.status == Status::Success) {
                record.body = self.document(row, name::BODY, name::BODY_AT).await?;
            }
            record.checkpoint = self.checkpoint(row).await?;
            record.remember(row.past());
        }
        Ok(record)
    }

    /// The record as it is now. An abandoned claim that ends its job is written
    /// as that first, so that nobody sees another outcome later; and so is the end of
    /// one that has not started in time. `None` if the record is gone since.
    pub(crate) async fn reaped(&self, row: Row) -> Result<Option<Row>> {
        self.ended_if(row, Row::abandoned).await
    }

    /// The same for who only looks: where that end cannot be written, the record
    /// is shown as it is. So one that cannot be mended hides no other.
    pub(crate) async fn seen(&self, row: Row) -> Option<Row> {
        let as_it_is = row.clone();
        self.reaped(row).await.unwrap_or_else(|error| {
            warn!(%error, job_id = %as_it_is.id(), "its end could not be recorded; it is shown as it is");
            Some(as_it_is)
        })
    }

    /// The same for who would claim the job, and need not wait for longer than
    /// the lease.
    pub(crate) async fn taken(&self, row: Row) -> Result<Option<Row>> {
        self.ended_if(row, Row::lapse).await
    }

    async fn ended_if(
        &self,
        mut row: Row,
        lapse: fn(&Row, Timestamp) -> Option<Transition>,
    ) -> Result<Option<Row>> {
        let mut is_whole = false;
        for round in 0.. {
            self.give_up_after(round, &row.id())?;
            let now = self.now();
            let lapsed = || match lapse(&row, now)? {
                Transition::End(end) => Some(end),
                Transition::Wait(_) => None,
            };
            let Some(end) = row.late(now).or_else(lapsed) else { break };
            // Whoever looks at many has read a part of each, and a webhook is told all of it.
            if row.has_webhook() && !is_whole {
                let Some(whole) = self.whole(&row.id()).await? else { return Ok(None) };
                (row, is_whole) = (whole, true);
                continue;
            }
            let queue = row.text(name::QUEUE).unwrap_or_default();
            let retention = self.retentions.of(queue);
            let write = unchanged(ended(&end, queue, now, row.result_ttl(), retention), &row);
            match self.change(&row, write, None).await? {
                Written::Done(row) => return Ok(Some(row)),
                Written::Refused(Some(other)) => row = other,
                Written::Refused(None) => return Ok(None),
            }
        }
        Ok(Some(row))
    }

    /// The jobs of these ids, oldest first, with claims that lapsed noted.
    pub(crate) async fn jobs(&self, ids: Vec<JobId>) -> Result<Vec<Row>> {
        let keys: HashSet<String> = ids.iter().map(ToString::to_string).collect();
        let found = self.table.get_many(keys, None).await?;
        let mut rows: Vec<Row> = Vec::new();
        for row in found.into_values().filter_map(Row::of).filter(Row::is_job) {
            rows.extend(self.seen(row).await);
        }
        sort(&mut rows);
        Ok(rows)
    }

    /// What a message has to say that is sent for this job again. `None` where
    /// the record is another one by now.
    pub(crate) async fn proof(&self, row: &Row) -> Result<Option<String>> {
        if let Some(proof) = row.text(name::PROOF) {
            return Ok(Some(proof.to_owned()));
        }
        // A program has noted the job, and no consumer has had it yet.
        let write = unchanged(Write::at(self.now()).set(name::PROOF, text(random::token())), row);
        Ok(match self.table.write(row.id().as_str(), write).await? {
            Written::Done(row) => row.text(name::PROOF).map(str::to_owned),
            Written::Refused(_) => None,
        })
    }

    /// A record that changes with each look is somebody else's to mend, not a
    /// reason to go round for ever.
    pub(crate) fn give_up_after(&self, round: u32, id: &JobId) -> Result<()> {
        if round < MAX_LOOKS {
            return Ok(());
        }
        Err(Error::Unavailable {
            message: format!(
                "the record of job {id} in table {} changes with every look; is there more than one writer?",
                self.table.name()
            ),
            source: None,
        })
    }
}

/// Where a job's documents are, other than in its record.
pub(crate) fn places(row: &Row) -> impl Iterator<Item = DocumentPlace> {
    [name::BODY_AT, name::RESULT_AT, name::CHECKPOINT_AT]
        .into_iter()
        .filter_map(|at| DocumentPlace::from_text(row.text(at)?))
}
