//! Control flow: operators that run nested blocks. The planner does the work; the rows say what the operands decide, and
//! [`crate::control`] which value of a block stands for which operand and result.

use crate::infer::InferError;
use crate::{AttrDef, AttrKind, Kind, OnnxName, OpDef, Operand};
use engine_format::DType;

/// If.
pub static IF: OpDef = OpDef {
    name: "If",
    doc: "The results of `then_branch` where `cond` is true, of `else_branch` otherwise; only that branch runs.",
    onnx: &[OnnxName::since("If", 1)],
    attrs: &[
        AttrDef::required("then_branch", AttrKind::Block),
        AttrDef::required("else_branch", AttrKind::Block),
    ],
    inputs: &[Operand::shape("cond").of(&[DType::Bool])],
    ..PLANNED
};

/// Loop.
pub static LOOP: OpDef = OpDef {
    name: "Loop",
    doc: "Runs `body` over (iteration number, condition, carried values) at most `M` times and as long as `cond` and what the \
          body gives first are true. Results are the carried values at the end, then the body's further results of all \
          iterations, stacked along a new first axis. `empty_types` says what is stacked where there is no iteration: \
          for each such result ONNX's number of its element type, its rank, its sizes (0 where not known).",
    onnx: &[OnnxName::since("Loop", 1)],
    attrs: &[AttrDef::required("body", AttrKind::Block), AttrDef::opt_ints("empty_types")],
    inputs: &[
        Operand::opt_shape("M"),
        Operand::opt_shape("cond").of(&[DType::Bool]),
        Operand::opt_data("v_initial"),
    ],
    variadic_input: true,
    ..PLANNED
};

/// Scan.
pub static SCAN: OpDef = OpDef {
    name: "Scan",
    doc: "Runs `body` over (carried values, one slice of each of the last `num_scan_inputs` operands) for every slice along \
          `scan_input_axes`, backward where `scan_input_directions` is 1. Results are the carried values at the end, then the \
          body's further results, stacked along new axes `scan_output_axes`, in reverse where `scan_output_directions` is 1. \
          `empty_types` is that of Loop.",
    onnx: &[OnnxName::since("Scan", 9)],
    attrs: &[
        AttrDef::required("body", AttrKind::Block),
        AttrDef::required("num_scan_inputs", AttrKind::Int),
        AttrDef::opt_ints("scan_input_axes"),
        AttrDef::opt_ints("scan_input_directions"),
        AttrDef::opt_ints("scan_output_axes"),
        AttrDef::opt_ints("scan_output_directions"),
        AttrDef::opt_ints("empty_types"),
    ],
    inputs: &[Operand::opt_data("initial_state_and_scan_inputs")],
    variadic_input: true,
    ..PLANNED
};

/// Refuse.
pub static REFUSE: OpDef = OpDef {
    name: "Refuse",
    doc: "Stands in a branch for nodes that do not take the types and shapes that there are: whoever takes the branch gets the error \
          `why`. Its results would have the element types `types` (ONNX's numbers). Written on import, never imported.",
    attrs: &[AttrDef::required("why", AttrKind::Str), AttrDef::required("types", AttrKind::Ints)],
    ..PLANNED
};

/// What all rows share that the planner handles.
pub(in crate::ops) const PLANNED: OpDef = OpDef {
    outputs: &["outputs"],
    variadic_output: true,
    kind: Kind::Control,
    // Facts come from blocks and from the structure of values, which are no operands of a rule: who walks blocks knows them.
    infer: |_| Err(InferError::DataDependent),
    ..OpDef::BASE
};
