//! When jobs arrive, and how long each takes.

use std::f64::consts::TAU;

use serde::Serialize;

use super::random::Random;

/// A job of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When it is submitted, in seconds since the start.
    pub at: f64,
    /// How long it runs, in seconds.
    pub seconds: f64,
    /// For how long it is hidden first, in seconds: a delay, or the wait of a
    /// retry. SQS counts it as in flight meanwhile.
    pub hidden: f64,
}

impl Arrival {
    const fn new(at: f64, seconds: f64) -> Self {
        Self { at, seconds, hidden: 0.0 }
    }

    /// When it can be taken for the first time.
    pub fn due(&self) -> f64 {
        self.at + self.hidden
    }
}

/// Jobs in the order in which they arrive.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    name: String,
    arrivals: Vec<Arrival>,
}

/// Why a trace could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: {problem}; a line is ARRIVAL_SECONDS,JOB_SECONDS or ARRIVAL_SECONDS,JOB_SECONDS,DELAY_SECONDS, such as 12.5,60"
)]
pub struct TraceError {
    line: usize,
    problem: String,
}

/// The traces that come with the simulator. Each has its own length and load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shipped {
    /// Six jobs a minute at random moments, of 40 to 80 s each, for 12 hours.
    Steady,
    /// A job every two minutes, and 200 at once every 90 minutes, of 20 to 40 s, for 12 hours.
    Bursts,
    /// From nothing at midnight to twelve a minute at noon and back, of 40 to 80 s, for 24 hours.
    Daily,
    /// Two jobs a minute, most of them short and some of an hour, for 12 hours.
    HeavyTail,
    /// One job of 5 minutes after 8 silent hours.
    SilentNight,
    /// Six jobs a minute for 6 hours; in the two in the middle each attempt
    /// fails after 5 s, and the next comes 10 to 15 minutes later.
    Outage,
}

impl Shipped {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Steady, Self::Bursts, Self::Daily, Self::HeavyTail, Self::SilentNight, Self::Outage];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Bursts => "bursts",
            Self::Daily => "daily",
            Self::HeavyTail => "heavy-tail",
            Self::SilentNight => "silent-night",
            Self::Outage => "outage",
        }
    }

    /// The trace of that name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trace| trace.name() == name)
    }

    /// Makes the trace; the same seed makes the same one.
    pub fn generate(self, seed: u64) -> Trace {
        const HOUR: f64 = 3600.0;
        let mut random = Random::new(seed);
        let mut arrivals = Vec::new();
        match self {
            Self::Steady => {
                poisson(&mut random, 12.0 * HOUR, 0.1, |_| 1.0, &mut arrivals, |r| r.between(40.0, 80.0));
            }
            Self::Bursts => {
                let length = |r: &mut Random| r.between(20.0, 40.0);
                poisson(&mut random, 12.0 * HOUR, 1.0 / 120.0, |_| 1.0, &mut arrivals, length);
                for burst in 0..8 {
                    let at = f64::from(burst) * 1.5 * HOUR + random.between(0.0, HOUR);
                    arrivals.extend((0..200).map(|_| Arrival::new(at, length(&mut random))));
                }
            }
            Self::Daily => {
                let wave = |at: f64| (1.0 - (TAU * at / (24.0 * HOUR)).cos()) / 2.0;
                poisson(&mut random, 24.0 * HOUR, 0.2, wave, &mut arrivals, |r| r.between(40.0, 80.0));
            }
            Self::HeavyTail => {
                // A mean of about a minute and a half, most of it in few jobs.
                poisson(
                    &mut random,
                    12.0 * HOUR,
                    1.0 / 30.0,
                    |_| 1.0,
                    &mut arrivals,
                    |r| r.pareto(30.0, 1.4).min(HOUR),
                );
            }
            Self::SilentNight => arrivals.push(Arrival::new(8.0 * HOUR, 300.0)),
            Self::Outage => {
                poisson(&mut random, 6.0 * HOUR, 0.1, |_| 1.0, &mut arrivals, |r| r.between(40.0, 80.0));
                let jobs = std::mem::take(&mut arrivals);
                for job in jobs {
                    fail_between(2.0 * HOUR, 4.0 * HOUR, job, &mut random, &mut arrivals);
                }
            }
        }
        Trace::sorted(self.name().to_owned(), arrivals)
    }
}

