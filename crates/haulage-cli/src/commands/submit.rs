//! `haulage submit`

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    time::Duration,
};

use haulage::{Error, JobHandle, JobId, Json, NewJob, Producer, QueueName, Webhook, WebhookEvent};
use serde_json::json;

use super::wait;
use crate::{
    env,
    exit::{Exit, Result},
    input::{self, Lines},
    options,
    output::{Output, count},
    progress,
    session::Session,
};

/// How many jobs, and bytes of bodies, go into one call.
const CHUNK_JOBS: usize = 1000;
const CHUNK_BYTES: usize = 16 << 20;

/// Submit a job, or many, and print their ids
///
/// The body is a JSON document: an argument, a file, or stdin.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  haulage submit --wait '{\"image\": \"cat.png\"}'\n  haulage submit --jsonl bodies.jsonl --group nightly"
)]
pub(crate) struct Args {
    /// The body, as JSON; `-` for stdin, which is also read where there is no body
    #[arg(value_name = "JSON")]
    body: Option<String>,

    /// Read the body from a file
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    file: Option<PathBuf>,

    /// Submit a job for each line of a file, or of stdin with `-`; none if any line is not JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["body", "file"])]
    jsonl: Option<PathBuf>,

    #[command(flatten)]
    options: JobOptions,

    /// Wait, and print the result; with --jsonl, a record for each line, in its order. Where no
    /// worker takes jobs, stderr says so after ten seconds
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    limit: wait::Limit,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Job options")]
struct JobOptions {
    /// A second submit with this key finds the first job and creates nothing, as long as that job is
    /// not over and for 24 hours at least; with another body it is refused. With --jsonl each line has
    /// the key KEY:LINE
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,

    /// How long the key counts, even if the job ends sooner
    #[arg(
        long, value_name = "DURATION", value_parser = options::duration, default_value = "24h",
        requires = "idempotency_key"
    )]
    idempotency_window: Duration,

    /// The queue in which the job waits
    #[arg(long, value_name = "NAME", default_value = QueueName::DEFAULT)]
    queue: QueueName,

    /// What the job asks for, by name, for handlers that do several things: tasks of Python, programs
    /// and servers [default: no name]
    #[arg(long, value_name = "NAME")]
    task: Option<String>,

    #[arg(long, value_name = "NAME", env = env::GROUP.name, help = env::GROUP.help)]
    group: Option<String>,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::DELAY.name, default_value = env::DELAY.fallback(), help = env::DELAY.help
    )]
    delay: Duration,

    #[arg(
        long, value_name = "NUMBER",
        env = env::MAX_ATTEMPTS.name, default_value = env::MAX_ATTEMPTS.fallback(), help = env::MAX_ATTEMPTS.help
    )]
    max_attempts: u32,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::TIMEOUT.name, help = env::TIMEOUT.help
    )]
    timeout: Option<Duration>,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::START_WITHIN.name, help = env::START_WITHIN.help
    )]
    start_within: Option<Duration>,

    #[arg(
        long, value_name = "DURATION", value_parser = options::duration,
        env = env::RESULT_TTL.name, default_value = env::RESULT_TTL.fallback(), help = env::RESULT_TTL.help
    )]
    result_ttl: Duration,

    /// Delete the body when the job succeeds; its result stays
    #[arg(long)]
    drop_body: bool,

    /// A label to keep with the job; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = options::label)]
    metadata: Vec<(String, String)>,

    #[arg(long, value_name = "ID", env = env::REQUEST_ID.name, help = env::REQUEST_ID.help)]
    request_id: Option<String>,

    /// A URL to which a server posts what becomes of the job: see `haulage webhook` [default: none]
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,

    /// What is posted to it: ended, attempt_failed, progress; several with a comma in between
    #[arg(
        long, value_name = "EVENT", value_delimiter = ',', requires = "webhook",
        default_value = WebhookEvent::Ended.as_str()
    )]
    webhook_events: Vec<WebhookEvent>,
}

impl JobOptions {
    fn job(&self, body: Json) -> NewJob {
        let mut job = NewJob::from_json(body);
        job.idempotency_key.clone_from(&self.idempotency_key);
        job.idempotency_window = self.idempotency_window;
        job.spec.queue = self.queue.clone();
        job.spec.task.clone_from(&self.task);
        job.spec.group.clone_from(&self.group);
        job.delay = self.delay;
        job.spec.max_attempts = self.max_attempts;
        job.spec.timeout = self.timeout;
        job.spec.start_within = self.start_within;
        job.spec.drop_body = self.drop_body;
        job.spec.result_ttl = self.result_ttl;
        job.spec.metadata = self.metadata.iter().cloned().collect();
        job.spec.request_id.clone_from(&self.request_id);
        job.spec.webhook =
            self.webhook.as_ref().map(|url| Webhook::new(url).events(self.webhook_events.iter().copied()));
        job
    }

