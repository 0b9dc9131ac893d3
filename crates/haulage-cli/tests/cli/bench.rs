//! `haulage bench`, as far as it shows without hours of work.

use crate::place::Place;

#[test]
fn a_soak_loses_no_job_and_says_what_it_has_seen() {
    let place = Place::new();
    let text = place.ok(["--json", "bench", "--quick", "--soak", "1s"]);
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["lost"], 0, "{text}");
    assert_eq!(report["problems"], serde_json::json!([]), "{text}");
    assert!(report["submitted"].as_u64().is_some_and(|jobs| jobs >= 1_000), "{text}");
    assert!(report["stored_mb"].as_f64().is_some_and(|mb| mb > 1.0), "{text}");
}
