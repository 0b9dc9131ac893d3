//! CloudWatch: metrics in periods, and alarms on them.
//!
//! Sources, in the Amazon CloudWatch User Guide:
//!
//! - "Alarm evaluation": an alarm looks at its metric each minute, and one of
//!   high resolution each period; it goes to ALARM when enough of the latest
//!   data points breach. The model looks at periods that have ended.
//! - "Configuring how CloudWatch alarms treat missing data": the evaluation
//!   range holds more data points than are needed, and missing ones are made
//!   up for only where there are too few in it.
//! - "Alarm actions": Auto Scaling actions are invoked when the alarm goes to
//!   ALARM, and again each minute for as long as it stays there. That holds
//!   for alarms of high resolution, too.

/// Seconds of a period of standard resolution.
pub(crate) const PERIOD: u32 = 60;
/// The shortest period of an alarm on a metric of high resolution
/// ("Publish custom metrics", "High-resolution metrics").
pub(crate) const SHORT_PERIOD: u32 = 10;

/// How many periods beyond those needed an alarm looks back: the worked
/// examples of "treat missing data" show five periods for three.
const LOOK_BACK: usize = 2;

/// What was put in a period.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    sum: f64,
    number: u32,
    minimum: f64,
    maximum: f64,
    /// When the last was put.
    put: u32,
}

#[derive(Clone, Copy, Debug)]
enum Statistic {
    Average,
    Minimum,
    Maximum,
}

/// A metric: what was put in each period.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Seconds of a period.
    period: u32,
    /// Seconds until a data point can be seen.
    delay: u32,
    periods: Vec<Period>,
}

impl Series {
    pub(crate) fn new(delay: u32) -> Self {
        Self { period: PERIOD, delay, periods: Vec::new() }
    }

    pub(crate) fn high_resolution(delay: u32) -> Self {
        Self { period: SHORT_PERIOD, delay, periods: Vec::new() }
    }

    /// Whether alarms look at it in this second: `second` of each minute, and
    /// where it is of high resolution, a little after each period.
    pub(crate) fn is_due(&self, now: u32, second: u32) -> bool {
        now % self.period == if self.period == PERIOD { second } else { SHORT_PERIOD / 2 }
    }

    pub(crate) fn put(&mut self, now: u32, value: f64) {
        let period = (now / self.period) as usize;
        if self.periods.len() <= period {
            self.periods.resize(period + 1, Period::default());
        }
        let entry = &mut self.periods[period];
        entry.minimum = if entry.number == 0 { value } else { entry.minimum.min(value) };
        entry.maximum = if entry.number == 0 { value } else { entry.maximum.max(value) };
        entry.sum += value;
        entry.number += 1;
        entry.put = now;
    }

    /// The data points of the last `number` periods that have ended, the oldest
    /// first, as far as they can be seen at `now`.
    fn last(&self, now: u32, number: usize, statistic: Statistic) -> Vec<Option<f64>> {
        let end = (now / self.period) as usize;
        let point = |period: usize| {
            let entry = self.periods.get(period)?;
            (entry.number > 0 && entry.put + self.delay <= now).then(|| match statistic {
                Statistic::Average => entry.sum / f64::from(entry.number),
                Statistic::Minimum => entry.minimum,
                Statistic::Maximum => entry.maximum,
            })
        };
        (0..number).rev().map(|back| end.checked_sub(back + 1).and_then(point)).collect()
    }
}

/// Which side of the threshold is a breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// What a missing data point counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "the policies here use two of the four"))]
pub(crate) enum Missing {
    Absent,
    Ignore,
    Breaching,
    NotBreaching,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AlarmState {
    Ok,
    Alarm,
    InsufficientData,
}

/// An alarm: in ALARM when `needed` of the latest `periods` data points breach.
#[derive(Clone, Debug)]
pub(crate) struct Alarm {
    pub(crate) breach: Breach,
    pub(crate) threshold: f64,
    pub(crate) periods: usize,
    pub(crate) needed: usize,
    pub(crate) missing: Missing,
    statistic: Statistic,
    /// So many of the metric's periods are one of the alarm's.
    width: usize,
    state: AlarmState,
    /// When its action was invoked last, since it is in ALARM.
    acted: Option<u32>,
}

impl Alarm {
    /// On all of the latest `periods` data points.
    pub(crate) fn all(breach: Breach, threshold: f64, periods: usize, missing: Missing) -> Self {
        let state = AlarmState::InsufficientData;
        Self {
            breach,
            threshold,
            periods,
            needed: periods,
            missing,
            statistic: Statistic::Average,
            width: 1,
            state,
            acted: None,
        }
    }

