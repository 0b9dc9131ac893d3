//! `haulage simulate`, as somebody who tunes a service uses it.

use haulage_autoscale::sim::Shipped;

use crate::place::Place;

#[test]
fn shows_each_policy_below_the_bound() {
    let text = Place::new().ok(["simulate", "silent-night"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "silent-night, 1 job", "{text}");
    let names: Vec<_> = lines[2..8].iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(
        names,
        ["clairvoyant", "reference", "backlog-per-instance", "keda", "haulage", "haulage-alarms"]
    );
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
    assert_eq!(first.lines().count(), 6);
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
            "the backlog target in seconds has to be from 0.000001 to 1000000000",
        ),
        (vec!["simulate", "--svg", "x.svg"], "for one trace"),
        (vec!["simulate", "--spot-losses-per-hour=-1"], "0 or more"),
        (vec!["simulate", "--samples-per-minute", "5"], "write 2, 3, 4 or 6"),
        (vec!["simulate", "--samples-per-minute", "1"], "write 2, 3, 4 or 6"),
        (vec!["simulate", "--scale-in-window", "29s"], "write 30s to 1h, in whole seconds"),
        (vec!["simulate", "--scale-in-window", "90500ms"], "write 30s to 1h, in whole seconds"),
        (vec!["simulate", "steady", "--scaler", "alarms"], "--compare"),
        (vec!["simulate", "--concurrency", "4000000000"], "1..=1000"),
        (vec!["--json", "simulate", "steady", "--csv"], "--csv and --chart are not JSON"),
        (vec!["--json", "simulate", "steady", "--chart"], "--csv and --chart are not JSON"),
        (vec!["simulate", "steady", "--summary"], "--compare"),
        (vec!["simulate", "steady", "--worse"], "--compare"),
        (vec!["simulate", "steady", "--compare", "--summary", "--worse"], "cannot be used with"),
    ] {
        let done = place.run(args.clone());
        assert_eq!(done.code, Some(2), "{args:?}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{args:?}: {}", done.stderr);
    }
}

