//! Signs of life.

use super::{
    fault::Fault,
    tx::{Hot, Tx},
};
use crate::{
    Status,
    backend::{ClaimKey, Heartbeat, HeartbeatStatus},
    lease::Lease,
};

/// The job, if this claim is its current one. A lease that ran out changes
/// nothing as long as nobody has taken the job.
pub(super) fn held(tx: &Tx<'_>, key: &ClaimKey) -> rusqlite::Result<Option<Hot>> {
    Ok(tx.job(&key.id)?.filter(|job| job.status == Status::InProgress && job.attempt == key.attempt))
}

pub(super) fn heartbeat(tx: &mut Tx<'_>, beats: &[Heartbeat]) -> Result<Vec<HeartbeatStatus>, Fault> {
    let mut statuses = Vec::with_capacity(beats.len());
    for beat in beats {
        let Some(job) = held(tx, &beat.key)? else {
            statuses.push(HeartbeatStatus::Lost);
            continue;
        };
        let lease = Lease::new(tx.now, beat.lease);
        let until = lease.until;
        tx.set_lease(job.seq, lease)?;
        if job.suspicion.alive() != job.suspicion {
            tx.suspect(job.seq, job.suspicion.alive())?;
        }
        tx.tell(&job, &beat.update)?;
        statuses.push(if job.cancel_requested {
            HeartbeatStatus::CancelRequested(until)
        } else {
            HeartbeatStatus::Held(until)
        });
    }
    Ok(statuses)
}
