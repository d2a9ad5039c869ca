//! Element types.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The type of a tensor's elements. Bytes are little-endian; a bool is one byte, 0 or 1.
///
/// The *compact* types are for storage: they are moved and converted, never calculated in. Each element has a byte
/// of its own, also where it has fewer bits: an integer as it is, a float as its code.
///
/// Strings are UTF-8 and have a length each ([`crate::Tensor::from_strings`]): they live on the host, are part of a program or
/// come and go with a run, and are never weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum DType {
    F32,
    F64,
    F16,
    BF16,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Bool,
    F8E4M3FN,
    F8E4M3FNUZ,
    F8E5M2,
    F8E5M2FNUZ,
    F8E8M0,
    F4E2M1,
    I4,
    U4,
    I2,
    U2,
    String,
}

impl DType {
    /// Every element type, in the order of declaration.
    pub const ALL: [DType; 24] = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::Bool,
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::F8E8M0,
        DType::F4E2M1,
        DType::I4,
        DType::U4,
        DType::I2,
        DType::U2,
        DType::String,
    ];

    /// Bytes of one element; `None` for strings, each of which has a length of its own.
    pub const fn size(self) -> Option<usize> {
        match self {
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => Some(2),
            DType::F32 | DType::I32 | DType::U32 => Some(4),
            DType::F64 | DType::I64 | DType::U64 => Some(8),
            DType::String => None,
            _ => Some(1),
        }
    }

    /// [`Self::size`] where strings do not come: in kernels, whose operators say that they take none, and in what handles
    /// weights.
    ///
    /// # Panics
    /// For strings.
    #[track_caller]
    pub const fn width(self) -> usize {
        match self.size() {
            Some(size) => size,
            None => {
                panic!("strings have no size in common; what computes with sizes takes no strings")
            }
        }
    }

    /// Whether the type is for storage only.
    pub const fn is_compact(self) -> bool {
        use DType::*;
        matches!(
            self,
            F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 | F4E2M1 | I4 | U4 | I2 | U2
        )
    }

    /// Whether some bytes stand for no element, so that contents have to be checked ([`Self::is_code`]).
    pub const fn is_restricted(self) -> bool {
        use DType::*;
        matches!(self, Bool | F4E2M1 | I4 | U4 | I2 | U2)
    }

    /// Whether a byte stands for an element of a type of one byte.
    pub const fn is_code(self, byte: u8) -> bool {
        match self {
            DType::Bool => byte <= 1,
            DType::U4 | DType::F4E2M1 => byte < 16,
            DType::U2 => byte < 4,
            DType::I4 => matches!(byte as i8, -8..8),
            DType::I2 => matches!(byte as i8, -2..2),
            _ => true,
        }
    }

    /// The type whose Rust type the elements are read as: `u8` for bools and codes, `i8` for small signed integers.
    pub const fn storage(self) -> Self {
        match self {
            DType::I4 | DType::I2 => DType::I8,
            other if other.is_compact() || matches!(other, DType::Bool) => DType::U8,
            other => other,
        }
    }

    /// Whether the type is a floating-point type that is calculated in.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
    }

    /// Whether the type is a signed or unsigned integer that is calculated in (bool is not).
    pub const fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, DType::Bool | DType::String) && !self.is_compact()
    }

    /// The lower-case name used in files, reports and errors: `f32`, `i64`, `bool`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I8 => "i8",
            DType::I16 => "i16",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::U16 => "u16",
            DType::U32 => "u32",
            DType::U64 => "u64",
            DType::Bool => "bool",
            DType::F8E4M3FN => "f8e4m3fn",
            DType::F8E4M3FNUZ => "f8e4m3fnuz",
            DType::F8E5M2 => "f8e5m2",
            DType::F8E5M2FNUZ => "f8e5m2fnuz",
            DType::F8E8M0 => "f8e8m0",
            DType::F4E2M1 => "f4e2m1",
            DType::I4 => "i4",
            DType::U4 => "u4",
            DType::I2 => "i2",
            DType::U2 => "u2",
            DType::String => "string",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