#[test]
fn what_is_not_done_is_told_and_counts_as_waiting() {
    let place = Place::new();
    place.write("one.csv", "0,7200\n");
    let done = place.run(["--json", "simulate", "one.csv", "--unprotected"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("reference: 1 job not done in 30 days"), "{}", done.stderr);
    let reference: serde_json::Value =
        serde_json::from_str(done.stdout.lines().nth(1).expect("six policies")).expect("JSON");
    assert_eq!((&reference["finished"], &reference["waiting"]["p99"]), (&0.into(), &2_592_000.0.into()));
}

#[test]
fn a_comparison_takes_the_settings_of_ours() {
    let place = Place::new();
    let dollars = |window: &str, scaler: &str| {
        let flags = ["--scale-in-window", window, "--scaler", scaler];
        let text = place.ok(["--json", "simulate", "silent-night", "--compare"].into_iter().chain(flags));
        let dollars = |line: &str| {
            let comparison: serde_json::Value = serde_json::from_str(line).expect("JSON");
            comparison["ours"]["dollars"].as_f64().expect("a number")
        };
        text.lines().map(dollars).fold(f64::MAX, f64::min)
    };
    for scaler in ["direct", "alarms"] {
        assert!(dollars("30m", scaler) > 2.0 * dollars("1m", scaler), "{scaler}");
    }
    assert!(dollars("5m", "direct") < dollars("5m", "alarms"));
}

const PAGE: &str = include_str!("../../../../docs/scaling.md");

/// docs/scaling.md shows what `make bench-scaling` prints first.
#[test]
fn the_numbers_in_the_documentation_are_current() {
    let shown = Place::new().ok(["simulate", "all"]);
    assert!(PAGE.contains(shown.trim_end()), "put this into docs/scaling.md:\n{shown}");
}

/// And the summary of one seed. The settings against which ours is worse, and the other seeds, are
/// for the night, as they take minutes.
#[test]
fn so_are_its_comparisons() {
    comparisons_are_current("--summary");
}

fn comparisons_are_current(what: &str) {
    let place = Place::new();
    for slots in ["1", "4"] {
        let shown = place.ok(["simulate", "all", "--compare", what, "--concurrency", slots]);
        assert!(PAGE.contains(shown.trim_end()), "put this into docs/scaling.md:\n{shown}");
    }
}

#[test]
#[ignore = "it takes minutes, and is for the night: make test-scaling"]
fn so_are_the_settings_against_which_it_is_worse() {
    comparisons_are_current("--worse");
}

/// The table of all seeds.
#[test]
#[ignore = "it takes minutes, and is for the night: make test-scaling"]
fn so_are_the_other_seeds() {
    let place = Place::new();
    let no_worse = |scaler: &str, slots: &str, seed: &str| -> Vec<String> {
        let flags = ["--scaler", scaler, "--concurrency", slots, "--seed", seed];
        let all = ["--json", "simulate", "all", "--compare", "--summary"].into_iter().chain(flags);
        let summaries: serde_json::Value = serde_json::from_str(&place.ok(all)).expect("JSON");
        let traces = summaries.as_array().expect("a list").iter();
        traces.map(|summary| summary["no_worse"].to_string()).collect()
    };
    let columns = [("direct", "1"), ("direct", "4"), ("alarms", "1"), ("alarms", "4")]
        .map(|(scaler, slots)| ["1", "2", "3"].map(|seed| no_worse(scaler, slots, seed)));
    for (at, trace) in Shipped::ALL.into_iter().enumerate() {
        let cells = columns.each_ref().map(|seeds| seeds.each_ref().map(|all| all[at].clone()).join(", "));
        let row = format!("| {} | {} |", trace.name(), cells.join(" | "));
        assert!(PAGE.contains(&row), "put this into docs/scaling.md: {row}");
    }
}

#[test]
fn what_is_worse_is_in_one_table_of_all_traces() {
    let place = Place::new();
    let compare = |what: &[&str]| {
        let all = ["--json", "simulate", "steady", "--compare", "--concurrency", "4"];
        let text = place.ok(all.into_iter().chain(what.iter().copied()));
        let worse = text.lines().filter(|line| line.contains(r#""verdict":"worse""#)).count();
        (text.lines().count(), worse)
    };
    let ((all, worse), only_worse) = (compare(&[]), compare(&["--worse"]));
    assert!(worse > 0 && all > worse, "{worse} of {all}");
    assert_eq!(only_worse, (worse, worse));
    let table = place.ok(["simulate", "steady", "--compare", "--worse", "--concurrency", "4"]);
    let mut lines = table.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("TRACE ") && line.contains(" WORSE THAN ")));
    assert!(lines.clone().all(|line| line.starts_with("steady ")) && lines.count() == worse, "{table}");
}

/// What the page says in words: each pair of a flag's line and what it quotes.
#[test]
fn so_is_what_it_says_of_other_settings() {
    let place = Place::new();
    let run = |trace: &str, flags: &str| -> (String, String, u64) {
        let flags = flags.split_whitespace().map(str::to_owned);
        let all = ["--json", "simulate", trace].map(str::to_owned).into_iter().chain(flags);
        let text = place.ok(all);
        let policies: Result<Vec<serde_json::Value>, _> = text.lines().map(serde_json::from_str).collect();
        let ours = policies.expect("JSON").into_iter().find(|outcome| outcome["policy"] == "haulage");
        let ours = ours.expect("our policy");
        let number = |value: &serde_json::Value| value.as_f64().expect("a number");
        let p99 = format!("{:.0} s", number(&ours["waiting"]["p99"]));
        let dollars = format!("{:.2} dollars", number(&ours["dollars"]));
        (p99, dollars, ours["task_starts"].as_u64().expect("a number"))
    };
    let mut quoted = Vec::new();
    for samples in ["2", "4", "6"] {
        let flags = format!("--samples-per-minute {samples}");
        let (steady, bursts) = (run("steady", &flags).0, run("bursts", &flags).0);
        quoted.push(format!("{samples}: {steady} and {bursts}"));
    }
    for window in ["30s", "2m", "5m"] {
        let flags = format!("--scale-in-window {window}");
        let ((p99, dollars, starts), bursts) = (run("steady", &flags), run("bursts", &flags).1);
        quoted.push(format!("{window}: {p99}, {dollars} and {starts} starts, {bursts}"));
    }
    for target in ["1m", "3m"] {
        let (p99, dollars, _) = run("steady", &format!("--target {target}"));
        quoted.push(format!("{target}: {p99} for {dollars}"));
    }
    for words in quoted {
        assert!(PAGE.contains(&words), "docs/scaling.md does not say {words:?}");
    }
}
