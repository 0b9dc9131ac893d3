//! Submitting a stream of jobs, which come line by line and are answered so.

use std::sync::Arc;

use futures_util::FutureExt as _;
use haulage::{NewJob, backend::Submitted};
use hyper::{StatusCode, body::Bytes};
use serde::Serialize;

use super::{
    Api,
    caller::Caller,
    content::Content,
    memory::{FREE, Room},
    pressure::TOO_MANY,
    reply::{self, Reply, Sender},
    request::{self, Request},
    submission,
};
use crate::Problem;

/// How many jobs go to the store together, and how many bytes of them.
const BATCH_JOBS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
/// How many bytes of answers wait for a client that does not read them while it sends: those of some
/// hundred thousand jobs.
const UNREAD: usize = 8 << 20;

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
pub(super) fn upload(api: Arc<Api>, request: Request) -> Result<Reply, Problem> {
    let (sender, reply) = reply::stream_ahead(StatusCode::OK, "application/jsonl", UNREAD);
    let Request { body, who, .. } = request;
    let limit = api.max_body.saturating_add(submission::OPTIONS);
    let (batch, line) = (Vec::new(), Vec::new());
    tokio::spawn(async move {
        let mut upload =
            Upload { api, who, sender, batch, bytes: 0, lines: 0, line, limit, room: None, failure: None };
        if let Err(UploadEnd::Problem(problem)) = upload.run(body).await {
            upload.answer(vec![(upload.lines + 1, Err(problem))]).await.ok();
        }
    });
    Ok(reply)
}

/// Why a stream ends early.
#[allow(clippy::large_enum_variant)] // there is one at most
enum UploadEnd {
    /// Nobody reads the answers any more.
    Gone,
    Problem(Problem),
}

struct Upload {
    api: Arc<Api>,
    who: Arc<Caller>,
    sender: Sender,
    /// Lines that have been read, with their numbers.
    batch: Vec<(u64, Result<NewJob, Problem>)>,
    bytes: usize,
    lines: u64,
    /// What has been read of the next one, and how long it may be.
    line: Vec<u8>,
    limit: usize,
    /// What the batch and the line take.
    room: Option<Room>,
    /// Why the store did not take jobs, or had no room: more of them would only wait for the same.
    failure: Option<Problem>,
}

impl Upload {
    async fn run(&mut self, mut body: Content) -> Result<(), UploadEnd> {
        loop {
            // What has come goes on its way as soon as there is nothing more to read at once.
            let part = match body.next().now_or_never() {
                Some(part) => part,
                None => {
                    self.submit().await?;
                    body.next().await
                }
            };
            // A line that breaks off is none.
            let part: Option<Bytes> = match part {
                Ok(part) => part,
                Err(problem) => {
                    self.submit().await?;
                    return Err(UploadEnd::Problem(problem));
                }
            };
            let Some(part) = part else { break };
            // A little that was sent may be much to read: others are to have their turn.
            tokio::task::yield_now().await;
            for piece in part.split_inclusive(|byte| *byte == b'\n') {
                if let Some(problem) = self.failure.take_if(|_| !piece.trim_ascii().is_empty()) {
                    return Err(self.end(problem));
                }
                let (size, limit) = (self.line.len() + piece.len(), self.limit);
                if size > limit {
                    self.submit().await?;
                    let line = self.lines + 1;
                    let problem = request::too_large(limit);
                    let detail =
                        format!("line {line} has more than {limit} bytes; nothing from it on was submitted");
                    return Err(UploadEnd::Problem(Problem { detail, ..problem }));
                }
                self.make_room(size).await?;
                self.line.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    self.end_line().await?;
                }
            }
        }
        self.end_line().await?;
        self.submit().await
    }

    /// Sees to it that there is room for so much of a line, and for what waits to be submitted.
    async fn make_room(&mut self, line: usize) -> Result<(), UploadEnd> {
        if line + self.bytes <= FREE {
            return Ok(());
        }
        // Most are done with little, and leave room to others.
        let needed = if line > BATCH_BYTES { self.limit } else { 2 * BATCH_BYTES };
        let made = match self.room.as_ref().filter(|room| room.holds(needed)) {
            Some(room) if line > FREE => room.check_rate(line),
            Some(_) => Ok(()),
            None => {
                // Nobody waits for room who has some: all of them would wait for each other.
                self.submit().await?;
                self.room = None;
                self.api.memory.take(needed).await.map(|room| self.room = Some(room))
            }
        };
        match made {
            Ok(()) => Ok(()),
            Err(problem) => {
                self.submit().await?;
                Err(self.end(problem))
            }
        }
    }

    /// Leaves the room to others where nothing needs it any more.
    fn leave_room(&mut self) {
        self.room = self.room.take().filter(|_| self.line.len() > FREE);
        // What was waited for meanwhile is not the client's fault.
        self.room.iter_mut().for_each(Room::restart);
    }

    /// Takes in the line that has been read.
    async fn end_line(&mut self) -> Result<(), UploadEnd> {
        let text = std::mem::take(&mut self.line);
        if text.is_empty() {
            return Ok(());
        }
        let is_blank = text.trim_ascii().is_empty();
        // Those before it may have failed since it began. So nothing waits in a batch after a failure.
        if let Some(problem) = self.failure.take_if(|_| !is_blank) {
            return Err(self.end(problem));
        }
        self.room.iter_mut().for_each(Room::restart);
        self.lines += 1;
        if is_blank {
            return Ok(());
        }
        let job = submission::job(&text);
        let job = job.and_then(|job| submission::check(&self.api, &self.who, &job).map(|()| job));
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
    async fn submit(&mut self) -> Result<(), UploadEnd> {
        if self.batch.is_empty() {
            self.leave_room();
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let jobs: Vec<NewJob> = batch.iter().filter_map(|(_, job)| job.as_ref().ok().cloned()).collect();
        let submitted = match jobs.is_empty() {
            true => Ok(Vec::new()),
            false => self.api.submit(&self.who, jobs).await,
        };
        let (mut submitted, failure) = match submitted {
            Ok(submitted) => {
                let last = submitted.last().and_then(|last| last.as_ref().err());
                let refusal = last.filter(|problem| problem.name() == TOO_MANY).cloned();
                (submitted.into_iter(), refusal)
            }
            Err(error) => (Vec::new().into_iter(), Some(error)),
        };
        let answers: Vec<_> = batch
            .into_iter()
            .map(|(line, job)| {
                let answer = job.and_then(|_| {
                    let lost = || failure.clone().unwrap_or_else(|| submission::no_answer().into());
                    submitted.next().unwrap_or_else(|| Err(lost()))
                });
                (line, answer)
            })
            .collect();
        self.leave_room();
        self.failure = failure;
        self.answer(answers).await
    }

    /// The end of the stream, for a reason that has nothing to do with the next line.
    fn end(&self, problem: Problem) -> UploadEnd {
        let detail = format!("{}; no line after line {} was read", problem.detail, self.lines);
        UploadEnd::Problem(Problem { detail, ..problem })
    }

    async fn answer(&self, answers: Vec<(u64, Result<Submitted, Problem>)>) -> Result<(), UploadEnd> {
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
        self.sender.send(text).await.map_err(|_| UploadEnd::Gone)
    }
}