    /// The same, of the lowest value of each period.
    pub(crate) fn of_minimum(self) -> Self {
        Self { statistic: Statistic::Minimum, ..self }
    }

    /// On the maximum of the latest `width` periods of the metric.
    pub(crate) fn maximum(breach: Breach, threshold: f64, width: usize, missing: Missing) -> Self {
        Self {
            statistic: Statistic::Maximum,
            width: width.max(1),
            ..Self::all(breach, threshold, 1, missing)
        }
    }

    /// Looks at the metric; returns the latest data point when its action is
    /// invoked.
    pub(crate) fn look(&mut self, series: &Series, now: u32) -> Option<f64> {
        let points = series.last(now, (self.periods + LOOK_BACK) * self.width, self.statistic);
        let maximum = |period: &[Option<f64>]| period.iter().flatten().copied().reduce(f64::max);
        let range: Vec<Option<f64>> = points.chunks(self.width).map(maximum).collect();
        self.state = self.judge(&range);
        if self.state != AlarmState::Alarm {
            self.acted = None;
            return None;
        }
        if self.acted.is_some_and(|at| now < at + PERIOD) {
            return None;
        }
        self.acted = Some(now);
        range.iter().rev().flatten().next().copied()
    }

    fn breaches(&self, value: f64) -> bool {
        match self.breach {
            Breach::Above => value > self.threshold,
            Breach::AtLeast => value >= self.threshold,
            Breach::Below => value < self.threshold,
            Breach::AtMost => value <= self.threshold,
        }
    }

