//! When jobs are claimed, and what is said, while handlers lack what they need.

use futures_util::FutureExt;
use tokio::task::unconstrained;

use super::*;
use crate::Timestamp;

const MOMENT: Duration = Duration::from_micros(1);

/// What goes by a clock that only the test moves.
struct Watched {
    clock: Clock,
    readiness: Readiness,
}

impl Watched {
    fn new(probe: Option<Probe>) -> Self {
        let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
        Self { clock, readiness: Readiness::new(probe, Handle::current()) }
    }

    fn with_probe() -> Self {
        Self::new(Some(Arc::new(|| Box::pin(std::future::pending()))))
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.readiness.advance(self.now());
    }

    /// Whether it is woken up for now.
    fn is_due(&self) -> bool {
        let mut deadlines = Deadlines::default();
        self.readiness.deadlines(&self.clock, &mut deadlines);
        unconstrained(deadlines.wait(&self.clock)).now_or_never().is_some()
    }

    /// Lets the time pass until the next try; how long it was.
    fn wait_out(&mut self) -> Duration {
        let Stage::Waiting { until, .. } = self.readiness.stage else { panic!("it waits") };
        let wait = until - self.now();
        self.pass(wait - MOMENT);
        assert!(!self.is_due() && matches!(self.readiness.stage, Stage::Waiting { .. }));
        self.clock.advance(MOMENT);
        assert!(self.is_due());
        self.readiness.advance(self.now());
        assert!(!matches!(self.readiness.stage, Stage::Waiting { .. }));
        wait
    }

    fn failed(&mut self, ticket: u64) -> bool {
        self.readiness.failed(ticket, "refused", self.now())
    }

    fn admitted(&mut self, ticket: u64) {
        self.readiness.admitted(ticket, self.now());
    }

    fn worked(&mut self, ticket: u64) {
        self.readiness.worked(ticket, self.now());
    }

    /// How many of five jobs may be taken in, and what is said.
    fn seen(&self) -> (usize, Option<WorkerState>) {
        (self.readiness.limit(5), self.readiness.state())
    }

    /// After a job came back, and the wait for the next.
    fn on_trial() -> Self {
        let mut watched = Self::new(None);
        assert!(watched.failed(1));
        watched.wait_out();
        assert_eq!(watched.seen(), (1, Some(WorkerState::NotReady)));
        watched
    }
}

/// Half of each wait is certain, and all of the other half occurs.
fn assert_spread(waits: &[Duration], most: Duration) {
    let (least, longest) = (waits.iter().min().expect("waits"), waits.iter().max().expect("waits"));
    assert!(*least >= most / 2 && *longest <= most, "{least:?} to {longest:?}, of {most:?}");
    // Of 300, none is in a given tenth of that half once in 10^13 times.
    assert!(*least < most.mul_f64(0.55) && *longest > most.mul_f64(0.95), "{least:?} to {longest:?}");
}

#[test]
fn a_reason_of_many_lines_becomes_one() {
    let reason = "it cannot be imported:\nTraceback\n  1 / 0\nZeroDivisionError: division by zero\n";
    assert_eq!(in_one_line(reason), "it cannot be imported: … ZeroDivisionError: division by zero");
    assert_eq!(in_one_line(" refused\n"), "refused");
    assert_eq!(in_one_line(""), "");
}

#[tokio::test]
async fn outages_in_a_row_are_told_of_less_and_less() {
    let mut readiness = Readiness::new(None, Handle::current());
    let mut told = Vec::new();
    let mut now = Duration::from_secs(1000);
    for outage in 1..=20 {
        assert!(readiness.failed(outage, "503", now), "news");
        told.extend(readiness.outage.as_ref().filter(|o| o.is_told()).map(|_| outage));
        now += LONGEST_WAIT;
        readiness.advance(now);
        readiness.admitted(outage, now);
        readiness.worked(outage, now);
        now += if outage == 10 { APART } else { Duration::from_secs(1) };
    }
    assert_eq!(told, [1, 2, 4, 8, 11, 12, 14, 18]);
    assert_eq!(readiness.outages(), 20);
}

