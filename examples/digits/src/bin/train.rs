//! Trains the classifier and writes its weights.
//!
//! ```text
//! cargo run --release -p haulage-digits --bin train
//! cargo run --release -p haulage-digits --bin train -- --validate
//! ```
//!
//! The first command trains on the training half, replaces `weights.json`, and prints the accuracy
//! on both halves. The second is for trying other constants in `training.rs`: it trains on four
//! fifths of the training half, scores the last fifth, five times over so that each fifth has its
//! turn, and neither writes anything nor touches the held-out half.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command: results on stdout, errors on stderr"
)]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use haulage_digits::training::{EPOCHS, SEED, train};
use haulage_digits::{Classifier, Halves, Image, Score};

const FOLDS: usize = 5;

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
    let halves = Halves::embedded()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => release(&halves),
        [flag] if flag == "--validate" => {
            validate(&halves.training);
            Ok(())
        }
        other => Err(format!(
            "`{}` is not understood; give no argument to train, or `--validate` to try constants",
            other.join(" ")
        )
        .into()),
    }
}

fn release(halves: &Halves) -> Result<(), Box<dyn Error>> {
    let json = train(&halves.training, EPOCHS, SEED).to_json()?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights.json");
    fs::write(&path, &json).map_err(|error| format!("cannot write {}: {error}", path.display()))?;

    // What is scored is what a reader of the file gets.
    let classifier = Classifier::from_json(&json)?;
    println!("wrote {} ({} bytes)", path.display(), json.len());
    println!("training half: {}", Score::of(&classifier, &halves.training));
    println!("held-out half: {}", Score::of(&classifier, &halves.held_out));
    Ok(())
}

fn validate(training: &[Image]) {
    let mut correct = 0;
    for fold in 0..FOLDS {
        // Blocks and not every fifth image: neighbours are by the same hand, and hands
        // that training has hardly seen are the harder test.
        let start = training.len() * fold / FOLDS;
        let end = training.len() * (fold + 1) / FOLDS;
        let (before, rest) = training.split_at(start);
        let (validation, after) = rest.split_at(end - start);
        let score = Score::of(&train(&[before, after].concat(), EPOCHS, SEED), validation);
        println!("fold {}: {score}", fold + 1);
        correct += score.correct;
    }
    let total = training.len();
    println!("all folds: {}", Score { correct, total });
}
