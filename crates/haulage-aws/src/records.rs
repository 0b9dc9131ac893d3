//! Records without a queue: to read those of jobs, and to keep others.

use std::{fmt, sync::Arc, time::Duration};

use haulage::{
    Error, FailureKind, JobError, JobId, Json, Result, Status, Timestamp,
    backend::{Detail, Lookup},
};

use crate::{
    Config,
    runtime::Runtime,
    schema::{
        fence::noted,
        item::{seconds, spelled},
        name,
        update::{Write, moment, text, whole_seconds},
    },
    services::{
        bucket::Bucket,
        clients::{Clients, load},
        clock::ServerClock,
        meter::Meter,
        queues::Retentions,
        store::Store,
        table::{Table, Written},
        unrecorded::Unrecorded,
    },
    state::{MAX_IN_TABLE, Tuning},
    verbs::get,
};

/// The records of a table, whatever the queue: those of jobs, to be read, and
/// such as a program keeps of work of its own, under ids that are no jobs'.
///
/// Nothing that is done to jobs is done to the latter: to a queue's `cancel`,
/// `redrive`, `list` and `stats` they are not there. Where a message with such an
/// id comes to a consumer, the id was a job's after all: the record becomes that
/// job's, unless it is over; then the message is deleted, as that of a job is.
#[derive(Clone)]
pub struct Records {
    store: Arc<Store>,
    runtime: Arc<Runtime>,
    keep_successes: bool,
}

/// What a record of one's own says.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnRecord {
    /// The work waits. Only this makes sure that there was no record before.
    Submitted,
    /// The work has begun.
    InProgress,
    /// The work is done, with this result.
    Success(Json),
    /// The work failed, and why; cut as [`JobError`]s are.
    Error(String),
}

/// Why a record was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is a job's, and written by its consumer alone.
    Job,
    /// There is one already, in this status: one that is over does not change.
    Exists(Status),
}

impl OwnRecord {
    fn status(&self) -> Status {
        match self {
            Self::Submitted => Status::Submitted,
            Self::InProgress => Status::InProgress,
            Self::Success(_) => Status::Success,
            Self::Error(_) => Status::Error,
        }
    }
}

impl Records {
    /// Opens the table that a URL names, such as
    /// `dynamodb://results?region=eu-central-1&bucket=payloads`. Of the
    /// parameters of `sqs://`, those that concern table, bucket and region.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] where the URL is wrong.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::open(Config::from_table_url(url)?, None, Tuning::default()).await
    }

    pub(crate) async fn open(
        config: Config,
        sdk: Option<aws_config::SdkConfig>,
        tuning: Tuning,
    ) -> Result<Self> {
        config.validate_storage()?;
        let runtime = Runtime::new()?;
        let keep_successes = config.keep_successes;
        let opened = async move {
            let sdk = match sdk {
                Some(sdk) => sdk,
                None => load(&config, tuning.credentials.clone()).await,
            };
            let (clock, meter) = (ServerClock::new(tuning.clock_off_by), Meter::new(tuning.metered));
            let clients = Clients::new(&sdk, &config, tuning.table_credentials, &clock, &meter)?;
            Ok(Store {
                clock: clock.clock(),
                table: Table::new(clients.dynamodb, config.table, meter),
                bucket: config.bucket.map(|name| Bucket::new(clients.s3, name, config.bucket_owner)),
                retentions: Retentions::default(),
                unrecorded: Unrecorded::default(),
            })
        };
        let store = Arc::new(runtime.run(opened).await?);
        Ok(Self { store, runtime, keep_successes })
    }

    /// The records with these ids, in the same order. Those of a program's own
    /// have no attempts.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where the table cannot be read.
    pub async fn get(&self, ids: Vec<JobId>, detail: Detail) -> Result<Vec<Lookup>> {
        let store = self.store.clone();
        self.runtime.run(async move { get::get(&store, ids, detail, true).await }).await
    }

    /// Writes a record of one's own, kept for `ttl` from now on. Without a
    /// `request_id`, it keeps the one that it has; at first, that is its id. One
    /// whose time is over is made anew, and nothing of it stays.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] for a result over 350,000 bytes, [`Error::Invalid`]
    /// for an empty id, [`Error::Unavailable`] where the table cannot be written.
    pub async fn put(
        &self,
        id: JobId,
        own: OwnRecord,
        request_id: Option<String>,
        ttl: Duration,
    ) -> Result<Result<(), Refusal>> {
        if id.as_str().is_empty() {
            return Err(Error::Invalid("the id of a record is empty".into()));
        }
        if let OwnRecord::Success(result) = &own
            && result.size() > MAX_IN_TABLE
        {
            let hint = "a record that does not belong to a job has its result in the table; keep it elsewhere, and put a \
                        reference to it"
                .into();
            return Err(Error::TooLarge { what: "result", size: result.size(), limit: MAX_IN_TABLE, hint });
        }
        let store = self.store.clone();
        // Like a success of a job.
        let stays = self.keep_successes && matches!(own, OwnRecord::Success(_));
        self.runtime
            .run(async move {
                let now = store.now();
                let ends = now.after(ttl);
                let write = |over| {
                    let write = write(over, &own, request_id.as_ref(), ends, now);
                    if stays {
                        write.remove(&[name::EXPIRATION])
                    } else {
                        write.set(name::EXPIRATION, seconds(ends))
                    }
                };
                let first = if own == OwnRecord::Submitted { Over::Expired } else { Over::Unfinished };
                let mut written = store.table.write(id.as_str(), write(first)).await?;
                if first == Over::Unfinished
                    && matches!(&written, Written::Refused(Some(row)) if row.is_expired(now))
                {
                    written = store.table.write(id.as_str(), write(Over::Expired)).await?;
                }
                Ok(match written {
                    Written::Done(_) => Ok(()),
                    Written::Refused(row) => {
                        let own = row.filter(|row| !row.is_job());
                        Err(own.and_then(|row| row.status()).map_or(Refusal::Job, Refusal::Exists))
                    }
                })
            })
            .await
    }
}

