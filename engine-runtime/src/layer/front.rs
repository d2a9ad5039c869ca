//! Layers that say in types what the operator table says in names.

use super::{Layer, LayerError};
use crate::device::Device;
use crate::error::{RunError, RunErrorKind};
use engine_format::{Attr, Attrs, Tensor};

fn attrs<const N: usize>(attrs: [(&str, Attr); N]) -> Attrs {
    attrs.into_iter().map(|(name, attr)| (name.to_owned(), attr)).collect()
}

fn only(outputs: Vec<Tensor>) -> Tensor {
    outputs.into_iter().next().expect("layers have one result unless told otherwise")
}

fn unfit(what: String) -> LayerError {
    RunError::new(RunErrorKind::InvalidInputs, what).into()
}

/// `y = x · Wᵀ + b` over the last axis of `x`, with `W: [out, in]` and `b: [out]`.
#[derive(Debug)]
pub struct Linear {
    layer: Layer,
}

impl Linear {
    /// A layer with these weights.
    ///
    /// # Errors
    /// Never for a matrix and a vector that belong together; see [`LayerError`].
    pub fn new(weight: Tensor, bias: Option<Tensor>, device: &Device) -> Result<Self, LayerError> {
        let mut layer = Layer::new("Gemm", attrs([("transB", Attr::Int(1))]), device)?;
        layer.set("B", weight)?;
        if let Some(bias) = bias {
            layer.set("C", bias)?;
        }
        Ok(Self { layer })
    }

    /// Replaces the matrix.
    ///
    /// # Errors
    /// As a refit; then nothing changes.
    pub fn set_weight(&mut self, weight: Tensor) -> Result<(), LayerError> {
        self.layer.set("B", weight)
    }

    /// Replaces the vector.
    ///
    /// # Errors
    /// As a refit; then nothing changes.
    pub fn set_bias(&mut self, bias: Tensor) -> Result<(), LayerError> {
        self.layer.set("C", bias)
    }

    /// Runs it over `x: [.., in]`.
    ///
    /// # Errors
    /// Where `x` does not fit the weights.
    pub fn run(&self, x: &Tensor) -> Result<Tensor, LayerError> {
        let Some((&width, outer)) = x.shape().split_last() else {
            return Err(unfit(format!("the input is {x:?}, expected at least one axis")));
        };
        let rows = outer.iter().product();
        let flat = x.reshaped(&[rows, width]).map_err(|why| unfit(why.to_string()))?;
        let y = only(self.layer.run(&[flat])?);
        let shape: Vec<usize> = outer.iter().chain(y.shape().last()).copied().collect();
        y.reshaped(&shape).map_err(|why| unfit(why.to_string()))
    }
}

/// How a convolution moves over its input. Lists are per spatial axis; empty ones mean 1 (pads: 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Steps between windows.
    pub strides: Vec<usize>,
    /// Steps between the elements of a window.
    pub dilations: Vec<usize>,
    /// Zeros around the input: all the beginnings, then all the ends.
    pub pads: Vec<usize>,
    /// Groups of channels that do not mix.
    pub group: usize,
}

impl Default for ConvOptions {
    fn default() -> Self {
        Self { strides: Vec::new(), dilations: Vec::new(), pads: Vec::new(), group: 1 }
    }
}

/// A convolution with `W: [out, in / group, ..]` and `b: [out]` over `x: [batch, in, ..]`.
#[derive(Debug)]
pub struct Conv {
    layer: Layer,
}

impl Conv {
    /// A layer with these weights.
    ///
    /// # Errors
    /// See [`LayerError`].
    pub fn new(
        weight: Tensor,
        bias: Option<Tensor>,
        options: &ConvOptions,
        device: &Device,
    ) -> Result<Self, LayerError> {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let mut attrs = attrs([("group", Attr::Int(number(options.group)))]);
        let lists = [
            ("strides", &options.strides),
            ("dilations", &options.dilations),
            ("pads", &options.pads),
        ];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            attrs.insert(name.into(), Attr::Ints(list.iter().map(|&n| number(n)).collect()));
        }
        let mut layer = Layer::new("Conv", attrs, device)?;
        layer.set("W", weight)?;
        if let Some(bias) = bias {
            layer.set("B", bias)?;
        }
        Ok(Self { layer })
    }

    /// Replaces the filters.
    ///
    /// # Errors
    /// As a refit; then nothing changes.
    pub fn set_weight(&mut self, weight: Tensor) -> Result<(), LayerError> {
        self.layer.set("W", weight)
    }

    /// Replaces the vector.
    ///
    /// # Errors
    /// As a refit; then nothing changes.
    pub fn set_bias(&mut self, bias: Tensor) -> Result<(), LayerError> {
        self.layer.set("B", bias)
    }

    /// Runs it over `x: [batch, in, ..]`.
    ///
    /// # Errors
    /// Where `x` does not fit the weights.
    pub fn run(&self, x: &Tensor) -> Result<Tensor, LayerError> {
        Ok(only(self.layer.run(std::slice::from_ref(x))?))
    }
}

/// `y = (x − mean) / √(variance + ε) · scale + bias`, mean and variance over the last axes.
#[derive(Debug)]
pub struct LayerNorm {
    layer: Layer,
}

impl LayerNorm {
    /// A layer with these weights, normalising over the axes from `axis` on (negative ones count from the end).
    ///
    /// # Errors
    /// See [`LayerError`].
    pub fn new(
        scale: Tensor,
        bias: Option<Tensor>,
        axis: i64,
        epsilon: f32,
        device: &Device,
    ) -> Result<Self, LayerError> {
        let attrs = attrs([("axis", Attr::Int(axis)), ("epsilon", Attr::Float(epsilon))]);
        let mut layer = Layer::new("LayerNormalization", attrs, device)?;
        layer.set("Scale", scale)?;
        if let Some(bias) = bias {
            layer.set("B", bias)?;
        }
        Ok(Self { layer })
    }

    /// Replaces the scale.
    ///
    /// # Errors
    /// As a refit; then nothing changes.
    pub fn set_scale(&mut self, scale: Tensor) -> Result<(), LayerError> {
        self.layer.set("Scale", scale)
    }

    /// Replaces the bias.
    ///
    /// # Errors
    /// As a refit; then nothing changes.
    pub fn set_bias(&mut self, bias: Tensor) -> Result<(), LayerError> {
        self.layer.set("B", bias)
    }

    /// Runs it.
    ///
    /// # Errors
    /// Where `x` does not fit the weights.
    pub fn run(&self, x: &Tensor) -> Result<Tensor, LayerError> {
        Ok(only(self.layer.run(std::slice::from_ref(x))?))
    }
}
