//! Recurrent layers in ONNX's form: LSTM, GRU, RNN. They differ in how a step makes the new state from its gates; directions,
//! layouts, lengths and initial states are the same for all.

mod activation;
mod cases;
mod cpu;
mod gpu;
mod layer;

use crate::AttrsExt;
use crate::cpu::Cpu;
use crate::infer::{Facts, InferCtx, InferError};
use crate::{AttrDef, AttrKind, Default, OnnxName, OpDef, Operand, Tolerance};
use activation::Activation;
use engine_format::{DType, Dim};
use layer::{B, Cell, INITIAL_C, INITIAL_H, LENS, P, R, W, X, directions};

/// LSTM.
pub static LSTM: OpDef = OpDef {
    name: "LSTM",
    doc: "Long short-term memory over a sequence: with gates i, o, f, c (their order in W, R, B), `C = f(F)·C + f(I)·g(C~)` and \
          `H = f(O)·h(C)`; peepholes P let the cell act on i, f and o.",
    onnx: &[OnnxName::since("LSTM", 7)],
    attrs: &[
        ALPHA,
        BETA,
        ACTIVATIONS,
        CLIP,
        DIRECTION,
        HIDDEN_SIZE,
        AttrDef::int("input_forget", 0),
        LAYOUT,
    ],
    inputs: &[
        Operand::data("X").of(&[DType::F32, DType::F64]).shaped("_ _ _"),
        Operand::data("W").like(0).shaped("D G _").learned(),
        Operand::data("R").like(0).shaped("D G H").learned(),
        Operand::opt_data("B").like(0).shaped("D _").learned(),
        LENGTHS,
        Operand::opt_data("initial_h").like(0).shaped("_ _ H"),
        Operand::opt_data("initial_c").like(0).shaped("_ _ H"),
        Operand::opt_data("P").like(0).shaped("D _").learned(),
    ],
    outputs: &["Y", "Y_h", "Y_c"],
    infer: |ctx| infer(ctx, Cell::Lstm),
    cpu: Cpu::Planned(|shapes| cpu::step(shapes, Cell::Lstm)),
    gpu: Some(|ctx| gpu::program(ctx, Cell::Lstm)),
    tolerance: Tolerance::SUMS,
    cases: cases::lstm,
    ..OpDef::BASE
};

/// GRU.
pub static GRU: OpDef = OpDef {
    name: "GRU",
    doc: "Gated recurrent unit over a sequence: with gates z, r, h (their order in W, R, B), `H = (1 - f(Z))·g(H~) + f(Z)·H`, where \
          f(R) scales the state before its product with R_h or, with `linear_before_reset`, that product.",
    onnx: &[OnnxName::since("GRU", 7)],
    attrs: &[
        ALPHA,
        BETA,
        ACTIVATIONS,
        CLIP,
        DIRECTION,
        HIDDEN_SIZE,
        LAYOUT,
        AttrDef::int("linear_before_reset", 0),
    ],
    inputs: &SIMPLE,
    outputs: &["Y", "Y_h"],
    infer: |ctx| infer(ctx, Cell::Gru),
    cpu: Cpu::Planned(|shapes| cpu::step(shapes, Cell::Gru)),
    gpu: Some(|ctx| gpu::program(ctx, Cell::Gru)),
    tolerance: Tolerance::SUMS,
    cases: cases::gru,
    ..OpDef::BASE
};

/// RNN.
pub static RNN: OpDef = OpDef {
    name: "RNN",
    doc: "Plain recurrence over a sequence: `H = f(X·W' + H·R' + B)`.",
    onnx: &[OnnxName::since("RNN", 7)],
    attrs: &[ALPHA, BETA, ACTIVATIONS, CLIP, DIRECTION, HIDDEN_SIZE, LAYOUT],
    inputs: &SIMPLE,
    outputs: &["Y", "Y_h"],
    infer: |ctx| infer(ctx, Cell::Rnn),
    cpu: Cpu::Planned(|shapes| cpu::step(shapes, Cell::Rnn)),
    gpu: Some(|ctx| gpu::program(ctx, Cell::Rnn)),
    tolerance: Tolerance::SUMS,
    cases: cases::rnn,
    ..OpDef::BASE
};

const ALPHA: AttrDef =
    AttrDef { name: "activation_alpha", kind: AttrKind::Floats, default: Default::Absent };
const BETA: AttrDef =
    AttrDef { name: "activation_beta", kind: AttrKind::Floats, default: Default::Absent };
const ACTIVATIONS: AttrDef =
    AttrDef { name: "activations", kind: AttrKind::Strs, default: Default::Absent };
