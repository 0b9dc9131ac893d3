//! A store that is out of reach, or that does not answer.

use std::time::Duration;

use haulage::NewJob;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    client::{Client, Site},
    store::State,
};

const LINES: [(&str, &str); 1] = [("content-type", "application/jsonl")];

/// Waits until the server has so many requests in its hands.
async fn are_open(site: &Site, requests: usize) {
    let open = async {
        while site.server.open_requests() < requests {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), open).await.expect("they are open");
}

/// Asks for all that is in the document, of this job where it is about one.
async fn ask_for_everything(client: &Client, id: &str) -> Vec<(String, crate::client::Answer)> {
    let document = client.get("/openapi.json").await.json();
    let mut answers = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            let at = path.replace("{id}", id).replace("{queue}", "default");
            let method: Method = method.to_uppercase().parse().expect("a method");
            if at == "/openapi.json" {
                continue;
            }
            let headers = [("content-type", "application/json"), ("prefer", "wait=1")];
            let answer = client.send(method.clone(), &at, &headers, r#"{"body": 2}"#).await;
            answers.push((format!("{method} {at}"), answer));
        }
    }
    answers
}

#[tokio::test]
async fn whatever_needs_a_store_that_is_out_of_reach_is_a_503_and_nothing_is_half_done() {
    let (site, store) = Site::on_store(|builder, _| builder).await;
    let client = site.client();
    let id = client.submit(r#"{"body": 1}"#).await;
    store.state.send_replace(State::Fails);
    let answers = ask_for_everything(&client, &id).await;
    assert!(answers.len() > 10);
    for (asked, answer) in answers {
        let problem = answer.problem(503);
        assert_eq!(problem["type"], "haulage:unavailable", "{asked}: {problem}");
        assert!(answer.header("retry-after").parse::<u64>().is_ok(), "{asked}: {answer:?}");
    }
    for page in ["/", "/jobs", &format!("/jobs/{id}"), "/workers", "/dead"] {
        let shown = client.page(page).await;
        assert_eq!(shown.status, StatusCode::SERVICE_UNAVAILABLE, "{page}");
        assert!(shown.text().contains("out of order"), "{page}");
    }
    let lines = client.send(Method::POST, "/v1/jobs", &LINES, "{\"body\": 3}\n{\"body\": 4}\n").await;
    let said: Vec<Value> =
        lines.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said.iter().all(|line| line["error"]["type"] == "haulage:unavailable"), "{said:?}");

    store.state.send_replace(State::Works);
    let stats = client.get("/v1/stats").await.json();
    assert_eq!((&stats["visible"], &stats["queues"]["default"]["is_paused"]), (&1.into(), &false.into()));
    site.succeed("1").await;
}

#[tokio::test]
async fn who_waits_for_a_store_that_hangs_holds_up_nobody_else() {
    let (site, store) = Site::on_store(|builder, _| builder).await;
    let client = site.client();
    let id = client.submit(r#"{"body": 1}"#).await;
    store.state.send_replace(State::Hangs);
    let mut waiting = Vec::new();
    for n in 0..20 {
        let mut stream = TcpStream::connect(site.server.address()).await.expect("connect");
        let request = match n % 2 {
            0 => format!("GET /v1/jobs/{id} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"),
            _ => "POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                  connection: close\r\ncontent-length: 11\r\n\r\n{\"body\": 2}"
                .to_owned(),
        };
        stream.write_all(request.as_bytes()).await.expect("send");
        waiting.push(stream);
    }
    are_open(&site, waiting.len()).await;
    // What needs no store is there, and what is wrong is told.
    assert_eq!(client.get("/openapi.json").await.status, StatusCode::OK);
    client.post("/v1/jobs", r#"{"body": 1, "que": 2}"#).await.problem(422);
    // Some lose patience; what they have asked for may be done, or not.
    let patient = waiting.split_off(10);
    drop(waiting);
    store.state.send_replace(State::Works);
    for mut stream in patient {
        let mut answer = String::new();
        let reading = tokio::time::timeout(Duration::from_secs(60), stream.read_to_string(&mut answer));
        reading.await.expect("an answer").expect("read");
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }
    let visible = client.get("/v1/stats").await.json()["visible"].as_u64().expect("a number");
    assert!((6..=11).contains(&visible), "{visible}");
}

#[tokio::test]
async fn a_server_ends_in_time_though_its_store_hangs() {
    let (site, store) = Site::on_store(|builder, _| builder).await;
    site.backend.submit(vec![NewJob::new(&1).expect("JSON")]).await.expect("submit");
    store.state.send_replace(State::Hangs);
    let mut stream = TcpStream::connect(site.server.address()).await.expect("connect");
    stream.write_all(b"GET /v1/stats HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("send");
    are_open(&site, 1).await;
    let Site { server, folder, .. } = site;
    let ended = tokio::time::timeout(Duration::from_secs(60), server.stop(Duration::from_millis(100))).await;
    assert_eq!(ended, Ok(false), "something was left open, and it ended all the same");
    drop(folder);
}
