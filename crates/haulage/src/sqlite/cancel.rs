//! Cancelling jobs.

use super::{fault::Fault, tx::Tx, wake::Signal};
use crate::{JobId, Status, backend::Cancellation, lifecycle::End};

pub(super) fn cancel(tx: &mut Tx<'_>, ids: &[JobId]) -> Result<Vec<Cancellation>, Fault> {
    let mut answers = Vec::with_capacity(ids.len());
    for id in ids {
        let Some(job) = tx.job(id)?.filter(|job| !job.is_expired(tx.now)) else {
            answers.push(Cancellation::Missing);
            continue;
        };
        answers.push(match job.status {
            Status::InProgress if job.is_lapsed(tx.now) => {
                // Nobody can be asked. Should its holder come back, it is told that it has lost the job.
                tx.finish(&job, End::Cancelled)?;
                Cancellation::Done
            }
            Status::Submitted => {
                tx.finish(&job, End::Cancelled)?;
                Cancellation::Done
            }
            Status::InProgress => {
                tx.execute("UPDATE job SET cancel_requested = 1 WHERE seq = ?1", [job.seq])?;
                tx.notify(Signal::Cancels);
                Cancellation::Requested
            }
            status => Cancellation::TooLate(status),
        });
    }
    Ok(answers)
}
