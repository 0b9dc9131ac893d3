//! What the buttons of queues and jobs do: the same as the calls of the API, and then back to a page.

use std::sync::Arc;

use haulage::{JobId, backend::Cancellation};

use super::{same::part, see_other};
use crate::server::{
    Api,
    jobs::{cancel_job, delete_job, redrive_job},
    queues::set_paused,
    reply::Handled,
    request::Request,
};

pub(super) async fn pause(api: Arc<Api>, request: Request) -> Handled {
    set_paused(&api, &request, true).await?;
    Ok(see_other("/?done=paused"))
}

pub(super) async fn resume(api: Arc<Api>, request: Request) -> Handled {
    set_paused(&api, &request, false).await?;
    Ok(see_other("/?done=resumed"))
}

fn of_job(id: &JobId, done: &str) -> String {
    format!("/jobs/{}?done={done}", part(id.as_str()))
}

pub(super) async fn cancel(api: Arc<Api>, request: Request) -> Handled {
    let id = JobId::from(request.part("id"));
    let is_over = cancel_job(&api, &request.who, &id).await? == Cancellation::Done;
    Ok(see_other(&of_job(&id, if is_over { "cancelled" } else { "asked" })))
}

pub(super) async fn redrive(api: Arc<Api>, request: Request) -> Handled {
    let id = JobId::from(request.part("id"));
    redrive_job(&api, &request.who, &id).await?;
    Ok(see_other(&of_job(&id, "redriven")))
}

pub(super) async fn delete(api: Arc<Api>, request: Request) -> Handled {
    let id = JobId::from(request.part("id"));
    delete_job(&api, &request.who, &id).await?;
    Ok(see_other("/jobs?done=deleted"))
}
