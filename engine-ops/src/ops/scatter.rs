//! What scatters share: how an update meets the element that is there.

use crate::cpu::{TensorMut, TensorRef};
use crate::def::{AttrsExt, NUMBERS};
use crate::{OpError, for_dtype, for_size};
use engine_format::{Attrs, DType};
use half::{bf16, f16};

/// How an update meets the element that is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reduction {
    None,
    Add,
    Mul,
    Max,
    Min,
}

impl Reduction {
    /// The attribute, for elements that it can be done with.
    pub fn of_elements(attrs: &Attrs, dtype: DType) -> Result<Self, OpError> {
        match Self::of(attrs)? {
            Self::None => Ok(Self::None),
            _ if !NUMBERS.contains(&dtype) => Err(OpError::new(format!(
                "reduction {:?} of {dtype}, expected numbers",
                attrs.str("reduction")
            ))),
            reduction => Ok(reduction),
        }
    }

    pub fn of(attrs: &Attrs) -> Result<Self, OpError> {
        Ok(match attrs.str("reduction") {
            "none" => Reduction::None,
            "add" => Reduction::Add,
            "mul" => Reduction::Mul,
            "max" => Reduction::Max,
            "min" => Reduction::Min,
            other => {
                return Err(OpError::new(format!(
                    "reduction {other:?}, expected \"none\", \"add\", \"mul\", \"max\" or \"min\""
                )));
            }
        })
    }
}

/// Arithmetic of the element types; integers wrap, and NaN stays NaN.
trait Number: Copy {
    fn reduce(self, other: Self, reduction: Reduction) -> Self;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Number for $t {
            fn reduce(self, other: Self, reduction: Reduction) -> Self {
                match reduction {
                    Reduction::None => other,
                    Reduction::Add => self.wrapping_add(other),
                    Reduction::Mul => self.wrapping_mul(other),
                    Reduction::Max => self.max(other),
                    Reduction::Min => self.min(other),
                }
            }
        }
    )*};
}
integers!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! floats {
    ($($t:ty),*) => {$(
        impl Number for $t {
            fn reduce(self, other: Self, reduction: Reduction) -> Self {
                match reduction {
                    Reduction::None => other,
                    Reduction::Add => self + other,
                    Reduction::Mul => self * other,
                    Reduction::Max | Reduction::Min if self.is_nan() => self,
                    Reduction::Max if self >= other => self,
                    Reduction::Min if self <= other => self,
                    Reduction::Max | Reduction::Min => other,
                }
            }
        }
    )*};
}
floats!(f32, f64, f16, bf16);

/// Lets update `i` meet the element at the `i`-th place, in order.
pub(super) fn scatter(
    reduction: Reduction,
    places: impl Iterator<Item = usize>,
    updates: TensorRef<'_>,
    out: &mut TensorMut<'_>,
) -> Result<(), OpError> {
    if reduction == Reduction::None {
        for_size!(updates.dtype, T => {
            let out = out.raw::<T>();
            for (at, &update) in places.zip(updates.raw::<T>()) {
                out[at] = update;
            }
        });
        return Ok(());
    }
    for_dtype!(
        updates.dtype,
        [
            F32 => f32, F64 => f64, F16 => f16, BF16 => bf16, I8 => i8, I16 => i16, I32 => i32, I64 => i64,
            U8 => u8, U16 => u16, U32 => u32, U64 => u64,
        ],
        T => {
            let out = out.slice::<T>();
            for (at, &update) in places.zip(updates.slice::<T>()) {
                out[at] = out[at].reduce(update, reduction);
            }
            Ok(())
        }
    )
}
