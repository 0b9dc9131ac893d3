//! The weights that come with the crate are good, and bad weights do not load.

use haulage_digits::{Classifier, Halves, Input, PIXELS, Prediction, Score};
use serde_json::{Value, json};

fn embedded() -> Classifier {
    Classifier::embedded().expect("the embedded weights load")
}

/// What is said of the embedded weights after `spoil` has changed them.
fn refusal(spoil: impl FnOnce(&mut Value)) -> String {
    let json = embedded().to_json().expect("serializes");
    let mut file = serde_json::from_str(&json).expect("is JSON");
    spoil(&mut file);
    Classifier::from_json(&file.to_string()).expect_err("spoiled weights").to_string()
}

fn pop(array: &mut Value) {
    array.as_array_mut().expect("an array").pop();
}

#[test]
fn at_least_96_percent_of_the_held_out_half_are_read_rightly() {
    let held_out = Halves::embedded().expect("the data parses").held_out;
    let score = Score::of(&embedded(), &held_out);
    assert!(score.accuracy() >= 0.96, "{score}");
}

#[test]
fn confidence_is_a_probability_and_higher_when_right() {
    let held_out = Halves::embedded().expect("the data parses").held_out;
    let classifier = embedded();
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for image in &held_out {
        let Prediction { digit, confidence } = classifier.classify(&image.input);
        assert!((0.1..=1.0).contains(&confidence), "{confidence}");
        if digit == image.label {
            right.push(confidence);
        } else {
            wrong.push(confidence);
        }
    }
    let mean = |all: &[f32]| all.iter().sum::<f32>() / all.len() as f32;
    assert!(mean(&right) > mean(&wrong));
}

#[test]
fn the_extremes_are_classified_too() {
    for pixel in [0, 16] {
        let input = Input::new(&[pixel; PIXELS]).expect("a good image");
        let Prediction { digit, confidence } = embedded().classify(&input);
        assert!(digit <= 9);
        assert!((0.1..=1.0).contains(&confidence), "{confidence}");
    }
}

#[test]
fn a_prediction_survives_json() {
    let prediction = Prediction { digit: 4, confidence: 0.75 };
    let json = serde_json::to_string(&prediction).expect("serializes");
    assert_eq!(json, r#"{"digit":4,"confidence":0.75}"#);
    assert_eq!(serde_json::from_str::<Prediction>(&json).expect("parses"), prediction);
}

#[test]
fn weights_survive_json_to_the_last_bit() {
    let json = embedded().to_json().expect("serializes");
    assert_eq!(Classifier::from_json(&json).expect("loads"), embedded());
    assert_eq!(json, include_str!("../weights.json"));
}

#[test]
fn weights_of_the_wrong_size_are_refused() {
    let messages = [
        refusal(|file| pop(&mut file["hidden"]["weights"])),
        refusal(|file| pop(&mut file["hidden"]["weights"][5])),
        refusal(|file| pop(&mut file["output"]["biases"])),
    ];
    let expected = [
        "the hidden layer has 63 rows of weights where this network has 64; ",
        "the hidden layer has 47 weights in a row where this network has 48; ",
        "the output layer has 9 biases where this network has 10; ",
    ];
    for (message, start) in messages.iter().zip(expected) {
        assert!(message.starts_with(start), "{message}");
        assert!(message.contains("--bin train` writes weights that fit"));
    }
}

#[test]
fn weights_that_are_not_weights_are_refused() {
    assert_eq!(
        refusal(|file| file["output"]["biases"][0] = json!(1e39)),
        "the output layer has a weight that a 32-bit float cannot hold"
    );
    let missing = refusal(|file| *file = json!({}));
    assert!(missing.starts_with("the weights do not parse: missing field `hidden`"));
    assert!(missing.contains("--bin train` writes them anew"));
}
