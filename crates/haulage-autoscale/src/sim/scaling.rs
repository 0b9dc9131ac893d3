//! Application Auto Scaling: target tracking, step policies, cooldowns.
//!
//! Sources, in the Application Auto Scaling User Guide:
//!
//! - "How target tracking scaling works": the service makes two alarms, scales
//!   in proportion to the metric, and rounds up. The alarms that it makes are
//!   seen in the console: above the target for 3 minutes, and below 90 % of it
//!   for 15 minutes. It is said to scale in more gradually than out; how is
//!   not published, and the model goes to the proportional capacity at once.
//! - "How step scaling works": steps by the size of the breach, the kinds of
//!   adjustment, and rounding of percentages.
//! - "Cooldown periods" of both: in a scale-out cooldown, what was added last
//!   is a part of what the next scale-out adds; a scale-in cooldown holds up
//!   scale-in only.
//! - "Multiple scaling policies": the largest capacity wins.

use super::cloudwatch::{Alarm, Breach, Missing, Series};

/// The range within which policies move a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) min: u32,
    pub(crate) max: u32,
}

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

    /// With `DisableScaleIn`.
    pub(crate) fn out_only(target: f64, cooldowns: Cooldowns) -> Self {
        Self { scales_in: false, ..Self::new(target, cooldowns) }
    }

    fn propose(&mut self, now: u32, current: u32, series: &Series) -> Option<u32> {
        let high = self.high.look(series, now);
        let low = self.low.look(series, now);
        if let Some(value) = high {
            let base = self.cooldowns.base(now, current);
            return Some(self.proportional(base, value).max(current));
        }
        low.filter(|_| self.scales_in && !self.cooldowns.hold_up_in(now))
            .map(|value| self.proportional(current, value).min(current))
    }

    fn proportional(&self, capacity: u32, value: f64) -> u32 {
        // What rounding adds must not become a task.
        (f64::from(capacity) * value / self.target - 1e-9).ceil() as u32
    }
}

/// How a step's number changes the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "the policies here use two of the three"))]
pub(crate) enum Adjustment {
    Change,
    Percent,
    Exact,
}

/// From this far above the threshold, this adjustment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) from: f64,
    pub(crate) adjust: i32,
}

/// Changes the capacity by steps, when its alarm says so.
#[derive(Clone, Debug)]
pub(crate) struct StepPolicy {
    pub(crate) alarm: Alarm,
    pub(crate) adjustment: Adjustment,
    /// By `from`; the last one that is reached counts.
    pub(crate) steps: Vec<Step>,
    pub(crate) cooldowns: Cooldowns,
}

impl StepPolicy {
    fn propose(&mut self, now: u32, current: u32, series: &Series) -> Option<u32> {
        let breach = self.alarm.look(series, now)? - self.alarm.threshold;
        let step = self.steps.iter().rev().find(|step| breach >= step.from)?;
        let base = self.cooldowns.base(now, current);
        let capacity = self.adjusted(base, step.adjust);
        if capacity > base {
            // What the cooldown's scale-out added is a part of this one.
            return Some(capacity.max(current));
        }
        (!self.cooldowns.hold_up_in(now)).then(|| self.adjusted(current, step.adjust))
    }

