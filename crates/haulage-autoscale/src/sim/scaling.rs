//! Application Auto Scaling: target tracking, step policies, cooldowns.
//!
//! Sources, in the Application Auto Scaling User Guide:
//!
//! - "How target tracking scaling works": the service makes two alarms, scales
//!   in proportion to the metric, and rounds up. The alarms that it makes are
//!   seen in the console: above the target for 3 minutes, and below 90 % of it
//!   for 15 minutes. It is said to scale in more gradually than out; how is
//!   not published, and the model goes to the proportional capacity at once.
//! - "How step scaling works": steps by the size of the breach, here each to
//!   an exact capacity.
//! - "Cooldown periods": in a scale-out cooldown, what was added last is a part
//!   of what the next scale-out adds; a scale-in cooldown holds up scale-in
//!   only, and a scale-out ends it.
//! - "Multiple scaling policies": the largest capacity wins.
//!
//! And in the Amazon ECS Developer Guide, "Automatically scale your Amazon ECS
//! service", considerations: what is multiplied is the number of tasks that
//! run, not of those that are desired. (Target tracking leaves zero by one
//! task, it says too; no policy here leaves it to that.)

use super::cloudwatch::{Alarm, Breach, Missing, Series};
use crate::TaskRange;

/// Cooldowns, in seconds, and where they are.
#[derive(Clone, Debug)]
pub(crate) struct Cooldowns {
    out: u32,
    into: u32,
    /// When the last scale-out was, and from which capacity.
    last_out: Option<(u32, u32)>,
    last_in: Option<u32>,
}

impl Cooldowns {
    pub(crate) fn new(out: u32, into: u32) -> Self {
        Self { out, into, last_out: None, last_in: None }
    }

    /// The capacity that a scale-out starts from.
    fn base(&self, now: u32, current: u32) -> u32 {
        match self.last_out {
            Some((at, from)) if now < at + self.out => from.min(current),
            _ => current,
        }
    }

    fn hold_up_in(&self, now: u32) -> bool {
        self.last_in.is_some_and(|at| now < at + self.into)
    }

    fn scaled(&mut self, now: u32, from: u32, to: u32) {
        if to > from {
            let base = self.base(now, from);
            let since = self.last_out.filter(|(at, _)| now < at + self.out).map_or(now, |(at, _)| at);
            self.last_out = Some((since, base));
        } else {
            self.last_in = Some(now);
        }
    }
}

/// What a policy finds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) desired: u32,
    pub(crate) running: u32,
}

/// Holds a metric at a target, in proportion to the capacity.
#[derive(Clone, Debug)]
pub(crate) struct TargetTracking {
    target: f64,
    high: Alarm,
    low: Alarm,
    scales_in: bool,
    cooldowns: Cooldowns,
}

impl TargetTracking {
    pub(crate) fn new(target: f64, cooldowns: Cooldowns) -> Self {
        Self {
            target,
            high: Alarm::all(Breach::Above, target, 3, Missing::Absent),
            low: Alarm::all(Breach::Below, 0.9 * target, 15, Missing::Absent),
            scales_in: true,
            cooldowns,
        }
    }

    /// With `DisableScaleIn`, and on the lowest value of each minute.
    pub(crate) fn out_only_of_minimum(target: f64, cooldowns: Cooldowns) -> Self {
        let all = Self::new(target, cooldowns);
        Self { scales_in: false, high: all.high.of_minimum(), ..all }
    }

    fn propose(&mut self, now: u32, found: Capacity, series: &Series) -> Option<u32> {
        let high = self.high.look(series, now);
        let low = self.low.look(series, now);
        if let Some(value) = high {
            let base = self.cooldowns.base(now, found.running);
            return Some(self.proportional(base, value).max(found.desired));
        }
        low.filter(|_| self.scales_in && !self.cooldowns.hold_up_in(now))
            .map(|value| self.proportional(found.running, value).min(found.desired))
    }

    fn proportional(&self, capacity: u32, value: f64) -> u32 {
        // What rounding adds must not become a task.
        (f64::from(capacity) * value / self.target - 1e-9).ceil() as u32
    }
}

/// From this far above the threshold, to this capacity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) from: f64,
    pub(crate) to: u32,
}

