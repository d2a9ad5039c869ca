//! The list. Adding an operator is its `.rs`, its `.wgsl` and two lines here: the `mod` and the row.

use crate::OpDef;

mod unary;

/// Every operator, by family.
pub static TABLE: &[&OpDef] = &[
    // One operand, elementwise.
    &unary::RELU,
    &unary::SIGMOID,
    &unary::TANH,
    &unary::EXP,
    &unary::SQRT,
    &unary::RECIPROCAL,
    &unary::ERF,
];
