//! Faults between sources of weights and modules.

use engine_format::{DType, Engine, Naming, SourceError, Tensor, TensorInfo, WeightSource};

/// A source as a faulty reader understands it.
pub(super) struct Misread<'a> {
    pub source: &'a dyn WeightSource,
    pub engine: Engine,
    pub how: Misreading,
}

/// What is wrong with the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misreading {
    /// A tensor whose axes are exchanged counts as the weight.
    Transposed,
    /// NaNs lose their bits.
    UsualNan,
}

impl WeightSource for Misread<'_> {
    fn origin(&self) -> String {
        self.source.origin()
    }

    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn naming(&self, name: &str) -> Naming {
        self.source.naming(name)
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let info = self.source.info(name)?;
        let weight = self.engine.weight(name).map(|weight| weight.info());
        Some(match weight {
            Some(weight) if self.how == Misreading::Transposed && is_transposed(&weight, &info) => {
                weight
            }
            _ => info,
        })
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let (Some(tensor), Some(info)) = (self.source.read(name)?, self.info(name)) else {
            return Ok(None);
        };
        Ok(match self.how {
            Misreading::Transposed => tensor.reshaped(&info.shape).ok(),
            Misreading::UsualNan if tensor.dtype() == DType::F32 => {
                let values = tensor.as_slice::<f32>().unwrap_or_default().iter();
                let usual = |x: &f32| if x.is_nan() { f32::NAN } else { *x };
                Some(Tensor::from_slice(tensor.shape(), &values.map(usual).collect::<Vec<_>>()))
            }
            Misreading::UsualNan => Some(tensor),
        })
    }
}

fn is_transposed(weight: &TensorInfo, found: &TensorInfo) -> bool {
    weight.dtype == found.dtype && weight.shape.iter().rev().eq(&found.shape)
}
