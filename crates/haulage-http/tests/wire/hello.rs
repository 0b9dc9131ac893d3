//! What a server and a client of different versions say to each other first.

use std::time::Duration;

use haulage::{Backend as _, Error, Result, backend::Capabilities};
use haulage_http::HttpBackend;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::place::Place;

/// Opens a backend at a server that says this of itself.
async fn open(hello: &Value) -> Result<HttpBackend> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let body = hello.to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut asked = [0; 4096];
        let read = stream.read(&mut asked).await.expect("a request");
        assert!(
            asked[..read].starts_with(b"GET /v1/backend "),
            "{}",
            String::from_utf8_lossy(&asked[..read])
        );
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
        stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await.expect("answer");
        // Until the client has it.
        while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {}
    });
    let opened = HttpBackend::builder(url).patience(Duration::ZERO).open().await;
    server.abort();
    opened
}

/// What a server of this version says.
async fn hello() -> Value {
    let place = Place::hasty().await;
    let address = place.server.as_ref().expect("a server").address();
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connect");
    let request = "GET /v1/backend HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_either_version_does_not_know_is_left_out() {
    let known = hello().await;
    assert_eq!(open(&known).await.expect("the same version").capabilities().max_submit, 10_000);
    // A later server says more.
    let mut later = known.clone();
    later["capabilities"]["teleports"] = true.into();
    later["signals"]["moods"] = true.into();
    later["motto"] = "faster".into();
    let capabilities = open(&later).await.expect("a later version").capabilities();
    assert_eq!(capabilities.max_submit, 10_000);
    // An earlier one says less; of what it does not speak of, nothing is expected.
    for name in known["capabilities"].as_object().expect("an object").keys() {
        let mut earlier = known.clone();
        earlier["capabilities"].as_object_mut().expect("an object").remove(name);
        open(&earlier).await.unwrap_or_else(|error| panic!("without {name}: {error}"));
    }
    let mut earliest = known;
    earliest["capabilities"] = json!({});
    for name in ["signals", "gzip"] {
        earliest.as_object_mut().expect("an object").remove(name);
    }
    let earliest = open(&earliest).await.expect("the earliest");
    assert_eq!(earliest.capabilities(), Capabilities::default());
    // Nor is it asked for what it does not know.
    earliest.set_unready("w".to_owned(), None).await.expect("nothing is asked");
    assert!(earliest.unready_workers().await.expect("nothing is asked").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_is_told_whatever_else_is_said_in_it() {
    let known = hello().await;
    let mut other = known.clone();
    other["protocol"] = 2.into();
    for hello in [other, json!({ "protocol": 2, "version": known["version"], "can": ["everything"] })] {
        let error = open(&hello).await.expect_err("another protocol");
        let Error::Config(said) = &error else { panic!("{error:?}") };
        // The versions of the programs may be the same ones.
        for part in ["version 2 of the protocol", "this program speaks version 1", "upgrade"] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }
    let error = open(&json!({ "hello": "world" })).await.expect_err("something else");
    assert!(error.to_string().contains("does not answer as a server of Haulage does"), "{error}");
}
