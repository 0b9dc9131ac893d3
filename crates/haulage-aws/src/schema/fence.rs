//! The conditions on which a record is written: that it is still what its writer takes
//! it for.

use haulage::{Status, backend::ClaimKey};

use crate::schema::{
    item::{Row, spelled},
    name,
    update::{Write, number, text},
};

const SEEN_OP: &str = "seen_op";
const SEEN_STATUS: &str = "seen_status";

/// On the condition that the record is as it was read. Said twice, it is said once.
pub(crate) fn unchanged(write: Write, row: &Row) -> Write {
    if write.binds(SEEN_OP) || write.binds(SEEN_STATUS) {
        return write;
    }
    match row.0.get(name::OP) {
        // Whatever another program has made of it.
        Some(op) => write.when("#op = :seen_op").bind(SEEN_OP, op.clone()),
        // No write of ours leaves a record like this; its status is all that there is to go by.
        None => {
            let status = row.0.get(name::STATUS).cloned().unwrap_or_else(|| text(""));
            write.when("attribute_not_exists(#op) AND #status = :seen_status").bind(SEEN_STATUS, status)
        }
    }
}

/// On the condition that this claim holds the job. A lease that ran out changes
/// nothing as long as nobody has taken the job.
pub(crate) fn while_held(write: Write, key: &ClaimKey) -> Write {
    write
        .when("#status = :running AND #attempt = :held")
        .bind("running", spelled(Status::InProgress))
        .bind("held", number(key.attempt))
}

/// The condition that a program has noted a job as its own, and not its end: by
/// its message, the record is this job's.
pub(crate) const NOTED: &str = "(attribute_not_exists(#queue) AND #status IN (:waits, :runs))";

/// What [`NOTED`] compares with.
pub(crate) fn noted(write: Write) -> Write {
    write.bind("waits", spelled(Status::Submitted)).bind("runs", spelled(Status::InProgress))
}
