//! Every route, in one list: from it come what is answered, who may ask, and `/openapi.json`.

use hyper::Method;

use super::{
    backend, deliveries, events, jobs,
    keys::Scope,
    openapi, pages, queues,
    route::{Parameter, QUEUE, Route, TEXT, header, query, to},
    settle, submit, unready, waiting,
};

const YES: &str = r#"{"type":"boolean"}"#;
const TIME: &str = r##"{"$ref":"#/components/schemas/Time"}"##;
const STATUS: &str = r##"{"$ref":"#/components/schemas/Status"}"##;
const LABEL: &str = r##"{"$ref":"#/components/schemas/Label"}"##;

const WAIT: Parameter = query(
    "wait",
    TIME,
    "How long to wait, 60 s at most: for the job to end, or with If-None-Match to change",
);
const HOW_MANY: Parameter =
    query("limit", r#"{"type":"integer","minimum":1,"maximum":1000,"default":20}"#, "How many");
const IN_QUEUE: Parameter = query("queue", QUEUE, "Only of this queue");

/// Who may look.
const READ: &[Scope] = &[Scope::Read];
/// Who may look at numbers: a worker, too, which is to know whether it is done.
const COUNT: &[Scope] = &[Scope::Read, Scope::Work, Scope::Operate];
const SUBMIT: &[Scope] = &[Scope::Submit];
const CANCEL: &[Scope] = &[Scope::Submit, Scope::Operate];
const OPERATE: &[Scope] = &[Scope::Operate];
const WORK: &[Scope] = &[Scope::Work];
const LOOK: &[Scope] = &[Scope::Read, Scope::Work];
const ANY: &[Scope] = &Scope::ALL;

const JSON_LINES: &[&str] = &["application/json", "application/jsonl"];

/// A verb of [`haulage::Backend`]; see [`crate::protocol`].
macro_rules! verb {
    ($name:literal, $scopes:expr, $handler:path) => {
        Route::post(concat!("/v1/backend/", $name), $scopes, to!($handler))
    };
}

/// All there is.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = public();
    routes.extend(pages::routes());
    routes.extend([
        Route::get("/v1/backend", ANY, to!(backend::hello)),
        Route::get("/v1/backend/signals", LOOK, to!(backend::signals)),
        verb!("submit", SUBMIT, backend::submit),
        verb!("claim", WORK, backend::claim),
        verb!("stop", WORK, backend::stop),
        verb!("heartbeat", WORK, backend::heartbeat),
        verb!("settle", WORK, settle::settle),
        verb!("get", READ, backend::get),
        verb!("cancel", CANCEL, backend::cancel),
        verb!("list", READ, backend::list),
        verb!("redrive", OPERATE, backend::redrive),
        verb!("purge", OPERATE, backend::purge),
        verb!("set_paused", OPERATE, backend::set_paused),
        verb!("set_unready", WORK, unready::set_verb),
        verb!("unready_workers", READ, unready::list_verb),
        verb!("stats", COUNT, backend::stats),
        verb!("backlog", COUNT, backend::backlog),
        verb!("whole_read", COUNT, backend::whole_read),
        verb!("ping", ANY, backend::ping),
        verb!("check", COUNT, backend::check),
        verb!("claim_deliveries", OPERATE, deliveries::claim_verb),
        verb!("settle_deliveries", OPERATE, deliveries::settle_verb),
        verb!("list_deliveries", READ, deliveries::list_verb),
        verb!("redrive_deliveries", OPERATE, deliveries::redrive_verb),
    ]);
    routes
}

