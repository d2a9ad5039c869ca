//! What the two MessagePack sections look like. Separate from the public types, so that renaming a
//! field there cannot change the format. Fields stand in alphabetical order, which is the order of keys.
//! What is empty or follows from elsewhere is left out.

use crate::program::{Attr, Block, Literal, Node, ValueId};
use crate::{
    Alias, Bytes, DType, Dim, EngineParts, Form, FormatError, FormatErrorKind, Port, Probe,
    SourceLiteral, Tensor, TensorInfo, View, ViewPart,
};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// The program section: everything but flags and weights.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireProgram {
    execute: WireBlock,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ignored: Vec<String>,
    inputs: Vec<WirePort>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    literals: Vec<WireLiteral>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    outputs: Vec<WirePort>,
    prepare: WireBlock,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    source_literals: Vec<WireSourceLiteral>,
    values: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePort {
    dtype: DType,
    #[serde(default, skip_serializing_if = "is_tensor")]
    form: Form,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<Vec<WireDim>>,
    value: ValueId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTensor {
    data: Blob,
    dtype: DType,
    shape: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireLiteral {
    tensor: WireTensor,
    value: ValueId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSourceLiteral {
    name: String,
    tensor: WireTensor,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireBlock {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<ValueId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<WireNode>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<ValueId>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireNode {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attrs: BTreeMap<String, WireAttr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Option<ValueId>>,
    name: String,
    op: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<Option<ValueId>>,
    version: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireAttr {
    Block(WireBlock),
    Float(f32),
    Floats(Vec<f32>),
    Int(i64),
    Ints(Vec<i64>),
    Str(String),
    Strs(Vec<String>),
}

/// The table section.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireTable {
    pub weights: Vec<WireWeight>,
}

/// The probes section.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireProbes {
    probes: Vec<WireProbe>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireProbe {
    atol: f64,
    inputs: BTreeMap<String, WireTensor>,
    outputs: BTreeMap<String, WireTensor>,
    rtol: f64,
    version: Blob,
}

/// One row of the weight table. Its bytes are in `data`, or in the weights section at `offset`, or
/// missing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireWeight {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<WireAlias>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Blob>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Blob>,
    pub dtype: DType,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<WirePacked>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub parameter: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub refittable: bool,
    pub shape: Vec<u64>,
    pub value: ValueId,
}

/// Another name of a weight.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum WireAlias {
    Name(String),
    View(WireView),
}

/// How a weight is put together from a source's tensors.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireView {
    #[serde(default, skip_serializing_if = "is_zero")]
    axis: u64,
    parts: Vec<WireViewPart>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireViewPart {
    dtype: DType,
    name: String,
    /// Left out if the order of axes is the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    perm: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range: Option<(u64, u64)>,
    shape: Vec<u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<&Alias> for WireAlias {
    fn from(alias: &Alias) -> Self {
        let part = |part: &ViewPart| WireViewPart {
            dtype: part.info.dtype,
            name: part.name.clone(),
            perm: match part.perm.iter().copied().eq(0..part.perm.len()) {
                true => Vec::new(),
                false => wire_shape(&part.perm),
            },
            range: part.range.map(|(start, end)| (start as u64, end as u64)),
            shape: wire_shape(&part.info.shape),
        };
        match alias {
            Alias::Name(name) => Self::Name(name.clone()),
            Alias::View(View { axis, parts }) => {
                let parts = parts.iter().map(part).collect();
                Self::View(WireView { axis: *axis as u64, parts })
            }
        }
    }
}

impl WireAlias {
    /// The alias as used; `place` is named in the error.
    pub(crate) fn alias(self, place: &str) -> Result<Alias, FormatError> {
        let part = |part: WireViewPart| {
            let shape = usable_shape(&part.shape, place)?;
            let perm = match part.perm.is_empty() {
                true => (0..shape.len()).collect(),
                false => usable_shape(&part.perm, place)?,
            };
            let range = part.range.map(|(start, end)| usable_shape(&[start, end], place));
            let range = range.transpose()?.map(|range| (range[0], range[1]));
            let info = TensorInfo { dtype: part.dtype, shape };
            Ok(ViewPart { name: part.name, info, perm, range })
        };
        Ok(match self {
            Self::Name(name) => Alias::Name(name),
            Self::View(WireView { axis, parts }) => Alias::View(View {
                axis: usable_shape(&[axis], place)?[0],
                parts: parts.into_iter().map(part).collect::<Result<_, FormatError>>()?,
            }),
        })
    }
}

/// The zstd frame of a compressed weight.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WirePacked {
    pub digest: Blob,
    pub length: u64,
}

fn is_tensor(form: &Form) -> bool {
    *form == Form::Tensor
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// MessagePack `bin`.
pub(crate) struct Blob(pub Bytes);

impl Blob {
    /// The blob as a digest; `place` is named in the error.
    pub(crate) fn digest(&self, place: &str) -> Result<crate::Digest, FormatError> {
        <[u8; 32]>::try_from(&*self.0).map(crate::Digest).map_err(|_| {
            FormatError::new(FormatErrorKind::Corrupt, "length of a digest")
                .at(place)
                .expected("32 bytes")
                .found(self.0.len())
        })
    }
}

impl From<crate::Digest> for Blob {
    fn from(digest: crate::Digest) -> Self {
        Self(Bytes::copy_from(&digest.0))
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor;
        impl Visitor<'_> for BlobVisitor {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("binary data")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from(bytes)))
            }
        }
        deserializer.deserialize_bytes(BlobVisitor)
    }
}

/// A dimension of a port: an unsigned number or a symbol's name.
struct WireDim(Dim);

impl Serialize for WireDim {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.known() {
            Some(number) => serializer.serialize_i64(number),
            None => serializer.collect_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for WireDim {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DimVisitor;
        impl Visitor<'_> for DimVisitor {
            type Value = WireDim;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a dimension: a number below 2^63 or a symbol")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<WireDim, E> {
                let number = i64::try_from(number).map_err(E::custom)?;
                Ok(WireDim(Dim::from(number)))
            }
            fn visit_str<E>(self, symbol: &str) -> Result<WireDim, E> {
                Ok(WireDim(Dim::symbol(symbol)))
            }
        }
        deserializer.deserialize_any(DimVisitor)
    }
}

/// A shape as stored.
pub(crate) fn wire_shape(shape: &[usize]) -> Vec<u64> {
    shape.iter().map(|&dim| dim as u64).collect()
}

/// A shape as used; `place` is named in the error.
pub(crate) fn usable_shape(shape: &[u64], place: &str) -> Result<Vec<usize>, FormatError> {
    let limit = |what: &str| FormatError::new(FormatErrorKind::LimitExceeded, what).at(place);
    shape
        .iter()
        .map(|&dim| usize::try_from(dim).map_err(|_| limit("dimension too large").found(dim)))
        .collect()
}

impl From<&[Probe]> for WireProbes {
    fn from(probes: &[Probe]) -> Self {
        let tensors = |tensors: &BTreeMap<String, Tensor>| {
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.into())).collect()
        };
        let probes = probes.iter().map(|probe| WireProbe {
            atol: probe.atol,
            inputs: tensors(&probe.inputs),
            outputs: tensors(&probe.outputs),
            rtol: probe.rtol,
            version: probe.version.into(),
        });
        Self { probes: probes.collect() }
    }
}