/// What a record has in some statuses only.
const OF_STATUS: [&str; 5] =
    [name::RESULT, name::ERROR, name::ERROR_KIND, name::ERROR_TYPE, name::FINISHED_AT];

/// What a record may be written over, besides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// One whose time is over, and of which nothing stays.
    Expired,
    /// One that goes on.
    Unfinished,
}

/// The write, on the condition that the item is none, or such a record, and no job's.
fn write(over: Over, own: &OwnRecord, request_id: Option<&String>, ends: Timestamp, now: Timestamp) -> Write {
    let mut says = vec![(name::STATUS, spelled(own.status())), (name::EXPIRES_AT, moment(ends))];
    says.extend(request_id.map(|id| (name::REQUEST_ID, text(id))));
    match own {
        OwnRecord::Submitted | OwnRecord::InProgress => {}
        OwnRecord::Success(result) => says.push((name::RESULT, text(result.as_str()))),
        OwnRecord::Error(message) => {
            let error = JobError::new(FailureKind::Handler, message);
            says.push((name::ERROR, text(error.message)));
            says.push((name::ERROR_KIND, text(error.kind.as_str())));
        }
    }
    if own.status().is_terminal() {
        says.push((name::FINISHED_AT, moment(now)));
    }
    let mut write = Write::at(now).bind("now", moment(now));
    // What it said before must not show through.
    let mut gone = OF_STATUS.to_vec();
    let replaced = match over {
        Over::Expired => {
            says.push((name::SUBMITTED_AT, moment(now)));
            gone.push(name::REQUEST_ID);
            write = write.bind("now_seconds", whole_seconds(now));
            "(#expires_at <= :now OR (attribute_not_exists(#expires_at) AND #expiration <= :now_seconds))"
        }
        Over::Unfinished => {
            write = noted(write.keep(name::SUBMITTED_AT, moment(now)));
            "#status IN (:waits, :runs) AND (attribute_not_exists(#expires_at) OR #expires_at > :now)"
        }
    };
    gone.retain(|gone| says.iter().all(|(name, _)| name != gone));
    write = says.into_iter().fold(write, |write, (name, value)| write.set(name, value));
    write.remove(&gone).when(&format!(
        "(attribute_not_exists(#message_id) OR \
         attribute_exists(#status) AND attribute_not_exists(#queue) AND {replaced})"
    ))
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("table", &self.store.table.name()).finish_non_exhaustive()
    }
}
