//! The looks of one invocation.

use std::time::{Duration, SystemTime};

use haulage_autoscale::Estimate;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    event::{Event, Pair},
    failure::Failure,
    job_time, log,
    look::look,
    report::Report,
    services::Services,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Looks as often as the event says, evenly over a minute and at once for the
/// first time, until `deadline` at most.
///
/// How long jobs take is read once: it changes slowly, and is paid for.
pub(crate) async fn run<'a>(event: &'a Event, services: &Services, deadline: Instant) -> Report<'a> {
    let pairs = event.pairs.as_slice();
    let looks = event.looks_per_minute.get();
    let start = Instant::now();
    let mut report = Report::new(pairs);
    let Ok(job_times) = timeout_at(deadline, job_times(services, pairs, &mut report)).await else {
        report.all_failed(&Failure::late());
        return report;
    };
    for number in 0..looks {
        let at = start + MINUTE * number / looks;
        if at >= deadline {
            break;
        }
        sleep_until(at).await;
        let began = Instant::now();
        match timeout_at(deadline, look(services, pairs, &job_times)).await {
            Ok(answers) => {
                let failed = answers.iter().filter(|answer| answer.is_err()).count();
                log::looked(pairs.len() - failed, failed, began.elapsed());
                report.looked(answers);
            }
            Err(_) => {
                report.all_failed(&Failure::late());
                break;
            }
        }
    }
    report
}

/// Where it cannot be read, the configured time is in force, and the pair has
/// failed all the same: nobody would hear of it otherwise.
async fn job_times(services: &Services, pairs: &[Pair], report: &mut Report<'_>) -> Vec<Estimate> {
    let measured = job_time::measured(&services.cloudwatch, pairs, SystemTime::now()).await;
    let measured = pairs.iter().zip(measured).enumerate().map(|(at, (pair, measured))| match measured {
        Ok(measured) => measured.beside(pair.job_seconds),
        Err(failure) => {
            report.failed(at, failure);
            Estimate::configured(pair.job_seconds)
        }
    });
    measured.collect()
}
