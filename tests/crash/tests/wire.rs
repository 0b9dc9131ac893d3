//! The same promises where producers and consumers know of nothing but a server, which is killed
//! as they are, and started again at its address; and where the way there is a bad one besides.
//!
//! See `crash.rs` for what chooses the moments of the kills, and how many jobs: a quarter of those.
#![allow(missing_docs)]

mod support;

use std::{thread, time::Duration};

use haulage::Status;
use haulage_servers::Patience;
use support::{CONSUMERS, Kept, PRODUCERS, Place, number, seed, survives_kills};

#[test]
fn killed_at_random_moments_the_server_too() {
    let jobs = number("HAULAGE_CRASH_JOBS", 20_000) / 4;
    let place = Place::with_server();
    place.fail_at_random(0.02);
    survives_kills(&place, jobs, Duration::from_secs(15));
    assert!(place.faults() > 20, "{} faults", place.faults());
}

#[test]
fn a_server_that_is_killed_costs_no_job_an_attempt() {
    const EACH: u64 = 2_500;
    const KILLS: usize = 5;
    let mut random = seed();
    let place = Place::with_server();
    let mut server = place.serve();
    // A lease that nobody waits for: whatever a dead server was handing out has to come from the next one.
    let mut others: Vec<Kept<'_>> = (0..PRODUCERS)
        .map(|name| place.keep(&["produce", &name.to_string(), &EACH.to_string(), "plain"]))
        .chain((0..CONSUMERS).map(|_| place.keep(&["consume", "900"])))
        .collect();
    let (mut kills, mut patience) = (0, Patience::new(0));
    while kills < KILLS || others.iter().any(|actor| actor.args[0] == "produce" && !actor.done) {
        assert!(!patience.is_over(place.noted()), "the producers do not get on");
        // Longer after many: on a machine under load, a server gets little done in these.
        thread::sleep(Duration::from_millis(random.u64(50..600)) * (1 + kills as u32 / 40));
        others.iter_mut().for_each(Kept::tend);
        server.kill();
        server.tend();
        kills += 1;
    }
    others.push(server);
    place.drain_with(&mut others);
    let records = place.verify(EACH * PRODUCERS);
    assert!(records.iter().all(|r| r.status == Status::Success), "nobody's job failed");
    assert_eq!(place.starts().len() as u64, EACH * PRODUCERS, "each job was started exactly once");
    for record in records {
        assert_eq!(record.attempt - record.uncounted, 1, "{record:?}");
    }
}
