//! The words of `--exec`.
#![no_main]

#[path = "../../crates/haulage-cli/src/handlers/shell_words.rs"]
mod shell_words;

libfuzzer_sys::fuzz_target!(|line: &str| {
    match shell_words::split(line) {
        Ok(words) => {
            let quoted: Vec<String> =
                words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect();
            assert_eq!(shell_words::split(&quoted.join(" ")), Ok(words), "every word can be quoted");
        }
        Err(why) => assert!(!why.is_empty()),
    }
});
