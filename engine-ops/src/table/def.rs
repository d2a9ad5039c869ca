//! What an operator is: plain data.

use crate::{
    AttrDef, Default, Function, OpError, Tolerance,
    case::Case,
    cpu::{Cpu, CpuCtx, CpuShapes, TensorMeta},
    gpu::{GpuCandidate, GpuKernel},
    infer::{Facts, InferCtx, InferError, InferRule},
    operand::{self, Operand, Role, Types},
};
use engine_format::{Attr, Attrs, DType, Tensor};
use std::{fmt, sync::Arc};

/// Counts the multiplications of a call, by its attributes and the types of its operands.
pub type Multiplications = fn(&Attrs, &[Option<TensorMeta>]) -> Option<u64>;

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
    /// For types of the first operand and of the one result: whether the result has the operand's bytes, so that nothing is moved.
    /// Of [`Kind::View`] it always has.
    pub stays: fn(&Attrs, &TensorMeta, &TensorMeta) -> bool,
    /// Whether each element of a result is a function of the operands' elements at its position, with broadcasting.
    pub elementwise: bool,
    /// Types, symbolic shapes and small values of the results; asked through [`OpDef::results`].
    pub infer: InferRule,
    /// Whether it calculates with the compact element types too (it converts them). What only moves data always takes them.
    pub compact: bool,
    /// The operator as a function of one `f32`, where it is one: how it runs as a stage of a chain ([`crate::chain`]).
    pub function: Option<Function>,
    /// The row that does the same and then the stages of a chain ([`crate::chain`]), which stand behind all operands of this one.
    pub fused: Option<&'static OpDef>,
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
    /// Kernels that are asked before it.
    pub gpu_candidates: &'static [GpuCandidate],
    /// How many multiplications a call takes, by the types of its operands; none where memory decides how long it takes, not arithmetic.
    pub multiplications: Multiplications,
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
        stays: |_, _, _| false,
        elementwise: false,
        infer: |_| Ok(Vec::new()),
        compact: false,
        function: None,
        fused: None,
        random: false,
        text: Text::No,
        blocked: None,
        cpu: Cpu::None,
        gpu: None,
        gpu_candidates: &[],
        multiplications: |_, _| None,
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

    /// The operand that comes in halves beside operands of `f32`, if one does.
    pub(crate) fn halves(&self, inputs: &[Option<TensorMeta>]) -> Option<usize> {
        let beside = inputs.first()?.as_ref()?.dtype;
        let comes = |(i, input): (usize, &Option<TensorMeta>)| {
            let found = input.as_ref()?.dtype;
            self.operand(i)?.takes_halves(found, beside).then_some(i)
        };
        inputs.iter().enumerate().find_map(comes)
    }

    /// Whether the GPU kernels read operand `i`, of this type, where it lies as halves too ([`GpuCtx::halves`](crate::gpu::GpuCtx::halves)).
    pub fn reads_halves(&self, i: usize, dtype: DType) -> bool {
        let halves = matches!(dtype, DType::F16 | DType::BF16);
        halves && self.operand(i).is_some_and(|operand| operand.halves)
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

/// How a step over blocks takes an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// As it is, row-major.
    Rows,
    /// Its channels in blocks.
    Blocks,
    /// Its channels in blocks if they lie so, else row-major.
    Either,
    /// As it broadcasts to an image: one of one channel lies the same way in both layouts, another has its channels in blocks.
    Broadcast,
}

/// A step that gives its first result in blocks, in the place of another.
#[derive(Clone, Debug)]
pub struct Blocked {
    /// The operator.
    pub def: &'static OpDef,
    /// Its attributes.
    pub attrs: Arc<Attrs>,
    /// How it takes its operands.
    pub takes: Vec<Takes>,
    /// Whether it is worth reordering operands for. Other steps follow what they are given.
    pub leads: bool,
}

/// How a row says what does the same over blocks, given its attributes and the shapes of images.
pub type BlockedRule = fn(&Arc<Attrs>, &CpuShapes<'_>) -> Option<Blocked>;

/// What an operator does with strings.
#[derive(Clone, Copy)]
pub enum Text {
    /// It neither takes nor gives them.
    No,
    /// All that it does is to move elements and to compare them. Its ordinary kernel runs, over numbers in the place of the
    /// strings: the rank of each among the strings of the call, the empty one being 0. Equal strings have equal numbers,
    /// greater ones greater numbers, and a result of such numbers is turned back.
    Ranks,
    /// It takes or gives strings in this kernel, which makes its results itself. Where a call has nothing to do with strings,
    /// its ordinary one runs.
    Kernel(fn(&CpuCtx<'_>) -> Result<Vec<Tensor>, OpError>),
}