const CLIP: AttrDef = AttrDef { name: "clip", kind: AttrKind::Float, default: Default::Absent };
const DIRECTION: AttrDef = AttrDef::str("direction", "forward");
const HIDDEN_SIZE: AttrDef =
    AttrDef { name: "hidden_size", kind: AttrKind::Int, default: Default::Absent };
const LAYOUT: AttrDef = AttrDef::int("layout", 0);
/// Lengths say which elements are read, not how many results there are.
const LENGTHS: Operand = Operand::index("sequence_lens").or_none().of(&[DType::I32]).shaped("_");
const SIMPLE: [Operand; 6] = [
    Operand::data("X").of(&[DType::F32, DType::F64]).shaped("_ _ _"),
    Operand::data("W").like(0).shaped("D G _").learned(),
    Operand::data("R").like(0).shaped("D G H").learned(),
    Operand::opt_data("B").like(0).shaped("D _").learned(),
    LENGTHS,
    Operand::opt_data("initial_h").like(0).shaped("_ _ H"),
];

fn infer(ctx: &InferCtx<'_>, cell: Cell) -> Result<Vec<Facts>, InferError> {
    let own = ctx.dtype(X)?;
    let ([first, second, _], [dirs, rows, hidden]) = (ctx.shape(X)?, ctx.shape(R)?) else {
        return Err(InferError::invalid(format!(
            "X has shape {:?} and R {:?}, expected rank 3",
            ctx.shape(X)?,
            ctx.shape(R)?
        )));
    };
    let count = directions(ctx.attrs)?.len();
    Activation::all(ctx.attrs, cell.activations(), count)?;
    let gates = hidden * &Dim::from(cell.gates());
    let stated = ctx.attrs.opt_int("hidden_size").map(Dim::from);
    let differs = |a: &Dim, b: &Dim| matches!((a.known(), b.known()), (Some(a), Some(b)) if a != b);
    if differs(dirs, &Dim::from(count))
        || differs(rows, &gates)
        || stated.is_some_and(|s| differs(&s, hidden))
    {
        return Err(InferError::invalid(format!(
            "R has shape {:?}, expected [{count}, {}·hidden_size, hidden_size]",
            ctx.shape(R)?,
            cell.gates()
        )));
    }
    check_shapes(ctx, cell, [first, second])?;
    let dirs = Dim::from(count);
    let (whole, last) = if ctx.attrs.int("layout") == 0 {
        ([first, &dirs, second, hidden].map(Dim::clone), [&dirs, second, hidden].map(Dim::clone))
    } else {
        ([first, second, &dirs, hidden].map(Dim::clone), [first, &dirs, hidden].map(Dim::clone))
    };
    let last = Facts::new(own, last.to_vec());
    let mut out = vec![Facts::new(own, whole.to_vec()), last.clone(), last];
    out.truncate(ctx.outputs);
    Ok(out)
}

/// Whether the operands beside X and R have the shapes that those two imply.
fn check_shapes(
    ctx: &InferCtx<'_>,
    cell: Cell,
    [first, second]: [&Dim; 2],
) -> Result<(), InferError> {
    let (x, r) = (ctx.shape(X)?, ctx.shape(R)?);
    let (dirs, hidden, input) = (r[0].clone(), r[2].clone(), x[2].clone());
    let per_gate = |n: usize| &hidden * &Dim::from(n);
    let batch_first = ctx.attrs.int("layout") != 0;
    let batch = if batch_first { first } else { second }.clone();
    let state = match batch_first {
        true => vec![batch.clone(), dirs.clone(), hidden.clone()],
        false => vec![dirs.clone(), batch.clone(), hidden.clone()],
    };
    let expected = [
        (W, vec![dirs.clone(), per_gate(cell.gates()), input]),
        (B, vec![dirs.clone(), per_gate(2 * cell.gates())]),
        (LENS, vec![batch]),
        (INITIAL_H, state.clone()),
        (INITIAL_C, state),
        (P, vec![dirs, per_gate(3)]),
    ];
    for (i, expected) in expected {
        let Some(shape) = ctx.opt(i).and_then(|facts| facts.shape.as_ref()) else { continue };
        let differs =
            |(a, b): (&Dim, &Dim)| matches!((a.known(), b.known()), (Some(a), Some(b)) if a != b);
        if shape.len() != expected.len() || shape.iter().zip(&expected).any(differs) {
            let name = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"][i];
            return Err(InferError::invalid(format!(
                "operand {name} has shape {shape:?}, expected {expected:?}"
            )));
        }
    }
    Ok(())
}
