//! Submitting: one job, or a stream of them.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use haulage::{Error, JobSpec, Json, NewJob, backend::Submitted};
use hyper::{
    StatusCode,
    body::{Bytes, Incoming},
    header::LOCATION,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapDeserializer},
};
use serde_json::value::RawValue;

use super::{
    Api, LONGEST_WAIT,
    jobs::{self, Ended},
    keys::{Identity, Scope},
    reply::{self, Reply, Sender},
    request::{self, Request, invalid, next},
};
use crate::Problem;

/// How much more than its body a submission may have: its options.
const OPTIONS: usize = 256 << 10;
/// How many jobs of a stream go to the store together, and how many bytes of bodies.
const BATCH_JOBS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
/// How many answers of a stream wait for a client that does not read them while it sends: so many batches.
const UNREAD: usize = 512;
/// How soon it is worth to look at a job that has just been submitted.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a submission may say, besides the body, that is no part of the spec.
const DELAY: &str = "delay";
const KEY: &str = "idempotency_key";
const WINDOW: &str = "idempotency_window";
/// The fields of a [`JobSpec`].
const SPEC: [&str; 10] = [
    "queue",
    "task",
    "request_id",
    "group",
    "max_attempts",
    "timeout",
    "start_within",
    "result_ttl",
    "drop_body",
    "metadata",
];

pub(super) async fn submit(api: Arc<Api>, mut request: Request) -> Result<Reply, Problem> {
    match request.kind().as_str() {
        "application/json" => {}
        "application/jsonl" | "application/x-ndjson" | "application/jsonlines" => return many(api, request),
        kind => {
            let detail = match kind {
                "" => "the request does not say what its body is".to_owned(),
                kind => format!("the body is {kind}"),
            };
            return Err(Problem::new(415, "media_type", "The body is not JSON", detail)
                .field("content-type")
                .remedy("send `Content-Type: application/json`, or application/jsonl for many jobs"));
        }
    }
    let wait = wait(&request)?;
    let text = request.read(api.max_body.saturating_add(OPTIONS)).await?;
    let mut job = job(&text)?;
    if let Some(key) = request.header("idempotency-key") {
        // The draft of the header has it in quotes, and most clients leave them out.
        let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key).to_owned();
        if job.idempotency_key.as_ref().is_some_and(|other| *other != key) {
            return Err(invalid(KEY, "the header Idempotency-Key and the body name different keys"));
        }
        job.idempotency_key = Some(key);
    }
    prepare(&api, &request.who, &mut job)?;
    api.pressure.admit(&*api.backend, std::iter::once(&job)).await?;
    let submitted = api.backend.submit(vec![job]).await?.pop();
    let submitted = submitted.unwrap_or_else(|| Err(no_answer()))?;
    api.audit(&request.who, "submit", std::iter::once(&submitted.id));
    let location = format!("/v1/jobs/{}", submitted.id);
    // Who may not look at results does not get them this way either.
    let wait = wait.filter(|_| request.who.may(&[Scope::Read]));
    let ended = match wait {
        Some(wait) => jobs::ended(&api, &submitted.id, wait).await?,
        None => Ended::NotYet,
    };
    let mut answer = match ended {
        Ended::Over(record) => reply::json(StatusCode::OK, &*record),
        // What was submitted is submitted, also where this server has to end.
        Ended::NotYet | Ended::Stopping => {
            let mut answer = reply::json(StatusCode::ACCEPTED, &submitted);
            reply::retry_after(&mut answer, LOOK_AGAIN);
            answer
        }
    };
    reply::header(&mut answer, LOCATION, &location);
    if let Some(wait) = wait {
        let applied = format!("wait={}", wait.as_secs());
        reply::header(&mut answer, hyper::header::HeaderName::from_static("preference-applied"), &applied);
    }
    Ok(answer)
}

fn no_answer() -> Error {
    Error::Unavailable { message: "the store did not answer for the job".into(), source: None }
}

