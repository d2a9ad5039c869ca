//! What a crate does that ships an engine and runs it.
//!
//! `tests/gate.rs` is its release gate: a test of three lines. [`Scorer`] shows the other way to use this stack: one layer by itself, without
//! a model and without a file, with weights that are replaced while it serves.
#![forbid(unsafe_code)]

use engine_format::Tensor;
use engine_runtime::Device;
use engine_runtime::layer::{LayerError, Linear};

/// Scores rows of features by one linear layer.
#[derive(Debug)]
pub struct Scorer {
    layer: Linear,
}

impl Scorer {
    /// A scorer with a weight for each feature, `[1, features]`, on `device`.
    ///
    /// # Errors
    /// If the weights are no such matrix.
    pub fn new(weights: Tensor, device: &Device) -> Result<Self, LayerError> {
        Ok(Self { layer: Linear::new(weights, None, device)? })
    }

    /// Replaces the weights: a refit, if they have the shape of those before.
    ///
    /// # Errors
    /// Those of a refit; then nothing changes.
    pub fn learn(&mut self, weights: Tensor) -> Result<(), LayerError> {
        self.layer.set_weight(weights)
    }

    /// A score for each row of `[rows, features]`.
    ///
    /// # Errors
    /// If the rows have another number of features.
    pub fn scores(&self, rows: &Tensor) -> Result<Vec<f32>, LayerError> {
        let scores = self.layer.run(rows)?;
        Ok(scores.as_slice::<f32>().map(<[f32]>::to_vec).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_learns_while_it_serves() {
        let weights = |values: [f32; 2]| Tensor::from_slice(&[1, 2], &values);
        let rows = Tensor::from_slice(&[3, 2], &[1.0f32, 0.0, 0.0, 1.0, 2.0, 2.0]);
        let mut scorer = Scorer::new(weights([1.0, 10.0]), &Device::cpu()).unwrap();
        assert_eq!(scorer.scores(&rows).unwrap(), [1.0, 10.0, 22.0]);
        scorer.learn(weights([0.5, 0.25])).unwrap();
        assert_eq!(scorer.scores(&rows).unwrap(), [0.5, 0.25, 1.5]);
        let wide = Tensor::from_slice(&[1, 3], &[1.0f32, 2.0, 3.0]);
        assert!(scorer.scores(&wide).is_err(), "rows of another number of features");
    }
}
