//! Calls as they go over the wire, so that nothing repeats one or reads an
//! answer kindly.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use haulage_servers::{Server, ministack};
use serde_json::{Value, json};

/// One server for all tests; it ends with this process.
pub(crate) fn server() -> &'static str {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(ministack).url()
}

/// An answer with its HTTP status.
pub(crate) type Answer = (u16, Value);

/// A connection that is kept between calls.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn open(url: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(url.trim_start_matches("http://"))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) fn call(&mut self, operation: &str, body: &Value) -> io::Result<Answer> {
        let sqs = operation.contains("Message") || operation.contains("Queue");
        let (service, prefix) = if sqs { ("sqs", "AmazonSQS") } else { ("dynamodb", "DynamoDB_20120810") };
        let body = body.to_string();
        write!(
            self.0.get_mut(),
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Amz-Target: {prefix}.{operation}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/{service}/aws4_request, \
             SignedHeaders=host, Signature=0\r\n\
             Content-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let status = self.line()?.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::UnexpectedEof)?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
        }
        let mut body = Vec::new();
        if chunked {
            while let size @ 1.. = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)? {
                self.part(size, &mut body)?;
                self.line()?;
            }
            self.line()?;
        } else {
            self.part(length, &mut body)?;
        }
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    fn part(&mut self, size: usize, body: &mut Vec<u8>) -> io::Result<()> {
        let start = body.len();
        body.resize(start + size, 0);
        self.0.read_exact(&mut body[start..])
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

/// A single call.
pub(crate) fn call(url: &str, operation: &str, body: &Value) -> io::Result<Answer> {
    Connection::open(url)?.call(operation, body)
}

/// A single call that goes well, on the server itself.
pub(crate) fn done(operation: &str, body: &Value) -> Value {
    let (status, answer) = call(server(), operation, body).expect("the server");
    assert_eq!(status, 200, "{operation}: {answer}");
    answer
}

fn name(of: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{of}{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A queue of its own; its URL.
pub(crate) fn queue() -> Value {
    done("CreateQueue", &json!({ "QueueName": name("queue") }))["QueueUrl"].take()
}

/// How many messages it holds, hidden ones included.
pub(crate) fn messages(queue: &Value) -> u64 {
    let asked = json!({ "QueueUrl": queue, "AttributeNames": ["All"] });
    let attributes = done("GetQueueAttributes", &asked)["Attributes"].take();
    let counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
    counts.iter().filter_map(|count| attributes[count].as_str()?.parse::<u64>().ok()).sum()
}

/// A table of its own.
pub(crate) fn table() -> String {
    let name = name("table");
    done(
        "CreateTable",
        &json!({
            "TableName": name,
            "KeySchema": [{ "AttributeName": "message_id", "KeyType": "HASH" }],
            "AttributeDefinitions": [{ "AttributeName": "message_id", "AttributeType": "S" }],
            "BillingMode": "PAY_PER_REQUEST",
        }),
    );
    name
}

/// The keys that are in it, sorted.
pub(crate) fn keys(table: &str) -> Vec<String> {
    let answer = done("Scan", &json!({ "TableName": table }));
    let items = answer["Items"].as_array().expect("items");
    let mut keys: Vec<_> =
        items.iter().filter_map(|item| Some(item["message_id"]["S"].as_str()?.to_owned())).collect();
    keys.sort();
    keys
}

/// The request that puts an item there.
pub(crate) fn put(table: &str, key: &str) -> Value {
    json!({ "TableName": table, "Item": { "message_id": { "S": key } } })
}
