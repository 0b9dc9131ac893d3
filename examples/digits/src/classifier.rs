//! The neural network that reads a digit.

use serde::{Deserialize, Serialize};

use crate::layer::{Layer, LayerFile};
use crate::{DIGITS, Input, MAX_PIXEL, PIXELS};

/// Units in the hidden layer.
pub(crate) const HIDDEN: usize = 48;

const EMBEDDED: &str = include_str!("../weights.json");

/// A multilayer perceptron: 64 pixels, 48 hidden units with ReLU, 10 digits with softmax.
///
/// Classifying needs only `&self` and keeps no state, so one classifier serves all of a worker's
/// tasks at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    pub(crate) hidden: Layer<PIXELS, HIDDEN>,
    pub(crate) output: Layer<HIDDEN, DIGITS>,
}

/// What a job gives back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The likeliest digit, 0 to 9.
    pub digit: u8,
    /// The probability that the network gives this digit, from 0.1 (a guess) to 1 (sure).
    pub confidence: f32,
}

impl Classifier {
    /// The classifier whose weights come with the crate, as `--bin train` made them.
    ///
    /// It parses some 40 kB of JSON: build one for each process, not one for each job.
    ///
    /// # Errors
    ///
    /// Those of [`Classifier::from_json`]. The weights as released load.
    pub fn embedded() -> Result<Self, WeightsError> {
        Self::from_json(EMBEDDED)
    }

    /// Reads weights that [`Classifier::to_json`] wrote.
    ///
    /// # Errors
    ///
    /// [`WeightsError`] when `json` is something else, or is for a network of another size.
    pub fn from_json(json: &str) -> Result<Self, WeightsError> {
        let file: WeightsFile = serde_json::from_str(json).map_err(WeightsError::Parse)?;
        Ok(Self {
            hidden: Layer::from_file("hidden", &file.hidden)?,
            output: Layer::from_file("output", &file.output)?,
        })
    }

    /// Writes the weights down, so that [`Classifier::from_json`] gives back an equal classifier.
    ///
    /// # Errors
    ///
    /// Those of `serde_json`, none of which plain numbers bring about.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let file = WeightsFile { hidden: self.hidden.to_file(), output: self.output.to_file() };
        serde_json::to_string(&file)
    }

    /// Reads the digit in an image.
    pub fn classify(&self, input: &Input) -> Prediction {
        let probabilities = self.forward(&scale(input)).probabilities;
        let mut best = Prediction { digit: 0, confidence: 0.0 };
        for (digit, confidence) in (0..).zip(probabilities) {
            if confidence > best.confidence {
                best = Prediction { digit, confidence };
            }
        }
        best
    }

    /// All that training adjusts.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &f32> {
        self.hidden.parameters().chain(self.output.parameters())
    }

    /// [`Classifier::parameters`], in the same order.
    pub(crate) fn parameters_mut(&mut self) -> impl Iterator<Item = &mut f32> {
        let hidden = self.hidden.parameters_mut();
        hidden.chain(self.output.parameters_mut())
    }

    pub(crate) fn forward(&self, pixels: &[f32; PIXELS]) -> Activations {
        let hidden = self.hidden.apply(pixels).map(|sum| sum.max(0.0));
        Activations { hidden, probabilities: softmax(self.output.apply(&hidden)) }
    }
}

/// What each layer says about one image. Training needs both.
pub(crate) struct Activations {
    pub(crate) hidden: [f32; HIDDEN],
    pub(crate) probabilities: [f32; DIGITS],
}

/// Pixels in the range that the network works in, 0 to 1.
pub(crate) fn scale(input: &Input) -> [f32; PIXELS] {
    input.pixels().map(|pixel| f32::from(pixel) / f32::from(MAX_PIXEL))
}

fn softmax(scores: [f32; DIGITS]) -> [f32; DIGITS] {
    // The largest exponent is then 0, so `exp` cannot overflow.
    let largest = scores.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let exponentials = scores.map(|score| (score - largest).exp());
    let sum: f32 = exponentials.iter().sum();
    exponentials.map(|exponential| exponential / sum)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightsFile {
    hidden: LayerFile,
    output: LayerFile,
}

/// Why a weights file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// It is not JSON, or not of the expected form.
    #[error(
        "the weights do not parse: {0}; \
         `cargo run --release -p haulage-digits --bin train` writes them anew"
    )]
    Parse(serde_json::Error),
    /// It is for a network of another size.
    #[error(
        "the {layer} layer has {found} {what} where this network has {expected}; \
         `cargo run --release -p haulage-digits --bin train` writes weights that fit"
    )]
    Size {
        /// `hidden` or `output`.
        layer: &'static str,
        /// What was counted.
        what: &'static str,
        /// How many there have to be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A weight is beyond the range of a 32-bit float.
    #[error("the {layer} layer has a weight that a 32-bit float cannot hold")]
    TooLarge {
        /// `hidden` or `output`.
        layer: &'static str,
    },
}
