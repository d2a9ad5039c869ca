//! What an operator is: plain data.

use crate::{
    case::Case,
    chain::Function,
    cpu::Cpu,
    gpu::GpuKernel,
    infer::{Facts, InferCtx, InferError, InferRule},
    layout::BlockedRule,
    operand::{self, Operand, Role, Types},
    text::Text,
    tolerance::Tolerance,
};
use engine_format::{Attr, Attrs, DType};
use std::fmt;

/// One row of the operator table. Build with `..OpDef::BASE`.
#[derive(Clone, Copy)]
pub struct OpDef {
    /// Name in engines; ONNX's where the meaning is ONNX's newest.
    pub name: &'static str,
    /// Version of the meaning. A change of meaning is a new row.
    pub version: u16,
    /// One or two sentences: what it computes, the formula, its source.
    pub doc: &'static str,
    /// ONNX operators that import one to one.
    pub onnx: &'static [OnnxName],
    /// Attributes taken; any other is an error.
    pub attrs: &'static [AttrDef],
    /// Operands in order. What they say of their types and shapes is checked before [`Self::infer`] is asked.
    pub inputs: &'static [Operand],
    /// The last operand may be repeated (Concat, Max).
    pub variadic_input: bool,
    /// Results in order; those past the first may be omitted by a node.
    pub outputs: &'static [&'static str],
    /// The last result may be repeated (Split).
    pub variadic_output: bool,
    /// What kind of work it is.
    pub kind: Kind,
    /// Whether each element of a result is a function of the operands' elements at its position, with broadcasting.
    pub elementwise: bool,
    /// Types, symbolic shapes and small values of the results; asked through [`OpDef::results`].
    pub infer: InferRule,
    /// Whether it calculates with the compact element types too (it converts them). What only moves data always takes them.
    pub compact: bool,
    /// The operator as a function of one `f32`, where it is one: how it runs as a stage of a chain ([`crate::chain`]).
    pub function: Option<Function>,
    /// Whether its results are drawn by chance, not a function of its operands: such a node is never folded, merged or moved.
    pub random: bool,
    /// What it does with strings; asked through [`OpDef::text`].
    pub text: Text,
    /// What does the same to images whose channels lie in blocks, where that is not the row itself; asked through
    /// [`crate::layout::blocked`].
    pub blocked: Option<BlockedRule>,
    /// The CPU kernel.
    pub cpu: Cpu,
    /// The GPU kernel; `None` runs on the CPU with copies.
    pub gpu: Option<GpuKernel>,
    /// How far two devices may differ.
    pub tolerance: Tolerance,
    /// Small inputs (and expected outputs) that every runtime is held to.
    pub cases: fn() -> Vec<Case>,
}

impl OpDef {
    /// Neutral values for functional update; not an operator.
    pub const BASE: OpDef = OpDef {
        name: "",
        version: 1,
        doc: "",
        onnx: &[],
        attrs: &[],
        inputs: &[],
        variadic_input: false,
        outputs: &["Y"],
        variadic_output: false,
        kind: Kind::Compute,
        elementwise: false,
        infer: |_| Ok(Vec::new()),
        compact: false,
        function: None,
        random: false,
        text: Text::No,
        blocked: None,
        cpu: Cpu::None,
        gpu: None,
        tolerance: Tolerance::EXACT,
        cases: Vec::new,
    };