/// Random arrivals at `rate` times `share`, which is 1 at most, of the moment.
fn poisson(
    random: &mut Random,
    until: f64,
    rate: f64,
    share: impl Fn(f64) -> f64,
    arrivals: &mut Vec<Arrival>,
    mut length: impl FnMut(&mut Random) -> f64,
) {
    let mut at = random.exponential(rate);
    while at < until {
        if random.unit() <= share(at) {
            let seconds = length(random);
            arrivals.push(Arrival::new(at, seconds));
        }
        at += random.exponential(rate);
    }
}

/// The attempts of a job, all of which fail between two moments. Each is an
/// arrival of its own, as if none had to wait for a task.
fn fail_between(from: f64, to: f64, job: Arrival, random: &mut Random, arrivals: &mut Vec<Arrival>) {
    const ATTEMPT: f64 = 5.0;
    let mut next = job;
    while (from..to).contains(&next.due()) {
        arrivals.push(Arrival { seconds: ATTEMPT, ..next });
        next = Arrival { at: next.due() + ATTEMPT, hidden: random.between(600.0, 900.0), ..job };
    }
    arrivals.push(next);
}

impl Trace {
    fn sorted(name: String, mut arrivals: Vec<Arrival>) -> Self {
        arrivals.sort_by(|a, b| a.at.total_cmp(&b.at));
        Self { name, arrivals }
    }

    /// Reads lines of arrival and job seconds, and those of its delay if there
    /// is one, in any order. A first line in which no field is or begins like a
    /// number is a header; empty lines and lines that begin with `#` are passed
    /// over.
    pub fn from_csv(name: &str, text: &str) -> Result<Self, TraceError> {
        let mut arrivals = Vec::new();
        // Spreadsheets put a byte order mark first.
        let text = text.trim_start_matches('\u{feff}');
        let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        for (nth, (line, content)) in lines.enumerate() {
            if nth == 0 && is_header(content) {
                continue;
            }
            arrivals.push(arrival(content).map_err(|problem| TraceError { line, problem })?);
        }
        if arrivals.is_empty() {
            return Err(TraceError { line: 1, problem: "it has no jobs".to_owned() });
        }
        Ok(Self::sorted(name.to_owned(), arrivals))
    }

