//! Who may see and do what with pages, and who is kept out.

use std::path::PathBuf;

use haulage::{QueueName, Status, backend::ListQuery};
use haulage_http::server::{KeyFile, Scope};
use hyper::{Method, StatusCode};

use crate::client::{Answer, Client, Site, add_key};

/// A server with keys.
struct Guarded {
    site: Site,
    keys: PathBuf,
}

impl Guarded {
    async fn new() -> Self {
        let mut keys = PathBuf::new();
        let site = Site::with(|builder, folder| {
            keys = folder.path().join("keys");
            add_key(&keys, "first", &Scope::ALL, Vec::new());
            builder.keys(KeyFile::open(&keys).expect("open"))
        })
        .await;
        Self { site, keys }
    }
}

/// A browser with a key.
struct Browser<'a> {
    client: &'a Client,
    cookie: String,
}

impl Browser<'_> {
    async fn send(&self, method: Method, path: &str, more: &[(&str, &str)]) -> Answer {
        let headers = [&[("cookie", self.cookie.as_str()), ("accept", "text/html")], more].concat();
        self.client.send(method, path, &headers, "").await
    }

    async fn page(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[]).await
    }

    async fn press(&self, path: &str) -> Answer {
        self.send(Method::POST, path, &[("sec-fetch-site", "same-origin")]).await
    }
}

