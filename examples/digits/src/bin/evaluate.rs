//! Measures the classifier that comes with the crate: its accuracy, and what one image costs.
//!
//! ```text
//! cargo run --release -p haulage-digits --bin evaluate
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command: results on stdout, errors on stderr"
)]

use std::error::Error;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use haulage_digits::{Classifier, Halves, Score};

/// Passes over the held-out half to time; the fastest counts, as the least disturbed.
const PASSES: usize = 100;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let classifier = Classifier::embedded()?;
    let images = Halves::embedded()?.held_out;
    println!("held-out half: {}", Score::of(&classifier, &images));

    let fastest = (0..PASSES)
        .map(|_| {
            let start = Instant::now();
            for image in &images {
                black_box(classifier.classify(black_box(&image.input)));
            }
            start.elapsed()
        })
        .min()
        .unwrap_or_default();
    let nanoseconds = fastest.as_nanos() / images.len().max(1) as u128;
    println!("one classification: {nanoseconds} ns on one core");
    Ok(())
}
