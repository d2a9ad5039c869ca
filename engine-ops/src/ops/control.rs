//! Control flow: operators that run nested blocks. The planner does the work; the rows say what the operands decide.

use crate::infer::InferError;
use crate::{AttrDef, AttrKind, Kind, OnnxName, OpDef, Operand};

/// If.
pub static IF: OpDef = OpDef {
    name: "If",
    doc: "The results of `then_branch` where `cond` is true, of `else_branch` otherwise; only that branch runs.",
    onnx: &[OnnxName::since("If", 1)],
    attrs: &[
        AttrDef::required("then_branch", AttrKind::Block),
        AttrDef::required("else_branch", AttrKind::Block),
    ],
    inputs: &[Operand::shape("cond")],
    outputs: &["outputs"],
    variadic_output: true,
    kind: Kind::Control,
    // The facts are those of the branches' results, which are not operands: who walks the blocks joins them.
    infer: |_| Err(InferError::DataDependent),
    ..OpDef::BASE
};
