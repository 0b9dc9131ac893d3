//! The work that Haulage's example queue carries: reading handwritten digits from 8x8 images.
//!
//! Only [`worker`] knows of queues. The rest holds the data, a small neural network whose weights are
//! compiled in, and the types that a job takes and gives back.
//!
//! | Module | What is in it |
//! |---|---|
//! | [`image`] | the 1,797 labelled [`Image`]s and their two [`Halves`] |
//! | [`input`] | [`Input`], what a job carries: the pixels of one image, checked |
//! | [`classifier`] | [`Classifier`], which turns pixels into a [`Prediction`] |
//! | [`training`] | how the weights are made |
//! | [`evaluation`] | [`Score`], how often a classifier is right |
//! | [`worker`] | the classifier as the handler of a queue |
//!
//! ```
//! use haulage_digits::{Classifier, Halves, Input};
//!
//! let classifier = Classifier::embedded()?;
//! let image = &Halves::embedded()?.held_out[0];
//!
//! // A job's input arrives as JSON; what is not an image does not get past this line.
//! let input: Input = serde_json::from_str(&serde_json::to_string(&image.input)?)?;
//! let prediction = classifier.classify(&input);
//! assert_eq!(prediction.digit, image.label);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod classifier;
pub mod evaluation;
pub mod image;
pub mod input;
mod layer;
pub mod training;
pub mod worker;

pub use classifier::{Classifier, Prediction, WeightsError};
pub use evaluation::Score;
pub use image::{Halves, Image, ImageError};
pub use input::{Input, InputError};

/// Pixels on each side of an image.
pub const SIDE: usize = 8;

/// Pixels in an image, row by row from the top left.
pub const PIXELS: usize = SIDE * SIDE;

/// The darkest pixel; 0 is white paper.
///
/// A pixel counts the inked dots in a 4x4 block of the 32x32 scan, hence 0 to 16.
pub const MAX_PIXEL: u8 = 16;

/// How many digits there are to tell apart.
pub const DIGITS: usize = 10;
