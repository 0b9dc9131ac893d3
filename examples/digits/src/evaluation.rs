//! How good a classifier is.

use std::fmt;

use crate::{Classifier, Image};

/// How many of some images a classifier read rightly.
///
/// Displays as `1750 of 1797 (97.38 %)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Score {
    /// Images whose predicted digit is their label.
    pub correct: usize,
    /// Images in all.
    pub total: usize,
}

impl Score {
    /// Classifies each of `images` and counts.
    pub fn of(classifier: &Classifier, images: &[Image]) -> Self {
        let right = |image: &&Image| classifier.classify(&image.input).digit == image.label;
        Self { correct: images.iter().filter(right).count(), total: images.len() }
    }

    /// The share of images that were right, from 0 to 1. Not a number when there were none.
    pub fn accuracy(self) -> f64 {
        self.correct as f64 / self.total as f64
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { correct, total } = self;
        write!(f, "{correct} of {total} ({:.2} %)", 100.0 * self.accuracy())
    }
}
