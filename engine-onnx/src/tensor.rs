//! Tensors of a model file: their type is known, their contents are decoded on request.

use crate::external::{Location, Origin};
use crate::proto::{self, SparseTensorProto, TensorProto};
use crate::{OnnxError, OnnxErrorKind};
use engine_format::size::{byte_len, elements};
use engine_format::{AlignedBuf, Bytes, DType, Tensor, TensorInfo};
use prost::Message;
use std::fmt;
use std::sync::Arc;

/// Bytes a sparse tensor may take when it is made dense.
const MAX_DENSE: usize = 2 << 30;

/// A tensor of a model. Cloning is a reference count.
///
/// The type is read with the file, the contents on request: bytes that lie aligned in a mapped file are not copied.
#[derive(Clone)]
pub struct TensorData {
    inner: Arc<Inner>,
}

struct Inner {
    /// Name for messages.
    name: String,
    origin: Arc<Origin>,
    elem: i32,
    shape: Vec<usize>,
    source: Source,
}

enum Source {
    /// Bytes in the file, little-endian.
    Raw(Bytes),
    Typed(Typed),
    Strings(Vec<prost::bytes::Bytes>),
    External(Location),
    Sparse {
        values: TensorData,
        indices: TensorData,
    },
    Ready(Tensor),
    /// Types without a decoder; what the file says about them is not kept.
    None,
}

/// The field of a tensor that holds its elements one by one.
enum Typed {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
}

impl TensorData {
    /// Decodes a file that holds one tensor message, as ONNX's own tests keep their inputs and outputs.
    pub fn parse(bytes: Bytes) -> Result<Self, OnnxError> {
        let shared = prost::bytes::Bytes::from_owner(bytes);
        let proto = TensorProto::decode(shared).map_err(|error| {
            OnnxError::new(OnnxErrorKind::Corrupt, format!("not an ONNX tensor: {error}"))
        })?;
        Self::alone(&proto)
    }

    /// A tensor that is part of no model.
    pub(crate) fn alone(proto: &TensorProto) -> Result<Self, OnnxError> {
        Self::from_proto(&proto.name, proto, &Arc::new(Origin::default()))
    }

    /// The name in the file; may be empty.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The element type, or an error that names the tensor and the type if this stack does not have it.
    pub fn dtype(&self) -> Result<DType, OnnxError> {
        dtype_of(self.inner.elem).ok_or_else(|| {
            let what = "tensor of an unsupported element type";
            let error = OnnxError::new(OnnxErrorKind::UnsupportedType, what);
            self.locate(error.found(type_name(self.inner.elem)))
        })
    }

