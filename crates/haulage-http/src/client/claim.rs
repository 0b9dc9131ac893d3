//! Asking for work.
//!
//! The claim waits on the server. One whose answer was lost is repeated under its id, and
//! brings the same jobs. Where that does not come to an end either, the id is kept, and before
//! the next claim the server is told to give back what that call may have brought. A server that
//! knows nothing of it is a new one: then the next claim is made under that id, and the store
//! says what it had brought.

use std::{sync::Arc, time::Duration};

use haulage::{
    Clock, Error, Result,
    backend::{ClaimRequest, Claimed, Outcome, Settlement},
};
use tokio_util::sync::CancellationToken;

use super::{
    call::Manner,
    connection::{Connection, Stranded},
    settle,
};
use crate::protocol::{Stop, Stopped};

/// How long one request waits at most: less than proxies let a connection be silent.
const WAIT: Duration = Duration::from_secs(25);

pub(super) async fn claim(
    connection: Arc<Connection>,
    clock: Clock,
    request: ClaimRequest,
    stop: CancellationToken,
) -> Result<Vec<Claimed>> {
    // Not by the wall clock, which may be set back.
    let deadline = clock.monotonic().saturating_add(request.wait);
    let mut stranded = give_back(&connection).await?;
    loop {
        if stop.is_cancelled() {
            connection.memory().stranded.extend(stranded);
            return Ok(Vec::new());
        }
        let earlier = stranded.take().map(|stranded| stranded.id);
        // The caller may have an id of its own for it.
        let earlier = earlier.or_else(|| request.id.clone().filter(|_| request.again));
        let left = deadline.saturating_sub(clock.monotonic());
        let asked = request.clone().wait(left.min(WAIT));
        let mut claimed = once(&connection, &asked, earlier, &stop).await?;
        if claimed.len() > request.max && !request.again {
            // Of an earlier request, which had more room.
            let more = claimed.split_off(request.max);
            release(&connection, &more).await?;
        }
        if !claimed.is_empty() || left.is_zero() {
            return Ok(claimed);
        }
    }
}

/// One request for jobs, driven to its end. Under the id of an earlier one, it brings what that
/// has brought.
async fn once(
    connection: &Connection,
    request: &ClaimRequest,
    earlier: Option<String>,
    stop: &CancellationToken,
) -> Result<Vec<Claimed>> {
    let again = earlier.is_some();
    let own = || request.id.clone().unwrap_or_else(|| connection.call_id());
    let id = earlier.unwrap_or_else(own);
    let manner = Manner { again, ..Manner::CHANGE.waiting(request.wait) };
    let mut call = Box::pin(connection.call_as("claim", request, manner, Some(&id)));
    let claimed = tokio::select! {
        claimed = &mut call => claimed,
        () = stop.cancelled() => {
            // Its answer still comes: there may be jobs in it.
            let end = Stop { call: id.clone(), give_back: false };
            let stopped = connection.call::<_, Stopped>("stop", &end, Manner::LOOK);
            let (claimed, stopped) = tokio::join!(&mut call, stopped);
            if let Err(error) = stopped {
                tracing::debug!(%error, "cannot stop a claim");
            }
            claimed
        }
    };
    drop(call);
    if let Err(Error::Unavailable { .. }) = &claimed {
        connection.memory().stranded.push(Stranded { id, request: request.clone() });
    }
    claimed
}

/// Gives back what earlier calls may have brought whose answers never came. One of which the
/// server knows nothing is for the next claim.
async fn give_back(connection: &Connection) -> Result<Option<Stranded>> {
    loop {
        let Some(last) = connection.memory().stranded.last().cloned() else { return Ok(None) };
        let stop = Stop { call: last.id.clone(), give_back: true };
        let Stopped { known } = connection.call("stop", &stop, Manner::LOOK).await?;
        connection.memory().stranded.retain(|stranded| stranded.id != last.id);
        if !known {
            return Ok(Some(last));
        }
    }
}

/// Gives back all that is in nobody's hands, of a consumer that claims no more.
pub(super) async fn drain(connection: Arc<Connection>) -> Result<()> {
    while let Some(Stranded { id, request }) = give_back(&connection).await? {
        let request = request.max(1).wait(Duration::ZERO);
        let brought = once(&connection, &request, Some(id), &CancellationToken::new()).await?;
        release(&connection, &brought).await?;
    }
    Ok(())
}

async fn release(connection: &Connection, jobs: &[Claimed]) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let release = |job: &Claimed| Settlement::new(job.key.clone(), Outcome::release());
    settle::settle(connection, jobs.iter().map(release).collect(), None).await.map(drop)
}
