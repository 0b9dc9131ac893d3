//! What pages show and do.

use std::{sync::atomic::Ordering, time::Duration};

use haulage::{
    FailureKind, JobError, Json, Progress, QueueName, Status, Timestamp,
    backend::{ClaimRequest, Detail, Heartbeat, ListQuery, Outcome, Update},
};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::client::{Answer, Client, Site};

fn queue(name: &str) -> QueueName {
    name.parse().expect("a name")
}

/// What is between two marks, without those.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("no {from:?} in {text}"));
    rest.split_once(to).map_or(rest, |(found, _)| found)
}

/// Why a job waits, as its page says it.
async fn why(client: &Client, id: &str) -> String {
    let page = client.read(&format!("/jobs/{id}")).await;
    let said = between(&page, "<strong>Why it waits: </strong>", "</p>");
    // It may lead to another job.
    let mut parts = said.split('<');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('>').map_or("", |(_, text)| text))
}

/// Runs the one job that waits once, and it fails.
async fn fail(site: &Site, error: JobError) {
    let job = site.claim().await;
    site.settle(&job, Outcome::Retry { error, delay: Duration::ZERO }).await;
}

/// Leaves a dead letter, and gives its id.
async fn dead(site: &Site, client: &Client, queue: Option<&str>, error: JobError) -> String {
    let id = match queue {
        None => client.submit(r#"{"body": 1, "max_attempts": 1}"#).await,
        Some(queue) => {
            client.submit(&format!(r#"{{"body": 1, "max_attempts": 1, "queue": "{queue}"}}"#)).await
        }
    };
    let request = ClaimRequest::new("worker-1", Duration::from_secs(60));
    let request = request.queues(queue.unwrap_or("default").parse::<QueueName>().expect("a name"), 0);
    let job = site.backend.claim(request, Default::default()).await.expect("claim").pop().expect("a job");
    site.settle(&job, Outcome::Retry { error, delay: Duration::ZERO }).await;
    id
}

fn handler_error(message: &str) -> JobError {
    JobError::new(FailureKind::Handler, message)
}

#[tokio::test]
async fn the_overview_tells_what_is_in_each_queue_and_pauses_it() {
    let site = Site::new().await;
    let client = site.client();
    assert!(client.read("/").await.contains("There are no jobs yet."));
    dead(&site, &client, None, handler_error("broken")).await;
    for _ in 0..3 {
        client.submit(r#"{"body": 1, "queue": "bulk"}"#).await;
    }
    let page = client.read("/").await;
    let bulk = between(&page, r#"<a href="/jobs?queue=bulk">"#, "</tr>");
    assert!(bulk.contains(r#"<a href="/jobs?queue=bulk&amp;status=SUBMITTED">3</a>"#), "{bulk}");
    let default = between(&page, r#"<a href="/jobs?queue=default">"#, "</tr>");
    assert!(default.contains(r#"<a href="/dead?queue=default">1</a>"#), "{default}");
    assert!(bulk.contains("<pre tabindex=\"0\">haulage queue pause bulk</pre>"), "{bulk}");
    let curl = "curl --fail-with-body --request POST &quot;$HAULAGE_URL/v1/queues/bulk/pause&quot;</pre>";
    assert!(bulk.contains(curl), "{bulk}");
    assert_eq!(between(bulk, r#"<form method="post" action=""#, "\""), "/queues/bulk/pause");

    let target = client.press("/queues/bulk/pause", &[]).await.led_to().to_owned();
    let is_paused = async || site.backend.stats().await.expect("stats").queues[&queue("bulk")].is_paused;
    assert!(is_paused().await);
    let page = client.read(&target).await;
    assert!(page.contains(r#"role="status">The queue is paused: "#), "{page}");
    let bulk = between(&page, r#"<a href="/jobs?queue=bulk">"#, "</tr>");
    assert!(bulk.contains("paused</span>") && bulk.contains(r#"action="/queues/bulk/resume""#), "{bulk}");
    client.press("/queues/bulk/resume", &[]).await.led_to();
    assert!(!is_paused().await);
}

#[tokio::test]
async fn a_job_says_why_it_waits() {
    let site = Site::new().await;
    let client = site.client();
    let first = client.submit(r#"{"body": 1}"#).await;
    let unserved = "No worker seems to take jobs from the queue default: none of its jobs is running. Either there is no \
                    worker for it, or none is ready: one that is not says why in its log, and at /ready.";
    assert_eq!(why(&client, &first).await, unserved);
    // Of a worker that is not ready, there is what it said when it gave the job back.
    let given_back =
        Outcome::Release { after: Duration::ZERO, reason: Some("the model is loading".into()), begun: false };
    site.settle(&site.claim().await, given_back).await;
    let last = "The last worker that had it gave it back: the model is loading";
    assert_eq!(why(&client, &first).await, format!("{unserved} {last}"));
    let running = site.claim().await;
    let second = client.submit(r#"{"body": 2}"#).await;
    let third = client.submit(r#"{"body": 3}"#).await;
    let next = "It is the next job of the queue default, and waits for a worker with a free slot.";
    assert_eq!(why(&client, &second).await, next);
    assert_eq!(why(&client, &third).await, "One other job of the queue default is due before it.");

    let late = client.submit(r#"{"body": 4, "delay": "1h"}"#).await;
    assert!(why(&client, &late).await.starts_with("It was delayed, and is due at 2"));
    let head = client.submit(r#"{"body": 5, "group": "anna", "queue": "g"}"#).await;
    let tail = client.submit(r#"{"body": 6, "group": "anna", "queue": "g"}"#).await;
    let said = why(&client, &tail).await;
    assert_eq!(said, format!("An earlier job of the group anna is not over yet: {head} is SUBMITTED."));
    site.backend.set_paused(queue("g"), true).await.expect("pause");
    assert_eq!(why(&client, &head).await, "The queue g is paused.");

    let retry = Outcome::Retry { error: handler_error("no"), delay: Duration::from_secs(600) };
    site.settle(&running, retry).await;
    assert!(why(&client, &first).await.starts_with("Attempt 1 of 3 failed, and the next one is due at 2"));
    let page = client.read(&format!("/jobs/{first}")).await;
    assert!(page.contains("haulage cancel ") && page.contains("This cannot be undone."), "{page}");
}

#[tokio::test]
async fn a_program_hears_why_a_job_waits_and_when_it_is_likely_to_start() {
    let site = Site::standing_still().await;
    let client = site.client();
    let told = async |id: &str| client.get(&format!("/v1/jobs/{id}/waiting")).await.json();
    for _ in 0..5 {
        client.submit(r#"{"body": 1}"#).await;
        let job = site.claim().await;
        site.backend.clock().advance(Duration::from_secs(60));
        site.settle(&job, Outcome::Success(Json::parse("null").expect("JSON"))).await;
    }
    let first = client.submit(r#"{"body": 1}"#).await;
    let running = site.claim().await;
    let second = client.submit(r#"{"body": 2}"#).await;
    site.backend.clock().advance(Duration::from_secs(1));
    let third = client.submit(r#"{"body": 3}"#).await;

    assert_eq!(told(&first).await, json!({ "id": first, "status": "IN_PROGRESS" }));
    let told_third = told(&third).await;
    assert_eq!(told_third["reason"], "turn");
    assert_eq!((&told_third["ahead"], &told_third["ahead_is_exact"]), (&json!(1), &json!(true)));
    let moment = |told: &Value, name: &str| -> Timestamp {
        serde_json::from_value(told["start"][name].clone()).expect("a moment")
    };
    let in_two_minutes = site.backend.clock().now().after(Duration::from_secs(120));
    let (earliest, latest) = (moment(&told_third, "earliest"), moment(&told_third, "latest"));
    assert!(earliest < in_two_minutes && in_two_minutes < latest, "{told_third}");
    assert!(moment(&told(&second).await, "latest") < latest);

    // Nothing runs, so nobody knows when one starts.
    site.settle(&running, Outcome::Success(Json::parse("null").expect("JSON"))).await;
    let told_third = told(&third).await;
    assert_eq!((&told_third["reason"], &told_third["start"]), (&json!("unserved"), &Value::Null));
}

#[tokio::test]
async fn a_job_shows_its_life() {
    let site = Site::new().await;
    let client = site.client();
    let submission = r#"{"body": {"prompt": "a bicycle"}, "request_id": "r-1", "task": "draw", "metadata": {"team": "vision"}}"#;
    let id = client.submit(submission).await;
    fail(&site, handler_error("out of memory\nat line 7").of_type(Some("torch.OutOfMemoryError".into())))
        .await;
    let job = site.claim().await;
    let progress = Progress { fraction: 0.25, message: Some("a quarter".into()) };
    let update =
        Update::default().progress(progress).checkpoint(Json::parse(r#"{"step": 7}"#).expect("JSON"));
    let beat = Heartbeat::new(job.key.clone(), Duration::from_secs(60)).update(update.expect("small"));
    site.backend.heartbeat(vec![beat]).await.expect("heartbeat");
    let page = client.read(&format!("/jobs/{id}")).await;
    for expected in [
        "<dd>2 of 3</dd>",
        r#"<dd><a href="/jobs?task=draw">draw</a></dd>"#,
        r#"<dd><a href="/jobs?request_id=r-1">r-1</a></dd>"#,
        r#"<dt>Label team</dt><dd><a href="/jobs?label=team%3Dvision">vision</a></dd>"#,
        "<dt>Lease</dt><dd>is alive</dd>",
        r#"<progress max="1" value="0.25""#,
        "25 % a quarter",
        "<code>torch.OutOfMemoryError</code>",
        "out of memory\nat line 7</pre>",
        r#"data-name="Attempt">1</td><td data-name="Worker">worker-1</td>"#,
        "{&quot;step&quot;: 7}</pre>",
        "{&quot;prompt&quot;: &quot;a bicycle&quot;}</pre>",
        "<code>torch.OutOfMemoryError</code> out of memory</td>",
    ] {
        assert!(page.contains(expected), "{expected:?} is not in {page}");
    }
    assert!(!page.contains("Why it waits"), "it runs");

    assert_eq!(
        client.press(&format!("/jobs/{id}/cancel"), &[]).await.led_to(),
        format!("/jobs/{id}?done=asked")
    );
    site.settle(&job, Outcome::Cancelled).await;
    let page = client.read(&format!("/jobs/{id}")).await;
    assert!(page.contains("haulage retry ") && page.contains("haulage purge "), "{page}");
    client.press(&format!("/jobs/{id}/redrive"), &[]).await.led_to();
    site.succeed(r#"["a result"]"#).await;
    let page = client.read(&format!("/jobs/{id}")).await;
    assert!(page.contains("[&quot;a result&quot;]</pre>") && !page.contains("haulage retry "), "{page}");
    assert_eq!(client.press(&format!("/jobs/{id}/delete"), &[]).await.led_to(), "/jobs?done=deleted");
    assert!(client.read("/jobs?done=deleted").await.contains("The job is deleted."));
    let gone = client.page(&format!("/jobs/{id}")).await;
    assert!(gone.status == StatusCode::NOT_FOUND && gone.text().contains("There is no such job"), "{gone:?}");
}

#[tokio::test]
async fn of_a_large_body_the_beginning_is_shown() {
    let site = Site::new().await;
    let client = site.client();
    let id = client.submit(&format!(r#"{{"body": "{}the end"}}"#, "ä".repeat(50_000))).await;
    let page = client.read(&format!("/jobs/{id}")).await;
    assert!(page.contains("The first 65535 of 100009 bytes."), "{}", &page[..2000]);
    assert!(!page.contains("the end") && page.len() < 80_000);
}

#[tokio::test]
async fn jobs_are_found_by_what_is_known_of_them() {
    let site = Site::new().await;
    let client = site.client();
    let one = client
        .submit(r#"{"body": 1, "request_id": "order-1", "metadata": {"user": "anna"}, "task": "t"}"#)
        .await;
    let two = client.submit(r#"{"body": 2, "queue": "bulk"}"#).await;
    assert_eq!(client.page(&format!("/jobs?find={one}")).await.led_to(), format!("/jobs/{one}"));
    for (path, found) in [
        ("/jobs".to_owned(), [true, true]),
        ("/jobs?find=order-1".to_owned(), [true, false]),
        ("/jobs?find=user%3Danna".to_owned(), [true, false]),
        (format!("/jobs?find={}", &one[..13]), [true, one[..13] == two[..13]]),
        ("/jobs?find=nothing".to_owned(), [false, false]),
        // As the form sends it, with what was left empty.
        ("/jobs?status=&queue=bulk&task=&label=&older_than=".to_owned(), [false, true]),
        ("/jobs?status=SUBMITTED&task=t".to_owned(), [true, false]),
        ("/jobs?label=user%3Danna".to_owned(), [true, false]),
        ("/jobs?metadata.user=anna".to_owned(), [true, false]),
        ("/jobs?status=ERROR".to_owned(), [false, false]),
        ("/jobs?limit=1".to_owned(), [false, true]),
        (format!("/jobs?before={two}"), [true, false]),
    ] {
        let page = client.read(&path).await;
        let shown = [&one, &two].map(|id| page.contains(&format!(r#"href="/jobs/{id}">"#)));
        assert_eq!(shown, found, "{path}: {page}");
    }
    let page = client.read("/jobs?limit=1&status=submitted").await;
    let older = between(&page, r#"<p><a href=""#, "\"").replace("&amp;", "&");
    assert_eq!(older, format!("/jobs?limit=1&status=submitted&before={two}"));
    assert!(client.read(&older).await.contains(&format!("/jobs/{one}")));
    for path in ["/jobs?label=anna", "/jobs?status=LOST", "/jobs?older_than=soon", "/jobs?what=1"] {
        let page = client.page(path).await;
        assert!(page.status.as_u16() == 422 && page.text().contains("not valid"), "{page:?}");
    }
}

#[tokio::test]
async fn workers_are_shown_with_what_they_hold() {
    let site = Site::new().await;
    let client = site.client();
    assert!(client.read("/workers").await.contains("No worker holds a job."));
    let id = client.submit(r#"{"body": 1}"#).await;
    let _held = site.claim().await;
    let page = client.read("/workers").await;
    let worker = between(&page, "<h2>worker-1</h2>", "</table>");
    assert!(worker.contains("Holds 1 job, the oldest since <time datetime=\"2"), "{worker}");
    assert!(worker.contains(&format!("/jobs/{id}")) && worker.contains(">alive</td>"), "{worker}");
}

#[tokio::test]
async fn dead_letters_are_redriven_by_what_they_died_of() {
    let site = Site::new().await;
    let client = site.client();
    let error = |line: &str| handler_error(&format!("{line}\nat 7")).of_type(Some("Broken".into()));
    let odd = "it's \"odd\" & <b>";
    let mut same = vec![dead(&site, &client, None, error(odd)).await];
    same.push(dead(&site, &client, Some("bulk"), error(odd)).await);
    let other = dead(&site, &client, None, error("something else")).await;
    let page = client.read("/dead").await;
    assert!(page.contains("3 jobs have used up their attempts, for 2 different reasons."), "{page}");
    let group = between(&page, r#"<section aria-labelledby="group-0">"#, "</section>");
    assert!(group.contains("2 × <code>handler</code> <code>Broken</code>"), "{group}");
    assert!(group.contains("Redrive 2 jobs…") && group.contains("| xargs haulage retry"), "{group}");
    assert!(
        group.contains("haulage dead list --json --limit 3 | jq -r "),
        "of all, not of the group: {group}"
    );
    assert!(
        same.iter().all(|id| group.contains(&format!("/jobs/{id}"))) && !group.contains(&other),
        "{group}"
    );

    let form = |count| [("kind", "handler"), ("type", "Broken"), ("line", odd), ("count", count)];
    let more = client.press("/dead/redrive", &form("1")).await;
    assert!(more.status == StatusCode::CONFLICT && more.text().contains("you were shown 1"), "{more:?}");
    assert_eq!(site.backend.stats().await.expect("stats").dead, 3, "nothing was done");
    let mut in_bulk = form("1").to_vec();
    in_bulk.push(("queue", "bulk"));
    assert_eq!(client.press("/dead/redrive", &in_bulk).await.led_to(), "/dead?done=group&count=1&queue=bulk");
    assert_eq!(client.press("/dead/redrive", &form("1")).await.led_to(), "/dead?done=group&count=1");
    let page = client.read("/dead?done=group&count=1").await;
    assert!(page.contains("1 job waits again, with all its attempts."), "{page}");
    let left = site.backend.list(ListQuery::new().dead(true)).await.expect("list");
    assert_eq!(left.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), [other]);
}

/// A page that runs nothing but the script of its own server, whatever is in it.
#[track_caller]
fn assert_harmless(answer: &Answer) {
    let policy = answer.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ] {
        assert!(policy.split("; ").any(|given| given == part), "{part} is not in {policy:?}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(
        (answer.header("x-content-type-options"), answer.header("cache-control")),
        ("nosniff", "no-store")
    );
    let page = answer.text();
    assert_eq!(page.matches("<script").count(), 1, "{page}");
    assert!(page.contains(r#"<script src="/assets/pages.js" defer></script>"#), "{page}");
    for bad in ["<style", " style=", "<img", "<b>", " onclick=\"", " onerror=\"", "javascript:"] {
        assert!(!page.contains(bad), "{bad} is in {page}");
    }
}

const HOSTILE: &str = "</pre><script>alert(1)</script><img src=x onerror=\\\"alert(2)\\\"><b>'";

#[tokio::test]
async fn whatever_jobs_say_is_text() {
    let site = Site::new().await;
    let client = site.client();
    let hostile: String = serde_json::from_str(&format!("\"{HOSTILE}\"")).expect("text");
    let submission = format!(
        r#"{{"body": {{"{HOSTILE}": "{HOSTILE}"}}, "request_id": "{HOSTILE}", "task": "{HOSTILE}", "group": "{HOSTILE}",
            "metadata": {{"{HOSTILE}": "{HOSTILE}"}}, "max_attempts": 2}}"#
    );
    let id = client.submit(&submission).await;
    let request = || ClaimRequest::new(&hostile, Duration::from_secs(60));
    let claim = async || {
        site.backend.claim(request(), Default::default()).await.expect("claim").pop().expect("a job")
    };
    let error = || handler_error(&hostile).of_type(Some(hostile.clone()));
    let behind = client.submit(&submission).await;
    let job = claim().await;
    let update = Update::default().progress(Progress { fraction: 0.5, message: Some(hostile.clone()) });
    let update = update.checkpoint(Json::parse(&format!("\"{HOSTILE}\"")).expect("JSON")).expect("small");
    let beat = Heartbeat::new(job.key.clone(), Duration::from_secs(60)).update(update);
    site.backend.heartbeat(vec![beat]).await.expect("heartbeat");
    let escaped = "&lt;script&gt;alert(1)&lt;/script&gt;";
    let shown = async |path: &str| {
        let answer = client.page(path).await;
        assert_harmless(&answer);
        let page = answer.text();
        assert!(page.contains(escaped), "{path}: {page}");
    };
    shown("/workers").await;
    shown(&format!("/jobs/{behind}")).await;
    site.settle(&job, Outcome::Retry { error: error(), delay: Duration::ZERO }).await;
    let job = claim().await;
    site.settle(&job, Outcome::Retry { error: error(), delay: Duration::ZERO }).await;
    shown(&format!("/jobs/{id}")).await;
    shown("/jobs").await;
    shown("/dead").await;
    let asked = form_urlencoded::byte_serialize(hostile.as_bytes()).collect::<String>();
    shown(&format!("/jobs?find={asked}")).await;
    for path in [
        format!("/jobs?status={asked}"),
        format!("/jobs?{asked}=1"),
        format!("/jobs/{asked}"),
        format!("/{asked}"),
    ] {
        let answer = client.page(&path).await;
        assert!(answer.status.is_client_error(), "{answer:?}");
        assert_harmless(&answer);
    }
    assert_harmless(&client.page("/").await);
}

#[tokio::test]
async fn a_page_that_has_not_changed_is_not_sent_again() {
    let site = Site::new().await;
    let client = site.client();
    let id = client.submit(r#"{"body": 1}"#).await;
    for path in ["/", "/jobs", "/workers", &format!("/jobs/{id}")] {
        // Whatever waits here counts its seconds.
        site.backend.set_paused(queue("default"), true).await.expect("pause");
        let page = client.read(path).await;
        let tag = format!("\"{}\"", between(&page, r#"<div id="live" data-tag=""#, "\""));
        let headers = [("accept", "text/html"), ("if-none-match", tag.as_str())];
        let again = || client.get_with(path, &headers);
        if path != "/" {
            let again = again().await;
            assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0), "{path}");
        }
        site.backend.set_paused(queue("default"), false).await.expect("resume");
        let job = site.claim().await;
        let changed = again().await;
        assert_eq!(changed.status, StatusCode::OK, "{path}: {changed:?}");
        site.settle(&job, Outcome::release()).await;
    }
}

#[tokio::test]
async fn the_page_of_a_job_that_runs_is_sent_again_with_a_new_checkpoint() {
    let site = Site::new().await;
    let client = site.client();
    let path = format!("/jobs/{}", client.submit(r#"{"body": 1}"#).await);
    let job = site.claim().await;
    let mut tag = String::new();
    for step in 1..3 {
        let checkpoint = Json::parse(&format!("{{\"step\": {step}}}")).expect("JSON");
        let update = Update::default().checkpoint(checkpoint).expect("small");
        let beat = Heartbeat::new(job.key.clone(), Duration::from_secs(60)).update(update);
        site.backend.heartbeat(vec![beat]).await.expect("heartbeat");
        let again = client.get_with(&path, &[("accept", "text/html"), ("if-none-match", &tag)]).await;
        assert_eq!(again.status, StatusCode::OK, "step {step}");
        let page = again.text();
        assert!(page.contains(&format!("{{&quot;step&quot;: {step}}}</pre>")), "{page}");
        tag = format!("\"{}\"", between(&page, r#"<div id="live" data-tag=""#, "\""));
    }
    let again = client.get_with(&path, &[("accept", "text/html"), ("if-none-match", &tag)]).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED, "nothing has changed");
}

#[tokio::test]
async fn what_is_paid_for_is_read_when_somebody_asks() {
    let (site, store) = Site::on_store(|builder, _| builder).await;
    let client = site.client();
    let id = client.submit(r#"{"body": "a body"}"#).await;
    store.is_paid.store(true, Ordering::Relaxed);
    let full = format!("/jobs/{id}?full=true");
    for (path, button, says) in [
        ("/".to_owned(), "/?exact=true", "0.12 US dollars (on demand, in us-east-1)"),
        ("/jobs?task=t".to_owned(), "/jobs?task=t&amp;read=true", "about 1000000 items, 500.0 MB"),
        ("/jobs?find=nothing".to_owned(), "/jobs?find=nothing&amp;read=true", "all of table results"),
        ("/workers".to_owned(), "/workers?read=true", "0.12 US dollars"),
        ("/dead".to_owned(), "/dead?read=true", "each read is paid for"),
        (format!("/jobs/{id}"), full.as_str(), "paid for by its size"),
    ] {
        store.paid.store(0, Ordering::Relaxed);
        let page = client.read(&path).await;
        assert_eq!(store.paid.load(Ordering::Relaxed), 0, "{path}");
        assert!(page.contains(says) && page.contains(&format!("href=\"{button}\"")), "{path}: {page}");
        assert!(
            page.contains(r#"<div id="live">"#) && page.contains("reload it"),
            "it would be read again: {page}"
        );
        client.read(&button.replace("&amp;", "&")).await;
        assert!(store.paid.load(Ordering::Relaxed) > 0, "{button}");
    }
    // The id alone costs one look-up.
    store.paid.store(0, Ordering::Relaxed);
    client.page(&format!("/jobs?find={id}")).await.led_to();
    assert_eq!(store.paid.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_a_page_loads_is_small_and_its_own() {
    let site = Site::new().await;
    let client = site.client();
    let mut all = 0;
    for (path, kind) in [
        ("/assets/pages.css", "text/css; charset=utf-8"),
        ("/assets/pages.js", "text/javascript; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
    ] {
        let asset = client.get(path).await;
        assert_eq!((asset.status, asset.header("content-type")), (StatusCode::OK, kind));
        let again = client.get_with(path, &[("if-none-match", asset.header("etag"))]).await;
        assert_eq!(again.status, StatusCode::NOT_MODIFIED);
        all += asset.body.len();
        let text = asset.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http://") && !text.contains("https://"), "{path}");
    }
    assert!(all < 100_000, "{all} bytes");
}

#[tokio::test]
async fn programs_still_have_problem_documents() {
    let site = Site::new().await;
    let client = site.client();
    assert_eq!(client.get("/no/such/path").await.problem(404)["type"], "haulage:no_such_path");
    let api = client.get_with("/v1/jobs/none", &[("accept", "text/html")]).await;
    assert_eq!(api.problem(404)["type"], "haulage:not_found");
    let id = client.submit(r#"{"body": 1}"#).await;
    let found = site.backend.get(vec![id.as_str().into()], Detail::Status).await.expect("get").remove(0);
    assert_eq!(found.into_record(&id.as_str().into()).expect("a record").status, Status::Submitted);
}
