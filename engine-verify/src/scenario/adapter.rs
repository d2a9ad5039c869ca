//! An adapter for the weights that a stripped file lacks, and what they are with it.
//!
//! The adapter is merged by [`LoraSource`]. What that has to give is calculated here once more and in another way: all factors are powers of
//! two, so each sum is rounded once, in whatever order it is made.

use engine_format::{DType, MapSource, Tensor, Weight, WeightSource};
use half::{bf16, f16};
use refit::{Lora, LoraSource, RefitError};

/// What the product of the two matrices is multiplied by.
const SCALE: f32 = 0.5;

/// An adapter of every second weight of floats: a product of two matrices where a weight has a row for each output, and a tensor in its place
/// otherwise.
pub(super) struct Adapter {
    tensors: MapSource,
    /// The adapted weights as they are with it.
    adapted: MapSource,
}

impl Adapter {
    /// An adapter for `strippable` weights, whose values `weights` has.
    pub fn of(weights: &MapSource, strippable: &[&Weight]) -> Self {
        let mut adapter = Self { tensors: MapSource::new(), adapted: MapSource::new() };
        let begin = |weight: &&Weight| {
            let (module, leaf) = weight.name.rsplit_once('.')?;
            let tensor = weights.read(&weight.name).ok().flatten()?;
            Some((
                weight.name.clone(),
                module.to_owned(),
                leaf.to_owned(),
                floats(&tensor)?,
                tensor,
            ))
        };
        for (name, module, leaf, values, tensor) in strippable.iter().filter_map(begin).step_by(2) {
            let (dtype, shape) = (tensor.dtype(), tensor.shape());
            let values = match (leaf.as_str(), shape) {
                ("weight", [outputs, inner @ ..]) if !inner.is_empty() && !values.is_empty() => {
                    let inputs: usize = inner.iter().product();
                    let a: Vec<f32> = (0..inputs).map(|i| 0.5f32.powi(i as i32 % 3)).collect();
                    let b: Vec<f32> = (0..*outputs).map(|i| [0.25, -1.0][i % 2]).collect();
                    let mut named = |role: &str, shape: &[usize], values: &[f32]| {
                        let tensor = Tensor::from_slice(shape, values);
                        adapter.tensors.insert(format!("{module}.{role}.weight"), tensor);
                    };
                    named("lora_A", &[&[1], inner].concat(), &a);
                    named("lora_B", &[*outputs, 1], &b);
                    let product = b.iter().flat_map(|b| a.iter().map(move |a| SCALE * b * a));
                    values.iter().zip(product).map(|(value, product)| value + product).collect()
                }
                _ => {
                    let values: Vec<f32> = values.iter().map(|value| 0.5 - value).collect();
                    let whole = of_floats(dtype, shape, &values);
                    adapter.tensors.insert(format!("{module}.modules_to_save.{leaf}"), whole);
                    values
                }
            };
            adapter.adapted.insert(name, of_floats(dtype, shape, &values));
        }
        adapter
    }

    /// The adapted weights as they are with the adapter.
    pub fn adapted(&self) -> &MapSource {
        &self.adapted
    }

    /// The source of the adapted weights alone: those of `base`, with the adapter or without it.
    ///
    /// # Errors
    /// Those of [`Lora::of`] and [`LoraSource::new`].
    pub fn over(&self, base: &MapSource, on: bool) -> Result<LoraSource, RefitError> {
        let adapter = || Lora::of(Box::new(self.tensors.clone()), SCALE);
        // An adapter of nothing is none.
        let adapters = match on && !self.tensors.names().is_empty() {
            true => vec![adapter()?],
            false => Vec::new(),
        };
        Ok(LoraSource::new(Box::new(base.clone()), adapters)?.only(self.adapted.names()))
    }
}

/// The values of a tensor of floats that adapters are merged into.
fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    match tensor.dtype() {
        DType::F32 => Some(tensor.as_slice::<f32>().ok()?.to_vec()),
        DType::F16 => Some(tensor.as_slice::<f16>().ok()?.iter().map(|x| x.to_f32()).collect()),
        DType::BF16 => Some(tensor.as_slice::<bf16>().ok()?.iter().map(|x| x.to_f32()).collect()),
        _ => None,
    }
}

/// A tensor of a type that [`floats`] reads, each value rounded to it.
fn of_floats(dtype: DType, shape: &[usize], values: &[f32]) -> Tensor {
    let values = values.iter().copied();
    match dtype {
        DType::F16 => Tensor::from_slice(shape, &values.map(f16::from_f32).collect::<Vec<_>>()),
        DType::BF16 => Tensor::from_slice(shape, &values.map(bf16::from_f32).collect::<Vec<_>>()),
        _ => Tensor::from_slice(shape, &values.collect::<Vec<_>>()),
    }
}
