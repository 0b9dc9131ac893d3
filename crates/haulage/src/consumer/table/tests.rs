//! What a consumer knows of its claims and calls.

use super::*;
use crate::{JobId, Json};

fn admit(table: &mut Table, clock: &Clock, timeout: Option<Duration>) -> u64 {
    let now = clock.now();
    let key = ClaimKey { id: JobId::new("job"), attempt: 1 };
    let spec = JobSpec { timeout, ..JobSpec::default() };
    table.admit(Claimed::new(key, Json::from_stored("null"), spec, now, now))
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_micros(1_700_000_000_000_000))
}

#[test]
fn a_call_is_as_good_as_over_while_all_its_settles_are_under_way() {
    for ends_first in [false, true] {
        let (mut table, clock) = (Table::default(), clock());
        let (a, b) = (admit(&mut table, &clock, None), admit(&mut table, &clock, None));
        let (call, _) = table.begin(vec![a, b], &clock, &Arc::default());
        let end = |table: &mut Table| assert_eq!(table.end(call), [0; 0]);
        for ticket in [a, b] {
            assert!(table.conclude(ticket, &clock).is_some());
        }
        if ends_first {
            end(&mut table);
        }
        for ticket in [a, b] {
            assert_eq!((table.calls(), table.settling_calls()), (1, 0));
            table.set_sent(ticket, true);
            table.set_sent(ticket, true);
        }
        if !ends_first {
            assert_eq!((table.calls(), table.settling_calls()), (1, 0));
            end(&mut table);
        }
        assert_eq!((table.calls(), table.settling_calls()), (1, 1));
        // One was refused, and is tried again.
        table.set_sent(a, false);
        assert_eq!((table.calls(), table.settling_calls()), (1, 0));
        table.set_sent(a, true);
        assert_eq!((table.calls(), table.settling_calls()), (1, 1));
        table.remove(b);
        assert_eq!((table.calls(), table.settling_calls()), (1, 1));
        table.remove(a);
        assert_eq!((table.calls(), table.settling_calls(), table.jobs()), (0, 0, 0));
    }
}

#[test]
fn the_jobs_for_which_something_holds_are_found() {
    let (mut table, clock) = (Table::default(), clock());
    let (_, b) = (admit(&mut table, &clock, None), admit(&mut table, &clock, None));
    table.get_mut(b).expect("it is held").cancel_requested = true;
    assert_eq!(table.which(|held| held.cancel_requested), [b]);
}

#[test]
fn the_next_alarm_is_that_of_the_attempt_whose_time_is_up_first_and_ends_with_it() {
    let (mut table, clock) = (Table::default(), clock());
    let [long, short, none] =
        [Some(9), Some(5), None].map(|seconds| admit(&mut table, &clock, seconds.map(Duration::from_secs)));
    clock.advance(Duration::from_secs(1));
    table.begin(vec![long, short, none], &clock, &Arc::default());
    let at = Duration::from_secs(6);
    assert_eq!(table.next_alarm(), Some(at));
    assert_eq!(table.take_alarm(at - Duration::from_nanos(1)), None);
    assert_eq!(table.take_alarm(at), Some(Alarm::Timeout(short)));
    assert_eq!(table.next_alarm(), Some(Duration::from_secs(10)));
    assert!(table.conclude(long, &clock).is_some());
    assert_eq!(table.next_alarm(), None);
}