    fn adjusted(&self, capacity: u32, adjust: i32) -> u32 {
        let changed = |change: i64| (i64::from(capacity) + change).max(0) as u32;
        match self.adjustment {
            Adjustment::Exact => adjust.max(0) as u32,
            Adjustment::Change => changed(i64::from(adjust)),
            Adjustment::Percent => {
                // Towards zero, but by one at least.
                let exact = f64::from(capacity) * f64::from(adjust) / 100.0;
                let whole =
                    if exact.abs() < 1.0 { exact.signum() * exact.abs().ceil() } else { exact.trunc() };
                changed(whole as i64)
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Policy {
    Tracking(TargetTracking),
    Step(StepPolicy),
}

impl Policy {
    fn propose(&mut self, now: u32, current: u32, series: &Series) -> Option<u32> {
        match self {
            Self::Tracking(policy) => policy.propose(now, current, series),
            Self::Step(policy) => policy.propose(now, current, series),
        }
    }

    fn scaled(&mut self, now: u32, from: u32, to: u32) {
        match self {
            Self::Tracking(policy) => policy.cooldowns.scaled(now, from, to),
            Self::Step(policy) => policy.cooldowns.scaled(now, from, to),
        }
    }
}

/// A service's policies, each with the number of the metric that it looks at.
#[derive(Clone, Debug)]
pub(crate) struct ScalableTarget {
    pub(crate) range: Range,
    pub(crate) policies: Vec<(usize, Policy)>,
}

impl ScalableTarget {
    /// What the policies whose alarms look now make of a service of `current` tasks.
    pub(crate) fn evaluate(&mut self, now: u32, current: u32, metrics: &[Series]) -> u32 {
        let proposals: Vec<Option<u32>> = self
            .policies
            .iter_mut()
            .map(|(metric, policy)| {
                let series = &metrics[*metric];
                if series.is_due(now) { policy.propose(now, current, series) } else { None }
            })
            .collect();
        let wanted = proposals.iter().flatten().max().copied().unwrap_or(current);
        let next = wanted.clamp(self.range.min, self.range.max);
        if next != current {
            for ((_, policy), proposal) in self.policies.iter_mut().zip(proposals) {
                if proposal == Some(wanted) {
                    policy.scaled(now, current, next);
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

    fn step(
        adjustment: Adjustment,
        steps: &[(f64, i32)],
        threshold: f64,
        cooldowns: Cooldowns,
    ) -> StepPolicy {
        StepPolicy {
            alarm: Alarm::all(Breach::AtLeast, threshold, 1, Missing::Absent),
            adjustment,
            steps: steps.iter().map(|&(from, adjust)| Step { from, adjust }).collect(),
            cooldowns,
        }
    }

    /// What happens to `capacity` as the metric takes these values, minute by minute.
    fn play(policies: Vec<Policy>, capacity: u32, values: &[f64]) -> Vec<u32> {
        let policies = policies.into_iter().map(|policy| (0, policy)).collect();
        let mut target = ScalableTarget { range: Range { min: 0, max: 100 }, policies };
        let mut metrics = [Series::new(0)];
        let mut current = capacity;
        let mut seen = Vec::new();
        for (minute, value) in values.iter().enumerate() {
            let now = minute as u32 * PERIOD;
            metrics[0].put(now, *value);
            current = target.evaluate(now + PERIOD + 5, current, &metrics);
            seen.push(current);
        }
        seen
    }

    /// "How step scaling works", step adjustments: a capacity and a desired
    /// capacity of 10, a threshold of 60 %, and steps of 0, +10 % and +30 %
    /// at 50 to 60, 60 to 70 and above 70; at 60 the capacity grows by 1 to
    /// 11, and at 70 by 3 to 14.
    #[test]
    fn steps_as_documented() {
        let policy =
            step(Adjustment::Percent, &[(0.0, 0), (10.0, 10), (20.0, 30)], 50.0, Cooldowns::new(0, 0));
        assert_eq!(play(vec![Policy::Step(policy)], 10, &[50.0, 60.0, 70.0]), [10, 11, 14]);
    }

    /// The same page, adjustment types: values above 1 are rounded down and
    /// those between 0 and 1 become 1; the same below zero.
    #[test]
    fn percentages_are_rounded_as_documented() {
        let adjusted = |capacity, percent| {
            step(Adjustment::Percent, &[], 0.0, Cooldowns::new(0, 0)).adjusted(capacity, percent)
        };
        assert_eq!(adjusted(127, 10), 127 + 12, "12.7");
        assert_eq!(adjusted(67, 1), 67 + 1, "0.67");
        assert_eq!(adjusted(58, -1), 58 - 1, "-0.58");
        assert_eq!(adjusted(667, -1), 667 - 6, "-6.67");
        assert_eq!(adjusted(0, 100), 0);
    }

    /// API reference, StepScalingPolicyConfiguration, Cooldown: a scale-out by
    /// 2, and within its cooldown one by 3, which adds the third only.
    #[test]
    fn a_scale_out_within_the_cooldown_contains_the_last_one() {
        let policy = step(Adjustment::Change, &[(0.0, 2), (10.0, 3)], 1.0, Cooldowns::new(300, 0));
        assert_eq!(
            play(vec![Policy::Step(policy)], 4, &[1.0, 1.0, 11.0, 11.0, 1.0, 1.0]),
            [6, 6, 7, 7, 7, 9]
        );
    }

    #[test]
    fn an_exact_capacity_is_set_from_zero() {
        let policy = step(Adjustment::Exact, &[(0.0, 1), (1.0, 2), (3.0, 4)], 1.0, Cooldowns::new(0, 0));
        assert_eq!(play(vec![Policy::Step(policy)], 0, &[0.0, 3.0]), [0, 2]);
    }

    #[test]
    fn target_tracking_scales_out_in_proportion_after_three_minutes() {
        let policy = TargetTracking::new(100.0, Cooldowns::new(0, 0));
        assert_eq!(play(vec![Policy::Tracking(policy)], 4, &[150.0, 150.0, 151.0]), [4, 4, 7]);
    }

    #[test]
    fn target_tracking_never_leaves_zero() {
        let policy = TargetTracking::new(100.0, Cooldowns::new(0, 0));
        assert_eq!(play(vec![Policy::Tracking(policy)], 0, &[900.0; 5]), [0; 5]);
    }

    #[test]
    fn target_tracking_scales_in_after_fifteen_minutes_below_nine_tenths() {
        let policy = || vec![Policy::Tracking(TargetTracking::new(100.0, Cooldowns::new(0, 0)))];
        assert_eq!(play(policy(), 10, &[50.0; 15]), [[10; 14].as_slice(), &[5]].concat());
        assert_eq!(play(policy(), 10, &[91.0; 30]), [10; 30]);
    }

    #[test]
    fn scale_in_can_be_disabled() {
        let policy = Policy::Tracking(TargetTracking::out_only(100.0, Cooldowns::new(0, 0)));
        assert_eq!(play(vec![policy], 10, &[50.0; 30]), [10; 30]);
    }

    #[test]
    fn cooldowns_of_target_tracking() {
        let policy = TargetTracking::new(100.0, Cooldowns::new(300, 0));
        // From 4 to 8, and not again for the same four in the cooldown.
        let seen = play(vec![Policy::Tracking(policy)], 4, &[200.0; 9]);
        assert_eq!(seen, [4, 4, 8, 8, 8, 8, 8, 16, 16]);
        let policy = TargetTracking::new(100.0, Cooldowns::new(0, 300));
        let seen = play(vec![Policy::Tracking(policy)], 8, &[50.0; 21]);
        assert_eq!(seen[14..], [4, 4, 4, 4, 4, 2, 2]);
    }

    #[test]
    fn the_largest_capacity_wins() {
        let out = |to| Policy::Step(step(Adjustment::Exact, &[(0.0, to)], 1.0, Cooldowns::new(0, 0)));
        assert_eq!(play(vec![out(3), out(7), out(5)], 1, &[1.0]), [7]);
        let into = Policy::Step(step(Adjustment::Exact, &[(0.0, 1)], 1.0, Cooldowns::new(0, 0)));
        assert_eq!(play(vec![into, out(7)], 3, &[1.0]), [7], "out goes before in");
    }

    #[test]
    fn no_policy_leaves_the_range() {
        let policy = step(Adjustment::Exact, &[(0.0, 500)], 1.0, Cooldowns::new(0, 0));
        assert_eq!(play(vec![Policy::Step(policy)], 1, &[1.0]), [100]);
    }
}