    /// Dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.inner.shape
    }

    /// Element type and dimensions.
    pub fn info(&self) -> Result<TensorInfo, OnnxError> {
        Ok(TensorInfo { dtype: self.dtype()?, shape: self.inner.shape.clone() })
    }

    /// The contents. They may be part of the mapped model file; see [`crate::map_file`].
    pub fn tensor(&self) -> Result<Tensor, OnnxError> {
        if let Source::Ready(tensor) = &self.inner.source {
            return Ok(tensor.clone());
        }
        Tensor::new(self.dtype()?, &self.inner.shape, self.bytes()?)
            .map_err(|error| self.locate(OnnxError::invalid(error.to_string())))
    }

    /// The contents as little-endian bytes, as many as type and shape ask for; strings in the encoding of [`Tensor`]. What is stored in this form is never
    /// copied; it may be unaligned.
    pub fn bytes(&self) -> Result<Bytes, OnnxError> {
        let dtype = self.dtype()?;
        let checked = self.inner.origin.check();
        checked.and_then(|()| self.decode(dtype)).map_err(|error| self.locate(error))
    }

    fn decode(&self, dtype: DType) -> Result<Bytes, OnnxError> {
        if dtype == DType::String {
            return self.decode_strings();
        }
        let elements = self.byte_len(dtype)?;
        let bits = bits(dtype);
        let len = if bits == 8 { elements } else { elements.div_ceil(8 / bits) };
        let stored = match &self.inner.source {
            Source::Ready(tensor) => return Ok(tensor.bytes().clone()),
            Source::Raw(bytes) if bytes.len() == len => Ok(bytes.clone()),
            Source::Raw(bytes) => Err(OnnxError::invalid("length of the contents")
                .expected(format_args!("{len} bytes for {dtype}{:?}", self.inner.shape))
                .found(bytes.len())),
            Source::Typed(values) if bits < 8 && values.len() == len => values.encode(DType::U8),
            Source::Typed(values) => {
                self.check_count(values.len())?;
                values.encode(dtype)
            }
            Source::External(location) => self.inner.origin.beside()?.read(location, len),
            Source::Sparse { values, indices } => {
                return densify(dtype, &self.inner.shape, values, indices);
            }
            Source::Strings(values) => Err(OnnxError::invalid(format!("tensor of {dtype}"))
                .expected("its elements in the field that the schema has for them")
                .found(format_args!("string_data with {} elements", values.len()))),
            Source::None => Err(OnnxError::invalid("tensor without contents")),
        };
        stored.map(|stored| if bits == 8 { stored } else { unpack(dtype, elements, &stored) })
    }

    /// Strings have a field of their own and no raw form.
    fn decode_strings(&self) -> Result<Bytes, OnnxError> {
        let values = match &self.inner.source {
            Source::Ready(tensor) => return Ok(tensor.bytes().clone()),
            Source::Strings(values) => values.as_slice(),
            Source::Raw(bytes) if bytes.is_empty() => &[],
            _ => {
                return Err(OnnxError::invalid("tensor of string")
                    .expected("its elements in string_data")
                    .found("another field"));
            }
        };
        self.check_count(values.len())?;
        let text = |(i, value): (usize, &prost::bytes::Bytes)| {
            let value = std::str::from_utf8(value).map_err(|error| {
                OnnxError::invalid(format!("element {i} of string_data"))
                    .expected("UTF-8")
                    .found(error)
            })?;
            Ok(value.to_owned())
        };
        let texts: Vec<String> =
            values.iter().enumerate().map(text).collect::<Result<_, OnnxError>>()?;
        Ok(Tensor::from_strings(&self.inner.shape, &texts).bytes().clone())
    }

    /// Adds file and name to an error.
    fn locate(&self, error: OnnxError) -> OnnxError {
        self.inner.origin.locate(error.at(place(&self.inner.name)))
    }

    fn elements(&self) -> Option<usize> {
        elements(&self.inner.shape)
    }

    fn byte_len(&self, dtype: DType) -> Result<usize, OnnxError> {
        byte_len(dtype, &self.inner.shape).ok_or_else(|| {
            OnnxError::invalid("size overflows").found(format_args!("{:?}", self.inner.shape))
        })
    }

    fn check_count(&self, found: usize) -> Result<(), OnnxError> {
        if self.elements() == Some(found) {
            return Ok(());
        }
        Err(OnnxError::invalid("number of elements does not follow from the shape")
            .expected(format_args!("the elements of {:?}", self.inner.shape))
            .found(found))
    }

    pub(crate) fn ready(name: &str, tensor: Tensor, origin: &Arc<Origin>) -> Self {
        let (elem, shape) = (elem_of(tensor.dtype()), tensor.shape().to_vec());
        Self::of(name, origin, elem, shape, Source::Ready(tensor))
    }

    fn of(name: &str, origin: &Arc<Origin>, elem: i32, shape: Vec<usize>, source: Source) -> Self {
        let (name, origin) = (name.to_owned(), origin.clone());
        Self { inner: Arc::new(Inner { name, origin, elem, shape, source }) }
    }

    /// The tensor `proto`, called `name` in messages.
    pub(crate) fn from_proto(
        name: &str,
        proto: &TensorProto,
        origin: &Arc<Origin>,
    ) -> Result<Self, OnnxError> {
        let shape = dims(&proto.dims).map_err(|error| error.at(place(name)))?;
        let source = source_of(proto).map_err(|error| error.at(place(name)))?;
        Ok(Self::of(name, origin, proto.data_type, shape, source))
    }

    /// The sparse tensor `proto`, called `name` in messages.
    pub(crate) fn from_sparse(
        name: &str,
        proto: &SparseTensorProto,
        origin: &Arc<Origin>,
    ) -> Result<Self, OnnxError> {
        let part = |part: &Option<TensorProto>| match part {
            Some(proto) => Self::from_proto(name, proto, origin),
            None => Err(OnnxError::invalid("sparse tensor without values or without indices")
                .at(place(name))),
        };
        let shape = dims(&proto.dims).map_err(|error| error.at(place(name)))?;
        let (values, indices) = (part(&proto.values)?, part(&proto.indices)?);
        let elem = values.inner.elem;
        Ok(Self::of(name, origin, elem, shape, Source::Sparse { values, indices }))
    }
}

