//! How the weights are made: gradient descent on slightly distorted training images.
//!
//! The constants were chosen with `--bin train -- --validate`, which cross-validates within the
//! training half. The held-out half had no say in them.

use fastrand::Rng;

use crate::classifier::{HIDDEN, scale};
use crate::layer::Layer;
use crate::{Classifier, DIGITS, Image, PIXELS, SIDE};

/// How many passes over the training half the released weights took.
pub const EPOCHS: u16 = 400;

/// The seed of the released weights.
pub const SEED: u64 = 1998;

/// Images to a step.
const BATCH: usize = 32;

/// The size of the first steps. It falls to nothing in a straight line over the epochs.
const LEARNING_RATE: f32 = 0.01;

/// The share of a weight that each step takes away, times the size of the step.
const WEIGHT_DECAY: f32 = 0.05;

/// How far a training image is shifted at most, in pixels, along each axis.
const MAX_SHIFT: f32 = 0.5;

/// How far a training image is turned at most, in radians.
const MAX_TURN: f32 = 0.15;

/// Adam's decay rates and guard against division by zero, as its authors propose them
/// (Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015).
const MEAN_DECAY: f32 = 0.9;
const SQUARE_DECAY: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// Trains a classifier on `images` alone, over `epochs` passes.
///
/// The same images, epochs and seed give the same weights with the same toolchain and `Cargo.lock`
/// on the same platform. On others `exp`, `sin` and `cos` may round the last bit differently, or
/// the random numbers be others, and the weights with them.
pub fn train(images: &[Image], epochs: u16, seed: u64) -> Classifier {
    let mut random = Rng::with_seed(seed);
    let mut classifier = initial(&mut random);
    let mut optimizer = Optimizer::new();
    let mut order: Vec<&Image> = images.iter().collect();
    for epoch in 0..epochs {
        let rate = LEARNING_RATE * (1.0 - f32::from(epoch) / f32::from(epochs));
        random.shuffle(&mut order);
        for batch in order.chunks(BATCH) {
            let mut gradient = zeros();
            for image in batch {
                let pixels = distort(&scale(&image.input), &mut random);
                add_gradient(&classifier, &pixels, image.label, &mut gradient);
            }
            optimizer.step(&mut classifier, &gradient, batch.len(), rate);
        }
    }
    classifier
}

fn zeros() -> Classifier {
    Classifier { hidden: Layer::zeros(), output: Layer::zeros() }
}

/// Random weights of the spread that suits ReLU (He et al., "Delving Deep into Rectifiers", 2015).
fn initial(random: &mut Rng) -> Classifier {
    fn fill<const IN: usize, const OUT: usize>(layer: &mut Layer<IN, OUT>, random: &mut Rng) {
        // A uniform distribution on ±√(6/n) has the variance 2/n.
        let bound = (6.0 / IN as f32).sqrt();
        for weight in layer.weights.as_flattened_mut() {
            *weight = symmetric(bound, random);
        }
    }
    let mut classifier = zeros();
    fill(&mut classifier.hidden, random);
    fill(&mut classifier.output, random);
    classifier
}

/// Evenly distributed from `-bound` to `bound`.
fn symmetric(bound: f32, random: &mut Rng) -> f32 {
    bound * (2.0 * random.f32() - 1.0)
}

/// The image, shifted and turned a little: other images that the same hand might have written.
fn distort(pixels: &[f32; PIXELS], random: &mut Rng) -> [f32; PIXELS] {
    let shift_x = symmetric(MAX_SHIFT, random);
    let shift_y = symmetric(MAX_SHIFT, random);
    let (sin, cos) = symmetric(MAX_TURN, random).sin_cos();
    let centre = (SIDE - 1) as f32 / 2.0;
    std::array::from_fn(|index| {
        let x = (index % SIDE) as f32 - centre;
        let y = (index / SIDE) as f32 - centre;
        sample(pixels, cos * x - sin * y + centre + shift_x, sin * x + cos * y + centre + shift_y)
    })
}

/// The image at a point between pixels, weighted by distance. Beyond the edge is white.
fn sample(pixels: &[f32; PIXELS], x: f32, y: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let (right_share, bottom_share) = (x - left, y - top);
    let pixel = |x: f32, y: f32| {
        let inside = 0.0..SIDE as f32;
        if inside.contains(&x) && inside.contains(&y) { pixels[y as usize * SIDE + x as usize] } else { 0.0 }
    };
    let row = |y| (1.0 - right_share) * pixel(left, y) + right_share * pixel(left + 1.0, y);
    (1.0 - bottom_share) * row(top) + bottom_share * row(top + 1.0)
}

