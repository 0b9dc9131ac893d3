//! Dead letters, by what they died of.

use std::{collections::HashMap, sync::Arc};

use haulage::{
    JobError, JobId, QueueName, Record, Timestamp,
    backend::{ListQuery, Redrive},
};
use maud::{Markup, html};

use super::{
    View, layout,
    same::{Same, part},
    see_other, session,
};
use crate::{
    Problem,
    server::{
        Api,
        jobs::find,
        keys::Identity,
        reply::Handled,
        request::{Query, Request, invalid},
        to_the_end,
    },
};

/// How many are read: the newest.
const MOST_READ: usize = 10_000;
/// How many at a time: each may have an error of 64 KiB.
const PAGE: usize = 500;
/// How many jobs of a group are named.
const NAMED: usize = 5;

/// What dead letters have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    kind: String,
    /// Empty where the handler gave none.
    type_name: String,
    /// The first line of the message, as far as it is shown.
    line: String,
}

impl Group {
    fn of(error: Option<&JobError>) -> Self {
        let Some(error) = error else {
            return Self { kind: String::new(), type_name: String::new(), line: String::new() };
        };
        Self {
            kind: error.kind.as_str().to_owned(),
            type_name: error.type_name.clone().unwrap_or_default(),
            line: layout::first_line(&error.message),
        }
    }

    /// As a form says it.
    fn sent(form: &Query) -> Self {
        // A browser makes one line end of another, and there is none in the middle of a line.
        let text = |name: &str| form.get(name).unwrap_or_default().to_owned();
        Self { kind: text("kind"), type_name: text("type"), line: text("line") }
    }

    /// What `jq` knows its jobs by.
    fn condition(&self) -> String {
        let json = |text: &str| serde_json::Value::from(text).to_string();
        format!(
            ".error.kind == {} and (.error.type // \"\") == {} and (.error.message | contains({}))",
            json(&self.kind),
            json(&self.type_name),
            json(&self.line)
        )
    }
}

/// The jobs of a group, the newest first.
#[derive(Debug, PartialEq, Eq)]
struct Members {
    jobs: Vec<JobId>,
    newest: Timestamp,
    oldest: Timestamp,
}

/// All groups, and how many jobs were read.
#[derive(Debug, Default)]
struct Groups {
    by_error: HashMap<Group, Members>,
    read: usize,
}

impl Groups {
    /// The newest come first.
    fn add(&mut self, job: &Record) {
        self.read += 1;
        let at = job.submitted_at;
        let members = self.by_error.entry(Group::of(job.error.as_ref()));
        let members = members.or_insert_with(|| Members { jobs: Vec::new(), newest: at, oldest: at });
        members.jobs.push(job.id.clone());
        members.newest = members.newest.max(at);
        members.oldest = members.oldest.min(at);
    }

    /// The largest first.
    fn sorted(&self) -> Vec<(&Group, &Members)> {
        let mut sorted: Vec<_> = self.by_error.iter().collect();
        sorted.sort_by(|(group, a), (other, b)| {
            (b.jobs.len(), b.newest, &group.line, &group.kind).cmp(&(
                a.jobs.len(),
                a.newest,
                &other.line,
                &other.kind,
            ))
        });
        sorted
    }

    async fn read(api: &Arc<Api>, who: &Identity, queue: Option<&QueueName>) -> Result<Self, Problem> {
        let mut groups = Self::default();
        let mut before = None;
        loop {
            let mut query = ListQuery::new().dead(true).queue(queue.cloned()).limit(PAGE);
            query.before = before;
            let jobs = find(api, who, query).await?;
            jobs.iter().for_each(|job| groups.add(job));
            before = jobs.last().map(|last| last.id.clone());
            if jobs.len() < PAGE || groups.read >= MOST_READ {
                return Ok(groups);
            }
        }
    }
}

pub(super) async fn page(api: Arc<Api>, request: Request) -> Handled {
    let title = "Dead letters".to_owned();
    let queue: Option<QueueName> = request.query.without_empty().parsed("queue")?;
    let is_cheap = api.backend.capabilities().cheap_looks;
    let in_queue = queue.as_ref().map(|queue| format!("queue={}", part(queue.as_str()))).unwrap_or_default();
    if !is_cheap && !request.query.flag("read")? {
        let count = api.backlog(&request.who).await?.dead;
        let says = format!(
            "There are about {count} dead letters in all queues. To group them, their records are read, one by one, and \
             each read is paid for: the newest {MOST_READ} at most."
        );
        let target = format!("/dead?read=true&{in_queue}");
        let content = layout::paid(&says, target.trim_end_matches('&'), "Read them");
        return View { title, tools: None, content, is_live: false }.show(&api, &request);
    }
    let groups = Groups::read(&api, &request.who, queue.as_ref()).await?;
    let content = html! {
        @if let Some(queue) = &queue {
            p { "Of the queue " strong { (queue) } " only. " a href="/dead" { "Of all queues" } }
        }
        @if groups.read == 0 {
            p { "There are no dead letters: no job has used up its attempts." }
        } @else {
            p {
                (groups.read) " jobs have used up their attempts, for "
                (groups.by_error.len()) @if groups.by_error.len() == 1 { " reason." } @else { " different reasons." }
                @if groups.read >= MOST_READ { " These are the newest; there may be more." }
            }
        }
        @for (n, (group, members)) in groups.sorted().into_iter().enumerate() {
            (section(&api, &request.who, queue.as_ref(), (n, groups.read), group, members))
        }
    };
    // Not live: all of it is read for it each time.
    View { title, tools: None, content, is_live: false }.show(&api, &request)
}

