//! What a server tells of workers that are not ready.

use std::collections::BTreeMap;

use haulage::{Backend, QueueName, Timestamp, backend::Unready};
use haulage_http::{
    HttpBackend,
    server::{KeyFile, Scope},
};
use serde_json::json;

use crate::client::{Site, add_key};

fn queue(name: &str) -> QueueName {
    name.parse().expect("a name")
}

fn unready(queues: &[&str], reason: &str) -> Unready {
    let at = Timestamp::from_micros(1_800_000_000_000_000);
    Unready::new(queues.iter().map(|name| queue(name)), reason, at)
}

#[tokio::test]
async fn it_is_on_the_page_of_the_workers_and_says_why_a_job_waits() {
    let site = Site::standing_still().await;
    let client = site.client();
    let id = client.submit(r#"{"body": 1, "queue": "gpu"}"#).await;
    let told = async || client.get(&format!("/v1/jobs/{id}/waiting")).await.json();
    assert_eq!(told().await["reason"], "unserved");
    let tell = async |worker: &str, unready: Option<Unready>| {
        site.backend.set_unready(worker.to_owned(), unready).await.expect("told");
    };
    tell("w:2", Some(unready(&["gpu", "bulk"], "<503> & no model"))).await;
    tell("w:1", Some(unready(&["bulk"], "no device"))).await;
    let since = "has not been ready since 2027-01-15 08:00:00 UTC: <503> & no model";
    let text = format!("No worker seems to take jobs from the queue gpu: w:2, which serves it, {since}");
    let waiting = json!({ "id": id, "status": "SUBMITTED", "reason": "not_ready", "text": text });
    assert_eq!(told().await, waiting);
    let page = client.read(&format!("/jobs/{id}")).await;
    assert!(page.contains("08:00:00 UTC: &lt;503&gt; &amp; no model"), "{page}");

    let page = client.read("/workers").await;
    let (_, shown) = page.split_once("<h2>w:2</h2>").expect("it is there");
    assert!(
        shown.contains(r#"Has not been ready since <time datetime="2027-01-15T08:00:00.000000Z">"#),
        "{shown}"
    );
    assert!(
        shown.contains(": &lt;503&gt; &amp; no model</p><p>It serves the queues gpu, bulk.</p>"),
        "{shown}"
    );
    assert!(page.contains("No worker holds a job.") && !page.contains("Holds "), "{page}");
    let workers = client.get("/v1/workers").await.json();
    let second = json!({
        "worker": "w:2", "jobs": 0, "oldest_started_at": null, "lease_until": null,
        "unready": { "queues": ["gpu", "bulk"], "reason": "<503> & no model", "since": "2027-01-15T08:00:00.000000Z" },
    });
    assert_eq!((&workers["workers"][0]["worker"], &workers["workers"][1]), (&json!("w:1"), &second));

    tell("w:2", None).await;
    assert_eq!(told().await["reason"], "unserved", "the other one does not serve it");
}

#[tokio::test]
async fn a_key_for_some_queues_knows_and_tells_of_workers_of_these_alone() {
    let mut secrets = Vec::new();
    let site = Site::with(|builder, folder| {
        let path = folder.path().join("keys");
        for queues in [vec![queue("bulk")], vec![]] {
            secrets.push(add_key(&path, &format!("key-{}", queues.len()), &Scope::ALL, queues));
        }
        builder.keys(KeyFile::open(&path).expect("open"))
    })
    .await;
    let as_key = async |secret: &str| {
        HttpBackend::builder(site.server.url()).key(secret).open().await.expect("the server answers")
    };
    let (bulk, all) = (as_key(&secrets[0]).await, as_key(&secrets[1]).await);
    let set = async |backend: &HttpBackend, worker: &str, unready: Option<Unready>| {
        backend.set_unready(worker.to_owned(), unready).await.is_ok()
    };
    let both = unready(&["bulk", "gpu"], "no model");
    assert!(
        set(&all, "both", Some(both.clone())).await && set(&all, "gpu", Some(unready(&["gpu"], "x"))).await
    );
    assert!(set(&bulk, "own", Some(unready(&["bulk"], "no device"))).await);
    let known = bulk.unready_workers().await.expect("workers");
    let own = unready(&["bulk"], "no device");
    let of_both = unready(&["bulk"], "no model");
    assert_eq!(known, BTreeMap::from([("both".to_owned(), of_both), ("own".to_owned(), own)]));
    // It says nothing of other queues, and takes back no word of their workers.
    assert!(!set(&bulk, "own", Some(both)).await);
    assert!(!set(&bulk, "gpu", Some(unready(&["bulk"], "y"))).await && !set(&bulk, "gpu", None).await);
    assert!(set(&bulk, "own", None).await);
    let known = all.unready_workers().await.expect("workers");
    assert_eq!(known.keys().collect::<Vec<_>>(), ["both", "gpu"]);
    let page = site.client().with_key(&secrets[0]).page("/workers").await.text();
    assert!(page.contains("<h2>both</h2>") && !page.contains("<h2>gpu</h2>"), "{page}");
}
