//! KEDA's `aws-sqs-queue` scaler with the Horizontal Pod Autoscaler below it.
//!
//! Sources: KEDA, "AWS SQS Queue" (visible and in-flight messages count;
//! `queueLength` 5) and "ScaledObject specification" (`pollingInterval` 30 s
//! for activation, `cooldownPeriod` 300 s before the last replica goes);
//! Kubernetes, "Horizontal Pod Autoscaling" (replicas = total ÷ target,
//! rounded up; looked at every 15 s; a tolerance of 10 %; down only to the
//! highest recommendation of the last 300 s; up by four pods or by 100 %,
//! whichever is more, in 15 s).

use std::collections::VecDeque;

use crate::TaskRange;

const SYNC: u32 = 15;
const POLL: u32 = 30;
const COOLDOWN: u32 = 300;
const STABILIZATION: u32 = 300;
const TOLERANCE: f64 = 0.1;

#[derive(Clone, Debug)]
pub(crate) struct Keda {
    queue_length: f64,
    range: TaskRange,
    active_at: u32,
    recommended: VecDeque<(u32, u32)>,
}

impl Keda {
    pub(crate) fn new(queue_length: f64, range: TaskRange) -> Self {
        Self { queue_length, range, active_at: 0, recommended: VecDeque::new() }
    }

    pub(crate) fn range(&self) -> TaskRange {
        self.range
    }

    /// The replicas after this second, for so many messages. The autoscaler
    /// sees what KEDA has done when it looks next.
    pub(crate) fn tick(&mut self, now: u32, messages: u64, replicas: u32) -> u32 {
        let mut next = replicas;
        if now.is_multiple_of(POLL) && messages > 0 {
            self.active_at = now;
            // KEDA starts the first; the autoscaler does nothing at zero.
            next = next.max(1);
        }
        let idle = now.is_multiple_of(POLL) && messages == 0 && now >= self.active_at + COOLDOWN;
        if idle && self.range.min == 0 {
            self.recommended.clear();
            return 0;
        }
        if replicas > 0 && now.is_multiple_of(SYNC) {
            next = self.synced(now, messages, next);
        }
        next.clamp(self.range.min, self.range.max)
    }

    fn synced(&mut self, now: u32, messages: u64, replicas: u32) -> u32 {
        let ratio = messages as f64 / (self.queue_length * f64::from(replicas));
        let wanted = if (ratio - 1.0).abs() <= TOLERANCE {
            replicas
        } else {
            // The autoscaler keeps one; going to zero is KEDA's.
            ((messages as f64 / self.queue_length).ceil() as u32).max(1)
        };
        self.recommended.retain(|(at, _)| at + STABILIZATION > now);
        self.recommended.push_back((now, wanted));
        let highest = self.recommended.iter().map(|(_, wanted)| *wanted).max().unwrap_or(wanted);
        if wanted > replicas { wanted.min(replicas + replicas.max(4)) } else { highest.min(replicas) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keda(queue_length: f64) -> Keda {
        Keda::new(queue_length, TaskRange { min: 0, max: 100 })
    }

    /// "AWS SQS Queue", `queueLength`: one pod can handle 10 messages, there
    /// are 30, and the scaler scales to 3 pods.
    #[test]
    fn thirty_messages_at_ten_a_pod_are_three_pods() {
        let mut keda = keda(10.0);
        assert_eq!((keda.tick(0, 30, 0), keda.tick(15, 30, 1)), (1, 3));
    }

    #[test]
    fn doubles_or_adds_four_each_quarter_of_a_minute() {
        let mut keda = keda(1.0);
        let mut replicas = 0;
        let mut seen = Vec::new();
        for now in (0..90).step_by(15) {
            replicas = keda.tick(now, 60, replicas);
            seen.push(replicas);
        }
        assert_eq!(seen, [1, 5, 10, 20, 40, 60]);
    }

    #[test]
    fn holds_the_highest_recommendation_for_five_minutes_and_the_last_replica_too() {
        let mut keda = keda(5.0);
        let mut replicas = keda.tick(0, 50, 4);
        assert_eq!(replicas, 8);
        let mut changes = Vec::new();
        for now in 1..1200 {
            let next = keda.tick(now, if now < 60 { 50 } else { 0 }, replicas);
            if next != replicas {
                changes.push((now, next));
            }
            replicas = next;
        }
        assert_eq!(changes, [(15, 10), (330, 0)]);
    }

    #[test]
    fn keeps_its_fewest_replicas() {
        let mut keda = Keda::new(5.0, TaskRange { min: 2, max: 100 });
        assert_eq!([0, 30, 600, 615].map(|now| keda.tick(now, 0, 2)), [2; 4]);
    }

    #[test]
    fn a_tenth_more_or_less_changes_nothing() {
        for messages in [46, 50, 54] {
            assert_eq!(keda(5.0).tick(15, messages, 10), 10, "{messages}");
        }
        assert_eq!(keda(5.0).tick(15, 56, 10), 12);
    }
}