/// One byte for each element of a type of fewer bits; a file has several in a byte, the first in the lowest bits.
fn unpack(dtype: DType, count: usize, packed: &[u8]) -> Bytes {
    let bits = bits(dtype);
    let signed = dtype.storage() == DType::I8;
    let element = |i: usize| {
        let at = i * bits;
        let high = packed[at / 8] << (8 - bits - at % 8);
        if signed { ((high as i8) >> (8 - bits)) as u8 } else { high >> (8 - bits) }
    };
    Bytes::from((0..count).map(element).collect::<Vec<u8>>())
}

fn place(name: &str) -> String {
    format!("tensor {name:?}")
}

impl fmt::Debug for TensorData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { name, elem, shape, .. } = &*self.inner;
        write!(f, "{name:?}: {}{shape:?}", type_name(*elem))
    }
}

/// ONNX element types in the order of their numbers, with ours where there is one.
const ELEMENTS: [(&str, Option<DType>); 29] = [
    ("undefined", None),
    ("f32", Some(DType::F32)),
    ("u8", Some(DType::U8)),
    ("i8", Some(DType::I8)),
    ("u16", Some(DType::U16)),
    ("i16", Some(DType::I16)),
    ("i32", Some(DType::I32)),
    ("i64", Some(DType::I64)),
    ("string", Some(DType::String)),
    ("bool", Some(DType::Bool)),
    ("f16", Some(DType::F16)),
    ("f64", Some(DType::F64)),
    ("u32", Some(DType::U32)),
    ("u64", Some(DType::U64)),
    ("complex64", None),
    ("complex128", None),
    ("bf16", Some(DType::BF16)),
    ("f8e4m3fn", Some(DType::F8E4M3FN)),
    ("f8e4m3fnuz", Some(DType::F8E4M3FNUZ)),
    ("f8e5m2", Some(DType::F8E5M2)),
    ("f8e5m2fnuz", Some(DType::F8E5M2FNUZ)),
    ("u4", Some(DType::U4)),
    ("i4", Some(DType::I4)),
    ("f4e2m1", Some(DType::F4E2M1)),
    ("f8e8m0", Some(DType::F8E8M0)),
    ("u2", Some(DType::U2)),
    ("i2", Some(DType::I2)),
    ("f6e2m3", None),
    ("f6e3m2", None),
];

/// Bits that an element takes in a file's bytes; 8 for all types of whole bytes.
fn bits(dtype: DType) -> usize {
    match dtype {
        DType::I4 | DType::U4 | DType::F4E2M1 => 4,
        DType::I2 | DType::U2 => 2,
        _ => 8,
    }
}

/// Our element type for ONNX's number; `Cast`'s `to` and others use the same numbers.
pub fn dtype_of(elem: i32) -> Option<DType> {
    ELEMENTS.get(usize::try_from(elem).ok()?)?.1
}

fn elem_of(dtype: DType) -> i32 {
    let at = ELEMENTS.iter().position(|(_, d)| *d == Some(dtype));
    at.expect("every DType has an ONNX number") as i32
}

/// The name of ONNX's element type `elem`, for messages.
pub fn type_name(elem: i32) -> String {
    let known = usize::try_from(elem).ok().and_then(|at| ELEMENTS.get(at));
    known.map_or_else(|| format!("element type {elem}"), |(name, _)| (*name).to_owned())
}

fn dims(dims: &[i64]) -> Result<Vec<usize>, OnnxError> {
    let dim = |&d: &i64| {
        usize::try_from(d)
            .map_err(|_| OnnxError::invalid("negative dimension").found(format_args!("{dims:?}")))
    };
    dims.iter().map(dim).collect()
}

