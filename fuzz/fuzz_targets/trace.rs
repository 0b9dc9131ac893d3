//! Jobs for the simulator, as CSV.
#![no_main]

use haulage_autoscale::sim::Trace;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match Trace::from_csv("fuzz", text) {
        Ok(trace) => assert_eq!(Trace::from_csv("fuzz", &trace.to_csv()), Ok(trace)),
        Err(error) => {
            let message = error.to_string();
            let line = message.strip_prefix("line ").and_then(|rest| rest.split(':').next());
            let line: usize = line.and_then(|line| line.parse().ok()).expect("the line is named");
            assert!((1..=text.lines().count().max(1)).contains(&line), "{message}");
        }
    }
});
