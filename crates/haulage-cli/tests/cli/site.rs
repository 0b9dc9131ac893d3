//! A worker with pages about it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::place::{LONG, Place, Worker};

/// A worker that listens, and where.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) worker: Worker,
    pub(crate) address: String,
}

impl Site {
    pub(crate) fn start(place: &Place, args: &[&str]) -> Self {
        let worker = place.worker(&[&["--http-listen", "127.0.0.1:0"], args].concat());
        let line = worker.says("has /metrics");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
        let address = address.unwrap_or_else(|| panic!("no address in {line}")).to_owned();
        Self { worker, address }
    }

    /// The status and the body of a page.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("connect");
        stream.set_read_timeout(Some(LONG)).expect("a limit");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        (head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"), body.to_owned())
    }

    /// Asks until the answer has this status and these words.
    pub(crate) fn becomes(&self, path: &str, status: u16, words: &str) {
        let limit = Instant::now() + LONG;
        loop {
            let answer = self.get(path);
            if answer.0 == status && answer.1.contains(words) {
                return;
            }
            assert!(Instant::now() < limit, "{path} is {answer:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until this many claims ended so.
    pub(crate) fn counts(&self, outcome: &str, count: u32) {
        let line = format!(
            "haulage_jobs_total{{store=\"haulage.db\",queue=\"default\",outcome=\"{outcome}\"}} {count}\n"
        );
        self.becomes("/metrics", 200, &line);
    }
}