/// Where the contents are; a tensor that fills two fields is ambiguous.
fn source_of(proto: &TensorProto) -> Result<Source, OnnxError> {
    if proto.segment.is_some() {
        return Err(OnnxError::invalid("tensor is stored in segments").expected("whole tensors"));
    }
    let external = proto.data_location == proto::EXTERNAL;
    let typed = [
        (!proto.float_data.is_empty(), "float_data"),
        (!proto.int32_data.is_empty(), "int32_data"),
        (!proto.string_data.is_empty(), "string_data"),
        (!proto.int64_data.is_empty(), "int64_data"),
        (!proto.double_data.is_empty(), "double_data"),
        (!proto.uint64_data.is_empty(), "uint64_data"),
        // An empty `raw_data` beside typed data is what some writers leave behind.
        (proto.raw_data.as_ref().is_some_and(|raw| !raw.is_empty()), "raw_data"),
        (external, "external_data"),
    ];
    let filled: Vec<&str> = typed.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    Ok(match filled.as_slice() {
        ["float_data"] => Source::Typed(Typed::F32(proto.float_data.clone())),
        ["int32_data"] => Source::Typed(Typed::I32(proto.int32_data.clone())),
        ["string_data"] => Source::Strings(proto.string_data.clone()),
        ["int64_data"] => Source::Typed(Typed::I64(proto.int64_data.clone())),
        ["double_data"] => Source::Typed(Typed::F64(proto.double_data.clone())),
        ["uint64_data"] => Source::Typed(Typed::U64(proto.uint64_data.clone())),
        ["external_data"] => Source::External(location(&proto.external_data)?),
        // Nothing at all is right for a tensor without elements, and wrong otherwise: the length check tells.
        [] | ["raw_data"] => match &proto.raw_data {
            _ if dtype_of(proto.data_type).is_none() => Source::None,
            Some(raw) => Source::Raw(Bytes::from_owner(raw.clone())),
            None => Source::Raw(Bytes::from(Vec::new())),
        },
        several => {
            return Err(OnnxError::invalid("tensor stored twice")
                .expected("one field")
                .found(several.join(" and ")));
        }
    })
}

fn location(entries: &[proto::StringStringEntryProto]) -> Result<Location, OnnxError> {
    let number = |key: &str, text: &str| {
        text.parse::<usize>().map_err(|_| {
            OnnxError::new(OnnxErrorKind::ExternalData, format!("external data: {key}"))
                .expected("a number of bytes")
                .found(format_args!("{text:?}"))
        })
    };
    let mut out = Location::default();
    for proto::StringStringEntryProto { key, value } in entries {
        match key.as_str() {
            "location" => out.file.clone_from(value),
            "offset" => out.offset = number(key, value)?,
            "length" => out.length = Some(number(key, value)?),
            // `checksum` and what writers add for themselves.
            _ => {}
        }
    }
    Ok(out)
}

impl Typed {
    fn len(&self) -> usize {
        match self {
            Typed::F32(v) => v.len(),
            Typed::F64(v) => v.len(),
            Typed::I32(v) => v.len(),
            Typed::I64(v) => v.len(),
            Typed::U64(v) => v.len(),
        }
    }

    fn field(&self) -> &'static str {
        match self {
            Typed::F32(_) => "float_data",
            Typed::F64(_) => "double_data",
            Typed::I32(_) => "int32_data",
            Typed::I64(_) => "int64_data",
            Typed::U64(_) => "uint64_data",
        }
    }

    /// The elements as little-endian bytes of `dtype`; the pairs of field and type are those of the ONNX schema.
    fn encode(&self, dtype: DType) -> Result<Bytes, OnnxError> {
        Ok(match (self, dtype) {
            (Typed::F32(v), DType::F32) => Bytes::copy_from(bytemuck::cast_slice(v)),
            (Typed::F64(v), DType::F64) => Bytes::copy_from(bytemuck::cast_slice(v)),
            (Typed::I32(v), DType::I32) => Bytes::copy_from(bytemuck::cast_slice(v)),
            (Typed::I64(v), DType::I64) => Bytes::copy_from(bytemuck::cast_slice(v)),
            (Typed::U64(v), DType::U64) => Bytes::copy_from(bytemuck::cast_slice(v)),
            (Typed::U64(v), DType::U32) => narrow::<u64, u32>(v)?,
            (Typed::I32(v), DType::I16) => narrow::<i32, i16>(v)?,
            (Typed::I32(v), DType::I8) => narrow::<i32, i8>(v)?,
            (Typed::I32(v), DType::U16) => narrow::<i32, u16>(v)?,
            (Typed::I32(v), DType::U8 | DType::Bool) => narrow::<i32, u8>(v)?,
            // Small floats are stored as their codes.
            (Typed::I32(v), float) if float.is_compact() => narrow::<i32, u8>(v)?,
            // Halves are stored as their bit patterns.
            (Typed::I32(v), DType::F16 | DType::BF16) => narrow::<i32, u16>(v)?,
            _ => {
                return Err(OnnxError::invalid(format!("tensor of {dtype}"))
                    .expected("its elements in the field that the schema has for them")
                    .found(self.field()));
            }
        })
    }
}

