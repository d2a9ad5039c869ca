//! Host tensors: an element type, a shape and shared bytes, always consistent.

use crate::size::byte_len;
use crate::{AlignedBuf, Bytes, DType, OutOfMemory, TensorError, strings};
use half::{bf16, f16};
use std::fmt;

/// A Rust type that is an element type of tensors.
pub trait Element: bytemuck::NoUninit + bytemuck::AnyBitPattern + Send + Sync {
    /// The element type this Rust type stands for.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),* $(,)?) => {$(
        impl Element for $t { const DTYPE: DType = DType::$d; }
    )*};
}
elements!(
    f32 => F32, f64 => F64, f16 => F16, bf16 => BF16,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
);

/// A dense, row-major host tensor. Cloning shares the bytes.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Bytes,
}

impl Tensor {
    /// Checks length, bools and strings. Bytes that are not aligned for `dtype` (a mapped foreign
    /// file) are copied once, so typed views never fail.
    pub fn new(dtype: DType, shape: &[usize], data: Bytes) -> Result<Self, TensorError> {
        let Some(size) = dtype.size() else {
            strings::check(shape, &data)?;
            return Ok(Self { dtype, shape: shape.to_vec(), data });
        };
        let expected = byte_len(dtype, shape);
        if expected != Some(data.len()) {
            return Err(TensorError::Length {
                dtype,
                shape: shape.to_vec(),
                expected: expected.unwrap_or(usize::MAX),
                found: data.len(),
            });
        }
        if dtype.is_restricted()
            && let Some(index) = data.iter().position(|&b| !dtype.is_code(b))
        {
            return Err(TensorError::Element { dtype, index, found: data[index] });
        }
        let aligned = data.as_ptr().align_offset(size) == 0;
        let data = if aligned { data } else { Bytes::copy_from(&data) };
        Ok(Self { dtype, shape: shape.to_vec(), data })
    }

    /// A tensor holding a copy of `values`.
    ///
    /// # Panics
    /// If `values` does not have as many elements as `shape`.
    pub fn from_slice<T: Element>(shape: &[usize], values: &[T]) -> Self {
        let data = Bytes::copy_from(bytemuck::cast_slice(values));
        Self::new(T::DTYPE, shape, data).expect("caller gives as many values as the shape has")
    }

    /// A bool tensor.
    ///
    /// # Panics
    /// If `values` does not have as many elements as `shape`.
    pub fn from_bools(shape: &[usize], values: &[bool]) -> Self {
        let bytes: Vec<u8> = values.iter().map(|&b| u8::from(b)).collect();
        Self::new(DType::Bool, shape, Bytes::copy_from(&bytes))
            .expect("caller gives as many values as the shape has")
    }

    /// A tensor of strings: a little-endian `u32` for the length of every element in bytes, then the elements' UTF-8, one
    /// after the other.
    ///
    /// # Panics
    /// If `values` does not have as many elements as `shape`, or one is 4 GiB long.
    pub fn from_strings<S: AsRef<str>>(shape: &[usize], values: &[S]) -> Self {
        Self::new(DType::String, shape, Bytes::from(strings::encode(values)))
            .expect("caller gives as many values as the shape has")
    }

