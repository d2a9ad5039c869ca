//! Chains of elementwise stages: what fused operators do to elements while they are at hand.
//!
//! A fused node names its stages in the attribute `stages`; each changes the element `x` that the stage before left. A
//! *function* is an operator of one float ([`Function`]); its float attributes stand in `scalars`, those of all stages in
//! order. A *pair* takes one more operand, which broadcasts to the result; the operands of all pairs follow
//! those of the operator itself. The same stages run on the CPU over blocks in the first cache (`cpu`) and as generated
//! WGSL (`wgsl`).

mod cpu;
mod wgsl;

pub(crate) use cpu::Chain;
pub(crate) use wgsl::Finish;

use crate::AttrsExt;
use crate::infer::{Facts, InferCtx, InferError};
use crate::ops::elementwise::{self, activation};
use crate::{AttrDef, AttrKind, Default, Function, OpDef, OpError, Operand};
use engine_format::{Attr, Attrs, DType};

/// A stage with an operand `b`.
struct Pair {
    name: &'static str,
    /// Changes the elements; the operand has as many, or one.
    block: fn(&mut [f32], &[f32]),
    /// The WGSL expression of `x` and `b`.
    wgsl: &'static str,
}

/// The stage that puts its operand in the place of `x`, except where the operand is NaN.
pub const REPLACE: &str = "Replace";

/// The stages with an operand. Those whose operands do not commute say which one `x` is.
static PAIRS: &[Pair] = &[
    Pair { name: "Add", block: cpu::add, wgsl: "x + b" },
    Pair { name: "Sub", block: cpu::sub, wgsl: "x - b" },
    Pair { name: "SubFrom", block: cpu::sub_from, wgsl: "b - x" },
    Pair { name: "Mul", block: cpu::mul, wgsl: "x * b" },
    Pair { name: "Div", block: cpu::div, wgsl: "x / b" },
    Pair { name: "DivInto", block: cpu::div_into, wgsl: "b / x" },
    Pair { name: "PRelu", block: cpu::prelu, wgsl: "select(x, b * x, x < 0.0)" },
    // The bounds of Clip: NaN stays.
    Pair { name: "AtLeast", block: cpu::at_least, wgsl: "select(x, b, x < b && !is_nan(x))" },
    Pair { name: "AtMost", block: cpu::at_most, wgsl: "select(x, b, x > b && !is_nan(x))" },
    // What a mask puts in the place of elements; its NaN leaves them as they are.
    Pair { name: REPLACE, block: cpu::replace, wgsl: "select(b, x, is_nan(b))" },
];

/// Most stages of a chain.
pub const MOST_STAGES: usize = 12;

/// Most operands of the stages of a chain: with the four buffers of a convolution they are the eight that the WebGPU
/// baseline binds.
pub const MOST_OPERANDS: usize = 4;

/// Names of the stages.
pub(crate) const STAGES: AttrDef =
    AttrDef { name: "stages", kind: AttrKind::Strs, default: Default::Required };
/// Float attributes of the stages that are functions.
pub(crate) const SCALARS: AttrDef =
    AttrDef { name: "scalars", kind: AttrKind::Floats, default: Default::Absent };
/// The operands of pairs, in order.
pub(crate) const OPERANDS: Operand = Operand::opt_data("operands").of(&[DType::F32]);

