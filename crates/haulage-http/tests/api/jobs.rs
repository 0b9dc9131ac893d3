//! Single jobs, from the submit to the end.

use std::time::Duration;

use haulage::{
    Backend as _, FailureKind, JobError, Progress,
    backend::{Heartbeat, ListQuery, Outcome, Update},
};
use haulage_http::HttpBackend;
use hyper::{Method, StatusCode};

use crate::client::Site;

#[tokio::test]
async fn a_job_is_submitted_run_and_its_result_is_what_the_handler_gave() {
    let site = Site::new().await;
    let client = site.client();
    let answer =
        client.post("/v1/jobs", r#"{"body": {"b": 1, "a": 18446744073709551615}, "queue": "bulk"}"#).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(answer.json()["duplicate"], false);
    assert_eq!(answer.header("location"), format!("/v1/jobs/{id}"));
    assert!(answer.header("retry-after").parse::<u64>().is_ok(), "{answer:?}");

    let path = format!("/v1/jobs/{id}");
    let not_yet = client.get(&format!("{path}/result")).await;
    assert_eq!(not_yet.problem(202)["job_status"], "SUBMITTED");
    assert!(not_yet.header("retry-after").parse::<u64>().is_ok());

    let job = {
        let request = haulage::backend::ClaimRequest::new("worker-1", Duration::from_secs(60));
        let request = request.queues("bulk".parse::<haulage::QueueName>().expect("a name"), 0);
        site.backend.claim(request, Default::default()).await.expect("claim").pop().expect("a job")
    };
    assert_eq!(job.body.as_str(), r#"{"b": 1, "a": 18446744073709551615}"#, "as it was written");
    let result = r#"{"z": 1e3, "a": [ ]}"#;
    site.settle(&job, Outcome::Success(haulage::Json::parse(result).expect("JSON"))).await;

    let whole = client.get(&format!("{path}/result")).await;
    assert_eq!((whole.status, &whole.body[..]), (StatusCode::OK, result.as_bytes()));
    assert_eq!(whole.header("content-type"), "application/json");
    let tag = whole.header("etag").to_owned();
    let same = client.get_with(&format!("{path}/result"), &[("if-none-match", &tag)]).await;
    assert_eq!((same.status, same.body.len()), (StatusCode::NOT_MODIFIED, 0));
    let part = client.get_with(&format!("{path}/result"), &[("range", "bytes=1-3")]).await;
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &result.as_bytes()[1..=3]));
    assert_eq!(part.header("content-range"), format!("bytes 1-3/{}", result.len()));
    client.get_with(&format!("{path}/result"), &[("range", "bytes=99-")]).await.problem(416);

    let record = client.get(&format!("{path}?body=true")).await.json();
    assert_eq!((&record["status"], &record["worker"]), (&"SUCCESS".into(), &"worker-1".into()));
    assert!(record["body"].is_object() && record["attempts"].is_array(), "{record}");
    let short = client.get(&path).await.json();
    assert!(short.get("body").is_none() && short.get("result").is_some(), "{short}");
    let head = client.send(Method::HEAD, &path, &[], "").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn who_waits_gets_the_result_with_the_submit() {
    let site = Site::new().await;
    let client = site.client();
    let submit = client.post_with("/v1/jobs", r#"{"body": 1}"#, &[("prefer", "respond-async, wait=30")]);
    let (answer, ()) = tokio::join!(submit, site.succeed("42"));
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!((&answer.json()["status"], &answer.json()["result"]), (&"SUCCESS".into(), &42.into()));
    assert_eq!(answer.header("preference-applied"), "wait=30");
    assert!(answer.header("location").starts_with("/v1/jobs/"));
    // Nobody runs this one, and the id comes all the same.
    let answer = client.post_with("/v1/jobs", r#"{"body": 1}"#, &[("prefer", "wait=0")]).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    client.post_with("/v1/jobs", r#"{"body": 1}"#, &[("prefer", "wait=soon")]).await.problem(422);
}

#[tokio::test]
async fn a_wait_ends_with_the_job_and_a_condition_with_a_change() {
    let site = Site::new().await;
    let client = site.client();
    let path = format!("/v1/jobs/{}", client.submit(r#"{"body": 1}"#).await);
    let tag = client.get(&path).await.header("etag").to_owned();
    let unchanged = [("if-none-match", tag.as_str())];
    assert_eq!(client.get_with(&path, &unchanged).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(
        client.get_with(&format!("{path}?wait=0.05"), &unchanged).await.status,
        StatusCode::NOT_MODIFIED
    );

    // It changes when it is begun, and again with its progress, and not with a mere heartbeat.
    let watch = format!("{path}?wait=60");
    let (changed, job) = tokio::join!(client.get_with(&watch, &unchanged), site.claim());
    assert_eq!(changed.json()["status"], "IN_PROGRESS");
    let tag = changed.header("etag").to_owned();
    let beat = |update| Heartbeat::new(job.key.clone(), Duration::from_secs(100)).update(update);
    site.backend.heartbeat(vec![beat(Update::default())]).await.expect("heartbeat");
    let unchanged = [("if-none-match", tag.as_str())];
    assert_eq!(client.get_with(&path, &unchanged).await.status, StatusCode::NOT_MODIFIED);
    let half = Update::default().progress(Progress { fraction: 0.5, message: None });
    let told = async { site.backend.heartbeat(vec![beat(half)]).await.expect("heartbeat") };
    let (changed, _) = tokio::join!(client.get_with(&watch, &unchanged), told);
    assert_eq!(changed.json()["progress"]["fraction"], 0.5);

    let end = async { site.settle(&job, Outcome::Success(haulage::Json::parse("7").expect("JSON"))).await };
    let (ended, ()) = tokio::join!(client.get(&watch), end);
    assert_eq!((&ended.json()["status"], &ended.json()["result"]), (&"SUCCESS".into(), &7.into()));
}

#[tokio::test]
async fn a_failure_and_a_cancel_are_told_and_can_be_undone() {
    let site = Site::new().await;
    let client = site.client();
    let path = format!("/v1/jobs/{}", client.submit(r#"{"body": 1, "max_attempts": 1}"#).await);
    let job = site.claim().await;
    let too_early = client.send(Method::DELETE, &path, &[], "").await.problem(409);
    assert!(too_early["remedy"].as_str().is_some_and(|remedy| remedy.contains("/cancel")), "{too_early}");
    site.settle(&job, Outcome::Fail(JobError::new(FailureKind::Handler, "no such image"))).await;
    let failed = client.get(&format!("{path}/result")).await.problem(409);
    assert_eq!(
        (&failed["type"], &failed["error"]["message"]),
        (&"haulage:job_failed".into(), &"no such image".into())
    );
    assert_eq!(client.post(&format!("{path}/redrive"), "").await.json()["status"], "SUBMITTED");
    let early = client.post(&format!("{path}/redrive"), "").await.problem(409);
    assert_eq!((&early["type"], &early["job_status"]), (&"haulage:not_failed".into(), &"SUBMITTED".into()));

    assert_eq!(client.post(&format!("{path}/cancel"), "").await.json()["cancellation"], "done");
    assert_eq!(client.post(&format!("{path}/cancel"), "").await.problem(409)["job_status"], "CANCELLED");
    assert_eq!(client.get(&format!("{path}/result")).await.problem(409)["type"], "haulage:job_cancelled");
    client.post(&format!("{path}/redrive"), "").await;
    site.claim().await;
    let asked = client.post(&format!("{path}/cancel"), "").await;
    assert_eq!((asked.status, &asked.json()["cancellation"]), (StatusCode::ACCEPTED, &"requested".into()));

    let gone = format!("/v1/jobs/{}", client.submit(r#"{"body": 1}"#).await);
    assert_eq!(client.send(Method::DELETE, &gone, &[], "").await.status, StatusCode::NO_CONTENT);
    client.get(&gone).await.problem(404);
    client.send(Method::DELETE, &gone, &[], "").await.problem(404);
    client.post(&format!("{gone}/cancel"), "").await.problem(404);
}

#[tokio::test]
async fn a_record_whose_time_is_over_is_gone() {
    let site = Site::standing_still().await;
    let client = site.client();
    let id = client.submit(r#"{"body": 1, "result_ttl": "10s"}"#).await;
    site.succeed("1").await;
    assert_eq!(client.get(&format!("/v1/jobs/{id}/result")).await.status, StatusCode::OK);
    site.backend.clock().advance(Duration::from_secs(11));
    client.get(&format!("/v1/jobs/{id}/result")).await.problem(410);
}

#[tokio::test]
async fn a_key_finds_the_first_job_and_another_body_is_told() {
    let site = Site::new().await;
    let client = site.client();
    let key = [("idempotency-key", "\"order-4711\"")];
    let first = client.post_with("/v1/jobs", r#"{"body": 1}"#, &key).await.json();
    let plain = [("idempotency-key", "order-4711")];
    let second = client.post_with("/v1/jobs", r#"{"body": 1}"#, &plain).await.json();
    assert_eq!((&second["id"], &second["duplicate"]), (&first["id"], &true.into()));
    let conflict = client.post_with("/v1/jobs", r#"{"body": 2}"#, &plain).await.problem(422);
    assert_eq!((&conflict["type"], &conflict["id"]), (&"haulage:idempotency_conflict".into(), &first["id"]));
    let two = client.post_with("/v1/jobs", r#"{"body": 1, "idempotency_key": "x"}"#, &plain).await;
    assert_eq!(two.problem(422)["field"], "idempotency_key");
}

#[tokio::test]
async fn jobs_are_listed_page_by_page() {
    let site = Site::new().await;
    let client = site.client();
    let mut ids = Vec::new();
    for n in 0..5 {
        let job = format!(r#"{{"body": {n}, "queue": "bulk", "metadata": {{"user": "u{}"}}}}"#, n % 2);
        ids.insert(0, client.submit(&job).await);
    }
    client.submit(r#"{"body": 1}"#).await;
    let mut found = Vec::new();
    let mut path = "/v1/jobs?queue=bulk&limit=2".to_owned();
    loop {
        let page = client.get(&path).await.json();
        let jobs = page["jobs"].as_array().expect("jobs").clone();
        found.extend(jobs.iter().map(|job| job["id"].as_str().expect("an id").to_owned()));
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/jobs?queue=bulk&limit=2&before={next}"),
            None => break,
        }
    }
    assert_eq!(found, ids);
    let labelled = client.get("/v1/jobs?metadata.user=u1").await.json();
    assert_eq!(labelled["jobs"].as_array().map(Vec::len), Some(2), "{labelled}");
    for (path, field) in [
        ("/v1/jobs?status=done", "status"),
        ("/v1/jobs?limit=0", "limit"),
        ("/v1/jobs?limit=1001", "limit"),
        ("/v1/jobs?newer_than=soon", "newer_than"),
        ("/v1/jobs?state=ERROR", "state"),
        ("/v1/jobs?queue=a&queue=b", "queue"),
        ("/v1/jobs?dead=maybe", "dead"),
    ] {
        assert_eq!(client.get(path).await.problem(422)["field"], field, "{path}");
    }
}

#[tokio::test]
async fn queues_numbers_and_workers() {
    let site = Site::new().await;
    let client = site.client();
    client.submit(r#"{"body": 1}"#).await;
    client.submit(r#"{"body": 2, "queue": "bulk"}"#).await;
    client.submit(r#"{"body": 3, "queue": "bulk", "delay": "1h"}"#).await;
    let held = site.claim().await;
    let paused = client.post("/v1/queues/bulk/pause", "").await.json();
    assert_eq!((&paused["paused"], &paused["changed"]), (&true.into(), &true.into()));
    let queues = client.get("/v1/queues").await.json();
    assert_eq!(
        (&queues["queues"]["bulk"]["due"], &queues["queues"]["bulk"]["is_paused"]),
        (&1.into(), &true.into())
    );
    assert_eq!(client.get("/v1/scale?queue=bulk").await.json()["visible"], 0, "what is paused needs nobody");
    assert_eq!(client.post("/v1/queues/bulk/resume", "").await.json()["changed"], true);
    let scale = client.get("/v1/scale?queue=bulk").await.json();
    assert_eq!(
        (&scale["visible"], &scale["delayed"], &scale["unfinished"]),
        (&1.into(), &1.into(), &2.into())
    );
    let all = client.get("/v1/scale").await.json();
    assert_eq!((&all["in_progress"], &all["ready"]), (&1.into(), &2.into()));
    assert_eq!(client.get("/v1/stats").await.json()["in_progress"], 1);
    let workers = client.get("/v1/workers").await.json();
    assert_eq!(
        (&workers["workers"][0]["worker"], &workers["workers"][0]["jobs"]),
        (&"worker-1".into(), &1.into())
    );
    assert_eq!(client.post("/v1/queues/two%20words/pause", "").await.problem(422)["field"], "queue");
    site.settle(&held, Outcome::release()).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_with_the_remedy() {
    let site = Site::with(|builder, _| builder.max_body(1 << 20)).await;
    let client = site.client();
    let post = |body: &'static str| client.post("/v1/jobs", body);
    let broken = post("{\n  \"body\": nope\n}").await.problem(400);
    assert_eq!((&broken["line"], &broken["column"]), (&2.into(), &12.into()), "{broken}");
    let typo = post(r#"{"body": 1, "que": "bulk"}"#).await.problem(422);
    assert_eq!(typo["field"], "que");
    assert!(typo["remedy"].as_str().is_some_and(|remedy| remedy.contains("queue, task")), "{typo}");
    assert_eq!(post(r#"{"queue": "bulk"}"#).await.problem(422)["field"], "body");
    assert_eq!(post(r#"{"body": 1, "max_attempts": 0}"#).await.problem(422)["field"], "max_attempts");
    assert_eq!(post(r#"{"body": 1, "delay": "400d"}"#).await.problem(422)["field"], "delay");
    assert!(
        post(r#"{"body": 1, "body": 2}"#).await.problem(400)["detail"]
            .as_str()
            .is_some_and(|d| d.contains("twice"))
    );
    let large = format!(r#"{{"body": "{}"}}"#, "x".repeat(1 << 20));
    let large = client.post("/v1/jobs", &large).await.problem(413);
    assert_eq!(large["limit"], 1 << 20, "{large}");
    let text =
        client.send(Method::POST, "/v1/jobs", &[("content-type", "text/plain")], "1").await.problem(415);
    assert!(text["remedy"].as_str().is_some_and(|remedy| remedy.contains("application/json")), "{text}");
    client.get("/v1/nothing").await.problem(404);
    let method = client.send(Method::PUT, "/v1/jobs", &[], "").await;
    method.problem(405);
    assert_eq!(method.header("allow"), "POST, GET");
    // However deep, a body is a body.
    let deep = format!(r#"{{"body": {}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(client.post("/v1/jobs", &deep).await.status, StatusCode::ACCEPTED);
    assert_eq!(client.get("/openapi.json").await.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn a_list_of_the_backend_is_as_long_as_it_is_to_be() {
    let site = Site::new().await;
    let jobs = (0..2100).map(|n| haulage::NewJob::new(&n).expect("JSON")).collect();
    let submitted = site.backend.submit(jobs).await.expect("submit");
    let ids: Vec<_> = submitted.into_iter().rev().map(|job| job.expect("submitted").id).collect();
    let backend = HttpBackend::builder(site.server.url()).open().await.expect("open");
    for limit in [0, 1000, 1001, 2000, usize::MAX] {
        let listed = backend.list(ListQuery::new().limit(limit)).await.expect("list");
        let listed: Vec<_> = listed.into_iter().map(|record| record.id).collect();
        assert_eq!(listed, ids[..limit.min(ids.len())], "{limit}");
    }
}

#[tokio::test]
async fn who_submits_more_than_may_wait_is_told_to_come_back() {
    let site = Site::with(|builder, _| builder.max_waiting(3)).await;
    let client = site.client();
    let keyed = r#"{"body": 0, "idempotency_key": "k"}"#;
    let first = client.submit(keyed).await;
    for n in 1..3 {
        client.submit(&format!(r#"{{"body": {n}}}"#)).await;
    }
    let full = client.post("/v1/jobs", r#"{"body": 3}"#).await;
    assert_eq!(full.problem(429)["field"], "queue");
    assert!(full.header("retry-after").parse::<u64>().is_ok(), "{full:?}");
    let detail = "3 jobs are waiting in the queue default, and no more than 3 may";
    assert_eq!(full.json()["detail"], detail);
    client.post("/v1/jobs", r#"{"body": 3, "idempotency_key": "l"}"#).await.problem(429);
    // What was accepted is said again, also where there is no more room.
    let again = client.post("/v1/jobs", keyed).await;
    assert_eq!(again.json(), serde_json::json!({ "id": first, "duplicate": true }), "{again:?}");
    let lines = format!("{keyed}\n");
    let again = client.send(Method::POST, "/v1/jobs", &[("content-type", "application/jsonl")], lines).await;
    assert_eq!(again.json(), serde_json::json!({ "line": 1, "id": first, "duplicate": true }), "{again:?}");
    let other = client.post("/v1/jobs", r#"{"body": 1, "idempotency_key": "k"}"#).await;
    assert_eq!(other.problem(422)["type"], "haulage:idempotency_conflict");
    // Another queue has room of its own.
    client.submit(r#"{"body": 1, "queue": "bulk"}"#).await;
    site.succeed("1").await;
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while client.post("/v1/jobs", r#"{"body": 3}"#).await.status != StatusCode::ACCEPTED {
        assert!(std::time::Instant::now() < until, "there is room, and nobody is let in");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_new_checkpoint_is_another_answer_where_it_is_in_it() {
    let site = Site::new().await;
    let client = site.client();
    let path = format!("/v1/jobs/{}", client.submit(r#"{"body": 1}"#).await);
    let job = site.claim().await;
    let leave = async |checkpoint: &str| {
        let update = Update::default().checkpoint(haulage::Json::parse(checkpoint).expect("JSON"));
        let beat = Heartbeat::new(job.key.clone(), Duration::from_secs(60)).update(update.expect("small"));
        site.backend.heartbeat(vec![beat]).await.expect("heartbeat");
    };
    leave(r#"{"step": 1}"#).await;
    let (short, whole) = (client.get(&path).await, client.get(&format!("{path}?body=true")).await);
    let status = async |path: &str, tag: &str| client.get_with(path, &[("if-none-match", tag)]).await.status;
    let full = format!("{path}?body=true");
    assert_eq!(status(&full, whole.header("etag")).await, StatusCode::NOT_MODIFIED);
    assert_eq!(status(&full, short.header("etag")).await, StatusCode::OK, "the short answer is another one");
    leave(r#"{"step": 2}"#).await;
    let changed =
        client.get_with(&format!("{full}&wait=60"), &[("if-none-match", whole.header("etag"))]).await;
    assert_eq!((changed.status, &changed.json()["checkpoint"]["step"]), (StatusCode::OK, &2.into()));
    assert_eq!(status(&path, short.header("etag")).await, StatusCode::NOT_MODIFIED, "it has no checkpoint");
}