    /// Element types of the first operand; `None` where the shape rule decides.
    pub fn first_types(&self) -> Option<&'static [DType]> {
        match self.inputs.first()?.types {
            Types::Of(types) => Some(types),
            Types::Any | Types::Like(_) => None,
        }
    }

    /// Whether the first operand may have this element type, as far as the row says.
    pub fn takes(&self, dtype: DType) -> bool {
        self.first_types().is_none_or(|types| types.contains(&dtype))
    }

    /// Facts of the results: what [`Self::infer`] says, if the operands are what the row takes and the results' sizes fit.
    pub fn results(&self, ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
        self.check_presence(ctx.inputs)?;
        let read = |(i, facts): (usize, &Option<Facts>)| {
            let dtype = facts.as_ref()?.dtype;
            self.reads(i).then_some(dtype)
        };
        self.check_calculated(ctx.inputs.iter().enumerate().filter_map(read))?;
        let refuses = matches!(self.text(), Text::No);
        let no = |what: String| InferError::invalid(format!("{} {what} strings", self.name));
        if refuses && self.reads_strings(ctx.inputs.iter().map(|facts| Some(facts.as_ref()?.dtype)))
        {
            return Err(no("does not take".to_owned()));
        }
        operand::check(|i| self.operand(i), ctx.inputs)?;
        let results = (self.infer)(ctx)?;
        self.check_calculated(results.iter().map(|facts| facts.dtype))?;
        if refuses && results.iter().any(|facts| facts.dtype == DType::String) {
            return Err(no("does not give".to_owned()));
        }
        for (i, facts) in results.iter().enumerate() {
            facts.check_size().map_err(|why| OpError::new(format!("result {i} {why}")))?;
        }
        Ok(results)
    }

    /// An error if an operand is there that the row does not have, or one is not that it requires.
    fn check_presence(&self, inputs: &[Option<Facts>]) -> Result<(), OpError> {
        if let Some(extra) = (0..inputs.len()).find(|&i| self.operand(i).is_none()) {
            let takes = self.inputs.len();
            return Err(OpError::new(format!("operand {extra} was given, it takes {takes}")));
        }
        let missing = |i: &usize| inputs.get(*i).is_none_or(Option::is_none);
        match (0..self.inputs.len()).filter(|&i| !self.inputs[i].optional).find(missing) {
            Some(i) => Err(OpError::new(format!("operand {} is required", self.inputs[i].name))),
            None => Ok(()),
        }
    }

    /// An error if the operator calculates, and one of these types is for storage alone.
    fn check_calculated(&self, types: impl IntoIterator<Item = DType>) -> Result<(), InferError> {
        let calculates = self.kind == Kind::Compute && !self.compact;
        match types.into_iter().find(|dtype| calculates && dtype.is_compact()) {
            Some(dtype) => Err(InferError::invalid(format!(
                "{} does not calculate in {dtype}, a type for storage; cast it first",
                self.name
            ))),
            None => Ok(()),
        }
    }

    /// What the operator does with strings: what only moves data always takes them.
    pub fn text(&self) -> Text {
        match (self.kind, self.text) {
            (Kind::Move | Kind::View, Text::No) => Text::Ranks,
            (_, text) => text,
        }
    }

    /// Whether an operand whose contents are read is of strings.
    pub fn reads_strings(&self, types: impl IntoIterator<Item = Option<DType>>) -> bool {
        types
            .into_iter()
            .enumerate()
            .any(|(i, dtype)| self.reads(i) && dtype == Some(DType::String))
    }

    /// Whether the contents of operand `i` are read, not its type or shape alone.
    fn reads(&self, i: usize) -> bool {
        self.operand(i).is_none_or(|operand| operand.role != Role::Type)
    }

    /// The operand at position `i`, the last one standing for all further ones if variadic.
    pub fn operand(&self, i: usize) -> Option<&'static Operand> {
        match self.inputs.get(i) {
            None if self.variadic_input => self.inputs.last(),
            found => found,
        }
    }

    /// Checks attributes against the table and adds the defaults of absent ones, so that a
    /// stored node states everything its meaning depends on.
    pub fn normalise(&self, mut attrs: Attrs) -> Result<Attrs, OpError> {
        for (name, value) in &attrs {
            let Some(def) = self.attrs.iter().find(|a| a.name == name) else {
                let known: Vec<_> = self.attrs.iter().map(|a| a.name).collect();
                return Err(OpError::new(format!("unknown attribute {name:?}; takes {known:?}")));
            };
            if !def.kind.admits(value) {
                return Err(OpError::new(format!("attribute {name:?} is not {:?}", def.kind)));
            }
        }
        for def in self.attrs {
            if attrs.contains_key(def.name) {
                continue;
            }
            let value = match def.default {
                Default::Required => {
                    return Err(OpError::new(format!("attribute {:?} is missing", def.name)));
                }
                Default::Absent => continue,
                Default::Int(v) => Attr::Int(v),
                Default::Float(v) => Attr::Float(v),
                Default::Str(v) => Attr::Str(v.to_owned()),
                Default::Ints(v) => Attr::Ints(v.to_vec()),
                Default::Floats(v) => Attr::Floats(v.to_vec()),
            };
            attrs.insert(def.name.to_owned(), value);
        }
        Ok(attrs)
    }
}

/// The float types that kernels calculate with.
pub(crate) const FLOATS: &[DType] = &[DType::F32, DType::F64, DType::F16, DType::BF16];

/// The types of numbers that kernels calculate with.
pub(crate) const NUMBERS: &[DType] = &[
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
];

/// Numbers and bools, false coming before true.
pub(crate) const ORDERED: &[DType] = &[
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
];

/// The types of matrix products: ONNX has these alone.
pub(crate) const PRODUCTS: &[DType] = &[
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I32,
    DType::I64,
    DType::U32,
    DType::U64,
];

impl fmt::Debug for OpDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.name, self.version)
    }
}

/// An ONNX operator, over a range of opsets in which it means the same.
#[derive(Clone, Copy, Debug)]
pub struct OnnxName {
    /// Domain; `""` is ai.onnx.
    pub domain: &'static str,
    /// Operator type.
    pub name: &'static str,
    /// First opset.
    pub since: i64,
    /// Last opset, inclusive; [`OnnxName::LATEST`] for still current.
    pub until: i64,
}

impl OnnxName {
    /// The newest opset of ai.onnx that is known here.
    pub const LATEST: i64 = 28;

