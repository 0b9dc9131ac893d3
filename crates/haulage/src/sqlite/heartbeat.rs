//! Signs of life.

use rusqlite::params;

use super::{fault::Fault, tx::Tx};
use crate::{
    Status,
    backend::{ClaimKey, Heartbeat, Pulse},
};

use super::tx::Hot;

/// The job, if this claim is its current one and its lease has not run out.
pub(super) fn held(tx: &Tx<'_>, key: &ClaimKey) -> rusqlite::Result<Option<Hot>> {
    Ok(tx.job(&key.id)?.filter(|job| {
        job.status == Status::InProgress && job.attempt == key.attempt && !job.is_lapsed(tx.now)
    }))
}

pub(super) fn heartbeat(tx: &mut Tx<'_>, beats: &[Heartbeat]) -> Result<Vec<Pulse>, Fault> {
    let mut pulses = Vec::with_capacity(beats.len());
    for beat in beats {
        let Some(job) = held(tx, &beat.key)? else {
            pulses.push(Pulse::Lost);
            continue;
        };
        let until = tx.now.after(beat.lease);
        tx.execute("UPDATE job SET due = ?2 WHERE seq = ?1", params![job.seq, until.as_micros()])?;
        if let Some(progress) = &beat.progress {
            tx.progress(job.seq, progress)?;
        }
        pulses.push(if job.cancel_requested { Pulse::CancelRequested(until) } else { Pulse::Held(until) });
    }
    Ok(pulses)
}