/// Adds the gradient of the cross-entropy loss for one image, by backpropagation.
fn add_gradient(classifier: &Classifier, pixels: &[f32; PIXELS], label: u8, gradient: &mut Classifier) {
    fn add<const IN: usize, const OUT: usize>(
        layer: &mut Layer<IN, OUT>,
        input: &[f32; IN],
        errors: &[f32; OUT],
    ) {
        for (row, value) in layer.weights.iter_mut().zip(input) {
            for (sum, error) in row.iter_mut().zip(errors) {
                *sum += value * error;
            }
        }
        for (sum, error) in layer.biases.iter_mut().zip(errors) {
            *sum += error;
        }
    }

    let activations = classifier.forward(pixels);

    // Softmax and cross-entropy together have this simple derivative.
    let mut output_errors: [f32; DIGITS] = activations.probabilities;
    output_errors[usize::from(label)] -= 1.0;
    add(&mut gradient.output, &activations.hidden, &output_errors);

    let hidden_errors: [f32; HIDDEN] = std::array::from_fn(|unit| {
        if activations.hidden[unit] > 0.0 {
            let weights = &classifier.output.weights[unit];
            weights.iter().zip(&output_errors).map(|(w, e)| w * e).sum()
        } else {
            0.0
        }
    });
    add(&mut gradient.hidden, pixels, &hidden_errors);
}

/// Adam with decoupled weight decay (Loshchilov and Hutter, "Decoupled Weight Decay
/// Regularization", 2019).
struct Optimizer {
    means: Classifier,
    squares: Classifier,
    steps: i32,
}

impl Optimizer {
    fn new() -> Self {
        Self { means: zeros(), squares: zeros(), steps: 0 }
    }

    /// Moves `classifier` against `gradient`, the sum over `batch` images.
    fn step(&mut self, classifier: &mut Classifier, gradient: &Classifier, batch: usize, rate: f32) {
        self.steps += 1;
        let mean_correction = 1.0 - MEAN_DECAY.powi(self.steps);
        let square_correction = 1.0 - SQUARE_DECAY.powi(self.steps);
        let moments = self.means.parameters_mut().zip(self.squares.parameters_mut());
        let parameters = classifier.parameters_mut().zip(gradient.parameters());
        for ((weight, sum), (mean, square)) in parameters.zip(moments) {
            let slope = sum / batch as f32;
            *mean += (1.0 - MEAN_DECAY) * (slope - *mean);
            *square += (1.0 - SQUARE_DECAY) * (slope * slope - *square);
            let spread = (*square / square_correction).sqrt() + EPSILON;
            let direction = *mean / mean_correction / spread;
            *weight -= rate * (direction + WEIGHT_DECAY * *weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Halves, Score};

    fn loss(classifier: &Classifier, pixels: &[f32; PIXELS], label: u8) -> f32 {
        -classifier.forward(pixels).probabilities[usize::from(label)].ln()
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        const STEP: f32 = 1e-2;
        let image = &Halves::embedded().expect("the data parses").training[3];
        let pixels = scale(&image.input);
        let classifier = initial(&mut Rng::with_seed(SEED));
        let mut gradient = zeros();
        add_gradient(&classifier, &pixels, image.label, &mut gradient);

        // Every 37th parameter: some from each of the weights and biases of both layers.
        for (index, slope) in gradient.parameters().enumerate().step_by(37) {
            let loss_at = |change: f32| {
                let mut moved = classifier.clone();
                *moved.parameters_mut().nth(index).expect("same length") += change;
                loss(&moved, &pixels, image.label)
            };
            let measured = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
            assert!((measured - slope).abs() < 2e-3, "parameter {index}: slope {slope}, measured {measured}");
        }
    }

    #[test]
    fn a_point_between_pixels_is_their_weighted_mean() {
        let mut pixels = [0.0; PIXELS];
        pixels[0] = 1.0;
        pixels[1] = 0.5;
        assert_eq!(sample(&pixels, 0.0, 0.0), 1.0);
        assert_eq!(sample(&pixels, 0.5, 0.0), 0.75);
        assert_eq!(sample(&pixels, 0.0, 0.25), 0.75);
        assert_eq!(sample(&pixels, -0.5, 0.0), 0.5, "white beyond the left edge");
        assert_eq!(sample(&pixels, 9.0, 9.0), 0.0, "white far outside");
    }

    #[test]
    fn a_few_epochs_already_learn_and_do_so_repeatably() {
        let training = Halves::embedded().expect("the data parses").training;
        let images = &training[..200];
        let untrained = Score::of(&train(images, 0, SEED), images);
        let trained = train(images, 10, SEED);
        assert!(untrained.accuracy() < 0.3, "untrained: {untrained}");
        let score = Score::of(&trained, images);
        assert!(score.accuracy() > 0.8, "trained: {score}");
        assert_eq!(trained, train(images, 10, SEED));
        assert_ne!(trained, train(images, 10, SEED + 1));
    }
}