fn section(
    api: &Api,
    who: &Identity,
    queue: Option<&QueueName>,
    (n, read): (usize, usize),
    group: &Group,
    members: &Members,
) -> Markup {
    let count = members.jobs.len();
    let noun = if count == 1 { "job" } else { "jobs" };
    let mut fields = vec![
        ("kind", group.kind.clone()),
        ("type", group.type_name.clone()),
        ("line", group.line.clone()),
        ("count", count.to_string()),
    ];
    fields.extend(queue.map(|queue| ("queue", queue.to_string())));
    let name = format!("Redrive {count} {noun}");
    let action = layout::Action {
        name: &name,
        id: format!("redrive-{n}"),
        says: format!(
            "{count} {noun} will wait again, with all attempts: make sure that what they died of is fixed."
        ),
        path: "/dead/redrive".to_owned(),
        fields,
        same: Same::redrive_dead(api, &group.condition(), queue.map(QueueName::as_str), read),
        is_final: true,
    };
    html! {
        section aria-labelledby={ "group-" (n) } {
            h2 id={ "group-" (n) } {
                (count) " × " code { (group.kind) } @if !group.type_name.is_empty() { " " code { (group.type_name) } }
            }
            pre tabindex="0" { (group.line) }
            p .note {
                "Submitted " @if count > 1 { "from " (layout::time(Some(members.oldest))) " to " }
                (layout::time(Some(members.newest))) "."
            }
            ul {
                @for id in members.jobs.iter().take(NAMED) { li { (layout::job(id)) } }
                @if count > NAMED { li { "and " (count - NAMED) " others" } }
            }
            (action.show(who))
        }
    }
}

/// Puts a group back to work: what was shown, and no more than that.
pub(super) async fn redrive(api: Arc<Api>, mut request: Request) -> Handled {
    let form = session::form_of(&mut request).await?.without_empty();
    let group = Group::sent(&form);
    let queue: Option<QueueName> = form.parsed("queue")?;
    let shown: usize = form.parsed("count")?.ok_or_else(|| invalid("count", "the form has no count"))?;
    let mut groups = Groups::read(&api, &request.who, queue.as_ref()).await?;
    let jobs = groups.by_error.remove(&group).map(|members| members.jobs).unwrap_or_default();
    if jobs.len() > shown {
        let detail =
            format!("there are {} dead letters of this kind by now, and you were shown {shown}", jobs.len());
        return Err(Problem::new(409, "more_by_now", "There are more by now", detail).remedy(
            "go back to the dead letters, look at the number, and redrive them if you still mean to",
        ));
    }
    let who = Arc::clone(&request.who);
    let redriven = to_the_end(async move {
        let mut redriven = 0;
        for part in jobs.chunks(PAGE) {
            let done = api.backend.redrive(Redrive::Jobs(part.to_vec())).await?;
            api.audit(&who, "redrive", done.iter());
            redriven += done.len();
        }
        Ok(redriven)
    })
    .await?;
    let of_queue = queue.map(|queue| format!("&queue={}", part(queue.as_str()))).unwrap_or_default();
    Ok(see_other(&format!("/dead?done=group&count={redriven}{of_queue}")))
}

#[cfg(test)]
mod tests {
    use haulage::{FailureKind, JobSpec};

    use super::*;

    fn job(id: &str, second: i64, error: Option<JobError>) -> Record {
        let mut record =
            Record::new(id.into(), JobSpec::default(), Timestamp::from_micros(second * 1_000_000));
        record.error = error;
        record
    }

    #[test]
    fn what_died_of_the_same_is_together() {
        let error = |message: &str| Some(JobError::new(FailureKind::Handler, message));
        let mut groups = Groups::default();
        for job in [
            job("d", 4, error("no such model\nat line 7")),
            job("c", 3, error("\n\nno such model\nat line 8")),
            job("b", 2, Some(JobError::new(FailureKind::Timeout, "no such model"))),
            job("a", 1, error("no such model").map(|error| error.of_type(Some("KeyError".into())))),
            job("0", 0, None),
        ] {
            groups.add(&job);
        }
        let sorted = groups.sorted();
        let (group, members) = sorted[0];
        assert_eq!(
            (&group.kind[..], &group.type_name[..], &group.line[..]),
            ("handler", "", "no such model")
        );
        assert_eq!(members.jobs, ["d".into(), "c".into()]);
        assert_eq!((members.oldest.as_micros(), members.newest.as_micros()), (3_000_000, 4_000_000));
        let others: Vec<_> = sorted[1..].iter().map(|(_, members)| members.jobs[0].as_str()).collect();
        assert_eq!((others, groups.read), (vec!["b", "a", "0"], 5));
    }
}
