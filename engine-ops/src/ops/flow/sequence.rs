//! Sequences and optional values. They exist only while a program is planned: the planner keeps lists of tensors, and what
//! is left of these operators at run time are splits and joins of tensors.

use super::control::PLANNED;
use crate::operand::{INTEGERS, ONE};
use crate::{AttrDef, AttrKind, Default, OnnxName, OpDef, Operand};

/// An operand of which only the structure is asked: how many elements, whether there is one.
const fn structure(name: &'static str, optional: bool) -> Operand {
    Operand { optional, ..Operand::typed(name) }
}

/// What all rows share.
const ROW: OpDef = OpDef { variadic_output: false, ..PLANNED };

/// SequenceConstruct.
pub static SEQUENCE_CONSTRUCT: OpDef = OpDef {
    name: "SequenceConstruct",
    doc: "The sequence of the operands, which have one element type.",
    onnx: &[OnnxName::since("SequenceConstruct", 11)],
    inputs: &[Operand::data("inputs")],
    variadic_input: true,
    outputs: &["output_sequence"],
    ..ROW
};

/// SequenceEmpty.
pub static SEQUENCE_EMPTY: OpDef = OpDef {
    name: "SequenceEmpty",
    doc: "A sequence without elements, of the element type that ONNX gives the number `dtype`.",
    onnx: &[OnnxName::since("SequenceEmpty", 11)],
    attrs: &[AttrDef::int("dtype", 1)],
    outputs: &["output"],
    ..ROW
};

/// SequenceInsert.
pub static SEQUENCE_INSERT: OpDef = OpDef {
    name: "SequenceInsert",
    doc: "The sequence with `tensor` before the element at `position` (-n..=n), at the end without it.",
    onnx: &[OnnxName::since("SequenceInsert", 11)],
    inputs: &[
        Operand::data("input_sequence"),
        Operand::data("tensor"),
        Operand::opt_shape("position").of(INTEGERS).shaped(ONE),
    ],
    outputs: &["output_sequence"],
    ..ROW
};

/// SequenceErase.
pub static SEQUENCE_ERASE: OpDef = OpDef {
    name: "SequenceErase",
    doc: "The sequence without the element at `position` (-n..n), without the last one if it is not given.",
    onnx: &[OnnxName::since("SequenceErase", 11)],
    inputs: &[
        Operand::data("input_sequence"),
        Operand::opt_shape("position").of(INTEGERS).shaped(ONE),
    ],
    outputs: &["output_sequence"],
    ..ROW
};

/// SequenceAt.
pub static SEQUENCE_AT: OpDef = OpDef {
    name: "SequenceAt",
    doc: "The element at `position` (-n..n).",
    onnx: &[OnnxName::since("SequenceAt", 11)],
    inputs: &[Operand::data("input_sequence"), Operand::shape("position").of(INTEGERS).shaped(ONE)],
    outputs: &["tensor"],
    ..ROW
};

/// SequenceLength.
pub static SEQUENCE_LENGTH: OpDef = OpDef {
    name: "SequenceLength",
    doc: "The number of elements, a scalar i64.",
    onnx: &[OnnxName::since("SequenceLength", 11)],
    inputs: &[structure("input_sequence", false)],
    outputs: &["length"],
    ..ROW
};

/// ConcatFromSequence.
pub static CONCAT_FROM_SEQUENCE: OpDef = OpDef {
    name: "ConcatFromSequence",
    doc: "The elements one after the other along `axis`; along a new axis there if `new_axis` is 1.",
    onnx: &[OnnxName::since("ConcatFromSequence", 11)],
    attrs: &[AttrDef::required("axis", AttrKind::Int), AttrDef::int("new_axis", 0)],
    inputs: &[Operand::data("input_sequence")],
    outputs: &["concat_result"],
    ..ROW
};

/// SplitToSequence.
pub static SPLIT_TO_SEQUENCE: OpDef = OpDef {
    name: "SplitToSequence",
    doc: "The pieces of `input` along `axis`: of the sizes `split` if it is a vector, of size `split` (the last one smaller where \
          it does not divide) if it is a scalar, of size 1 without it, and then without the axis if `keepdims` is 0.",
    onnx: &[OnnxName::since("SplitToSequence", 11)],
    attrs: &[AttrDef::int("axis", 0), AttrDef::int("keepdims", 1)],
    inputs: &[Operand::data("input"), Operand::opt_shape("split").of(INTEGERS)],
    outputs: &["output_sequence"],
    ..ROW
};

/// Optional.
pub static OPTIONAL: OpDef = OpDef {
    name: "Optional",
    doc: "The operand as a value that may be absent; without an operand the absent value, a tensor of the element type that ONNX \
          gives the number `dtype`, or a sequence of such if `sequence` is 1.",
    attrs: &[
        AttrDef { name: "dtype", kind: AttrKind::Int, default: Default::Absent },
        AttrDef::int("sequence", 0),
    ],
    inputs: &[Operand::opt_data("input")],
    outputs: &["output"],
    ..ROW
};

/// OptionalHasElement.
pub static OPTIONAL_HAS_ELEMENT: OpDef = OpDef {
    name: "OptionalHasElement",
    doc: "Whether the operand is there and not absent, a scalar bool.",
    onnx: &[OnnxName::since("OptionalHasElement", 15)],
    inputs: &[structure("input", true)],
    outputs: &["output"],
    ..ROW
};

/// OptionalGetElement.
pub static OPTIONAL_GET_ELEMENT: OpDef = OpDef {
    name: "OptionalGetElement",
    doc: "The operand, which must not be absent.",
    onnx: &[OnnxName::since("OptionalGetElement", 15)],
    inputs: &[Operand::data("input")],
    outputs: &["output"],
    ..ROW
};
