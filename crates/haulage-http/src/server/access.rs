//! Who gets what, on every route that there is.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use haulage::sqlite::SqliteBackend;
use hyper::Method;
use tempfile::TempDir;

use super::{Key, KeyFile, Scope, Server, pages, routes::routes};

/// Every route, and who may use it. A new one goes in here as well.
const TABLE: &str = "
DELETE /v1/jobs/{id}                operate
GET    /                            read
GET    /assets/icon.svg             anybody
GET    /assets/pages.css            anybody
GET    /assets/pages.js             anybody
GET    /dead                        read
GET    /jobs                        read
GET    /jobs/{id}                   read
GET    /openapi.json                submit read work operate
GET    /v1/backend                  submit read work operate
GET    /v1/backend/signals          read work
GET    /v1/jobs                     read
GET    /v1/jobs/{id}                read
GET    /v1/jobs/{id}/events         read
GET    /v1/jobs/{id}/result         read
GET    /v1/jobs/{id}/waiting        read
GET    /v1/queues                   read work operate
GET    /v1/scale                    read work operate
GET    /v1/stats                    read work operate
GET    /v1/webhooks                 read
GET    /v1/workers                  read
GET    /workers                     read
POST   /dead/redrive                operate
POST   /jobs/{id}/cancel            operate
POST   /jobs/{id}/delete            operate
POST   /jobs/{id}/redrive           operate
POST   /queues/{queue}/pause        operate
POST   /queues/{queue}/resume       operate
POST   /sign-in                     anybody
POST   /sign-out                    anybody
POST   /v1/backend/backlog          read work operate
POST   /v1/backend/cancel           submit operate
POST   /v1/backend/check            read work operate
POST   /v1/backend/claim            work
POST   /v1/backend/claim_deliveries operate
POST   /v1/backend/get              read
POST   /v1/backend/heartbeat        work
POST   /v1/backend/list             read
POST   /v1/backend/list_deliveries  read
POST   /v1/backend/ping             submit read work operate
POST   /v1/backend/purge            operate
POST   /v1/backend/redrive          operate
POST   /v1/backend/redrive_deliveries operate
POST   /v1/backend/set_paused       operate
POST   /v1/backend/set_unready      work
POST   /v1/backend/settle           work
POST   /v1/backend/settle_deliveries operate
POST   /v1/backend/stats            read work operate
POST   /v1/backend/stop             work
POST   /v1/backend/submit           submit
POST   /v1/backend/unready_workers  read
POST   /v1/backend/whole_read       read work operate
POST   /v1/jobs                     submit
POST   /v1/jobs/{id}/cancel         submit operate
POST   /v1/jobs/{id}/redrive        operate
POST   /v1/queues/{queue}/pause     operate
POST   /v1/queues/{queue}/resume    operate
POST   /v1/webhooks/{id}/redrive    operate
";

/// The lines of the table: method, path, and who may.
fn table() -> impl Iterator<Item = (&'static str, &'static str, Vec<&'static str>)> {
    TABLE.trim().lines().map(|line| {
        let mut words = line.split_whitespace();
        (words.next().expect("a method"), words.next().expect("a path"), words.collect())
    })
}

/// A server with a key for each scope.
struct Guarded {
    server: Server,
    secrets: Vec<(Scope, String)>,
    _folder: TempDir,
}