    /// An operator of ai.onnx that has meant the same since opset `since`.
    pub const fn since(name: &'static str, since: i64) -> Self {
        Self { domain: "", name, since, until: Self::LATEST }
    }
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub struct AttrDef {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: AttrKind,
    /// What an absent one means.
    pub default: Default,
}

impl AttrDef {
    /// An integer with a default.
    pub const fn int(name: &'static str, default: i64) -> Self {
        Self { name, kind: AttrKind::Int, default: Default::Int(default) }
    }

    /// A float with a default.
    pub const fn float(name: &'static str, default: f32) -> Self {
        Self { name, kind: AttrKind::Float, default: Default::Float(default) }
    }

    /// A string with a default.
    pub const fn str(name: &'static str, default: &'static str) -> Self {
        Self { name, kind: AttrKind::Str, default: Default::Str(default) }
    }

    /// A list of integers that may be absent.
    pub const fn opt_ints(name: &'static str) -> Self {
        Self { name, kind: AttrKind::Ints, default: Default::Absent }
    }

    /// An attribute that must be given.
    pub const fn required(name: &'static str, kind: AttrKind) -> Self {
        Self { name, kind, default: Default::Required }
    }
}

/// Type of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "mirrors engine_format::Attr")]
pub enum AttrKind {
    Int,
    Float,
    Str,
    Ints,
    Floats,
    Strs,
    Block,
}

impl AttrKind {
    fn admits(self, value: &Attr) -> bool {
        matches!(
            (self, value),
            (AttrKind::Int, Attr::Int(_))
                | (AttrKind::Float, Attr::Float(_))
                | (AttrKind::Str, Attr::Str(_))
                | (AttrKind::Ints, Attr::Ints(_))
                | (AttrKind::Floats, Attr::Floats(_))
                | (AttrKind::Strs, Attr::Strs(_))
                | (AttrKind::Block, Attr::Block(_))
        )
    }
}

/// What an absent attribute means.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Default {
    Required,
    Absent,
    Int(i64),
    Float(f32),
    Str(&'static str),
    Ints(&'static [i64]),
    Floats(&'static [f32]),
}

/// What kind of work an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Computes new values. In `prepare` it runs on the CPU on every device.
    Compute,
    /// Only moves data.
    Move,
    /// The first result has the first operand's bytes under another shape: never copied.
    View,
    /// Runs nested blocks, or makes and takes apart sequences and optional values: handled by the planner, without a kernel.
    Control,
}

/// An operator was used in a way it does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OpError {
    message: String,
    out_of_memory: bool,
}

impl OpError {
    /// States what was found and what is taken.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), out_of_memory: false }
    }

    /// States what takes more memory than there is, or than a limit leaves.
    pub fn out_of_memory(message: impl Into<String>) -> Self {
        Self { message: message.into(), out_of_memory: true }
    }

    /// Whether memory was missing.
    pub fn is_out_of_memory(&self) -> bool {
        self.out_of_memory
    }
}

/// Typed reading of normalised attributes.
///
/// The kinds were checked by [`OpDef::normalise`] at build and again at load, so a mismatch here is a bug in the
/// operator's own file and panics.
pub trait AttrsExt {
    /// An integer that the table gives a default or requires.
    fn int(&self, name: &str) -> i64;
    /// A float that the table gives a default or requires.
    fn float(&self, name: &str) -> f32;
    /// A string that the table gives a default or requires.
    fn str(&self, name: &str) -> &str;
    /// A list of integers, if present.
    fn ints(&self, name: &str) -> Option<&[i64]>;
    /// A list of floats, if present.
    fn floats(&self, name: &str) -> Option<&[f32]>;
    /// A list of strings, if present.
    fn strs(&self, name: &str) -> Option<&[String]>;
    /// An optional integer, if present.
    fn opt_int(&self, name: &str) -> Option<i64>;
}

impl AttrsExt for Attrs {
    fn int(&self, name: &str) -> i64 {
        self.opt_int(name).unwrap_or_else(|| panic!("attribute {name:?} was not normalised"))
    }

    fn float(&self, name: &str) -> f32 {
        match self.get(name) {
            Some(Attr::Float(v)) => *v,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }

    fn str(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Attr::Str(v)) => v,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }

    fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.get(name) {
            Some(Attr::Ints(v)) => Some(v),
            None => None,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }

    fn floats(&self, name: &str) -> Option<&[f32]> {
        match self.get(name) {
            Some(Attr::Floats(v)) => Some(v),
            None => None,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }

    fn strs(&self, name: &str) -> Option<&[String]> {
        match self.get(name) {
            Some(Attr::Strs(v)) => Some(v),
            None => None,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }

    fn opt_int(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Attr::Int(v)) => Some(*v),
            None => None,
            other => panic!("attribute {name:?} was not normalised: {other:?}"),
        }
    }
}
