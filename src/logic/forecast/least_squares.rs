//! Recursive least squares with forgetting: a linear model that learns from one observation at a time.

use crate::archive::archived;

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
        let per_scale = 1.0 / scale;
        for (weight, gain) in self.weights.iter_mut().zip(gain) {
            *weight += gain * per_scale * error;
        }
        for (row, of_row) in self.covariance.iter_mut().zip(gain) {
            for (value, of_column) in row.iter_mut().zip(gain) {
                // The product first: it must be the same on both sides of the diagonal, or forgetting lets the difference grow without end.
                *value = (*value - of_row * of_column * per_scale) * (1.0 / KEEP);
            }
        }
        let trace: f64 = (0..INPUTS).map(|index| self.covariance[index][index]).sum();
        if !(0.0..=MOST).contains(&trace) {
            self.covariance = unit();
        }
        if self.weights.iter().any(|weight| !weight.is_finite()) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_weeks_of_a_load_that_repeats_it_is_as_good_as_after_days_and_its_covariance_symmetric() {
        let mut model = LeastSquares::default();
        let mut chance = fastrand::Rng::with_seed(1);
        let (mut recent, mut past) = ([0.0; 3], Vec::new());
        for slot in 0..14 * 21_600_u32 {
            let day = f64::from(slot) / 21_600.0 * std::f64::consts::TAU;
            let load = 3.0 + day.sin() + 0.3 * (chance.f64() - 0.5);
            for (mean, share) in recent.iter_mut().zip([0.5, 0.06, 0.006]) {
                *mean += share * (load - *mean);
            }
            let [last, middle, slow] = recent;
            past.push([1.0, last, middle, slow, day.sin(), day.cos(), 3.0 + day.sin()]);
            if let Some(before) = past.len().checked_sub(80) {
                let inputs = past[before];
                if slot > 2 * 21_600 {
                    let error = model.estimate(&inputs) - load;
                    assert!(error.abs() < 1.0, "{error} in slot {slot}");
                }
                model.learn(&inputs, load);
            }
        }
        for row in 0..INPUTS {
            for column in 0..INPUTS {
                assert_eq!(model.covariance[row][column].to_bits(), model.covariance[column][row].to_bits());
            }
        }
    }

    #[test]
    fn what_is_no_number_costs_what_was_learnt_and_no_more() {
        let mut model = LeastSquares::default();
        model.learn(&[1.0; INPUTS], f64::NAN);
        assert_eq!(model, LeastSquares::default());
        model.learn(&[f64::MAX; INPUTS], 1.0);
        assert!(model.estimate(&[1.0; INPUTS]).is_finite());
    }
}