    /// The state after a sample at `range`, the oldest data point first.
    fn judge(&self, range: &[Option<f64>]) -> AlarmState {
        // The latest that there are, each with its age in periods.
        let points = range.iter().rev().zip(1..).filter_map(|(point, age)| Some(((*point)?, age)));
        let latest: Vec<(bool, usize)> =
            points.take(self.periods).map(|(value, age)| (self.breaches(value), age)).collect();
        let breaching = latest.iter().filter(|(breaches, _)| *breaches).count();
        let filled = self.periods - latest.len();
        let alarm_if = |alarm: bool| if alarm { AlarmState::Alarm } else { AlarmState::Ok };
        if filled == 0 || self.missing == Missing::NotBreaching || breaching >= self.needed {
            return alarm_if(breaching >= self.needed);
        }
        if self.missing == Missing::Breaching {
            return alarm_if(breaching + filled >= self.needed);
        }
        match latest.last() {
            Some(_) if breaching < latest.len() => AlarmState::Ok,
            // "Avoiding premature transitions to alarm state": one breach is
            // not enough before others could have come after it.
            Some((_, age)) if *age >= self.needed && self.missing == Missing::Absent => AlarmState::Alarm,
            None if self.missing == Missing::Absent => AlarmState::InsufficientData,
            _ => self.state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `0` does not breach, `X` does, `-` is missing.
    fn points(text: &str) -> Vec<Option<f64>> {
        let point = |c| match c {
            'X' => Some(Some(1.0)),
            '0' => Some(Some(0.0)),
            '-' => Some(None),
            _ => None,
        };
        text.chars().filter_map(point).collect()
    }

    fn judge(text: &str, needed: usize, missing: Missing, before: AlarmState) -> AlarmState {
        let alarm = Alarm { needed, state: before, ..Alarm::all(Breach::Above, 0.5, 3, missing) };
        alarm.judge(&points(text))
    }

    /// The tables of "Configuring how CloudWatch alarms treat missing data":
    /// three periods, of which `needed` have to breach. `Retained` is the
    /// state from before.
    fn assert_table(needed: usize, rows: &[(&str, [Expected; 4])]) {
        let ways = [Missing::Absent, Missing::Ignore, Missing::Breaching, Missing::NotBreaching];
        for (text, expected) in rows {
            for (missing, expected) in ways.into_iter().zip(expected) {
                for before in [AlarmState::Ok, AlarmState::Alarm] {
                    let state = match expected {
                        Expected::Is(state) => *state,
                        Expected::Retained => before,
                    };
                    assert_eq!(judge(text, needed, missing, before), state, "{text} {missing:?} {before:?}");
                }
            }
        }
    }

    enum Expected {
        Is(AlarmState),
        Retained,
    }
    use AlarmState::{Alarm as A, InsufficientData as I, Ok as O};
    use Expected::{Is, Retained};

    #[test]
    fn three_of_three_as_documented() {
        assert_table(
            3,
            &[
                ("0 - X - X", [Is(O), Is(O), Is(O), Is(O)]),
                ("- - - - 0", [Is(O), Is(O), Is(O), Is(O)]),
                ("- - - - -", [Is(I), Retained, Is(A), Is(O)]),
                ("0 X X - X", [Is(A), Is(A), Is(A), Is(A)]),
                ("- - X - -", [Is(A), Retained, Is(A), Is(O)]),
            ],
        );
    }

    #[test]
    fn two_of_three_as_documented() {
        assert_table(
            2,
            &[
                ("0 - X - X", [Is(A), Is(A), Is(A), Is(A)]),
                ("0 0 X 0 X", [Is(A), Is(A), Is(A), Is(A)]),
                ("0 - X - -", [Is(O), Is(O), Is(A), Is(O)]),
                ("- - - - 0", [Is(O), Is(O), Is(A), Is(O)]),
                ("- - - X -", [Is(A), Retained, Is(A), Is(O)]),
            ],
        );
    }

    /// The same page, "Avoiding premature transitions to alarm state".
    #[test]
    fn one_breach_after_a_gap_is_not_enough() {
        for text in ["- - - - X", "- - - X -"] {
            assert_eq!(judge(text, 3, Missing::Absent, AlarmState::Ok), AlarmState::Ok, "{text}");
        }
        assert_eq!(judge("- - X - -", 3, Missing::Absent, AlarmState::Ok), AlarmState::Alarm);
    }

    #[test]
    fn a_period_is_seen_when_it_has_ended_and_was_published() {
        let mut series = Series::new(30);
        series.put(60, 1.0);
        series.put(119, 3.0);
        let last = |now, number| series.last(now, number, Statistic::Average);
        assert_eq!(last(119, 1), [None], "the period goes on");
        assert_eq!(last(120, 1), [None], "the last point is not published");
        assert_eq!(last(149, 2), [None, Some(2.0)], "the average");
        assert_eq!(last(200, 3), [None, Some(2.0), None]);
        assert_eq!(series.last(149, 1, Statistic::Maximum), [Some(3.0)]);
    }

    #[test]
    fn high_resolution_is_seen_within_seconds_and_acted_on_once_a_minute() {
        let mut series = Series::high_resolution(5);
        let mut alarm = Alarm::all(Breach::AtLeast, 1.0, 1, Missing::NotBreaching);
        for at in (60..150).step_by(10) {
            series.put(at, 4.0);
        }
        series.put(210, 6.0);
        let mut seen = Vec::new();
        for now in 60..300 {
            if series.is_due(now, 5) && alarm.look(&series, now).is_some() {
                seen.push(now);
            }
        }
        // Again after a minute, and at once where it went back in between.
        assert_eq!(seen, [75, 135, 225]);
    }

    #[test]
    fn a_longer_period_has_its_maximum() {
        let mut series = Series::new(0);
        let mut alarm = Alarm::maximum(Breach::AtMost, 50.0, 3, Missing::NotBreaching);
        let mut seen = Vec::new();
        for (minute, value) in [80.0, 30.0, 40.0, 20.0, 10.0, 60.0].into_iter().enumerate() {
            let now = 60 * minute as u32;
            series.put(now, value);
            seen.push(alarm.look(&series, now + PERIOD));
        }
        assert_eq!(seen, [None, None, None, Some(40.0), Some(40.0), None]);
    }

    #[test]
    fn an_alarm_hands_over_the_latest_value_each_minute_until_it_ends() {
        let mut series = Series::new(0);
        let mut alarm = Alarm::all(Breach::AtLeast, 2.0, 2, Missing::Absent);
        let mut seen = Vec::new();
        for (minute, value) in [1.0, 2.0, 3.0, 4.0, 1.0].into_iter().enumerate() {
            let now = 60 * minute as u32;
            series.put(now, value);
            seen.push(alarm.look(&series, now + PERIOD));
        }
        assert_eq!(seen, [None, None, Some(3.0), Some(4.0), None]);
    }
}
