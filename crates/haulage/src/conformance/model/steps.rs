//! What a random sequence is made of.

use std::time::Duration;

use crate::{
    FailureKind, JobError, Json, NewJob, Progress, QueueName, Queues, Status,
    backend::{ListQuery, Outcome, Update},
};
use proptest::{collection::vec, option, prelude::*, sample::Index};

/// One call, or time that passes.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Submit(Vec<Spec>),
    Claim { queues: Queues, turn: u64, max: usize, lease: Duration },
    Beat(Vec<(Pick, Duration, Update)>),
    Settle(Vec<(Pick, Outcome, Update)>),
    Cancel(Vec<Pick>),
    RedriveDead(usize, Option<QueueName>),
    Redrive(Vec<Pick>),
    Purge(Status, Duration, Option<QueueName>),
    Pause(QueueName, bool),
    Pass(Duration),
    Get(Vec<Pick>),
    List { query: ListQuery, before: Option<Pick> },
}

/// Chooses a job or a claim of those that there are when the step is made.
#[derive(Clone, Debug)]
pub(crate) struct Pick {
    /// Whether to choose one that exists, or is current.
    pub(crate) likely: bool,
    pub(crate) index: Index,
}

/// The options of a job.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    body: u32,
    queue: QueueName,
    group: Option<u8>,
    key: Option<u8>,
    delay: Duration,
    max_attempts: u32,
    result_ttl: Duration,
    start_within: Option<Duration>,
}

impl Spec {
    pub(crate) fn job(&self) -> NewJob {
        let mut job = NewJob::from_json(json(self.body))
            .delay(self.delay)
            .max_attempts(self.max_attempts)
            .result_ttl(self.result_ttl)
            .queue(self.queue.clone())
            .metadata("body", self.body.to_string());
        job.spec.group = self.group.map(|g| format!("group-{g}"));
        job.idempotency_key = self.key.map(|k| format!("key-{k}"));
        if self.key.is_some() {
            // So that some of the same key have the same body.
            job.body = json(self.body % 2);
            if self.body.is_multiple_of(5) {
                job.idempotency_window = Duration::from_secs(u64::from(self.body % 7));
            }
        }
        job.spec.request_id = self.body.is_multiple_of(2).then(|| format!("request-{}", self.body));
        job.spec.start_within = self.start_within.filter(|limit| *limit > self.delay);
        job.spec.drop_body = self.body.is_multiple_of(7);
        job.spec.timeout = self.body.is_multiple_of(3).then_some(Duration::from_millis(1500));
        job
    }
}

pub(crate) fn json(number: u32) -> Json {
    Json::parse(&number.to_string()).expect("a number")
}

pub(crate) fn sequence() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..80)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => vec(spec(), 1..4).prop_map(Step::Submit),
        8 => (queues(), 0u64..100, 1usize..4, seconds(1..6))
            .prop_map(|(queues, turn, max, lease)| Step::Claim { queues, turn, max, lease }),
        3 => vec((pick(), seconds(1..6), update()), 1..4).prop_map(Step::Beat),
        8 => vec((pick(), outcome(), update()), 1..4).prop_map(Step::Settle),
        2 => vec(pick(), 1..3).prop_map(Step::Cancel),
        1 => (0usize..4, option::of(queue())).prop_map(|(limit, queue)| Step::RedriveDead(limit, queue)),
        2 => vec(pick(), 1..4).prop_map(Step::Redrive),
        1 => (ended(), span(), option::of(queue()))
            .prop_map(|(status, older_than, queue)| Step::Purge(status, older_than, queue)),
        1 => (queue(), prop::bool::weighted(0.4)).prop_map(|(queue, paused)| Step::Pause(queue, paused)),
        6 => span().prop_map(Step::Pass),
        2 => vec(pick(), 1..4).prop_map(Step::Get),
        2 => (query(), option::of(pick())).prop_map(|(query, before)| Step::List { query, before }),
    ]
}

/// Mostly the default one.
fn queue() -> impl Strategy<Value = QueueName> {
    prop::sample::select(vec!["default", "default", "default", "a", "b"])
        .prop_map(|name| name.parse().expect("a name"))
}

/// Mostly all of them, as jobs would wait too long otherwise.
fn queues() -> impl Strategy<Value = Queues> {
    let served = ["default,a,b", "a,b,default", "default=3,a=2,b=1", "a=1,b=1,default=1", "default", "b,a"];
    prop::sample::select(served.to_vec()).prop_map(|served| served.parse().expect("queues"))
}

