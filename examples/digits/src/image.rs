//! The labelled images, and the halves they are divided into.
//!
//! `data/README.md` says where they come from and under which licence.

use crate::{DIGITS, Input, InputError};

const EMBEDDED: &str = include_str!("../data/optdigits.csv");

/// One image with the digit that its writer was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Where it stands in the data, from 0. Names the image in logs and results.
    pub index: usize,
    /// The pixels, in the form that a job carries.
    pub input: Input,
    /// The right answer, 0 to 9.
    pub label: u8,
}

/// The images that come with the crate, in the order of the data: 1,797 of them.
///
/// # Errors
///
/// [`ImageError`] names the first line that is not an image. The data as released has none.
pub fn images() -> Result<Vec<Image>, ImageError> {
    parse(EMBEDDED)
}

/// Reads images from lines of 65 whole numbers with commas between: 64 pixels, then the label.
///
/// # Errors
///
/// [`ImageError`] for the first line that is anything else. Nothing is skipped.
pub fn parse(csv: &str) -> Result<Vec<Image>, ImageError> {
    csv.lines()
        .enumerate()
        .map(|(index, line)| {
            let (input, label) = parse_line(line).map_err(|reason| ImageError { line: index + 1, reason })?;
            Ok(Image { index, input, label })
        })
        .collect()
}

fn parse_line(line: &str) -> Result<(Input, u8), LineError> {
    let mut values = line
        .split(',')
        .map(|field| field.trim().parse::<u8>().map_err(|_| LineError::NotANumber(field.to_owned())))
        .collect::<Result<Vec<u8>, _>>()?;
    // The label is last. `split` always yields a field, so there is one to take.
    let label = values.pop().unwrap_or_default();
    let input = Input::new(&values)?;
    if usize::from(label) >= DIGITS {
        return Err(LineError::Label(label));
    }
    Ok((input, label))
}

impl Image {
    /// Whether the image is of the held-out half, which training never sees. See [`Halves`].
    pub fn is_held_out(&self) -> bool {
        !self.index.is_multiple_of(2)
    }
}

/// A line of the data that is not an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the images: {reason}")]
pub struct ImageError {
    /// The line, from 1.
    pub line: usize,
    reason: LineError,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum LineError {
    #[error("`{0}` is not a whole number from 0 to 255")]
    NotANumber(String),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("the label has to be a digit from 0 to 9, but it is {0}")]
    Label(u8),
}

/// The images in two halves: one to learn from, one to measure on.
///
/// Images at an even [`Image::index`] train, those at an odd one are held out, so the division is
/// the same everywhere and for ever. It does not separate writers, whose images are mostly next to
/// each other: a score on the held-out half is for new images by known writers.
#[derive(Debug, Clone)]
pub struct Halves {
    /// Even indices. Training sees these and nothing else.
    pub training: Vec<Image>,
    /// Odd indices. Only for measuring a finished classifier.
    pub held_out: Vec<Image>,
}

impl Halves {
    /// Divides the images that come with the crate.
    ///
    /// # Errors
    ///
    /// Those of [`images`].
    pub fn embedded() -> Result<Self, ImageError> {
        Ok(Self::of(images()?))
    }

    /// Divides `images` by their index.
    pub fn of(images: Vec<Image>) -> Self {
        let (training, held_out) = images.into_iter().partition(|image| !image.is_held_out());
        Self { training, held_out }
    }
}