impl WireProbes {
    pub(crate) fn into_probes(self) -> Result<Vec<Probe>, FormatError> {
        let tensors = |tensors: BTreeMap<String, WireTensor>, place: &str| {
            let tensor = |(name, tensor): (String, WireTensor)| Ok((name, tensor.tensor(place)?));
            tensors.into_iter().map(tensor).collect::<Result<BTreeMap<_, _>, FormatError>>()
        };
        let probes = self.probes.into_iter().enumerate().map(|(index, probe)| {
            let place = format!("probe {index}");
            Ok(Probe {
                version: probe.version.digest(&place)?,
                inputs: tensors(probe.inputs, &place)?,
                outputs: tensors(probe.outputs, &place)?,
                atol: probe.atol,
                rtol: probe.rtol,
            })
        });
        probes.collect()
    }
}

impl From<&Tensor> for WireTensor {
    fn from(tensor: &Tensor) -> Self {
        Self {
            data: Blob(tensor.bytes().clone()),
            dtype: tensor.dtype(),
            shape: wire_shape(tensor.shape()),
        }
    }
}

impl WireTensor {
    fn tensor(self, place: &str) -> Result<Tensor, FormatError> {
        let shape = usable_shape(&self.shape, place)?;
        Tensor::new(self.dtype, &shape, self.data.0).map_err(|error| {
            FormatError::new(FormatErrorKind::InvalidEngine, "invalid tensor")
                .at(place)
                .found(error)
        })
    }
}

impl From<&Port> for WirePort {
    fn from(port: &Port) -> Self {
        let dims = |shape: &Vec<Dim>| shape.iter().cloned().map(WireDim).collect();
        Self {
            dtype: port.dtype,
            form: port.form,
            name: port.name.clone(),
            shape: port.shape.as_ref().map(dims),
            value: port.value,
        }
    }
}

