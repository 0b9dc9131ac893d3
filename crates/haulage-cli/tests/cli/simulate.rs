//! `haulage simulate`, as somebody who tunes a service uses it.

use crate::place::Place;

#[test]
fn shows_each_policy_below_the_bound() {
    let text = Place::new().ok(["simulate", "silent-night"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "silent-night, 1 job", "{text}");
    let names: Vec<_> = lines[2..7].iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["clairvoyant", "reference", "backlog-per-instance", "keda", "haulage"]);
}

#[test]
fn json_is_the_same_each_time_and_the_seed_changes_it() {
    let place = Place::new();
    let run = |seed| place.ok(["--json", "simulate", "heavy-tail", "--seed", seed]);
    let first = run("5");
    assert_eq!(first, run("5"));
    assert_ne!(first, run("6"));
    for line in first.lines() {
        let outcome: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(outcome["jobs"], outcome["finished"], "{line}");
        assert!(outcome["dollars"].as_f64().is_some_and(|dollars| dollars > 0.0), "{line}");
        assert!(outcome["waiting"]["p99"].is_f64() && outcome["policy"].is_string(), "{line}");
    }
    assert_eq!(first.lines().count(), 5);
}

#[test]
fn takes_a_trace_of_ones_own_and_draws_it() {
    let place = Place::new();
    place.write("mine.csv", "arrival_seconds,job_seconds\n0,60\n0,60\n90,60\n");
    let text = place.ok(["simulate", "mine.csv", "--chart", "--svg", "mine.svg"]);
    assert!(text.contains("mine.csv, 3 jobs") && text.contains('█'), "{text}");
    let svg = std::fs::read_to_string(place.path("mine.svg")).expect("the picture");
    assert!(svg.starts_with("<svg "));
}

#[test]
fn a_shipped_trace_is_a_start_for_ones_own() {
    let place = Place::new();
    let csv = place.ok(["simulate", "bursts", "--csv"]);
    place.write("bursts.csv", &csv);
    let own = place.ok(["--json", "simulate", "bursts.csv"]);
    let shipped = place.ok(["--json", "simulate", "bursts"]);
    assert_eq!(own.replace("bursts.csv", "bursts"), shipped);
}

#[test]
fn mistakes_say_what_would_be_right() {
    let place = Place::new();
    place.write("bad.csv", "0,60\n5;60\n");
    for (args, words) in [
        (vec!["simulate", "stedy"], "name a CSV file, or one of steady, bursts"),
        (vec!["simulate", "bad.csv"], "bad.csv: line 2"),
        (vec!["simulate", "--min-tasks", "5", "--max-tasks", "2"], "--min-tasks is above --max-tasks"),
        (
            vec!["simulate", "--target", "0s"],
            "the backlog target in seconds has to be a finite number above 0",
        ),
        (vec!["simulate", "--svg", "x.svg"], "for one trace"),
        (vec!["simulate", "--spot-losses-per-hour=-1"], "0 or more"),
    ] {
        let done = place.run(args.clone());
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{args:?}: {}", done.stderr);
    }
}

/// docs/scaling.md shows what `make bench-scaling` prints first.
#[test]
fn the_numbers_in_the_documentation_are_current() {
    let page = include_str!("../../../../docs/scaling.md");
    let shown = Place::new().ok(["simulate", "all"]);
    assert!(page.contains(shown.trim_end()), "put this into docs/scaling.md:\n{shown}");
}
