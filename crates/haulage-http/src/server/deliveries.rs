//! What has not been told to webhooks, for operators and for the backend of this crate.

use std::sync::Arc;

use haulage::{
    JobId,
    backend::{Deliveries, Delivery, DeliveryQuery, DeliveryRequest, DeliverySettlement, RedriveDeliveries},
};
use hyper::StatusCode;
use serde_json::json;

use super::{
    Api,
    backend::{confine_list, every_time, once},
    caller::Caller,
    keys::{Identity, Scope},
    reply::{self, Handled},
    request::{Request, invalid},
    to_the_end,
};
use crate::{Problem, protocol::MOST_LISTED};

impl Api {
    fn deliveries(&self) -> Result<&dyn Deliveries, Problem> {
        self.backend.deliveries().ok_or_else(|| {
            let detail = format!("the {} store does not support webhooks", self.backend.name());
            Problem::new(501, "not_supported", "Webhooks are not supported", detail)
        })
    }

    /// One that is there for whoever asks.
    async fn delivery(&self, who: &Identity, id: &str) -> Result<Delivery, Problem> {
        let found = self.deliveries()?.list_deliveries(DeliveryQuery::one(id)).await?.pop();
        let found = found.filter(|delivery| who.need_queues([&delivery.queue]).is_ok());
        found.ok_or_else(|| {
            let detail =
                format!("there is no delivery {id}; it may have been delivered, or deleted after 14 days");
            Problem::new(404, "no_such_delivery", "There is no such delivery", detail)
        })
    }
}

pub(super) async fn list(api: Arc<Api>, request: Request) -> Handled {
    let asked = &request.query;
    let mut query = DeliveryQuery::new(asked.parsed("limit")?.unwrap_or(20));
    query.dead = asked.flag("dead")?;
    query.queue = asked.parsed("queue")?;
    query.job = asked.get("job").map(JobId::from);
    if !(1..=MOST_LISTED).contains(&query.limit) {
        let detail = format!("limit is {}; it is a number from 1 to {MOST_LISTED}", query.limit);
        return Err(invalid("limit", detail));
    }
    confine_list(&request.who, query.queue.as_ref())?;
    let deliveries = api.deliveries()?.list_deliveries(query).await?;
    Ok(reply::json(StatusCode::OK, &json!({ "deliveries": deliveries })))
}

pub(super) async fn redrive(api: Arc<Api>, request: Request) -> Handled {
    let id = request.part("id").to_owned();
    let delivery = api.delivery(&request.who, &id).await?;
    let what = RedriveDeliveries::Deliveries(vec![id.clone()]);
    if redrive_some(&api, &request.who, what).await?.is_empty() {
        let due = delivery.due_at.map_or("now".to_owned(), |at| at.to_string());
        let detail = format!("delivery {id} is not dead; it is tried next at {due}");
        return Err(Problem::new(409, "not_dead", "The delivery is not dead", detail));
    }
    Ok(reply::json(StatusCode::OK, &json!({ "id": id, "redriven": true })))
}

async fn redrive_some(
    api: &Arc<Api>,
    who: &Arc<Caller>,
    what: RedriveDeliveries,
) -> Result<Vec<String>, Problem> {
    let (api, who) = (Arc::clone(api), Arc::clone(who));
    to_the_end(async move {
        let redriven = api.deliveries()?.redrive_deliveries(what).await?;
        if !redriven.is_empty() {
            // As many as are named of jobs.
            let named = redriven.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(" ");
            let more = redriven.len().saturating_sub(10);
            let named = if more > 0 { format!("{named} and {more} more") } else { named };
            api.audit_what(&who, "redrive webhooks", &named);
        }
        Ok(redriven)
    })
    .await
}

/// Refuses more at a time than a list has.
fn limited(field: &str, number: usize) -> Result<(), Problem> {
    if number > MOST_LISTED {
        return Err(invalid(field, format!("{field} is {number}, and may be {MOST_LISTED} at most")));
    }
    Ok(())
}

pub(super) async fn claim_verb(api: Arc<Api>, request: Request) -> Handled {
    once(api, request, "claim_deliveries", |api, who, asked: DeliveryRequest, _| async move {
        who.need_all_queues()?;
        // What is to be told has results in it, and the whole URL.
        who.need(&[Scope::Read])?;
        limited("max", asked.max)?;
        if asked.lease.is_zero() {
            return Err(invalid("lease", "lease is 0; it has to be long enough for one try"));
        }
        Ok(api.deliveries()?.claim_deliveries(asked).await?)
    })
    .await
}

pub(super) async fn settle_verb(api: Arc<Api>, request: Request) -> Handled {
    once(api, request, "settle_deliveries", |api, who, asked: Vec<DeliverySettlement>, _| async move {
        who.need_all_queues()?;
        limited("settlements", asked.len())?;
        Ok(api.deliveries()?.settle_deliveries(asked).await?)
    })
    .await
}

pub(super) async fn list_verb(api: Arc<Api>, request: Request) -> Handled {
    every_time(api, request, |api, who, query: DeliveryQuery| async move {
        confine_list(&who, query.queue.as_ref())?;
        limited("limit", query.limit)?;
        Ok(api.deliveries()?.list_deliveries(query).await?)
    })
    .await
}

pub(super) async fn redrive_verb(api: Arc<Api>, request: Request) -> Handled {
    once(api, request, "redrive_deliveries", |api, who, what: RedriveDeliveries, _| async move {
        match &what {
            RedriveDeliveries::Dead { queue, limit, .. } => {
                limited("limit", *limit)?;
                confine_list(&who, queue.as_ref())?;
            }
            RedriveDeliveries::Deliveries(ids) => {
                limited("deliveries", ids.len())?;
                let confined = who.confined_to().is_some();
                for id in ids.iter().filter(|_| confined) {
                    api.delivery(&who, id).await?;
                }
            }
        }
        redrive_some(&api, &who, what).await
    })
    .await
}