/// What the document describes.
fn public() -> Vec<Route> {
    vec![
        Route::post("/v1/jobs", SUBMIT, to!(submit::submit))
            .summary("Submit a job, or many: as JSON lines, one a line, streamed both ways")
            .parameters(
                const {
                    &[
                        header("Idempotency-Key", "A second submit with the same key finds the first job")
                            .schema(LABEL),
                        header("Prefer", "`wait=30`: wait so many seconds for the job to end, 60 at most"),
                    ]
                },
            )
            .body("Submission", JSON_LINES)
            .answers(&[
                (200, "It has ended within the wait; for JSON lines, an answer for each line", "Job, Lines"),
                (202, "It is kept durably, and will be run", "Submitted"),
                (429, "Too many jobs wait in its queue; come back after Retry-After", "Problem"),
            ]),
        Route::get("/v1/jobs", READ, to!(jobs::list))
            .summary("List jobs, the newest first, without bodies and results")
            .parameters(
                const {
                    &[
                        query("status", STATUS, "Only this status"),
                        query("dead", YES, "Only dead letters: jobs that failed and have no attempts left"),
                        IN_QUEUE,
                        query("task", TEXT, "Only of this task"),
                        query("group", TEXT, "Only of this group"),
                        query("request_id", TEXT, "Only with this correlation id"),
                        query("metadata.{name}", TEXT, "Only with this label"),
                        query("error", TEXT, "Only with an error of this kind, or with this in its text"),
                        query("id_prefix", TEXT, "Only ids that begin so"),
                        query("older_than", TIME, "Only submitted this long ago, or longer"),
                        query("newer_than", TIME, "Only submitted less than this long ago"),
                        query("before", TEXT, "Only what was submitted before this job: the next page"),
                        HOW_MANY,
                    ]
                },
            )
            .answers(&[(200, "The jobs, and by what the next page begins", "Jobs")]),
        Route::get("/v1/jobs/{id}", READ, to!(jobs::get))
            .summary("Look at a job, and wait for its end or for a change")
            .parameters(
                const {
                    &[
                        WAIT,
                        query("body", YES, "With the body, the checkpoint and the last attempts"),
                        header(
                            "If-None-Match",
                            "The ETag of an earlier answer: 304 as long as nothing has changed",
                        ),
                    ]
                },
            )
            .answers(&[
                (200, "The job, and its result if it has one", "Job"),
                (304, "It has not changed", ""),
            ]),
        Route::new(Method::DELETE, "/v1/jobs/{id}", OPERATE, to!(jobs::delete))
            .summary("Delete a job with its body and result; one that runs has to be cancelled first")
            .answers(&[(204, "It is gone", ""), (409, "It is in progress", "Problem")]),
        Route::get("/v1/jobs/{id}/result", READ, to!(jobs::result))
            .summary("The result, as the handler gave it")
            .parameters(
                const {
                    &[
                        WAIT,
                        header("Range", "`bytes=0-1023`: a part of it"),
                        header("If-Range", "The ETag of an earlier answer: all of it, where that is another one"),
                        header("If-None-Match", "The ETag of an earlier answer"),
                    ]
                },
            )
            .answers(&[
                (200, "The result", "Any"),
                (202, "There is none yet", "Problem"),
                (206, "The part that was asked for", "Part"),
                (304, "It is that of the ETag", ""),
                (409, "The job failed, or was cancelled", "Problem"),
                (410, "It is no longer kept", "Problem"),
                (416, "It has no such part", "Problem"),
            ]),
        Route::get("/v1/jobs/{id}/events", READ, to!(events::events))
            .summary(
                "What becomes of a job, as server-sent events: `status` and `progress`, each with the job, and \
                 `gone` where it is deleted",
            )
            .parameters(const { &[header("Last-Event-ID", "The id of the last event that arrived")] })
            .answers(&[
                (200, "Events, until the job is over", "Events"),
                (204, "The job is over, and its last event has arrived", ""),
            ]),
        Route::get("/v1/jobs/{id}/waiting", READ, to!(waiting::answer))
            .summary("Why a job waits, how many are before it, and when it is likely to start")
            .answers(&[(200, "The reason; of a job that does not wait, only its status", "Waiting")]),
        Route::post("/v1/jobs/{id}/cancel", CANCEL, to!(jobs::cancel))
            .summary("Cancel a job: one that waits at once, one that runs by asking its worker")
            .answers(&[
                (200, "It is cancelled", "Cancellation"),
                (202, "Its worker has been asked", "Cancellation"),
                (409, "It was over already", "Problem"),
            ]),
        Route::post("/v1/jobs/{id}/redrive", OPERATE, to!(jobs::redrive))
            .summary("Put a job that failed or was cancelled back to work, with all its attempts")
            .answers(&[(200, "It waits again", "Redriven"), (409, "It has not failed, or could not be put back", "Problem")]),
        Route::get("/v1/queues", COUNT, to!(queues::list))
            .summary("The queues that have jobs or are paused, and what is in them")
            .answers(&[(200, "By name", "Queues")]),
        Route::post("/v1/queues/{queue}/pause", OPERATE, to!(queues::pause))
            .summary("Start no more jobs of a queue; those that run go on")
            .answers(&[(200, "It is paused", "Paused")]),
        Route::post("/v1/queues/{queue}/resume", OPERATE, to!(queues::resume))
            .summary("Let a paused queue go on")
            .answers(&[(200, "It is not paused", "Paused")]),
        Route::get("/v1/stats", COUNT, to!(queues::stats))
            .summary("Counts by status, and the age of what waits")
            .parameters(
                const {
                    &[query(
                        "exact",
                        YES,
                        "Count the records also where that reads all of them, and is paid for",
                    )]
                },
            )
            .answers(&[(200, "Numbers", "Numbers")]),
        Route::get("/v1/scale", COUNT, to!(queues::scale))
            .summary("What waits and runs, at the least cost: for autoscalers, such as KEDA's metrics-api")
            .parameters(const { &[IN_QUEUE] })
            .answers(&[(200, "Numbers", "Scale")]),
        Route::get("/v1/workers", READ, to!(queues::workers))
            .summary("The workers that hold jobs, and those that are not ready for any")
            .answers(&[(200, "By name", "Workers")]),
        Route::get("/v1/webhooks", READ, to!(deliveries::list))
            .summary("Pending and dead webhook deliveries, newest first; with dead, most recently dead first")
            .parameters(
                const {
                    &[
                        query("dead", YES, "Only dead deliveries"),
                        IN_QUEUE,
                        query("job", TEXT, "Only of this job"),
                        HOW_MANY,
                    ]
                },
            )
            .answers(&[(200, "The deliveries", "Deliveries")]),
        Route::post("/v1/webhooks/{id}/redrive", OPERATE, to!(deliveries::redrive))
            .summary("Redrive a dead delivery: it is retried for another day at most")
            .answers(&[
                (200, "It is due now", "DeliveryRedriven"),
                (409, "It is not dead", "Problem"),
            ]),
        Route::get("/openapi.json", ANY, to!(openapi::document)).summary("This document").answers(&[(
            200,
            "OpenAPI 3.1",
            "Any",
        )]),
    ]
}
