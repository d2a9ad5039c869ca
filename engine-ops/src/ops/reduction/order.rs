//! The order of elements, in which NaN is larger than every number and equal to itself: what TopK and Unique sort by.

use half::{bf16, f16};
use std::cmp::Ordering;

/// A total order of an element type.
pub(in crate::ops) trait Ordered: Copy {
    fn order(&self, other: &Self) -> Ordering;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Ordered for $t {
            fn order(&self, other: &Self) -> Ordering { self.cmp(other) }
        }
    )*};
}
integers!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! floats {
    ($($t:ty),*) => {$(
        impl Ordered for $t {
            fn order(&self, other: &Self) -> Ordering {
                self.partial_cmp(other).unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
            }
        }
    )*};
}
floats!(f32, f64, f16, bf16);

/// Calls `$body` with `$name` bound to the Rust type of a dtype, bools as `u8`; types for storage have no order.
macro_rules! for_ordered {
    ($dtype:expr, $name:ident => $body:expr) => {
        $crate::ops::reduction::order::for_ordered!(
            @ $dtype, $name, $body,
            F32 f32, F64 f64, F16 half::f16, BF16 half::bf16, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8,
            U16 u16, U32 u32, U64 u64, Bool u8
        )
    };
    (@ $dtype:expr, $name:ident, $body:expr, $($d:ident $t:ty),*) => {
        match $dtype {
            $(engine_format::DType::$d => { type $name = $t; $body })*
            other => Err($crate::OpError::new(format!("elements of {other} have no order here"))),
        }
    };
}
pub(in crate::ops) use for_ordered;