    fn job_of_line(&self, line: usize, body: Json) -> NewJob {
        let mut job = self.job(body);
        if let Some(key) = &mut job.idempotency_key {
            *key = format!("{key}:{line}");
        }
        job
    }
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        match &self.jsonl {
            Some(path) => self.many(path, session).await,
            None => self.one(session).await,
        }
    }

    async fn one(&self, session: &Session) -> Result {
        let output = session.output;
        let job = self.options.job(self.read_body()?);
        job.validate()?;
        let producer = session.producer().await?;
        let handle = producer.submit_job(job).await?;
        if !self.wait {
            return output.line(line(output, &handle));
        }
        wait::one(session, &producer, handle.id(), &self.limit).await
    }

    fn read_body(&self) -> Result<Json> {
        match (&self.file, self.body.as_deref()) {
            (Some(path), _) => input::document(&input::file(path)?, &path.display().to_string()),
            (None, Some(text)) if text != "-" => input::argument(text, "the body"),
            (None, None) if io::stdin().is_terminal() => {
                Err(Exit::usage("there is no body; give it as an argument, with --file, or on stdin"))
            }
            _ => input::document(&input::stdin()?, "stdin"),
        }
    }

    async fn many(&self, path: &Path, session: &Session) -> Result {
        let lines = Lines::open(path)?;
        let survey = lines.survey()?;
        self.options.job_of_line(survey.largest_line, Json::from_stored("null")).validate()?;
        let producer = session.producer().await?;
        let (line, size, limit) =
            (survey.largest_line, survey.largest, producer.backend().capabilities().max_payload);
        if size > limit {
            let hint = "nothing was submitted; keep it elsewhere, and pass a reference to it".into();
            let error = Error::TooLarge { what: "body", size, limit, hint };
            return Err(Exit::from(error).about(&format!("{} line {line}", lines.name())));
        }
        let mut batch = Batch::new(&producer, session.output, survey.count, !self.wait);
        let sent = batch.send(&lines, &self.options).await;
        batch.bar.finish_and_clear();
        if let Err(exit) = sent {
            let (done, all, name) = (batch.ids.len(), count(survey.count, "job"), lines.name());
            let mut message = format!("{done} of {all} were submitted");
            if let Some(line) = batch.refused_line {
                let _ = write!(message, "; the first that was not is line {line} of {name}");
            }
            return Err(exit.about(&message));
        }
        batch.told?;
        if self.wait { wait::in_order(session, &producer, &batch.ids, &self.limit).await } else { Ok(()) }
    }
}

/// A submit of many jobs on its way.
struct Batch<'a> {
    producer: &'a Producer,
    output: Output,
    bar: indicatif::ProgressBar,
    print: bool,
    /// Whether the ids could be written. A reader that goes away does not
    /// leave half of a file submitted.
    told: Result,
    ids: Vec<JobId>,
    /// The first line that was not accepted.
    refused_line: Option<usize>,
}

impl<'a> Batch<'a> {
    fn new(producer: &'a Producer, output: Output, total: u64, print: bool) -> Self {
        let bar = progress::bar("submitting", total);
        Self { producer, output, bar, print, told: Ok(()), ids: Vec::new(), refused_line: None }
    }

    async fn send(&mut self, lines: &Lines, options: &JobOptions) -> Result {
        let mut chunk = Vec::new();
        let mut numbers = Vec::new();
        let mut bytes = 0;
        for body in lines.bodies()? {
            let (number, body) = body?;
            bytes += body.size();
            numbers.push(number);
            chunk.push(options.job_of_line(number, body));
            if chunk.len() == CHUNK_JOBS || bytes >= CHUNK_BYTES {
                bytes = 0;
                self.send_chunk(std::mem::take(&mut chunk), &std::mem::take(&mut numbers)).await?;
            }
        }
        self.send_chunk(chunk, &numbers).await
    }

    async fn send_chunk(&mut self, jobs: Vec<NewJob>, lines: &[usize]) -> Result {
        if jobs.is_empty() {
            return Ok(());
        }
        let (accepted, error) = match self.producer.submit_many(jobs).await {
            Ok(handles) => (handles, None),
            Err(failed) => {
                self.refused_line = lines.get(failed.index).copied();
                let later = failed.accepted_later.into_iter().map(|(_, handle)| handle);
                (failed.accepted.into_iter().chain(later).collect(), Some(failed.error))
            }
        };
        self.ids.extend(accepted.iter().map(|handle| handle.id().clone()));
        if self.print && self.told.is_ok() {
            let lines: String = accepted.iter().map(|handle| line(self.output, handle) + "\n").collect();
            let write = || self.output.text(&lines);
            // A line of data must not end up in the middle of the bar.
            self.told = if self.output.is_terminal() { self.bar.suspend(write) } else { write() };
        }
        self.bar.inc(accepted.len() as u64);
        error.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// What is written of an accepted job.
fn line(output: Output, handle: &JobHandle) -> String {
    if output.json {
        json!({ "id": handle.id(), "duplicate": handle.is_duplicate() }).to_string()
    } else {
        handle.id().to_string()
    }
}
