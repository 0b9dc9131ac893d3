//! Durations and labels of the command line and the environment.
#![no_main]

#[path = "../../crates/haulage-cli/src/options.rs"]
#[allow(dead_code, reason = "all of it is the command line's")]
mod options;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match options::duration(text) {
        Ok(duration) => {
            let written = humantime::format_duration(duration).to_string();
            assert_eq!(options::duration(&written), Ok(duration), "{written}");
        }
        Err(why) => assert!(!why.is_empty()),
    }
    if let Ok((key, value)) = options::label(text) {
        assert_eq!(format!("{key}={value}"), text);
    }
});