/// One stage, as its node states it.
enum Stage {
    /// The function's name too, and its parameters.
    Function(&'static str, Function, [f32; 3]),
    /// The pair and the position of its operand among those of pairs.
    Pair(&'static Pair, usize),
}

/// The stages of a chain, in order; none after the last.
type Stages = [Option<Stage>; MOST_STAGES];

/// The stages that `attrs` state; none for an operator that is not fused.
fn stages(attrs: &Attrs) -> Result<Stages, OpError> {
    let mut stages = [const { None }; MOST_STAGES];
    let Some(Attr::Strs(names)) = attrs.get("stages") else { return Ok(stages) };
    if names.len() > MOST_STAGES {
        let (found, most) = (names.len(), MOST_STAGES);
        return Err(OpError::new(format!("{found} stages, a chain has at most {most}")));
    }
    let mut scalars = attrs.floats("scalars").unwrap_or_default();
    let mut operands = 0;
    for (name, slot) in names.iter().zip(&mut stages) {
        if let Some(pair) = PAIRS.iter().find(|pair| pair.name == name) {
            *slot = Some(Stage::Pair(pair, operands));
            operands += 1;
            continue;
        }
        let (name, function, count) = function(name).ok_or_else(|| {
            OpError::new(format!("stage {name:?}, expected a function of one float or a pair"))
        })?;
        let (own, rest) = scalars.split_at_checked(count).ok_or_else(|| {
            let found = scalars.len();
            OpError::new(format!("stage {name:?} takes {count} scalars, {found} are left"))
        })?;
        let mut parameters = [0.0; 3];
        parameters[..count].copy_from_slice(own);
        *slot = Some(Stage::Function(name, function, parameters));
        scalars = rest;
    }
    match scalars {
        [] if operands <= MOST_OPERANDS => Ok(stages),
        [] => Err(OpError::new(format!("{operands} operands of stages, at most {MOST_OPERANDS}"))),
        left => Err(OpError::new(format!("scalars {left:?} belong to no stage"))),
    }
}

/// The second form of Gelu, which its string attribute tells from the first.
const GELU_BY_TANH: &str = "GeluByTanh";

/// The function of this name, the name, and how many parameters it has.
fn function(name: &str) -> Option<(&'static str, Function, usize)> {
    if name == GELU_BY_TANH {
        return Some((GELU_BY_TANH, activation::GELU_BY_TANH, 0));
    }
    let def = elementwise::ROWS.iter().find(|def| def.name == name)?;
    let floats = def.attrs.iter().filter(|attr| attr.kind == AttrKind::Float).count();
    Some((def.name, def.function?, floats))
}

/// The rule of a fused operator: `results` are those of the operator itself, whose own operands are the first `own`.
pub(crate) fn infer(
    ctx: &InferCtx<'_>,
    own: usize,
    results: Vec<Facts>,
) -> Result<Vec<Facts>, InferError> {
    let stages = stages(ctx.attrs)?;
    let expected = stages.iter().flatten().filter(|stage| matches!(stage, Stage::Pair(..))).count();
    let found = ctx.inputs.len().saturating_sub(own);
    if found != expected || (own..ctx.inputs.len()).any(|i| ctx.opt(i).is_none()) {
        return Err(InferError::invalid(format!(
            "{found} operands for stages, {expected} are taken"
        )));
    }
    // An operator's own operands are of the result's type, or in halves where it takes those.
    let given = ctx.inputs[own.min(ctx.inputs.len())..].iter().flatten();
    if let Some(facts) = given.chain(results.first()).find(|facts| facts.dtype != DType::F32) {
        return Err(InferError::invalid(format!("an operand of {}, fused are f32", facts.dtype)));
    }
    for i in own..ctx.inputs.len() {
        if let (Some(shape), Some(result)) = (&ctx.facts(i)?.shape, &results[0].shape)
            && !may_broadcast(shape, result)
        {
            let message = format!("operand {i} {shape:?} does not broadcast to {result:?}");
            return Err(InferError::invalid(message));
        }
    }
    Ok(results)
}

/// Whether no size known so far keeps `shape` from being stretched to `result`.
fn may_broadcast(shape: &[engine_format::Dim], result: &[engine_format::Dim]) -> bool {
    let fits = |(a, b): (&engine_format::Dim, &engine_format::Dim)| match (a.known(), b.known()) {
        (Some(1), _) | (None, _) | (_, None) => true,
        (a, b) => a == b,
    };
    shape.len() <= result.len() && shape.iter().rev().zip(result.iter().rev()).all(fits)
}

/// A node as a stage: what a pass that fuses writes down.
#[derive(Clone, Debug, PartialEq)]
pub struct AsStage {
    /// Name of the stage.
    pub name: &'static str,
    /// Its parameters.
    pub scalars: Vec<f32>,
    /// Position of its operand in the node.
    pub operand: Option<usize>,
}

/// The stages that do what a node of `def` does to its operand number `x`; `given` says which operands it has. `None` if
/// the operator is not elementwise in that operand, or has no stage.
pub fn as_stages(
    def: &'static OpDef,
    attrs: &Attrs,
    given: &[bool],
    x: usize,
) -> Option<Vec<AsStage>> {
    let pair = |name, operand| AsStage { name, scalars: Vec::new(), operand: Some(operand) };
    let has = |i: usize| given.get(i).is_some_and(|&given| given);
    let stage = match (def.name, x) {
        ("Add", _) => pair("Add", 1 - x),
        ("Mul", _) => pair("Mul", 1 - x),
        ("Sub", 0) => pair("Sub", 1),
        ("Sub", _) => pair("SubFrom", 0),
        ("Div", 0) => pair("Div", 1),
        ("Div", _) => pair("DivInto", 0),
        ("PRelu", 0) => pair("PRelu", 1),
        ("Clip", 0) => {
            let bounds = [("AtLeast", 1), ("AtMost", 2)].into_iter().filter(|&(_, i)| has(i));
            return Some(bounds.map(|(name, i)| pair(name, i)).collect());
        }
        ("Gelu", 0) if attrs.str("approximate") == "tanh" => {
            AsStage { name: GELU_BY_TANH, scalars: Vec::new(), operand: None }
        }
        (name, 0) => {
            def.function?;
            let floats = def.attrs.iter().filter(|attr| attr.kind == AttrKind::Float);
            let scalars = floats.map(|attr| attrs.float(attr.name)).collect();
            AsStage { name, scalars, operand: None }
        }
        _ => return None,
    };
    Some(vec![stage])
}
