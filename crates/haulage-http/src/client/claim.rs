//! Asking for work.
//!
//! The claim waits on the server. One whose answer was lost is repeated under its id, and
//! brings the same jobs. Where that does not come to an end either, the id is kept, and before
//! the next claim the server is told to give back what that call may have brought. A server that
//! knows nothing of it is a new one: then the next claim is made under that id, and the store
//! says what it had brought.

use std::{convert::Infallible, sync::Arc, time::Duration};

use haulage::{
    Clock, Error, Result,
    backend::{ClaimKey, ClaimRequest, Claimed, Outcome, Settlement},
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
/// The pause before the server is told of a stop again; it doubles, to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn claim(
    connection: Arc<Connection>,
    clock: Clock,
    request: ClaimRequest,
    stop: CancellationToken,
) -> Result<Vec<Claimed>> {
    // Not by the wall clock, which may be set back.
    let deadline = clock.monotonic().saturating_add(request.wait);
    let mut stranded = give_back(&connection).await?;
    if let Err(error) = release(&connection, &[]).await {
        tracing::debug!(%error, "cannot give jobs back; trying again later");
    }
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
            if let Err(error) = release(&connection, &more).await {
                tracing::debug!(%error, "cannot give jobs back that are too many; trying again later");
            }
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
    let id = match earlier.or_else(|| request.id.clone()) {
        Some(id) => id,
        None => Connection::call_id()?,
    };
    let manner = Manner { again, ..Manner::CHANGE.waiting(request.wait) };
    let claimed = tokio::select! {
        claimed = connection.call_as("claim", request, manner, Some(&id)) => claimed,
        // Its answer still comes: there may be jobs in it.
        never = tell_of(stop, connection, &id) => match never {},
    };
    if claimed.is_err() {
        connection.memory().stranded.push(Stranded { id, request: request.clone() });
    }
    claimed
}

/// Tells the server of a stop for as long as the claim goes on: the first time may overtake the claim,
/// or go to a server that is restarted.
async fn tell_of(stop: &CancellationToken, connection: &Connection, id: &str) -> Infallible {
    stop.cancelled().await;
    let end = Stop { call: id.to_owned(), give_back: false };
    let mut pause = PAUSE;
    loop {
        if let Err(error) = connection.call::<_, Stopped>("stop", &end, Manner::LOOK).await {
            tracing::debug!(%error, "cannot stop a claim");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Gives back what earlier calls may have brought whose answers never came. One of which the
/// server knows nothing is for the next claim.
async fn give_back(connection: &Connection) -> Result<Option<Stranded>> {
    loop {
        // Taken out: of two consumers, only one is to have it.
        let Some(last) = connection.memory().stranded.pop() else { return Ok(None) };
        let stop = Stop { call: last.id.clone(), give_back: true };
        match connection.call("stop", &stop, Manner::LOOK).await {
            Ok(Stopped { known: true }) => {}
            Ok(Stopped { known: false }) => return Ok(Some(last)),
            Err(error) => {
                connection.memory().stranded.push(last);
                return Err(error);
            }
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
    release(&connection, &[]).await
}

/// Gives jobs back, and those that could not be given back before.
async fn release(connection: &Connection, jobs: &[Claimed]) -> Result<()> {
    let keys = {
        let mut memory = connection.memory();
        memory.surplus.extend(jobs.iter().map(|job| job.key.clone()));
        std::mem::take(&mut memory.surplus)
    };
    if keys.is_empty() {
        return Ok(());
    }
    let release = |key: &ClaimKey| Settlement::new(key.clone(), Outcome::release());
    let settled = settle::settle(connection, keys.iter().map(release).collect(), None).await;
    let (answers, _) = match settled {
        Ok(settled) => settled,
        Err(error) => {
            connection.memory().surplus.extend(keys);
            return Err(error);
        }
    };
    let mut why = None;
    for (key, answer) in keys.into_iter().zip(answers) {
        // A claim that is lost meanwhile is nobody's to give back.
        if let Err(error @ Error::Unavailable { .. }) = answer {
            connection.memory().surplus.push(key);
            why = Some(error);
        }
    }
    why.map_or(Ok(()), Err)
}
