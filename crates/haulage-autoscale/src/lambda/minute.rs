//! The looks of one invocation.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    event::{Event, Pair},
    failure::Failure,
    log,
    look::look,
    measured::{Measured, measured},
    report::Report,
    services::Services,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Looks as often as the event says, evenly over a minute and at once for the
/// first time, until `deadline` at most.
pub(crate) async fn run<'a>(event: &'a Event, services: &Services, deadline: Instant) -> Report<'a> {
    let pairs = event.pairs.as_slice();
    let looks = event.looks_per_minute.get();
    let start = Instant::now();
    let mut report = Report::new(pairs);
    let mut known = vec![None; pairs.len()];
    for number in 0..looks {
        let at = start + MINUTE * number / looks;
        if at >= deadline {
            break;
        }
        sleep_until(at).await;
        let began = Instant::now();
        let answers = async {
            let measured = read(services, pairs, &mut known).await;
            look(services, pairs, &measured).await
        };
        match timeout_at(deadline, answers).await {
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

/// What the tasks have measured: read once, as it changes slowly and is paid
/// for, and again at the next look where it could not be read. Until then a
/// pair has no metrics: with the configured time in place of the measured one,
/// it would be scaled one way and back.
async fn read(
    services: &Services,
    pairs: &[Pair],
    known: &mut [Option<Measured>],
) -> Vec<Result<Measured, Failure>> {
    let unknown: Vec<&Pair> =
        pairs.iter().zip(&*known).filter(|(_, known)| known.is_none()).map(|(pair, _)| pair).collect();
    let mut read = measured(&services.cloudwatch, &unknown, SystemTime::now()).await.into_iter();
    let each = known.iter_mut().map(|known| match *known {
        Some(measured) => Ok(measured),
        None => {
            let measured = read.next().unwrap_or_else(|| Ok(Measured::default()))?;
            Ok(*known.insert(measured))
        }
    });
    each.collect()
}