impl From<WirePort> for Port {
    fn from(port: WirePort) -> Self {
        let dims = |shape: Vec<WireDim>| shape.into_iter().map(|dim| dim.0).collect();
        Self {
            name: port.name,
            value: port.value,
            form: port.form,
            dtype: port.dtype,
            shape: port.shape.map(dims),
        }
    }
}

impl From<&Attr> for WireAttr {
    fn from(attr: &Attr) -> Self {
        match attr {
            Attr::Int(v) => Self::Int(*v),
            Attr::Float(v) => Self::Float(*v),
            Attr::Str(v) => Self::Str(v.clone()),
            Attr::Ints(v) => Self::Ints(v.clone()),
            Attr::Floats(v) => Self::Floats(v.clone()),
            Attr::Strs(v) => Self::Strs(v.clone()),
            Attr::Block(v) => Self::Block(v.into()),
        }
    }
}

impl From<WireAttr> for Attr {
    fn from(attr: WireAttr) -> Self {
        match attr {
            WireAttr::Int(v) => Self::Int(v),
            WireAttr::Float(v) => Self::Float(v),
            WireAttr::Str(v) => Self::Str(v),
            WireAttr::Ints(v) => Self::Ints(v),
            WireAttr::Floats(v) => Self::Floats(v),
            WireAttr::Strs(v) => Self::Strs(v),
            WireAttr::Block(v) => Self::Block(v.into()),
        }
    }
}

impl From<&Node> for WireNode {
    fn from(node: &Node) -> Self {
        Self {
            attrs: node.attrs.iter().map(|(name, attr)| (name.clone(), attr.into())).collect(),
            inputs: node.inputs.clone(),
            name: node.name.clone(),
            op: node.op.clone(),
            outputs: node.outputs.clone(),
            version: node.version,
        }
    }
}

impl From<WireNode> for Node {
    fn from(node: WireNode) -> Self {
        Self {
            op: node.op,
            version: node.version,
            name: node.name,
            inputs: node.inputs,
            outputs: node.outputs,
            attrs: node.attrs.into_iter().map(|(name, attr)| (name, attr.into())).collect(),
        }
    }
}

impl From<&Block> for WireBlock {
    fn from(block: &Block) -> Self {
        Self {
            inputs: block.inputs.clone(),
            nodes: block.nodes.iter().map(WireNode::from).collect(),
            outputs: block.outputs.clone(),
        }
    }
}

impl From<WireBlock> for Block {
    fn from(block: WireBlock) -> Self {
        Self {
            inputs: block.inputs,
            nodes: block.nodes.into_iter().map(Node::from).collect(),
            outputs: block.outputs,
        }
    }
}

impl From<&EngineParts> for WireProgram {
    fn from(parts: &EngineParts) -> Self {
        let literal = |l: &Literal| WireLiteral { tensor: (&l.tensor).into(), value: l.value };
        let source_literal = |l: &SourceLiteral| WireSourceLiteral {
            name: l.name.clone(),
            tensor: (&l.tensor).into(),
        };
        Self {
            execute: (&parts.execute).into(),
            ignored: parts.ignored.clone(),
            inputs: parts.inputs.iter().map(WirePort::from).collect(),
            literals: parts.literals.iter().map(literal).collect(),
            metadata: parts.metadata.clone(),
            outputs: parts.outputs.iter().map(WirePort::from).collect(),
            prepare: (&parts.prepare).into(),
            source_literals: parts.source_literals.iter().map(source_literal).collect(),
            values: parts.values,
        }
    }
}

impl WireProgram {
    /// The parts of an engine, with the flags and weights that stand elsewhere in the file.
    pub(crate) fn into_parts(
        self,
        flags: crate::EngineFlags,
        weights: Vec<crate::Weight>,
    ) -> Result<EngineParts, FormatError> {
        let literal = |l: WireLiteral| {
            let place = format!("the literal of value {}", l.value.0);
            Ok(Literal { value: l.value, tensor: l.tensor.tensor(&place)? })
        };
        let source_literal = |l: WireSourceLiteral| {
            let place = format!("the source literal {:?}", l.name);
            Ok(SourceLiteral { tensor: l.tensor.tensor(&place)?, name: l.name })
        };
        Ok(EngineParts {
            flags,
            metadata: self.metadata,
            inputs: self.inputs.into_iter().map(Port::from).collect(),
            outputs: self.outputs.into_iter().map(Port::from).collect(),
            values: self.values,
            literals: self.literals.into_iter().map(literal).collect::<Result<_, FormatError>>()?,
            weights,
            prepare: self.prepare.into(),
            execute: self.execute.into(),
            source_literals: self
                .source_literals
                .into_iter()
                .map(source_literal)
                .collect::<Result<_, FormatError>>()?,
            ignored: self.ignored,
        })
    }
}
