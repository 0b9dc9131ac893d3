//! One fully connected layer of the network.

use serde::{Deserialize, Serialize};

use crate::WeightsError;

/// Weights from each of `IN` values to each of `OUT`, and a bias for each of `OUT`.
///
/// The sizes are in the type, so a layer of the wrong shape cannot be built and the loops over it
/// need no bounds checks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layer<const IN: usize, const OUT: usize> {
    /// One row for each input: the inner loops then run over outputs, next to each other in memory.
    pub(crate) weights: Box<[[f32; OUT]; IN]>,
    pub(crate) biases: [f32; OUT],
}

impl<const IN: usize, const OUT: usize> Layer<IN, OUT> {
    pub(crate) fn zeros() -> Self {
        Self { weights: Box::new([[0.0; OUT]; IN]), biases: [0.0; OUT] }
    }

    pub(crate) fn apply(&self, input: &[f32; IN]) -> [f32; OUT] {
        let mut output = self.biases;
        for (value, row) in input.iter().zip(self.weights.iter()) {
            for (sum, weight) in output.iter_mut().zip(row) {
                *sum += value * weight;
            }
        }
        output
    }

    /// The weights, then the biases.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &f32> {
        self.weights.as_flattened().iter().chain(&self.biases)
    }

    /// [`Layer::parameters`], in the same order.
    pub(crate) fn parameters_mut(&mut self) -> impl Iterator<Item = &mut f32> {
        let weights = self.weights.as_flattened_mut().iter_mut();
        weights.chain(&mut self.biases)
    }

    /// Checks what a weights file says about the layer called `name`.
    pub(crate) fn from_file(name: &'static str, file: &LayerFile) -> Result<Self, WeightsError> {
        let size = |what, expected, found| WeightsError::Size { layer: name, what, expected, found };
        if file.weights.len() != IN {
            return Err(size("rows of weights", IN, file.weights.len()));
        }
        let mut layer = Self::zeros();
        for (row, given) in layer.weights.iter_mut().zip(&file.weights) {
            *row = given.as_slice().try_into().map_err(|_| size("weights in a row", OUT, given.len()))?;
        }
        layer.biases =
            file.biases.as_slice().try_into().map_err(|_| size("biases", OUT, file.biases.len()))?;
        // JSON has no infinity, but a number such as 1e39 becomes one.
        if layer.parameters().all(|parameter| parameter.is_finite()) {
            Ok(layer)
        } else {
            Err(WeightsError::TooLarge { layer: name })
        }
    }

    pub(crate) fn to_file(&self) -> LayerFile {
        LayerFile {
            weights: self.weights.iter().map(|row| row.to_vec()).collect(),
            biases: self.biases.to_vec(),
        }
    }
}

/// A layer as the weights file has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LayerFile {
    weights: Vec<Vec<f32>>,
    biases: Vec<f32>,
}
