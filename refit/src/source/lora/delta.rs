//! What an adapter does to one weight.

use engine_format::TensorInfo;

/// Where the product of a module's two matrices B·A lies in its weight.
pub(super) struct Lies {
    rank: usize,
    outputs: usize,
    /// Elements of a row of A.
    inputs: usize,
    /// Distances in the weight between outputs and between inputs.
    steps: (usize, usize),
}

impl Lies {
    /// For a weight of `[out, in…]`, or `transposed` `[in, out]`. The matrices are `[rank, in…]`, its last axes in one if they like, and
    /// `[out, rank]`, with axes of 1 behind it for a convolution. `None` if they do not fit.
    pub(super) fn of(weight: &[usize], a: &[usize], b: &[usize], transposed: bool) -> Option<Self> {
        let (&rank, a_inner) = a.split_first().filter(|(rank, _)| **rank > 0)?;
        let [outputs, b_rank, rest @ ..] = b else { return None };
        let (first, inner) = weight.split_first().filter(|(_, inner)| !inner.is_empty())?;
        let inputs = a_inner.iter().product();
        let fits = match (transposed, inner) {
            (true, [last]) => a_inner == [*first] && outputs == last,
            (true, _) => false,
            (false, _) => {
                let flat = [inner.iter().product::<usize>()];
                outputs == first && (a_inner == inner || a_inner == flat)
            }
        };
        let fits = fits && *b_rank == rank && rest.iter().all(|&axis| axis == 1);
        let steps = if transposed { (1, *outputs) } else { (inputs, 1) };
        fits.then_some(Self { rank, outputs: *outputs, inputs, steps })
    }

    /// What A has behind its rank, and B before it, for a weight of this shape: in words.
    pub(super) fn expected(weight: &[usize], transposed: bool) -> (String, String) {
        let list =
            |axes: &[usize]| axes.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let (first, rest) = weight.split_at(weight.len().min(1));
        if transposed { (list(first), list(rest)) } else { (list(rest), list(first)) }
    }

    /// Adds `scale · B · A`. For each element the products are added in the order of the rank.
    pub(super) fn add(&self, weight: &mut [f32], a: &[f32], b: &[f32], scale: f32) {
        let mut row = vec![0.0f32; self.inputs];
        for output in 0..self.outputs {
            row.fill(0.0);
            for k in 0..self.rank {
                let factor = b[output * self.rank + k];
                let a = &a[k * self.inputs..(k + 1) * self.inputs];
                row.iter_mut().zip(a).for_each(|(sum, &a)| *sum += factor * a);
            }
            for (at, &sum) in self.of_output(output).zip(&row) {
                weight[at] += scale * sum;
            }
        }
    }

    /// Gives what belongs to each output the length that `magnitudes` say. Squares are summed in the order of the inputs, in f64, and
    /// the length is rounded once.
    pub(super) fn lengthen(&self, weight: &mut [f32], magnitudes: &[f32]) -> Result<(), String> {
        for (output, magnitude) in magnitudes.iter().enumerate() {
            let squares = self.of_output(output).map(|at| f64::from(weight[at]).powi(2));
            let length = squares.sum::<f64>().sqrt() as f32;
            if length == 0.0 {
                return Err(format!(
                    "all that belongs to output {output} is 0 and cannot get the length {magnitude}"
                ));
            }
            let factor = magnitude / length;
            self.of_output(output).for_each(|at| weight[at] *= factor);
        }
        Ok(())
    }

    /// Rows of B.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Whether there is a magnitude for every output: as many elements, along one axis.
    pub(super) fn has_lengths(&self, magnitudes: &TensorInfo) -> bool {
        let mut long = magnitudes.shape.iter().filter(|&&axis| axis != 1);
        long.next().copied().unwrap_or(1) == self.outputs && long.next().is_none()
    }

    /// Places in the weight of what belongs to an output, in the order of the inputs.
    fn of_output(&self, output: usize) -> impl Iterator<Item = usize> + use<> {
        let (steps, inputs) = (self.steps, self.inputs);
        (0..inputs).map(move |input| output * steps.0 + input * steps.1)
    }
}
