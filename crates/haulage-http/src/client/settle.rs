//! Ending claims.

use haulage::{
    Error, Result, Status,
    backend::{ClaimRequest, Claimed, Outcome, Settlement},
};

use super::{
    call::Manner,
    connection::{Connection, Stranded},
};
use crate::protocol::{Settle, Settled};

/// How many bytes of results go in one request, unless one alone has more.
const BYTES: usize = 8 << 20;

/// Settles, and claims with the last of the requests that it takes.
pub(super) async fn settle(
    connection: &Connection,
    settlements: Vec<Settlement>,
    claim: Option<ClaimRequest>,
) -> Result<(Vec<Result<Status>>, Vec<Claimed>)> {
    let count = settlements.len();
    let (mut settled, mut claimed) = (Vec::with_capacity(count), Vec::new());
    let mut parts = parts(settlements).into_iter().peekable();
    while let Some(part) = parts.next() {
        let claim = claim.clone().filter(|_| parts.peek().is_none());
        match request(connection, part, claim).await {
            Ok((answers, jobs)) => {
                settled.extend(answers);
                claimed.extend(jobs);
            }
            Err(error) if settled.is_empty() => return Err(error),
            // Of those before there is an answer: an error would take it back.
            Err(error) => {
                settled.resize_with(count, || Err(error.clone()));
                break;
            }
        }
    }
    Ok((settled, claimed))
}

async fn request(
    connection: &Connection,
    settlements: Vec<Settlement>,
    claim: Option<ClaimRequest>,
) -> Result<(Vec<Result<Status>>, Vec<Claimed>)> {
    let keys: Vec<_> = settlements.iter().map(|settlement| settlement.key.clone()).collect();
    let unsure = {
        let memory = connection.memory();
        keys.iter().filter(|key| memory.unsure.contains(*key)).cloned().collect()
    };
    let id = Connection::call_id()?;
    let stranded = claim.clone().map(|request| Stranded { id: id.clone(), request });
    let settle = Settle { settlements, unsure, claim };
    let answer = connection.call_as::<_, Settled>("settle", &settle, Manner::CHANGE, Some(&id)).await;
    let mut memory = connection.memory();
    match answer {
        Ok(Settled { settled, claimed }) => {
            for key in &keys {
                memory.unsure.remove(key);
            }
            Ok((settled.into_iter().map(Into::into).collect(), claimed))
        }
        Err(error @ Error::Unavailable { .. }) => {
            // It may have been made.
            memory.unsure.extend(keys);
            memory.stranded.extend(stranded);
            Err(error)
        }
        Err(error) => Err(error),
    }
}

/// Settlements, in their order, in parts that are no larger than need be.
fn parts(settlements: Vec<Settlement>) -> Vec<Vec<Settlement>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for settlement in settlements {
        let size = match &settlement.outcome {
            Outcome::Success(result) => result.size(),
            Outcome::Retry { error, .. } | Outcome::Fail(error) => error.message.len(),
            Outcome::Cancelled | Outcome::Release { .. } => 0,
        };
        let checkpoint = settlement.update.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size());
        if bytes > 0 && bytes + size + checkpoint > BYTES {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size + checkpoint;
        if let Some(last) = parts.last_mut() {
            last.push(settlement);
        }
    }
    parts
}