    /// Zeros (false, empty strings).
    ///
    /// # Panics
    /// If there is no memory for them; [`Self::try_zeros`] says so instead.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        Self::try_zeros(dtype, shape).unwrap_or_else(|error| panic!("{dtype}{shape:?}: {error}"))
    }

    /// Zeros (false, empty strings), of a shape that somebody else decides.
    pub fn try_zeros(dtype: DType, shape: &[usize]) -> Result<Self, OutOfMemory> {
        let len = byte_len(dtype, shape).ok_or(OutOfMemory { bytes: usize::MAX })?;
        Ok(Self { dtype, shape: shape.to_vec(), data: AlignedBuf::try_zeroed(len)?.into() })
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The raw bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// The tensor in memory of its own: a copy if its bytes are a part of something larger, all of which they would keep alive.
    #[must_use]
    pub fn compact(&self) -> Self {
        match self.data.is_part() {
            true => Self { data: Bytes::copy_from(&self.data), ..self.clone() },
            false => self.clone(),
        }
    }

    /// The raw bytes, alone.
    pub fn into_bytes(self) -> Bytes {
        self.data
    }

    /// The elements as `T`. Bools and compact types are read as [`DType::storage`] says.
    pub fn as_slice<T: Element>(&self) -> Result<&[T], TensorError> {
        let same = T::DTYPE == self.dtype || T::DTYPE == self.dtype.storage();
        if !same {
            return Err(TensorError::DType { expected: self.dtype, found: T::DTYPE });
        }
        Ok(bytemuck::cast_slice(&self.data))
    }

    /// The elements of a tensor of strings.
    pub fn strings(&self) -> Result<Vec<&str>, TensorError> {
        match self.dtype {
            DType::String => strings::decode(&self.shape, &self.data),
            other => Err(TensorError::DType { expected: other, found: DType::String }),
        }
    }

    /// The same bytes under another shape with as many elements.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Self, TensorError> {
        Self::new(self.dtype, shape, self.data.clone())
    }

    /// The elements of an integer or bool tensor widened to `i64`; `None` for floats and
    /// for a `u64` that does not fit.
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        fn widen<T: Element + TryInto<i64>>(t: &Tensor) -> Option<Vec<i64>> {
            t.as_slice::<T>().ok()?.iter().map(|&v| v.try_into().ok()).collect()
        }
        match self.dtype {
            DType::I64 => widen::<i64>(self),
            DType::I32 => widen::<i32>(self),
            DType::I16 => widen::<i16>(self),
            DType::I8 => widen::<i8>(self),
            DType::U64 => widen::<u64>(self),
            DType::U32 => widen::<u32>(self),
            DType::U16 => widen::<u16>(self),
            DType::U8 | DType::Bool => widen::<u8>(self),
            _ => None,
        }
    }
}

/// Elements that are shown of a large tensor.
const SHOWN: usize = 8;

impl fmt::Display for Tensor {
    /// Type, shape and the first elements: `i64[3] [1, 2, 3]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn show<T: Element + fmt::Debug>(t: &Tensor, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for (i, value) in
                t.as_slice::<T>().map_err(|_| fmt::Error)?.iter().take(SHOWN).enumerate()
            {
                write!(f, "{}{value:?}", if i == 0 { "" } else { ", " })?;
            }
            f.write_str(if t.len() > SHOWN { ", …" } else { "" })
        }
        fn show_strings(t: &Tensor, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let all = t.strings().map_err(|_| fmt::Error)?;
            let shown: Vec<String> = all.iter().take(SHOWN).map(|s| format!("{s:?}")).collect();
            write!(f, "{}{}", shown.join(", "), if all.len() > SHOWN { ", …" } else { "" })
        }
        write!(f, "{self:?} [")?;
        match self.dtype {
            DType::F32 => show::<f32>(self, f),
            DType::F64 => show::<f64>(self, f),
            DType::F16 => show::<f16>(self, f),
            DType::BF16 => show::<bf16>(self, f),
            DType::I8 | DType::I4 | DType::I2 => show::<i8>(self, f),
            DType::I16 => show::<i16>(self, f),
            DType::I32 => show::<i32>(self, f),
            DType::I64 => show::<i64>(self, f),
            DType::U16 => show::<u16>(self, f),
            DType::U32 => show::<u32>(self, f),
            DType::U64 => show::<u64>(self, f),
            DType::String => show_strings(self, f),
            // Codes, for the small floats.
            _ => show::<u8>(self, f),
        }?;
        f.write_str("]")
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.dtype, self.shape)
    }
}
