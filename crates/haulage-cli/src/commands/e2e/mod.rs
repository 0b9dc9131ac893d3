//! `haulage e2e`: real jobs through a pipeline that is deployed, and what is to
//! become of them.

mod checks;
mod jobs;
mod report;
mod run;

use std::{fs::File, path::PathBuf, time::Duration};

use haulage::QueueName;

use self::{checks::Check, jobs::Jobs, report::Reports, run::Run};
use super::stop::{Heard, Stop};
use crate::{
    exit::{Code, Exit, Result},
    input, options,
    output::{brief_or_millis, count},
    session::Session,
};

/// Check a deployed pipeline from end to end, with real jobs that its workers run
///
/// Submits a job for each check, watches them, and deletes them again, even when it is interrupted.
/// A check for which nothing is given is left out, and says so. Ends with exit code 1 where a check
/// fails.
///
///   small        a job succeeds, with --result as its result
///   large        a job with a body of 1 MB succeeds
///   slow         a job is seen while it runs, and succeeds
///   failing      a job that fails ends as ERROR, with its handler's message
///   dead-letter  a job that has used up its attempts is a dead letter
///   duplicate    two submits with one idempotency key make one job, and another body is refused
///   cancelled    a job that waits is cancelled, and never runs
///   stopped      a job that runs is cancelled
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  haulage e2e --body '{\"image\": \"cat.png\"}'\n  haulage e2e --jobs e2e.json --junit e2e.xml --timeout 20m"
)]
pub(crate) struct Args {
    /// Read the options under "Jobs" from a file: a JSON object such as {"body": …, "failing_body": …}
    #[arg(long, value_name = "FILE", help_heading = "Jobs")]
    jobs: Option<PathBuf>,

    /// A body with which your handler soon succeeds
    #[arg(long, value_name = "JSON", help_heading = "Jobs", required_unless_present = "jobs")]
    body: Option<String>,

    /// The result that it gives for this body
    #[arg(long, value_name = "JSON", help_heading = "Jobs")]
    result: Option<String>,

    /// The field of the body to fill with text, up to 1 MB, for `large`
    #[arg(long, value_name = "FIELD", help_heading = "Jobs")]
    fill: Option<String>,

    /// A body for which it takes 20 s or longer, so that it is seen while it runs
    #[arg(long, value_name = "JSON", help_heading = "Jobs")]
    slow_body: Option<String>,

    /// A body with which it fails
    #[arg(long, value_name = "JSON", help_heading = "Jobs")]
    failing_body: Option<String>,

    /// The queue in which the jobs wait
    #[arg(long, value_name = "NAME", default_value = QueueName::DEFAULT)]
    queue: QueueName,

    /// How long all of it may take, the start of the first worker included
    #[arg(long, value_name = "DURATION", value_parser = options::duration, default_value = "15m")]
    timeout: Duration,

    /// Leave this check out; may be given several times
    #[arg(long, value_name = "CHECK", hide_possible_values = true)]
    skip: Vec<Check>,

    /// Write a report in JUnit's format, too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl Args {
    pub(crate) async fn run(self, session: &Session) -> Result {
        let output = session.output;
        let jobs = self.jobs()?;
        // Before anything is submitted, rather than after a quarter of an hour.
        let junit = self.junit.as_ref().map(|path| {
            File::create(path)
                .map_err(|error| Exit::usage(format!("cannot write {}: {error}", path.display())))
        });
        let junit = junit.transpose()?;
        // Before other threads are there, which could take a signal before anybody listens.
        let stop = Stop::listen(move |heard| {
            if let Heard::First(name) = heard {
                output.talk(format_args!("{name}: deleting this test's jobs; send it again to end at once"));
            }
        })?;
        let backend = session.existing().await?;
        let mut reports = Reports::new(output);
        let mut run = Run::new(backend, &session.url, self.timeout);
        let ended = async {
            // What is on its way to the store is never left there unknown.
            run.submit_all(&jobs, &self.skip, &mut reports, &stop.shutdown()).await?;
            tokio::select! {
                ended = run.watch(jobs.result.as_ref(), &mut reports) => ended,
                () = stop.stopping() => Err(stop.early_end()),
            }
        };
        let ended = ended.await;
        let shutdown = stop.shutdown();
        let left = tokio::select! {
            left = run.clean_up() => left,
            () = shutdown.stopping_now() => return stop.ending(),
        };
        if let Some(file) = junit {
            reports.junit(file)?;
        }
        ended?;
        output.talk(format_args!("{} in {}", reports.summary(), brief_or_millis(reports.took())));
        let failed = match reports.counts() {
            (0, 0, _) => Err(Exit::new(
                Code::Failure,
                "no check was carried out, so nothing is known; skip fewer of them",
            )),
            (_, 0, _) => Ok(()),
            (_, failed, _) => Err(Exit::new(Code::Failure, format!("{} failed", count(failed, "check")))),
        };
        Exit::all([failed, left].into_iter().filter_map(Result::err).collect())
    }

    /// What is given by flags goes before what the file says.
    fn jobs(&self) -> Result<Jobs> {
        let mut jobs = match &self.jobs {
            Some(path) => Jobs::read(path)?,
            None => Jobs::default(),
        };
        for (given, name, into) in [
            (&self.body, "--body", &mut jobs.body),
            (&self.result, "--result", &mut jobs.result),
            (&self.slow_body, "--slow-body", &mut jobs.slow_body),
            (&self.failing_body, "--failing-body", &mut jobs.failing_body),
        ] {
            if let Some(text) = given {
                *into = Some(input::argument(text, name)?);
            }
        }
        if self.fill.is_some() {
            jobs.fill.clone_from(&self.fill);
        }
        jobs.queue = self.queue.clone();
        jobs.check()?;
        Ok(jobs)
    }
}
