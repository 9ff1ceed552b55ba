//! Recursive least squares with forgetting: a linear model that learns from one observation at a time.

use crate::logic::archive::archived;

/// How many inputs the model has.
pub(super) const INPUTS: usize = 7;

/// What an observation weighs after the next one.
const KEEP: f64 = 0.9998;
/// With inputs that do not vary the covariance grows without end; it begins anew beyond this.
const MOST: f64 = 1e4;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct LeastSquares {
    weights: [f64; INPUTS],
    covariance: [[f64; INPUTS]; INPUTS],
}

archived!(LeastSquares { weights, covariance });

impl Default for LeastSquares {
    /// Begins as a mean of the last, middle and slow past.
    fn default() -> Self {
        Self { weights: [0.0, 0.4, 0.3, 0.3, 0.0, 0.0, 0.0], covariance: unit() }
    }
}

fn unit() -> [[f64; INPUTS]; INPUTS] {
    std::array::from_fn(|row| std::array::from_fn(|column| if row == column { 1.0 } else { 0.0 }))
}

fn dot(a: &[f64; INPUTS], b: &[f64; INPUTS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl LeastSquares {
    pub(super) fn estimate(&self, inputs: &[f64; INPUTS]) -> f64 {
        dot(&self.weights, inputs)
    }

    pub(super) fn learn(&mut self, inputs: &[f64; INPUTS], outcome: f64) {
        let gain: [f64; INPUTS] = std::array::from_fn(|row| dot(&self.covariance[row], inputs));
        let scale = KEEP + dot(inputs, &gain);
        let error = outcome - self.estimate(inputs);
        let scaled = gain.map(|gain| gain / scale);
        for (weight, scaled) in self.weights.iter_mut().zip(scaled) {
            *weight += scaled * error;
        }
        for (row, scaled) in self.covariance.iter_mut().zip(scaled) {
            for (value, of_column) in row.iter_mut().zip(gain) {
                *value = (*value - scaled * of_column) * (1.0 / KEEP);
            }
        }
        let trace: f64 = (0..INPUTS).map(|index| self.covariance[index][index]).sum();
        if !trace.is_finite() || trace > MOST {
            self.covariance = unit();
        }
    }
}