#[tokio::test]
async fn after_jobs_that_came_back_the_waits_grow_up_to_a_minute() {
    let longest = [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs);
    let mut waits = longest.map(|_| Vec::new());
    for _ in 0..300 {
        let mut watched = Watched::new(None);
        for (job, waits) in (1..).zip(&mut waits) {
            assert!(watched.failed(job));
            waits.push(watched.wait_out());
            watched.admitted(job + 1);
        }
        // One that got through, and they begin anew.
        watched.worked(9);
        assert_eq!(watched.seen(), (5, None));
        assert!(watched.failed(10) && watched.wait_out() <= longest[0]);
    }
    for (waits, most) in waits.iter().zip(longest) {
        assert_spread(waits, most);
    }
}

#[tokio::test]
async fn after_a_no_of_the_probe_the_waits_grow_up_to_five_seconds() {
    let longest = [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000].map(Duration::from_millis);
    let mut waits = longest.map(|_| Vec::new());
    for _ in 0..300 {
        let mut watched = Watched::with_probe();
        watched.pass(Duration::ZERO);
        for waits in &mut waits {
            watched.readiness.answered(Err("loading".into()), watched.now());
            waits.push(watched.wait_out());
        }
    }
    for (waits, most) in waits.iter().zip(longest) {
        assert_spread(waits, most);
    }
}

#[tokio::test]
async fn only_the_job_on_trial_tells_whether_others_would_get_through() {
    let mut watched = Watched::on_trial();
    watched.admitted(2);
    watched.worked(1);
    assert!(!watched.failed(1));
    watched.readiness.ended(1);
    assert_eq!(watched.seen(), (0, Some(WorkerState::NotReady)));
    // Given back, or cancelled: it told nothing, and another may try.
    watched.readiness.ended(2);
    assert_eq!(watched.seen(), (1, Some(WorkerState::NotReady)));
    watched.admitted(3);
    watched.worked(3);
    assert_eq!(watched.seen(), (5, None));
    assert_eq!(watched.readiness.reason(), None);
}

#[tokio::test]
async fn a_job_on_trial_that_runs_for_long_has_got_through() {
    let mut watched = Watched::on_trial();
    watched.pass(TRIAL_LIMIT / 2);
    watched.admitted(2);
    watched.pass(TRIAL_LIMIT - MOMENT);
    assert!(!watched.is_due());
    assert_eq!(watched.seen(), (0, Some(WorkerState::NotReady)));
    watched.clock.advance(MOMENT);
    assert!(watched.is_due());
    watched.pass(Duration::ZERO);
    assert_eq!(watched.seen(), (5, None));
}

#[tokio::test]
async fn where_there_is_no_job_to_try_it_is_ready_for_one_after_a_while() {
    let mut watched = Watched::on_trial();
    watched.pass(TRIAL_LIMIT - MOMENT);
    assert!(!watched.is_due());
    assert_eq!(watched.seen(), (1, Some(WorkerState::NotReady)));
    watched.clock.advance(MOMENT);
    assert!(watched.is_due());
    watched.pass(Duration::ZERO);
    assert_eq!(watched.seen(), (1, None));
    watched.pass(10 * TRIAL_LIMIT);
    assert!(!watched.is_due());
    assert_eq!(watched.seen(), (1, None));
}

#[tokio::test]
async fn a_probe_without_an_answer_has_said_no_after_half_a_minute() {
    let mut watched = Watched::with_probe();
    assert_eq!(watched.seen(), (0, Some(WorkerState::Starting)));
    watched.pass(Duration::ZERO);
    watched.pass(PROBE_LIMIT - MOMENT);
    assert!(!watched.is_due());
    assert_eq!(watched.seen(), (0, Some(WorkerState::Starting)));
    watched.clock.advance(MOMENT);
    assert!(watched.is_due());
    watched.pass(Duration::ZERO);
    assert_eq!(watched.seen(), (0, Some(WorkerState::NotReady)));
    let reason = watched.readiness.reason().expect("a reason");
    assert!(reason.contains("longer than 30s"), "{reason}");
}

#[tokio::test]
async fn a_yes_of_the_probe_is_enough_unless_a_job_came_back() {
    let mut watched = Watched::with_probe();
    watched.pass(Duration::ZERO);
    watched.readiness.answered(Ok(()), watched.now());
    assert_eq!(watched.seen(), (5, None));
    assert!(watched.failed(1));
    watched.wait_out();
    watched.readiness.answered(Ok(()), watched.now());
    assert_eq!(watched.seen(), (1, None), "one job is to try");
    watched.admitted(2);
    watched.worked(2);
    assert_eq!(watched.seen(), (5, None));
}
