//! What a pickle makes, and the names in it that mean something.

use engine_format::DType;
use std::rc::Rc;
use std::sync::Arc;

/// A tensor: a window onto a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PickledTensor {
    /// Key of the storage in the file.
    pub(crate) storage: String,
    pub(crate) dtype: DType,
    /// Elements of the storage, as the pickle says.
    pub(crate) elements: u64,
    /// In elements.
    pub(crate) offset: u64,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<u64>,
}

/// A name, and what it means here.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Global {
    /// A dictionary, whatever it is called with.
    Dictionary,
    /// A tensor of a storage that knows its element type.
    RebuildTensor,
    /// A tensor of a storage of bytes and of an element type.
    RebuildUntyped,
    /// What its first argument is.
    RebuildParameter,
    /// What its first argument makes of its third.
    RebuildFromType,
    Storage(DType),
    /// A storage of bytes.
    Untyped,
    DType(DType),
    /// It means nothing here: `module.name`.
    Unknown(Arc<str>),
}

static GLOBALS: &[(&str, &str, Global)] = &[
    ("collections", "OrderedDict", Global::Dictionary),
    ("collections", "defaultdict", Global::Dictionary),
    ("torch._utils", "_rebuild_tensor", Global::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    ("torch._utils", "_rebuild_tensor_v3", Global::RebuildUntyped),
    ("torch._utils", "_rebuild_parameter", Global::RebuildParameter),
    ("torch._utils", "_rebuild_parameter_with_state", Global::RebuildParameter),
    ("torch._tensor", "_rebuild_from_type", Global::RebuildFromType),
    ("torch._tensor", "_rebuild_from_type_v2", Global::RebuildFromType),
    ("torch", "FloatStorage", Global::Storage(DType::F32)),
    ("torch", "DoubleStorage", Global::Storage(DType::F64)),
    ("torch", "HalfStorage", Global::Storage(DType::F16)),
    ("torch", "BFloat16Storage", Global::Storage(DType::BF16)),
    ("torch", "LongStorage", Global::Storage(DType::I64)),
    ("torch", "IntStorage", Global::Storage(DType::I32)),
    ("torch", "ShortStorage", Global::Storage(DType::I16)),
    ("torch", "CharStorage", Global::Storage(DType::I8)),
    ("torch", "ByteStorage", Global::Storage(DType::U8)),
    ("torch", "BoolStorage", Global::Storage(DType::Bool)),
    ("torch", "UntypedStorage", Global::Untyped),
    ("torch.storage", "UntypedStorage", Global::Untyped),
    ("torch", "float32", Global::DType(DType::F32)),
    ("torch", "float64", Global::DType(DType::F64)),
    ("torch", "float16", Global::DType(DType::F16)),
    ("torch", "bfloat16", Global::DType(DType::BF16)),
    ("torch", "int64", Global::DType(DType::I64)),
    ("torch", "int32", Global::DType(DType::I32)),
    ("torch", "int16", Global::DType(DType::I16)),
    ("torch", "int8", Global::DType(DType::I8)),
    ("torch", "uint8", Global::DType(DType::U8)),
    ("torch", "uint16", Global::DType(DType::U16)),
    ("torch", "uint32", Global::DType(DType::U32)),
    ("torch", "uint64", Global::DType(DType::U64)),
    ("torch", "bool", Global::DType(DType::Bool)),
    ("torch", "float8_e4m3fn", Global::DType(DType::F8E4M3FN)),
    ("torch", "float8_e4m3fnuz", Global::DType(DType::F8E4M3FNUZ)),
    ("torch", "float8_e5m2", Global::DType(DType::F8E5M2)),
    ("torch", "float8_e5m2fnuz", Global::DType(DType::F8E5M2FNUZ)),
    ("torch", "float8_e8m0fnu", Global::DType(DType::F8E8M0)),
];

/// Bytes of an element of storages whose tensors are not read.
static WIDTHS: &[(&str, u64)] = &[
    ("torch.ComplexFloatStorage", 8),
    ("torch.ComplexDoubleStorage", 16),
    ("torch.QInt8Storage", 1),
    ("torch.QUInt8Storage", 1),
    ("torch.QInt32Storage", 4),
    ("torch.QUInt4x2Storage", 1),
    ("torch.QUInt2x4Storage", 1),
];

impl Global {
    /// Bytes of an element of a storage of this type; `None` for what is none, or not known.
    pub(super) fn width(&self) -> Option<u64> {
        match self {
            Self::Storage(dtype) => Some(dtype.width() as u64),
            Self::Untyped => Some(1),
            Self::Unknown(name) => WIDTHS.iter().find(|(n, _)| **n == **name).map(|(_, w)| *w),
            _ => None,
        }
    }

    pub(super) fn of(module: &str, name: &str) -> Self {
        let row = GLOBALS.iter().find(|(m, n, _)| *m == module && *n == name);
        row.map_or_else(
            || Self::Unknown(format!("{module}.{name}").into()),
            |(.., global)| global.clone(),
        )
    }

    /// Whether what it makes is a tensor, of a kind that is not read here: sparse, quantised, on no device.
    pub(super) fn makes_tensor(name: &str) -> bool {
        name.starts_with("torch._utils._rebuild") || name.starts_with("torch._tensor._rebuild")
    }
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Where a tuple, or the items of a dictionary, begin.
    Mark,
    None,
    Bool,
    Float,
    Int(i64),
    Str(Rc<str>),
    Tuple(Rc<Tuple>),
    /// Index of a list or a set.
    List(usize),
    /// Index of a dictionary; a memo and a stack may share one that is filled later.
    Dict(usize),
    Global(Global),
    Storage(Rc<Storage>),
    Tensor(Rc<PickledTensor>),
    /// A tensor that is not read here: what it is.
    Unread(Rc<str>),
    /// Anything else that is not looked at: what it is.
    Opaque(Rc<str>),
}

#[derive(Debug)]
pub(super) struct Tuple {
    pub(super) items: Vec<Value>,
    pub(super) depth: usize,
}

#[derive(Debug)]
pub(super) struct Storage {
    pub(super) key: Rc<str>,
    /// `None` for bytes, of which the tensor says what they are.
    pub(super) dtype: Option<DType>,
    pub(super) elements: u64,
    /// The element with which a window of it begins.
    pub(super) start: u64,
}

impl Value {
    /// What a name that means nothing here would have made, had it been called.
    pub(super) fn not_executed(name: &str) -> Self {
        Self::Opaque(format!("{name}, which is not executed").into())
    }

    /// What it is, in a message.
    pub(super) fn words(&self) -> String {
        let words = match self {
            Value::Mark => "a mark",
            Value::None => "None",
            Value::Bool => "a bool",
            Value::Float => "a float",
            Value::Int(_) => "an integer",
            Value::Str(_) => "a string",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dictionary",
            Value::Global(Global::Unknown(name)) => name,
            Value::Global(_) => "a name",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
            Value::Unread(what) | Value::Opaque(what) => what,
        };
        words.to_owned()
    }
}