fn query() -> impl Strategy<Value = ListQuery> {
    let text = |text: &[&'static str]| option::weighted(0.2, prop::sample::select(text.to_vec()));
    let age = || option::weighted(0.2, span());
    let plain =
        (option::of(any_status()), prop::bool::weighted(0.3), 1usize..6, option::weighted(0.3, queue()));
    let error = text(&["error 1", "error", "reason", "handler", "worker_lost", "released", "lost"]);
    (plain, text(&["group-0", "group-1"]), error, age(), age()).prop_map(
        |((status, dead, limit, queue), group, error, older_than, newer_than)| {
            let mut query = ListQuery::new().status(status).dead(dead).limit(limit).queue(queue);
            query.group = group.map(str::to_owned);
            query.error = error.map(str::to_owned);
            (query.older_than, query.newer_than) = (older_than, newer_than);
            query
        },
    )
}

fn spec() -> impl Strategy<Value = Spec> {
    let ttl = prop_oneof![
        1 => Just(Duration::ZERO),
        2 => seconds(1..8),
        2 => Just(Duration::from_secs(3600)),
        3 => Just(NewJob::DEFAULT_RESULT_TTL),
        1 => Just(Duration::from_secs(20 * 24 * 3600)),
    ];
    let delay = prop_oneof![3 => Just(Duration::ZERO), 1 => seconds(1..6)];
    let limit = option::weighted(0.2, seconds(1..6));
    let attempts = (1u32..4, ttl, limit);
    (any::<u32>(), queue(), option::of(0u8..3), option::weighted(0.3, 0u8..4), delay, attempts).prop_map(
        |(body, queue, group, key, delay, (max_attempts, result_ttl, start_within))| Spec {
            body,
            queue,
            group,
            key,
            delay,
            max_attempts,
            result_ttl,
            start_within,
        },
    )
}

fn pick() -> impl Strategy<Value = Pick> {
    (prop::bool::weighted(0.8), any::<Index>()).prop_map(|(likely, index)| Pick { likely, index })
}

fn update() -> impl Strategy<Value = Update> {
    (option::of(progress()), option::weighted(0.3, any::<u32>())).prop_map(|(progress, checkpoint)| {
        let update = Update::default().progress(progress);
        match checkpoint {
            Some(n) => update.checkpoint(json(n)).expect("it is small"),
            None => update,
        }
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let delay = prop_oneof![Just(Duration::ZERO), seconds(1..6)];
    prop_oneof![
        3 => any::<u32>().prop_map(|n| Outcome::Success(json(n))),
        4 => (error(), delay).prop_map(|(error, delay)| Outcome::Retry { error, delay }),
        1 => error().prop_map(Outcome::Fail),
        1 => Just(Outcome::Cancelled),
        2 => (seconds(0..6), option::of(0u8..100), any::<bool>()).prop_map(|(after, n, begun)| Outcome::Release {
            begun,
            after,
            reason: n.map(|n| format!("reason {n}")),
        }),
    ]
}

fn error() -> impl Strategy<Value = JobError> {
    let kind = prop::sample::select(&FailureKind::ALL[..]);
    (kind, 0u8..100).prop_map(|(kind, n)| JobError::new(kind, format!("error {n}")))
}

fn progress() -> impl Strategy<Value = Progress> {
    (0u8..=4, option::of(0u8..9)).prop_map(|(quarters, message)| Progress {
        fraction: f64::from(quarters) / 4.0,
        message: message.map(|n| format!("step {n}")),
    })
}

/// What can be purged.
fn ended() -> impl Strategy<Value = Status> {
    any_status().prop_filter("runs", |status| *status != Status::InProgress)
}

fn any_status() -> impl Strategy<Value = Status> {
    prop::sample::select(&Status::ALL[..])
}

fn seconds(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

/// Mostly as long as leases are; now and then long enough for what is kept
/// for hours or days.
fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        12 => seconds(0..4),
        1 => seconds(3000..4000),
        1 => (1u64..30).prop_map(|hours| Duration::from_secs(hours * 3600)),
        1 => (5u64..16).prop_map(|days| Duration::from_secs(days * 24 * 3600)),
    ]
}
