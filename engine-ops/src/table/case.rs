//! Small examples that every runtime is held to.

use engine_format::{Attr, DType, Tensor};
use half::{bf16, f16};

/// One application of an operator to concrete operands.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows.
    pub name: &'static str,
    /// Attributes, before defaults are added.
    pub attrs: Vec<(&'static str, Attr)>,
    /// Operands; omitted ones are `None`.
    pub inputs: Vec<Option<Tensor>>,
    /// Number of results asked for.
    pub outputs: usize,
    /// Expected results where they are written down; otherwise the CPU kernel is what GPUs are held to.
    pub expected: Option<Vec<Tensor>>,
}

impl Case {
    /// A case with one result.
    pub fn new(name: &'static str, inputs: Vec<Tensor>) -> Self {
        Self {
            name,
            attrs: Vec::new(),
            inputs: inputs.into_iter().map(Some).collect(),
            outputs: 1,
            expected: None,
        }
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attr(mut self, name: &'static str, value: Attr) -> Self {
        self.attrs.push((name, value));
        self
    }

    /// Adds an operand that may be omitted.
    #[must_use]
    pub fn input(mut self, tensor: Option<Tensor>) -> Self {
        self.inputs.push(tensor);
        self
    }

    /// Asks for this many results.
    #[must_use]
    pub fn outputs(self, outputs: usize) -> Self {
        Self { outputs, ..self }
    }

    /// Sets the expected results.
    #[must_use]
    pub fn expect(mut self, outputs: Vec<Tensor>) -> Self {
        self.outputs = outputs.len();
        self.expected = Some(outputs);
        self
    }
}

/// A tensor of `shape` with a fixed pattern of values in −2..2 that differ from element to element.
pub fn ramp(shape: &[usize]) -> Tensor {
    let n = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..n).map(|i| ((i * 37 + 11) % 101) as f32 / 25.0 - 2.0).collect();
    Tensor::from_slice(shape, &values)
}

/// The same pattern rounded to `f16` or `bf16`.
pub fn ramp_of(dtype: DType, shape: &[usize]) -> Tensor {
    let values = ramp(shape).as_slice::<f32>().map(<[f32]>::to_vec).unwrap_or_default();
    match dtype {
        DType::F16 => {
            Tensor::from_slice(shape, &values.into_iter().map(f16::from_f32).collect::<Vec<_>>())
        }
        _ => Tensor::from_slice(shape, &values.into_iter().map(bf16::from_f32).collect::<Vec<_>>()),
    }
}

/// A vector of `i64`: axes, sizes, indices.
pub fn ints(values: &[i64]) -> Tensor {
    Tensor::from_slice(&[values.len()], values)
}
