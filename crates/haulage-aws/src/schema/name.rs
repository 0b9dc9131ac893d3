//! The attributes of an item, and what else is known by its name.

/// The partition key: the id of a job, or of something that belongs to one.
pub(crate) const ID: &str = "message_id";
pub(crate) const STATUS: &str = "status";
/// The job's queue, as SQS calls it. What has none is the record of no job: a program keeps it as its own.
pub(crate) const QUEUE: &str = "queue";
pub(crate) const ATTEMPT: &str = "attempt";
pub(crate) const UNCOUNTED: &str = "uncounted";
pub(crate) const MAX_ATTEMPTS: &str = "max_attempts";
/// How many attempts are left: conditions cannot compute it.
pub(crate) const LEFT: &str = "attempts_left";
pub(crate) const REQUEST_ID: &str = "request_id";
pub(crate) const GROUP: &str = "job_group";
/// The options that have no attribute of their own, as JSON; absent where all are the default.
pub(crate) const SPEC: &str = "spec";
/// The entry of the metadata of this name, by which a state of Step Functions waits for
/// the job: the stream of the table is filtered by it (`terraform/modules/task_tokens`).
pub(crate) const TASK_TOKEN: &str = "task_token";
pub(crate) const RESULT_TTL: &str = "result_ttl_us";
pub(crate) const SUBMITTED_AT: &str = "submitted_at";
pub(crate) const STARTED_AT: &str = "started_at";
pub(crate) const FINISHED_AT: &str = "finished_at";
/// When the item was last written, in whole seconds.
pub(crate) const UPDATED_AT: &str = "updated_at";
/// While `SUBMITTED`, from when on it may be claimed; while `IN_PROGRESS`, the end of the lease.
pub(crate) const DUE_AT: &str = "due_at";
/// While `IN_PROGRESS`, how long a lease its holder has asked for.
pub(crate) const LEASE: &str = "lease_us";
/// From when on the record reads as expired, in microseconds.
pub(crate) const EXPIRES_AT: &str = "expires_at";
/// From when on DynamoDB may delete the item, in seconds: its TTL attribute.
pub(crate) const EXPIRATION: &str = "expiration";
pub(crate) const WORKER: &str = "worker";
pub(crate) const PROGRESS: &str = "progress";
/// Of its worker, where its slots differ.
pub(crate) const SLOT: &str = "slot";
/// What an attempt has left for the next one, as JSON.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// Where it is, if that is not the record.
pub(crate) const CHECKPOINT_AT: &str = "checkpoint_at";
/// The attempts before the latest, as JSON, each in the place that its number leads to:
/// so a newer one takes that of the oldest.
pub(crate) const PAST: [&str; haulage::Attempt::KEPT] = [
    "attempt_0",
    "attempt_1",
    "attempt_2",
    "attempt_3",
    "attempt_4",
    "attempt_5",
    "attempt_6",
    "attempt_7",
    "attempt_8",
    "attempt_9",
];
/// An attempt has begun of a job that had to start in time.
pub(crate) const BEGUN: &str = "begun";
pub(crate) const CANCEL: &str = "cancel_requested";
/// Of the item that names them: running jobs that are to be cancelled.
pub(crate) const CANCELLED_JOBS: &str = "cancelled_jobs";
/// The store of which the job is a dead letter: the key of the index of these,
/// which has no other jobs in it and so costs nothing for them.
pub(crate) const DEAD_OF: &str = "dead_of";
/// The copy of a dead letter is in the dead-letter queue.
pub(crate) const COPIED: &str = "dead_copied";
pub(crate) const ERROR: &str = "error";
pub(crate) const ERROR_KIND: &str = "error_kind";
pub(crate) const ERROR_TYPE: &str = "error_type";
pub(crate) const RESULT: &str = "result";
pub(crate) const RESULT_AT: &str = "result_at";
pub(crate) const BODY: &str = "body";
pub(crate) const BODY_AT: &str = "body_at";
/// The mark of the latest write.
pub(crate) const OP: &str = "op";
/// The mark of the write that claimed the job.
pub(crate) const CLAIM: &str = "claim";
/// What a message has to say that is not the job's first one: see
/// [`Envelope::proof`](crate::schema::envelope::Envelope::proof).
pub(crate) const PROOF: &str = "proof";
/// The message that has put the job back to work.
pub(crate) const REDRIVEN_BY: &str = "redriven_by";
/// When another message was sent, after the first was lost.
pub(crate) const RESENT_AT: &str = "resent_at";
/// For the holder of the claim: the newest receipt of its message.
pub(crate) const RECEIPT: &str = "receipt";
pub(crate) const RECEIVED_AT: &str = "received_at";
/// When the progress of the job was to be told to its webhook last.
pub(crate) const TOLD_AT: &str = "told_at";
/// The deliveries that were written for the job's webhook: what a purge looks for.
pub(crate) const DELIVERIES: &str = "deliveries";

/// The index of dead letters: by their store, in the order of their submits.
pub(crate) const DEAD_LETTERS: &str = "dead_letters";
/// The index of what is to be told to webhooks: by [`WEBHOOK_OF`](crate::schema::webhook::WEBHOOK_OF), in
/// the order in which it is due.
pub(crate) const WEBHOOKS: &str = "webhooks";

/// The status of a job that an operator has purged. The item stays for as long
/// as the queue may still hold a message of it.
pub(crate) const PURGED: &str = "purged";

/// The attributes in a list of this name of `terraform/modules/access`.
#[cfg(test)]
pub(crate) fn in_terraform(list: &str) -> std::collections::BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../terraform/modules/access/main.tf");
    let module = std::fs::read_to_string(path).expect("the module");
    let list = module.split(&format!("{list} = [")).nth(1).and_then(|rest| rest.split(']').next());
    let names = list.expect("a list").split(['"', ',', '\n', ' ']).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}