/// Checks a job before it goes to the store.
fn prepare(api: &Api, who: &Identity, job: &mut NewJob) -> Result<(), Problem> {
    job.validate().map_err(|error| named(&error))?;
    api.check_sizes(std::slice::from_ref(job))?;
    who.need_queues([&job.spec.queue])?;
    api.stamp(who, job);
    Ok(())
}

/// The problem of an option that is out of its range: such messages begin with its name.
fn named(error: &Error) -> Problem {
    let problem = Problem::from(error);
    let field = SPEC.into_iter().chain([DELAY, KEY, WINDOW]).find(|field| problem.detail.starts_with(field));
    match field {
        Some(field) => problem.field(field),
        None => problem,
    }
}

/// For how long `Prefer: wait=…` asks to wait.
fn wait(request: &Request) -> Result<Option<Duration>, Problem> {
    let preferences = request.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = preferences.flat_map(|value| value.split([',', ';']));
    let Some(seconds) = preferences.find_map(|preference| preference.trim().strip_prefix("wait=")) else {
        return Ok(None);
    };
    let seconds = seconds.trim_matches('"').parse::<u64>();
    let seconds =
        seconds.map_err(|_| invalid("prefer", "Prefer: wait=… is not a whole number of seconds"))?;
    Ok(Some(Duration::from_secs(seconds).min(LONGEST_WAIT)))
}

/// A job, from what was sent for it.
fn job(text: &[u8]) -> Result<NewJob, Problem> {
    let Fields(fields) = serde_json::from_slice(text).map_err(|error| Problem::from(Error::from(error)))?;
    let mut job = None;
    let mut rest = Vec::new();
    for (name, value) in &fields {
        match &**name {
            "body" => job = Some(NewJob::from_json(Json::from_stored(value.get()))),
            name if SPEC.contains(&name) => rest.push((name, *value)),
            DELAY | KEY | WINDOW => {}
            name => {
                let names = ["body", DELAY, KEY, WINDOW].into_iter().chain(SPEC);
                let names: Vec<_> = names.collect();
                return Err(invalid(name, format!("there is no field {name:?}"))
                    .remedy(format!("the fields are {}", names.join(", "))));
            }
        }
    }
    let Some(mut job) = job else {
        return Err(invalid("body", "there is no body").remedy("give the job a body, null if it needs none"));
    };
    let spec = MapDeserializer::<_, serde_json::Error>::new(rest.iter().copied());
    job.spec = JobSpec::deserialize(spec).map_err(|error| {
        // Which of them it was.
        let wrong = rest.iter().find(|field| {
            JobSpec::deserialize(MapDeserializer::<_, serde_json::Error>::new(std::iter::once(**field)))
                .is_err()
        });
        let (name, _) = wrong.copied().unwrap_or(("spec", RawValue::NULL));
        invalid(name, format!("{name}: {}", without_place(&error)))
    })?;
    for (name, value) in &fields {
        let wrong = |error: serde_json::Error| invalid(name, format!("{name}: {}", without_place(&error)));
        match &**name {
            DELAY => job.delay = seconds(value).map_err(wrong)?,
            WINDOW => job.idempotency_window = seconds(value).map_err(wrong)?,
            KEY => job.idempotency_key = serde_json::from_str(value.get()).map_err(wrong)?,
            _ => {}
        }
    }
    Ok(job)
}

/// A time, in the forms that the times of a spec have.
fn seconds(value: &RawValue) -> Result<Duration, serde_json::Error> {
    let spec = MapDeserializer::<_, serde_json::Error>::new(std::iter::once(("result_ttl", value)));
    JobSpec::deserialize(spec).map(|spec| spec.result_ttl)
}

/// What is wrong with one value; the place would be one within it.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The fields of an object, as they are written. None may be there twice.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the job's body, like {\"body\": …}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields: Self::Value = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    if fields.iter().any(|(earlier, _)| *earlier == name) {
                        return Err(serde::de::Error::custom(format!("the field {name:?} is there twice")));
                    }
                    fields.push((name, map.next_value()?));
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Fields).map(Self)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The answer for one line.
#[derive(Serialize)]
struct Line {
    line: u64,
    #[serde(flatten)]
    answer: LineAnswer,
}

