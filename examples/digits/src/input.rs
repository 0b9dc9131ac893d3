//! What a job carries: the pixels of one image.

use serde::{Deserialize, Serialize};

use crate::{MAX_PIXEL, PIXELS, SIDE};

/// One image to classify: 64 pixels, each from 0 to 16.
///
/// In JSON it is `{"pixels": [0, 0, 5, …]}`. A value of this type is always a well-formed image:
/// both [`Input::new`] and deserialization refuse anything else, with the message of an [`InputError`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedInput", into = "UncheckedInput")]
pub struct Input {
    pixels: [u8; PIXELS],
}

impl Input {
    /// Checks `pixels`, given row by row from the top left.
    ///
    /// # Errors
    ///
    /// [`InputError::Count`] when there are not 64 of them, [`InputError::Value`] when one is above 16.
    pub fn new(pixels: &[u8]) -> Result<Self, InputError> {
        let pixels: [u8; PIXELS] =
            pixels.try_into().map_err(|_| InputError::Count { found: pixels.len() })?;
        match pixels.iter().position(|&pixel| pixel > MAX_PIXEL) {
            None => Ok(Self { pixels }),
            Some(index) => Err(InputError::Value { index, value: pixels[index] }),
        }
    }

    /// The pixels, row by row from the top left.
    pub fn pixels(&self) -> &[u8; PIXELS] {
        &self.pixels
    }
}

/// [`Input`] as it is written down, before anyone has looked at the values.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedInput {
    pixels: Vec<u8>,
}

impl TryFrom<UncheckedInput> for Input {
    type Error = InputError;

    fn try_from(unchecked: UncheckedInput) -> Result<Self, InputError> {
        Self::new(&unchecked.pixels)
    }
}

impl From<Input> for UncheckedInput {
    fn from(input: Input) -> Self {
        Self { pixels: input.pixels.to_vec() }
    }
}

/// Why some pixels are not an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// There are too many pixels, or too few.
    #[error("an image has {PIXELS} pixels ({SIDE} rows of {SIDE}), but this one has {found}")]
    Count {
        /// How many pixels were given.
        found: usize,
    },
    /// A pixel is darker than [`MAX_PIXEL`].
    #[error(
        "pixels go from 0 to {MAX_PIXEL}, but the one in row {}, column {} is {value}; \
         an image with 256 grey levels has to be scaled down first",
        index / SIDE + 1, index % SIDE + 1
    )]
    Value {
        /// Where the first such pixel is, from 0.
        index: usize,
        /// What it holds.
        value: u8,
    },
}
