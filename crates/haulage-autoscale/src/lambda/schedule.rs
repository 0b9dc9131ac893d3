//! The samples of one invocation.

use tokio::time::{Duration, Instant, sleep_until};

use crate::{
    event::Event, log, measured::Known, report::Report, sample::sample, scale::Histories, services::Services,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Looks as often as the event says, evenly over a minute and at once for the
/// first time, until `deadline` at most.
pub(crate) async fn run<'a>(event: &'a Event, services: &Services, deadline: Instant) -> Report<'a> {
    let pairs = event.pairs.as_slice();
    let samples = event.samples_per_minute.get();
    let start = Instant::now();
    let mut report = Report::new(pairs);
    let mut known = Known::none_of(pairs.len());
    let mut histories = Histories::none_of(pairs.len());
    for number in 0..samples {
        let at = start + MINUTE * number / samples;
        // The first is made at any rate: an invocation without time for it is to fail.
        if number > 0 && at >= deadline {
            log::left_out(samples - number, samples);
            break;
        }
        sleep_until(at).await;
        let began = Instant::now();
        let answers = sample(services, pairs, &mut known, &mut histories, deadline).await;
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        log::looked(pairs.len() - failed, failed, began.elapsed());
        report.looked(answers);
    }
    report
}