impl Guarded {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("tempdir");
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        let backend = runtime.block_on(SqliteBackend::open(folder.path().join("x.db"))).expect("open");
        let path = folder.path().join("keys");
        let secrets = Scope::ALL.map(|scope| {
            let (key, secret) = Key::create(scope.as_str(), vec![scope], vec![], None).expect("a key");
            KeyFile::change(&path, |keys| {
                keys.push(key);
                Ok(())
            })
            .expect("write");
            (scope, secret)
        });
        let builder = Server::builder(Arc::new(backend)).listen("127.0.0.1:0");
        let server = builder.keys(KeyFile::open(&path).expect("open")).start().expect("a server");
        Self { server, secrets: secrets.into(), _folder: folder }
    }

    fn ask(&self, method: &str, path: &str, more: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.address()).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n{more}\r\n"
        );
        stream.write_all(request.as_bytes()).expect("send");
        stream
    }

    /// The whole answer to a stranger, without the time of day.
    fn answer(&self, method: &str, path: &str, more: &str) -> String {
        let mut answer = String::new();
        self.ask(method, path, more).read_to_string(&mut answer).expect("an answer");
        answer.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
    }

    /// The status that a key of this scope gets; of a stream, no more is read.
    fn status(&self, method: &str, path: &str, scope: Scope) -> u16 {
        let (_, secret) = self.secrets.iter().find(|(of, _)| *of == scope).expect("a key");
        let key = format!("authorization: Bearer {secret}\r\n");
        // Pages are asked for with the cookie, and change only what the site itself asks for.
        let more = match pages::is_page(path) {
            true => format!("cookie: haulage_key={secret}\r\nsec-fetch-site: same-origin\r\n"),
            false => key,
        };
        let mut line = [0; 12];
        self.ask(method, path, &more).read_exact(&mut line).expect("an answer");
        let line = std::str::from_utf8(&line).expect("text");
        line.strip_prefix("HTTP/1.1 ").and_then(|status| status.parse().ok()).expect("a status")
    }
}

fn filled(path: &str) -> String {
    path.replace("{id}", "no-such-job").replace("{queue}", "no-such-queue")
}

#[test]
fn the_table_has_every_route() {
    let mut there: Vec<_> = routes()
        .iter()
        .map(|route| {
            let mut scopes: Vec<_> = route.scopes.iter().map(|scope| scope.as_str()).collect();
            if scopes.is_empty() {
                scopes.push("anybody");
            }
            format!("{} {} {}", route.method, route.path, scopes.join(" "))
        })
        .collect();
    there.sort_unstable();
    let expected: Vec<_> =
        table().map(|(method, path, who)| format!("{method} {path} {}", who.join(" "))).collect();
    assert_eq!(there, expected);
}

#[test]
fn every_route_takes_its_scopes_and_no_others() {
    let guarded = Guarded::new();
    for (method, path, who) in table() {
        for scope in Scope::ALL {
            let status = guarded.status(method, &filled(path), scope);
            let may = who == ["anybody"] || who.contains(&scope.as_str());
            assert_eq!(status != 403, may, "{method} {path} with {scope}: {status}");
            // A form without a key in it signs nobody in.
            assert_eq!(status == 401, path == "/sign-in", "{method} {path} with {scope}: {status}");
        }
    }
}

#[test]
fn a_stranger_gets_one_answer_whatever_it_asks_for() {
    let guarded = Guarded::new();
    let expected = guarded.answer("GET", "/v1/jobs", "");
    assert!(expected.starts_with("HTTP/1.1 401 "), "{expected}");
    let (head, _) = expected.split_once("\r\n\r\n").expect("a head");
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"];
    let paths = table().map(|(_, path, _)| filled(path)).chain(
        [
            "/no/such/path",
            "/v1",
            "/v1/",
            "/v2/jobs",
            "/v1/jobs/",
            "//v1/jobs",
            "/v1/jobs/%ff",
            "/v1/../v1/jobs",
            "*",
        ]
        .map(str::to_owned),
    );
    let strangers = [
        "",
        "authorization: Bearer haulage_00000000_0\r\n",
        "authorization: Basic aGk6aGk=\r\n",
        "cookie: haulage_key=haulage_00000000_0\r\n",
        "origin: https://evil.example\r\n",
        "content-encoding: br\r\n",
        "haulage-call: c-1\r\nhaulage-received: c-1\r\n",
    ];
    for path in paths {
        for method in methods {
            let public = method.parse::<Method>().is_ok_and(|method| pages::is_public(&method, &path));
            if public || (path == "*" && method != "OPTIONS") {
                continue;
            }
            for stranger in strangers {
                let answer = guarded.answer(method, &path, stranger);
                let expected = if method == "HEAD" { format!("{head}\r\n\r\n") } else { expected.clone() };
                assert_eq!(answer, expected, "{method} {path} {stranger}");
            }
        }
    }
    // Nor does one key count where there are two.
    let (_, secret) = &guarded.secrets[1];
    let two = format!("authorization: Bearer {secret}\r\nauthorization: Bearer haulage_0_0\r\n");
    assert_eq!(guarded.answer("GET", "/v1/jobs", &two), expected);
}