    /// As [`Trace::from_csv`] reads it.
    pub fn to_csv(&self) -> String {
        let line = |job: &Arrival| match job.hidden {
            0.0 => format!("{},{}\n", job.at, job.seconds),
            hidden => format!("{},{},{hidden}\n", job.at, job.seconds),
        };
        let lines = self.arrivals.iter().map(line);
        std::iter::once("arrival_seconds,job_seconds,delay_seconds\n".to_owned()).chain(lines).collect()
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The jobs, by arrival.
    pub fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    /// How long all jobs take together, in seconds.
    pub fn work_seconds(&self) -> f64 {
        self.arrivals.iter().map(|job| job.seconds).sum()
    }

    /// Seconds per job, on average.
    pub fn mean_seconds(&self) -> f64 {
        self.work_seconds() / self.arrivals.len().max(1) as f64
    }

    /// When the last job is due.
    pub fn last_due(&self) -> f64 {
        self.arrivals.iter().map(Arrival::due).fold(0.0, f64::max)
    }
}

fn is_header(line: &str) -> bool {
    let like_number =
        |field: &str| field.starts_with(|c: char| c.is_ascii_digit()) || field.parse::<f64>().is_ok();
    !line.split(',').map(str::trim).any(like_number)
}

fn arrival(line: &str) -> Result<Arrival, String> {
    const DAY: f64 = 86_400.0;
    /// A year. Beyond it is a mistake, such as a date in place of an offset.
    const LATEST: f64 = 366.0 * DAY;
    /// The simulation ends 30 days after the last arrival.
    const LONGEST: f64 = 30.0 * DAY;
    let mut fields = line.split(',').map(str::trim);
    let mut number = |what: &str| {
        let field = fields.next().filter(|field| !field.is_empty());
        let field = field.ok_or_else(|| format!("the {what} is missing"))?;
        field.parse::<f64>().map_err(|_| format!("the {what} {field:?} is not a number"))
    };
    let (at, seconds) = (number("arrival")?, number("job time")?);
    let hidden = if line.matches(',').count() > 1 { number("delay")? } else { 0.0 };
    if !(0.0..=LATEST).contains(&at) {
        return Err(format!(
            "the arrival {at} is not a number of seconds since the start, of a year at most"
        ));
    }
    if !(seconds > 0.0 && seconds <= LONGEST) {
        return Err(format!("the job time {seconds} is not a number of seconds above 0, of 30 days at most"));
    }
    if !(0.0..=LONGEST).contains(&hidden) {
        return Err(format!("the delay {hidden} is not a number of seconds, of 30 days at most"));
    }
    match fields.next() {
        Some(more) => Err(format!("{more:?} is one field too many")),
        None => Ok(Arrival { at, seconds, hidden }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_trace() {
        for shipped in Shipped::ALL {
            assert_eq!(shipped.generate(7), shipped.generate(7));
            assert_eq!(Shipped::named(shipped.name()), Some(shipped));
        }
        assert_ne!(Shipped::Steady.generate(7), Shipped::Steady.generate(8));
        assert_eq!(Shipped::named("daily wave"), None);
    }

    #[test]
    fn shipped_traces_have_the_load_that_they_say() {
        let rate = |trace: &Trace, hours: f64| trace.arrivals().len() as f64 / hours / 60.0;
        let steady = Shipped::Steady.generate(1);
        assert!((rate(&steady, 12.0) - 6.0).abs() < 0.3);
        assert!((steady.mean_seconds() - 60.0).abs() < 1.0);
        let bursts = Shipped::Bursts.generate(1);
        assert!((1900..2020).contains(&bursts.arrivals().len()));
        let daily = Shipped::Daily.generate(1);
        assert!((rate(&daily, 24.0) - 6.0).abs() < 0.3);
        let noon = daily.arrivals().iter().filter(|job| (11.0..13.0).contains(&(job.at / 3600.0)));
        assert!((noon.count() as f64 / 120.0 - 12.0).abs() < 1.0);
        let heavy = Shipped::HeavyTail.generate(1);
        let mut lengths: Vec<_> = heavy.arrivals().iter().map(|job| job.seconds).collect();
        lengths.sort_by(f64::total_cmp);
        assert!(lengths[lengths.len() / 2] < 60.0 && lengths[lengths.len() - 1] > 1800.0);
        assert_eq!(Shipped::SilentNight.generate(1).arrivals(), [Arrival::new(28_800.0, 300.0)]);
        let outage = Shipped::Outage.generate(1);
        let hidden = outage.arrivals().iter().filter(|job| job.hidden > 0.0).count();
        assert!((3000..4500).contains(&hidden), "{hidden}");
    }

    #[test]
    fn csv_round_trips() {
        for shipped in [Shipped::Bursts, Shipped::Outage] {
            let trace = shipped.generate(3);
            assert_eq!(Trace::from_csv(shipped.name(), &trace.to_csv()), Ok(trace));
        }
    }

    #[test]
    fn csv_is_put_in_order_with_and_without_a_header() {
        let expected = [Arrival::new(1.0, 2.0), Arrival { hidden: 7.5, ..Arrival::new(5.0, 60.0) }];
        for text in [
            "at,seconds\n5,60,7.5\n\n1,2\n",
            "# mine\n5, 60, 7.5\n1, 2,0",
            "\u{feff}5,60,7.5\r\n1,2\r\n",
            "\u{feff}at,job,delay\r\n5,60,7.5\r\n1,2\r\n",
        ] {
            assert_eq!(Trace::from_csv("mine", text).expect("a trace").arrivals(), expected, "{text}");
        }
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, problem) in [
            ("1,2\n3\n", "line 2: the job time is missing"),
            ("1,2\nx,3\n", "line 2: the arrival \"x\" is not a number"),
            ("1,0\n", "line 1: the job time 0 is not"),
            ("-1,5\n", "line 1: the arrival -1 is not"),
            ("1764115200,5\n", "since the start, of a year at most"),
            ("1,2\n1,nan\n", "line 2: the job time NaN is not"),
            ("1,2,3,4\n", "line 1: \"4\" is one field too many"),
            ("1,2,x\n", "line 1: the delay \"x\" is not a number"),
            ("1,2,-3\n", "line 1: the delay -3 is not"),
            ("1,2592001\n", "line 1: the job time 2592001 is not a number of seconds above 0, of 30 days"),
            ("5s,60\n1,2\n", "line 1: the arrival \"5s\" is not a number"),
            ("12,sixty\n1,2\n", "line 1: the job time \"sixty\" is not a number"),
            ("nan,60\n1,2\n", "line 1: the arrival NaN is not"),
            ("at,seconds\n", "it has no jobs"),
            ("", "it has no jobs"),
        ] {
            let error = Trace::from_csv("mine", text).expect_err(text).to_string();
            assert!(error.contains(problem), "{text:?}: {error}");
        }
    }
}
