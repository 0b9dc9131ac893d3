//! Sets the desired counts of the services that are scaled without alarms, and sees
//! which of the others only hidden jobs hold.

use std::time::SystemTime;

use aws_sdk_ecs::Client;
use futures_util::future::join_all;
use haulage_autoscale::{Direct, History, Observation};
use tokio::time::{Duration, Instant};

use crate::{event::Pair, failure::Failure, history, limit::Limit, log, services::Services};

const CALL: &str = "ecs:UpdateService";

/// How long the past may take to be read, so that there is time to go out
/// without it.
const READING: Duration = Duration::from_secs(2);

/// What was required of each pair, as far as this invocation knows: its own
/// looks, and those before it that it has read.
#[derive(Debug)]
pub(crate) struct Histories {
    /// The time of the beginning, and of a clock that nobody sets.
    started: (SystemTime, Instant),
    of_pairs: Vec<History>,
}

/// A pair that is scaled, as it was seen.
struct Look<'a> {
    pair: &'a Pair,
    direct: Direct,
    observation: Observation,
    history: &'a mut History,
    /// Why its past is not known.
    failed: Option<Failure>,
}

impl Histories {
    /// Nothing yet, of so many pairs.
    pub(crate) fn none_of(pairs: usize) -> Self {
        Self { started: (SystemTime::now(), Instant::now()), of_pairs: vec![History::default(); pairs] }
    }

    fn now(&self) -> u64 {
        let (started, since) = self.started;
        (started + since.elapsed()).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// Of each pair that alarms scale, whether none of what is in flight is work; there is
    /// an answer for each pair, in their order.
    ///
    /// What was required before is read where that may be so and is not known. Where it
    /// cannot be read, that is told, and what is in flight counts as work.
    pub(crate) async fn idle(
        &mut self,
        services: &Services,
        pairs: &[Pair],
        seen: &[Option<Observation>],
    ) -> Vec<Result<bool, Failure>> {
        const WINDOW: u32 = Observation::BUSY_KNOWN_AFTER;
        let now = self.now();
        let since = now.saturating_sub(WINDOW.into());
        let mut idle = vec![Ok(false); pairs.len()];
        let mut looks = Vec::new();
        for (at, ((pair, seen), history)) in pairs.iter().zip(seen).zip(&mut self.of_pairs).enumerate() {
            let (None, Some(observation)) = (pair.direct, *seen) else { continue };
            history.record(now, observation.metrics(pair.target_seconds).required_tasks.get());
            if observation.may_be_idle(0) {
                looks.push((at, pair, observation, history));
            }
        }
        let unknown: Vec<_> =
            looks.iter().filter(|(.., history)| !history.covers(since, now)).map(|(at, ..)| *at).collect();
        let asked: Vec<_> = unknown.iter().map(|at| (&pairs[*at], u64::from(WINDOW))).collect();
        let reading = Limit::until(Instant::now() + READING);
        let mut read = unknown.iter().zip(history::read(&services.cloudwatch, &asked, now, &reading).await);
        let mut next = read.next();
        for (at, pair, observation, history) in looks {
            if let Some((_, past)) = next.take_if(|(unknown, _)| **unknown == at) {
                next = read.next();
                match past {
                    Ok(past) => past.into_iter().for_each(|(at, required)| history.record(at, required)),
                    Err(failure) => {
                        idle[at] = Err(failure);
                        continue;
                    }
                }
            }
            idle[at] = Ok(history.was_idle(&observation, pair.target_seconds, WINDOW));
        }
        idle
    }

    /// Sets the desired count of each pair that was seen, is scaled this way and
    /// has another count; there is an answer for each pair, in their order.
    ///
    /// What was required before is read where it matters and is not known. Where
    /// it cannot be read, that is told, and the service may go out, but not in.
    pub(crate) async fn scale(
        &mut self,
        services: &Services,
        pairs: &[Pair],
        seen: &[Option<Observation>],
        limit: &Limit,
    ) -> Vec<Result<(), Failure>> {
        let now = self.now();
        let each = pairs.iter().zip(seen).zip(&mut self.of_pairs);
        let mut looks: Vec<_> = each
            .map(|((pair, seen), history)| {
                let (direct, observation) = (pair.direct?, (*seen)?);
                history.record(now, observation.metrics(pair.target_seconds).required_tasks.get());
                Some(Look { pair, direct, observation, history, failed: None })
            })
            .collect();
        let mut unknown: Vec<_> = looks
            .iter_mut()
            .flatten()
            .filter_map(|look| look.is_unknown(now).map(|seconds| (look, seconds)))
            .collect();
        let asked: Vec<_> = unknown.iter().map(|(look, seconds)| (look.pair, *seconds)).collect();
        let reading = Limit::until(Instant::now() + READING);
        let read = history::read(&services.cloudwatch, &asked, now, &reading).await;
        for ((look, _), read) in unknown.iter_mut().zip(read) {
            match read {
                Ok(looks) => looks.into_iter().for_each(|(at, required)| look.history.record(at, required)),
                Err(failure) => look.failed = Some(failure),
            }
        }
        join_all(looks.into_iter().map(|look| async {
            let Some(look) = look else { return Ok(()) };
            look.scale(&services.ecs, limit).await?;
            look.failed.map_or(Ok(()), Err)
        }))
        .await
    }
}

impl Look<'_> {
    /// For how many seconds before `now` it matters what was required, where
    /// that is not known.
    fn is_unknown(&self, now: u64) -> Option<u64> {
        let back = self.direct.looks_back(&self.observation, self.pair.target_seconds);
        (!self.history.covers(now.saturating_sub(back), now)).then_some(back)
    }

    /// Changes the count, where it is to be another one, and nothing else.
    async fn scale(&self, ecs: &Client, limit: &Limit) -> Result<(), Failure> {
        let target = self.pair.target_seconds;
        let Some(tasks) = self.direct.desired(&self.observation, target, self.history) else { return Ok(()) };
        let call = ecs
            .update_service()
            .cluster(self.pair.cluster.as_str())
            .service(self.pair.service.as_str())
            .desired_count(i32::try_from(tasks).unwrap_or(i32::MAX));
        let call = async { call.send().await.map_err(|error| Failure::of_call(CALL, &error)) };
        limit.within(CALL, call).await?;
        log::scaled(self.pair, self.observation.service.desired, tasks);
        Ok(())
    }
}
