//! Conversion between f32, f16 and bf16 on the way into an engine or a file, when the caller asks for it.

use super::BoxedSource;
use engine_format::{
    Alias, AlignedBuf, DType, Engine, Naming, SourceError, Tensor, TensorInfo, WeightSource,
};
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::fmt;

/// A source whose tensors have the element types of an engine's weights, or one type: f32, f16 and bf16 are converted to one another, rounded to
/// nearest even. Everything else is as in the source within, and fits or does not.
pub struct CastSource {
    inner: BoxedSource,
    converted: BTreeMap<String, Conversion>,
}

/// A tensor that is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The source's element type.
    pub from: DType,
    /// The engine's.
    pub to: DType,
}

impl fmt::Display for Conversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.from, self.to)
    }
}

fn is_convertible(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// The element types that an engine expects under each name: as a part of a view, and as a weight.
struct Expected<'a> {
    parts: BTreeMap<&'a str, DType>,
    weights: BTreeMap<&'a str, DType>,
}

impl<'a> Expected<'a> {
    fn of(engine: &'a Engine) -> Self {
        let (mut parts, mut weights) = (BTreeMap::new(), BTreeMap::new());
        for weight in &engine.parts().weights {
            weights.insert(weight.name.as_str(), weight.dtype);
            for alias in &weight.aliases {
                match alias {
                    Alias::Name(name) => {
                        weights.insert(name.as_str(), weight.dtype);
                    }
                    Alias::View(view) => parts.extend(
                        view.parts.iter().map(|part| (part.name.as_str(), part.info.dtype)),
                    ),
                }
            }
        }
        Self { parts, weights }
    }

    /// What is expected under a name: a part in a model file and a weight elsewhere, where it is both.
    fn dtype(&self, name: &str, naming: Naming) -> Option<DType> {
        let (part, weight) = (self.parts.get(name), self.weights.get(name));
        let dtype = match naming {
            Naming::Checkpoint => weight.or(part),
            Naming::Model | Naming::Both => part.or(weight),
        };
        dtype.copied()
    }
}

impl CastSource {
    /// `inner` as `engine` expects it.
    pub fn new(inner: BoxedSource, engine: &Engine) -> Self {
        let expected = Expected::of(engine);
        let names = inner.names().into_iter().filter_map(|name| {
            let (from, to) =
                (inner.info(&name)?.dtype, expected.dtype(&name, inner.naming(&name))?);
            let differ = from != to && is_convertible(from) && is_convertible(to);
            differ.then_some((name, Conversion { from, to }))
        });
        Self { converted: names.collect(), inner }
    }

    /// `inner` with every tensor of f32, f16 or bf16 in the one of these types that `to` is.
    pub fn every(inner: BoxedSource, to: DType) -> Self {
        let names = inner.names().into_iter().filter_map(|name| {
            let from = inner.info(&name)?.dtype;
            let differ = from != to && is_convertible(from) && is_convertible(to);
            differ.then_some((name, Conversion { from, to }))
        });
        Self { converted: names.collect(), inner }
    }

    /// The tensors that are converted, by name.
    pub fn conversions(&self) -> &BTreeMap<String, Conversion> {
        &self.converted
    }
}

/// The values of `tensor` as the nearest ones of another type.
fn convert(tensor: &Tensor, to: DType) -> Tensor {
    let mut out = AlignedBuf::zeroed(tensor.len() * to.width());
    for (i, value) in floats(tensor).enumerate() {
        let element = &mut out[i * to.width()..(i + 1) * to.width()];
        match to {
            DType::F16 => element.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            DType::BF16 => element.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            _ => element.copy_from_slice(&value.to_le_bytes()),
        }
    }
    Tensor::new(to, tensor.shape(), out.into()).expect("as many elements as before")
}

/// The elements of a tensor of f32, f16 or bf16.
pub(super) fn floats(tensor: &Tensor) -> impl Iterator<Item = f32> + '_ {
    let (dtype, size) = (tensor.dtype(), tensor.dtype().width());
    tensor.bytes().chunks_exact(size).map(move |bytes| match dtype {
        DType::F16 => f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        DType::BF16 => bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32(),
        _ => f32::from_le_bytes(bytes.try_into().expect("four bytes of an f32")),
    })
}

/// A tensor of f32, f16 or bf16 with these values, rounded to nearest even.
pub(super) fn tensor_of(dtype: DType, shape: &[usize], values: &[f32]) -> Tensor {
    convert(&Tensor::from_slice(shape, values), dtype)
}

impl WeightSource for CastSource {
    fn origin(&self) -> String {
        self.inner.origin()
    }

    fn names(&self) -> Vec<String> {
        self.inner.names()
    }

    fn naming(&self, name: &str) -> Naming {
        self.inner.naming(name)
    }

    fn remarks(&self) -> Vec<String> {
        self.inner.remarks()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let info = self.inner.info(name)?;
        let dtype = self.converted.get(name).map_or(info.dtype, |conversion| conversion.to);
        Some(TensorInfo { dtype, ..info })
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let tensor = self.inner.read(name)?;
        Ok(match self.converted.get(name) {
            Some(conversion) => tensor.map(|tensor| convert(&tensor, conversion.to)),
            None => tensor,
        })
    }

    fn is_resident(&self, name: &str) -> bool {
        self.converted.contains_key(name) || self.inner.is_resident(name)
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        if !self.converted.contains_key(name) {
            return self.inner.stream(name, sink);
        }
        let tensor = self.read(name)?;
        if let Some(tensor) = &tensor {
            sink(tensor.bytes());
        }
        Ok(tensor.is_some())
    }
}