/// Sets the capacity by steps (`ExactCapacity`, no cooldown), when its alarm
/// says so. It may scale out or in, whatever it is meant for.
#[derive(Clone, Debug)]
pub(crate) struct StepPolicy {
    pub(crate) alarm: Alarm,
    /// By `from`; the last one that is reached counts.
    pub(crate) steps: Vec<Step>,
}

impl StepPolicy {
    fn propose(&mut self, now: u32, series: &Series) -> Option<u32> {
        let breach = self.alarm.look(series, now)? - self.alarm.threshold;
        self.steps.iter().rev().find(|step| breach >= step.from).map(|step| step.to)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Policy {
    Tracking(TargetTracking),
    Step(StepPolicy),
}

impl Policy {
    fn propose(&mut self, now: u32, found: Capacity, series: &Series) -> Option<u32> {
        match self {
            Self::Tracking(policy) => policy.propose(now, found, series),
            Self::Step(policy) => policy.propose(now, series),
        }
    }

    fn cooldowns(&mut self) -> Option<&mut Cooldowns> {
        match self {
            Self::Tracking(policy) => Some(&mut policy.cooldowns),
            Self::Step(_) => None,
        }
    }
}

/// A service's policies, each with the number of the metric that it looks at.
#[derive(Clone, Debug)]
pub(crate) struct ScalableTarget {
    pub(crate) range: TaskRange,
    /// At which second of each minute the alarms look.
    pub(crate) alarm_second: u32,
    pub(crate) policies: Vec<(usize, Policy)>,
}

impl ScalableTarget {
    /// The desired tasks after what the policies whose alarms look now have found.
    pub(crate) fn evaluate(&mut self, now: u32, found: Capacity, metrics: &[Series]) -> u32 {
        let proposals: Vec<Option<u32>> = self
            .policies
            .iter_mut()
            .map(|(metric, policy)| {
                let series = &metrics[*metric];
                if series.is_due(now, self.alarm_second) { policy.propose(now, found, series) } else { None }
            })
            .collect();
        let wanted = proposals.iter().flatten().max().copied().unwrap_or(found.desired);
        let next = wanted.clamp(self.range.min, self.range.max);
        if next != found.desired {
            for ((_, policy), proposal) in self.policies.iter_mut().zip(proposals) {
                let Some(cooldowns) = policy.cooldowns() else { continue };
                if proposal == Some(wanted) {
                    let from = if next > found.desired { found.running } else { found.desired };
                    cooldowns.scaled(now, from.min(found.desired), next);
                }
                if next > found.desired {
                    cooldowns.last_in = None;
                }
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::cloudwatch::PERIOD;

    fn step(steps: &[(f64, u32)]) -> Policy {
        Policy::Step(StepPolicy {
            alarm: Alarm::all(Breach::AtLeast, 1.0, 1, Missing::Absent),
            steps: steps.iter().map(|&(from, to)| Step { from, to }).collect(),
        })
    }

    fn tracking(out: u32, into: u32) -> Policy {
        Policy::Tracking(TargetTracking::new(100.0, Cooldowns::new(out, into)))
    }

    /// What happens to a service of `capacity` tasks, which start and stop at
    /// once, as the metric takes these values, minute by minute.
    fn play(policies: Vec<Policy>, capacity: u32, values: &[f64]) -> Vec<u32> {
        play_running(policies, capacity, values, |desired| desired)
    }

    fn play_running(
        policies: Vec<Policy>,
        capacity: u32,
        values: &[f64],
        running: impl Fn(u32) -> u32,
    ) -> Vec<u32> {
        let policies = policies.into_iter().map(|policy| (0, policy)).collect();
        let mut target = ScalableTarget { range: TaskRange { min: 0, max: 100 }, alarm_second: 5, policies };
        let mut metrics = [Series::new(0)];
        let mut desired = capacity;
        let mut seen = Vec::new();
        for (minute, value) in (0..).zip(values) {
            metrics[0].put(minute * PERIOD, *value);
            let found = Capacity { desired, running: running(desired) };
            desired = target.evaluate((minute + 1) * PERIOD + 5, found, &metrics);
            seen.push(desired);
        }
        seen
    }

    #[test]
    fn a_step_sets_its_capacity_from_zero_and_sets_it_again() {
        let steps = || vec![step(&[(0.0, 1), (1.0, 2), (3.0, 4)])];
        assert_eq!(play(steps(), 0, &[0.0, 3.0, 3.0, 3.0, 0.0]), [0, 2, 2, 2, 2]);
        assert_eq!(play(steps(), 3, &[1.0]), [1], "it scales in, too");
    }

    #[test]
    fn target_tracking_scales_out_in_proportion_after_three_minutes() {
        assert_eq!(play(vec![tracking(0, 0)], 4, &[150.0, 150.0, 151.0]), [4, 4, 7]);
    }

    /// Of ten desired tasks four run: half as many again are six, and no more
    /// than there will be.
    #[test]
    fn target_tracking_multiplies_the_tasks_that_run() {
        let play = |value| play_running(vec![tracking(0, 0)], 10, &[value; 3], |_| 4);
        assert_eq!(play(150.0), [10; 3]);
        assert_eq!(play(300.0), [10, 10, 12]);
    }

    #[test]
    fn of_the_minimum_one_low_value_in_a_minute_is_enough_to_stay() {
        let policy = TargetTracking::out_only_of_minimum(100.0, Cooldowns::new(0, 0));
        let mut target = ScalableTarget {
            range: TaskRange { min: 0, max: 100 },
            alarm_second: 5,
            policies: vec![(0, Policy::Tracking(policy))],
        };
        let mut metrics = [Series::new(0)];
        for at in 0..180 {
            metrics[0].put(at, if at == 170 { 110.0 } else { 300.0 });
        }
        assert_eq!(target.evaluate(185, Capacity { desired: 10, running: 10 }, &metrics), 11);
    }

    #[test]
    fn target_tracking_does_not_multiply_nothing() {
        assert_eq!(play(vec![tracking(0, 0)], 0, &[900.0; 5]), [0; 5]);
    }

    #[test]
    fn target_tracking_scales_in_after_fifteen_minutes_below_nine_tenths() {
        let policy = || vec![tracking(0, 0)];
        assert_eq!(play(policy(), 10, &[50.0; 15]), [[10; 14].as_slice(), &[5]].concat());
        assert_eq!(play(policy(), 10, &[91.0; 30]), [10; 30]);
    }

    #[test]
    fn scale_in_can_be_disabled() {
        let policy = Policy::Tracking(TargetTracking::out_only_of_minimum(100.0, Cooldowns::new(0, 0)));
        assert_eq!(play(vec![policy], 10, &[50.0; 30]), [10; 30]);
    }

    #[test]
    fn cooldowns_of_target_tracking() {
        // From 4 to 8, and not again for the same four in the cooldown.
        let seen = play(vec![tracking(300, 0)], 4, &[200.0; 9]);
        assert_eq!(seen, [4, 4, 8, 8, 8, 8, 8, 16, 16]);
        let seen = play(vec![tracking(0, 300)], 8, &[50.0; 21]);
        assert_eq!(seen[14..], [4, 4, 4, 4, 4, 2, 2]);
    }

    /// The page on cooldowns: a scale-out "immediately", and the cooldown of
    /// the scale-in before it stops.
    #[test]
    fn a_scale_out_ends_the_cooldown_of_a_scale_in() {
        let mut values = vec![50.0; 15];
        values.extend([100.0; 3]);
        let policies = || vec![tracking(0, 10_000), step(&[(99.0, 9)])];
        let seen = play(policies(), 8, &values);
        assert_eq!(seen[14..], [4, 9, 9, 9]);
        values.extend([50.0; 15]);
        assert_eq!(play(policies(), 8, &values).last(), Some(&5), "in again, within the old cooldown");
    }

    #[test]
    fn the_largest_capacity_wins() {
        let to = |to| step(&[(0.0, to)]);
        assert_eq!(play(vec![to(3), to(7), to(5)], 1, &[1.0]), [7]);
        assert_eq!(play(vec![to(1), to(7)], 3, &[1.0]), [7], "out goes before in");
    }

    #[test]
    fn no_policy_leaves_the_range() {
        assert_eq!(play(vec![step(&[(0.0, 500)])], 1, &[1.0]), [100]);
    }
}