#[track_caller]
fn assert_form(answer: &Answer, target: &str) {
    let page = answer.text();
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{page}");
    assert!(page.contains(r#"<form method="post" action="/sign-in">"#), "{page}");
    assert!(page.contains(&format!(r#"<input type="hidden" name="next" value="{target}">"#)), "{page}");
}

#[tokio::test]
async fn without_a_key_there_is_the_form_for_one_and_nothing_else() {
    let guarded = Guarded::new().await;
    let client = guarded.site.client();
    for path in ["/", "/jobs?status=ERROR", "/jobs/none", "/workers", "/dead", "/no/such/page"] {
        assert_form(&client.page(path).await, path);
    }
    assert_form(&client.page("/sign-in").await, "/");
    // Nor does it tell what there is to do.
    for path in ["/queues/bulk/pause", "/jobs/none/cancel", "/dead/redrive", "/no/such/thing"] {
        assert_form(&client.press(path, &[]).await, "/");
    }
    assert!(!client.page("/").await.text().contains("http-equiv"));
    for asset in ["/assets/pages.css", "/assets/pages.js", "/assets/icon.svg"] {
        assert_eq!(client.get(asset).await.status, StatusCode::OK);
    }
    // A link elsewhere brings no cookie along; the page asks once more, by itself.
    let headers = [("accept", "text/html"), ("sec-fetch-site", "cross-site")];
    let followed = client.get_with("/jobs/some", &headers).await;
    assert_form(&followed, "/jobs/some");
    assert!(followed.text().contains(r#"<meta http-equiv="refresh" content="0">"#));
    // A program has what it always had.
    client.get("/").await.problem(401);
    client.get_with("/v1/jobs", &[("accept", "text/html")]).await.problem(401);
}

#[tokio::test]
async fn whoever_signs_in_has_a_cookie_that_no_script_and_no_other_site_has() {
    let guarded = Guarded::new().await;
    let client = guarded.site.client();
    let secret = add_key(&guarded.keys, "anna", &[Scope::Read], Vec::new());
    let form = [("key", secret.as_str()), ("next", "/jobs?status=ERROR")];
    let wrong = client.press("/sign-in", &[("key", "haulage_00000000_0"), ("next", "/dead")]).await;
    assert_form(&wrong, "/dead");
    assert!(wrong.text().contains("does not know that key") && wrong.header("set-cookie").is_empty());
    // The server looks at its file each second.
    let signed_in = loop {
        let answer = client.press("/sign-in", &form).await;
        if answer.status == StatusCode::SEE_OTHER {
            break answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(signed_in.led_to(), "/jobs?status=ERROR");
    let cookie = signed_in.header("set-cookie");
    assert_eq!(cookie, format!("haulage_key={secret}; Path=/; HttpOnly; SameSite=Strict"));
    let browser = Browser { client: &client, cookie: format!("other=1; haulage_key={secret}") };
    let page = browser.page("/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("Key: anna") && !page.text().contains(&secret));

    // With TLS, be it that of a proxy.
    let headers = [("sec-fetch-site", "same-origin"), ("origin", "https://jobs.example.com")];
    let body = format!("key={secret}&next=https%3A%2F%2Fevil.example");
    let answer = client.send(Method::POST, "/sign-in", &headers, body).await;
    assert_eq!(answer.led_to(), "/", "nobody is led elsewhere");
    let secure = format!("__Host-haulage_key={secret}; Path=/; HttpOnly; SameSite=Strict; Secure");
    assert_eq!(answer.header("set-cookie"), secure);

    let out = browser.press("/sign-out").await;
    assert_eq!(out.led_to(), "/");
    assert_eq!(out.header("set-cookie"), "haulage_key=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    KeyFile::change(&guarded.keys, |keys| {
        keys.retain(|key| key.name != "anna");
        Ok(())
    })
    .expect("write");
    assert_form(&browser.page("/").await, "/");
}

/// A browser with a key of these scopes.
fn signed_in<'a>(
    guarded: &Guarded,
    client: &'a Client,
    scopes: &[Scope],
    queue: Option<&str>,
) -> Browser<'a> {
    let queues = queue.map(|queue| queue.parse().expect("a name")).into_iter().collect();
    let secret = add_key(&guarded.keys, "browser", scopes, queues);
    Browser { client, cookie: format!("haulage_key={secret}") }
}

#[tokio::test]
async fn reading_needs_read_and_changing_needs_operate() {
    let guarded = Guarded::new().await;
    let client = guarded.site.client();
    let id =
        guarded.site.backend.submit(vec![haulage::NewJob::new(&1).expect("JSON")]).await.expect("submit");
    let id = id.into_iter().next().expect("an answer").expect("submitted").id;
    let pages = [
        "/".to_owned(),
        "/jobs".to_owned(),
        format!("/jobs/{id}"),
        "/workers".to_owned(),
        "/dead".to_owned(),
    ];
    let actions = [
        "/queues/default/pause",
        "/queues/default/resume",
        "/jobs/none/cancel",
        "/jobs/none/redrive",
        "/jobs/none/delete",
        "/dead/redrive",
    ];
    for scope in Scope::ALL {
        let browser = signed_in(&guarded, &client, &[scope], None);
        for path in &pages {
            let answer = browser.page(path).await;
            let expected = if scope == Scope::Read { StatusCode::OK } else { StatusCode::FORBIDDEN };
            assert_eq!(answer.status, expected, "{path} with {scope}");
            if scope == Scope::Read {
                assert!(!answer.text().contains("class=\"action\""), "{path} offers what the key may not do");
            } else {
                assert!(answer.text().contains("does not have the scope read"), "{path} with {scope}");
            }
        }
        for path in actions {
            let answer = browser.press(path).await;
            let may = scope == Scope::Operate;
            assert_eq!(answer.status != StatusCode::FORBIDDEN, may, "{path} with {scope}: {answer:?}");
            // Nor does the key in the cookie make calls.
            let call = browser.send(Method::POST, &format!("/v1{path}"), &[]).await;
            call.problem(401);
        }
    }
    let browser = signed_in(&guarded, &client, &[Scope::Read, Scope::Operate], None);
    assert!(browser.page("/").await.text().contains("action=\"/queues/default/pause\""));
    let page = browser.page(&format!("/jobs/{id}")).await.text();
    let curl = format!(
        "curl --fail-with-body --request POST &quot;$HAULAGE_URL/v1/jobs/{id}/cancel&quot; --header \
         &quot;Authorization: Bearer $HAULAGE_KEY&quot;"
    );
    assert!(page.contains(&curl), "{page}");
    browser.send(Method::GET, "/v1/jobs", &[]).await.problem(401);
}

#[tokio::test]
async fn nothing_is_changed_that_no_page_of_the_server_asks_for() {
    let guarded = Guarded::new().await;
    let client = guarded.site.client();
    let id =
        guarded.site.backend.submit(vec![haulage::NewJob::new(&1).expect("JSON")]).await.expect("submit");
    let id = id.into_iter().next().expect("an answer").expect("submitted").id;
    let browser = signed_in(&guarded, &client, &[Scope::Read, Scope::Operate], None);
    for headers in [
        &[][..],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
    ] {
        for path in [format!("/jobs/{id}/cancel"), "/queues/default/pause".to_owned(), "/sign-out".to_owned()]
        {
            let answer = browser.send(Method::POST, &path, headers).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {headers:?}");
            assert!(answer.text().contains("did not come from a page of this server"), "{answer:?}");
            assert!(answer.header("set-cookie").is_empty(), "{answer:?}");
        }
    }
    let waiting = ListQuery::new().status(Status::Submitted);
    assert_eq!(guarded.site.backend.list(waiting).await.expect("list").len(), 1);
    assert_eq!(guarded.site.backend.stats().await.expect("stats").paused, 0);
    // A GET changes nothing, whatever it is for.
    let answer = browser.page(&format!("/jobs/{id}/cancel")).await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    // Where the browser does not say from where, its origin counts.
    let host = guarded.site.server.address().to_string();
    let headers = [("origin", format!("http://{host}")), ("host", host)];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    browser.send(Method::POST, &format!("/jobs/{id}/cancel"), &headers).await.led_to();
}

#[tokio::test]
async fn without_keys_too_only_its_own_pages_change_things() {
    let site = Site::new().await;
    let client = site.client();
    let id = client.submit(r#"{"body": 1}"#).await;
    let path = format!("/jobs/{id}/cancel");
    for headers in [&[][..], &[("sec-fetch-site", "cross-site")], &[("origin", "https://evil.example")]] {
        assert_eq!(
            client.send(Method::POST, &path, headers, "").await.status,
            StatusCode::FORBIDDEN,
            "{headers:?}"
        );
    }
    let rebound = client.get_with("/", &[("host", "evil.example"), ("accept", "text/html")]).await;
    assert_eq!(rebound.status, StatusCode::FORBIDDEN);
    assert!(rebound.text().contains("not a name of this machine"), "{rebound:?}");
    client.press(&path, &[]).await.led_to();
    assert!(!client.read("/").await.contains("Sign out"));
}

#[tokio::test]
async fn a_key_for_one_queue_shows_no_other() {
    let guarded = Guarded::new().await;
    let client = guarded.site.client();
    let job = |queue: &str| {
        haulage::NewJob::new(&1).expect("JSON").queue(queue.parse::<QueueName>().expect("a name"))
    };
    let submitted = guarded.site.backend.submit(vec![job("bulk"), job("secret")]).await.expect("submit");
    let ids: Vec<_> = submitted.into_iter().map(|answer| answer.expect("submitted").id).collect();
    let browser = signed_in(&guarded, &client, &Scope::ALL, Some("bulk"));
    for path in ["/", "/jobs", "/workers", "/dead", "/jobs?find=nothing"] {
        let answer = browser.page(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        let page = answer.text();
        assert!(!page.contains("secret") && !page.contains(ids[1].as_str()), "{path}: {page}");
    }
    assert!(browser.page("/jobs").await.text().contains(ids[0].as_str()));
    assert_eq!(browser.page(&format!("/jobs/{}", ids[0])).await.status, StatusCode::OK);
    assert_eq!(browser.page(&format!("/jobs/{}", ids[1])).await.status, StatusCode::NOT_FOUND);
    let found = browser.page(&format!("/jobs?find={}", ids[1])).await;
    assert!(
        found.status == StatusCode::OK && !found.text().contains(&format!("/jobs/{}", ids[1])),
        "{found:?}"
    );
    for path in ["/jobs?queue=secret", "/dead?queue=secret"] {
        assert_eq!(browser.page(path).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(browser.press("/queues/secret/pause").await.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.press(&format!("/jobs/{}/cancel", ids[1])).await.status, StatusCode::NOT_FOUND);
    assert_eq!(browser.press("/queues/bulk/pause").await.led_to(), "/?done=paused");
}