#[derive(Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant)] // an error is rare
enum LineAnswer {
    Submitted(Submitted),
    Error { error: Problem },
}

/// Submits what comes line by line, and answers so.
fn many(api: Arc<Api>, request: Request) -> Result<Reply, Problem> {
    let (sender, reply) = reply::stream_ahead(StatusCode::OK, "application/jsonl", UNREAD);
    let Request { body, who, .. } = request;
    let limit = api.max_body.saturating_add(OPTIONS);
    tokio::spawn(async move {
        let mut upload = Upload { api, who, sender, batch: Vec::new(), bytes: 0, lines: 0 };
        if let Err(End::Problem(problem)) = upload.run(body, limit).await {
            upload.answer(vec![(upload.lines + 1, Err(problem))]).await.ok();
        }
    });
    Ok(reply)
}

/// Why a stream ends early.
#[allow(clippy::large_enum_variant)] // there is one at most
enum End {
    /// Nobody reads the answers any more.
    Gone,
    Problem(Problem),
}

struct Upload {
    api: Arc<Api>,
    who: Arc<Identity>,
    sender: Sender,
    /// Lines that have been read, with their numbers.
    batch: Vec<(u64, Result<NewJob, Problem>)>,
    bytes: usize,
    lines: u64,
}

impl Upload {
    async fn run(&mut self, mut body: Incoming, limit: usize) -> Result<(), End> {
        let mut rest: Vec<u8> = Vec::new();
        loop {
            // What has come goes on its way as soon as there is nothing more to read at once.
            let part = match next(&mut body).now_or_never() {
                Some(part) => part,
                None => {
                    self.submit().await?;
                    next(&mut body).await
                }
            };
            // A line that breaks off is none.
            let part: Option<Bytes> = match part {
                Ok(part) => part,
                Err(problem) => {
                    self.submit().await?;
                    return Err(End::Problem(problem));
                }
            };
            let Some(part) = part else { break };
            for piece in part.split_inclusive(|byte| *byte == b'\n') {
                if rest.len() + piece.len() > limit {
                    self.submit().await?;
                    let line = self.lines + 1;
                    let problem = request::too_large(limit);
                    let detail =
                        format!("line {line} has more than {limit} bytes; nothing from it on was submitted");
                    return Err(End::Problem(Problem { detail, ..problem }));
                }
                rest.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    self.line(&rest).await?;
                    rest.clear();
                }
            }
        }
        self.line(&rest).await?;
        self.submit().await
    }

    async fn line(&mut self, text: &[u8]) -> Result<(), End> {
        if text.is_empty() {
            return Ok(());
        }
        self.lines += 1;
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let job = job(text).and_then(|mut job| prepare(&self.api, &self.who, &mut job).map(|()| job));
        self.batch.push((self.lines, job));
        self.bytes += text.len();
        if self.batch.len() >= BATCH_JOBS.min(self.api.backend.capabilities().max_submit.max(1))
            || self.bytes >= BATCH_BYTES
        {
            self.submit().await?;
        }
        Ok(())
    }

    /// Submits what has come so far.
    async fn submit(&mut self) -> Result<(), End> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let jobs: Vec<NewJob> = batch.iter().filter_map(|(_, job)| job.as_ref().ok().cloned()).collect();
        let submitted = match self.api.pressure.admit(&*self.api.backend, jobs.iter()).await {
            Err(problem) => Err(problem),
            Ok(()) if jobs.is_empty() => Ok(Vec::new()),
            Ok(()) => self.api.backend.submit(jobs).await.map_err(Problem::from),
        };
        let mut failure = None;
        let mut submitted = match submitted {
            Ok(submitted) => submitted.into_iter(),
            Err(error) => {
                failure = Some(error);
                Vec::new().into_iter()
            }
        };
        let answers: Vec<_> = batch
            .into_iter()
            .map(|(line, job)| {
                let answer = job.and_then(|_| {
                    let lost = || failure.clone().unwrap_or_else(|| no_answer().into());
                    submitted.next().map_or_else(|| Err(lost()), |answer| answer.map_err(Problem::from))
                });
                (line, answer)
            })
            .collect();
        self.api.audit(
            &self.who,
            "submit",
            answers.iter().filter_map(|(_, answer)| Some(&answer.as_ref().ok()?.id)),
        );
        self.answer(answers).await?;
        match failure {
            None => Ok(()),
            // The store does not take jobs now; more of them would only wait for the same.
            Some(problem) => {
                let detail =
                    format!("{}; nothing from line {} on was submitted", problem.detail, self.lines + 1);
                Err(End::Problem(Problem { detail, ..problem }))
            }
        }
    }

    async fn answer(&self, answers: Vec<(u64, Result<Submitted, Problem>)>) -> Result<(), End> {
        let mut text = Vec::new();
        for (line, answer) in answers {
            let answer = match answer {
                Ok(submitted) => LineAnswer::Submitted(submitted),
                Err(error) => LineAnswer::Error { error },
            };
            if serde_json::to_writer(&mut text, &Line { line, answer }).is_ok() {
                text.push(b'\n');
            }
        }
        self.sender.send(text).await.map_err(|_| End::Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_has_all_options_of_a_job_and_no_others() {
        let all = r#"{"body": {"b":1,"a":[ ]}, "queue": "bulk", "task": "embed", "request_id": "r-1",
            "group": "g", "max_attempts": 5, "timeout": "5m", "start_within": 60.5, "result_ttl": 3600,
            "drop_body": true, "metadata": {"team": "vision"}, "delay": "1s", "idempotency_key": "k",
            "idempotency_window": "1h"}"#;
        let job = job(all.as_bytes()).expect("a job");
        assert_eq!(job.body.as_str(), r#"{"b":1,"a":[ ]}"#);
        assert_eq!((job.spec.queue.as_str(), job.spec.timeout), ("bulk", Some(Duration::from_secs(300))));
        assert_eq!((job.delay, job.idempotency_window), (Duration::from_secs(1), Duration::from_secs(3600)));
        assert_eq!(job.idempotency_key.as_deref(), Some("k"));
        // Whoever adds an option adds it here.
        let written = serde_json::to_value(&job.spec).expect("JSON");
        let mut names: Vec<_> = written.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut known = SPEC.to_vec();
        names.sort_unstable();
        known.sort_unstable();
        assert_eq!(names, known);
        let plain = self::job(br#"{"body":null}"#).expect("a job");
        assert!(plain.spec.is_default() && plain.body.as_str() == "null");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, field, says) in [
            (r#"{"body":1,"que":"x"}"#, "que", "there is no field"),
            (r#"{"queue":"x"}"#, "body", "there is no body"),
            (r#"{"body":1,"queue":"two words"}"#, "queue", "is not the name of a queue"),
            (r#"{"body":1,"timeout":"soon"}"#, "timeout", "write it like"),
            (r#"{"body":1,"queue":"x","delay":-1}"#, "delay", "not a number of seconds"),
            (r#"{"body":1,"metadata":{"a":1}}"#, "metadata", "expected a string"),
            (r#"{"body":1,"max_attempts":"3"}"#, "max_attempts", "expected u32"),
        ] {
            let problem = job(text.as_bytes()).expect_err(text);
            assert_eq!(problem.field.as_deref(), Some(field), "{text}: {problem:?}");
            assert!(problem.detail.contains(says), "{text}: {problem:?}");
        }
        let twice = job(br#"{"body":1,"body":2}"#).expect_err("twice");
        assert!(twice.detail.contains("is there twice"), "{twice:?}");
        assert_eq!(job(b"[1]").expect_err("no object").name(), "invalid_json");
        let late = NewJob::new(&1).expect("JSON").max_attempts(0).validate().expect_err("refused");
        assert_eq!(named(&late).field.as_deref(), Some("max_attempts"));
    }
}