/// Elements as a smaller integer type, each of which must fit.
fn narrow<A, B>(values: &[A]) -> Result<Bytes, OnnxError>
where
    A: Copy + fmt::Display + TryInto<B>,
    B: bytemuck::Pod,
{
    let mut out = AlignedBuf::zeroed(size_of_val(values) / size_of::<A>() * size_of::<B>());
    for (slot, &value) in bytemuck::cast_slice_mut::<u8, B>(&mut out).iter_mut().zip(values) {
        *slot = value.try_into().map_err(|_| {
            OnnxError::invalid("element does not fit its type")
                .expected(std::any::type_name::<B>())
                .found(value)
        })?;
    }
    Ok(out.into())
}

/// A sparse tensor as a dense one: zeros and, at each index, a value.
fn densify(
    dtype: DType,
    shape: &[usize],
    values: &TensorData,
    indices: &TensorData,
) -> Result<Bytes, OnnxError> {
    let size = dtype
        .size()
        .ok_or_else(|| OnnxError::invalid("sparse tensor").expected("numbers").found(dtype))?;
    let over = || {
        OnnxError::limit("bytes of a sparse tensor made dense", MAX_DENSE)
            .found(format_args!("{shape:?}"))
    };
    let bytes = byte_len(dtype, shape).filter(|&n| n <= MAX_DENSE).ok_or_else(over)?;
    let elements = bytes / size;
    let (values, indices) = (values.tensor()?, indices.tensor()?);
    let linear = linear_indices(shape, elements, values.len(), &indices)?;
    let mut out = AlignedBuf::try_zeroed(bytes).map_err(|_| over())?;
    for (at, value) in linear.into_iter().zip(values.bytes().chunks_exact(size)) {
        out[at * size..][..size].copy_from_slice(value);
    }
    Ok(out.into())
}

/// Positions in row-major order from either form of indices: `[count]` positions or `[count, rank]` coordinates.
fn linear_indices(
    shape: &[usize],
    elements: usize,
    count: usize,
    indices: &Tensor,
) -> Result<Vec<usize>, OnnxError> {
    let numbers = indices.as_slice::<i64>().map_err(|e| OnnxError::invalid(e.to_string()))?;
    let outside = |index: &[i64]| {
        OnnxError::invalid("index of a sparse tensor")
            .expected(format_args!("inside {shape:?}"))
            .found(format_args!("{index:?}"))
    };
    let below = |index: i64, bound: usize| usize::try_from(index).ok().filter(|&i| i < bound);
    match indices.shape() {
        [n] if *n == count => {
            let position = |&i: &i64| below(i, elements).ok_or_else(|| outside(&[i]));
            numbers.iter().map(position).collect()
        }
        [n, rank] if *n == count && *rank == shape.len() && *rank > 0 => {
            let position = |index: &[i64]| {
                let row_major = index
                    .iter()
                    .zip(shape)
                    .try_fold(0, |at, (&i, &bound)| Some(at * bound + below(i, bound)?));
                row_major.ok_or_else(|| outside(index))
            };
            numbers.chunks_exact(*rank).map(position).collect()
        }
        found => Err(OnnxError::invalid("indices of a sparse tensor")
            .expected(format_args!("[{count}] or [{count}, {}]", shape.len()))
            .found(format_args!("{found:?}"))),
    }
}
