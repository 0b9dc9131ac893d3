//! The end of claims, and of one that may have been made before.

use std::sync::Arc;

use haulage::{
    Error, Result, Status,
    backend::{Detail, Lookup, Outcome, Settlement},
};

use super::{
    Api,
    backend::{answered, call, failed, give, named, need_jobs},
    call_table::Answered,
    calls::Start,
    reply::Reply,
    request::{self, Request},
};
use crate::{
    Problem,
    protocol::{self, Answer, Settle, Settled},
};

pub(super) async fn settle(api: Arc<Api>, mut request: Request) -> Result<Reply, Problem> {
    let (call, bytes) = call(&api, &mut request, "settle").await?;
    let settle: Settle = request::decode(&bytes)?;
    need_jobs(&api, &request.who, settle.settlements.iter().map(|settlement| &settlement.key.id)).await?;
    if let Some(claim) = &settle.claim {
        request.who.need_queues(claim.queues.names())?;
    }
    let (calls, id) = (api.calls.clone(), call.id.clone());
    let work = move |start: Start| async move {
        let claim = settle.claim.clone().map(|claim| named(claim, &id, &start));
        match settle_now(&api, Settle { claim, ..settle }, start.is_doubtful).await {
            Ok(settled) => {
                let claims = settled.claimed.iter().map(|job| job.key.clone()).collect();
                Answered { claims, ..answered(&settled) }
            }
            Err(error) => failed(&error.into()),
        }
    };
    Ok(give(calls.run(call, work).await?))
}

async fn settle_now(api: &Api, settle: Settle, all_unsure: bool) -> Result<Settled> {
    let Settle { settlements, unsure, claim } = settle;
    let capabilities = api.capabilities();
    let settlements: Vec<_> =
        settlements.into_iter().map(|settlement| protocol::within(settlement, &capabilities)).collect();
    // What may have been made before is looked at where it is refused.
    let doubtful: Vec<Option<Settlement>> = settlements
        .iter()
        .map(|s| Some(s).filter(|s| all_unsure || unsure.contains(&s.key)).cloned())
        .collect();
    let (mut settled, claimed) = match claim {
        Some(claim) => api.backend.settle_and_claim(settlements, claim).await?,
        None => (api.backend.settle(settlements).await?, Vec::new()),
    };
    for (answer, doubtful) in settled.iter_mut().zip(doubtful) {
        if let (Err(Error::LostClaim { .. }), Some(settlement)) = (&*answer, doubtful)
            && let Ok(Some(status)) = made_before(api, &settlement).await
        {
            *answer = Ok(status);
        }
    }
    Ok(Settled { settled: settled.into_iter().map(Answer::from).collect(), claimed })
}

/// The status that this settlement has given its job, where the record shows that it was
/// made: by a call whose answer was lost.
async fn made_before(api: &Api, settlement: &Settlement) -> Result<Option<Status>> {
    let found = api.backend.get(vec![settlement.key.id.clone()], Detail::Result).await?;
    let Some(Lookup::Found(record)) = found.into_iter().next() else { return Ok(None) };
    if record.attempt != settlement.key.attempt {
        return Ok(None);
    }
    let same_error = |error| record.error.as_ref() == Some(error);
    let made = match &settlement.outcome {
        Outcome::Success(result) => {
            record.status == Status::Success && record.result.as_ref() == Some(result)
        }
        Outcome::Retry { error, .. } => {
            matches!(record.status, Status::Submitted | Status::Error) && same_error(error)
        }
        Outcome::Fail(error) => record.status == Status::Error && same_error(error),
        Outcome::Cancelled => record.status == Status::Cancelled,
        Outcome::Release { .. } => record.status == Status::Submitted,
    };
    Ok(made.then_some(record.status))
}
