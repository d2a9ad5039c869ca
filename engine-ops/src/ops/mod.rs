//! The list. Adding an operator is its `.rs`, its `.wgsl` and two lines here: the `mod` and the row.

use crate::OpDef;

mod concat;
mod control;
mod expand;
mod gather;
mod gemm;
mod matmul;
mod pad;
mod resize;
mod shape;
mod slice;
mod split;
mod transpose;
mod unary;
mod view;

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
    // The same bytes under another shape.
    &view::RESHAPE,
    &view::SQUEEZE,
    &view::UNSQUEEZE,
    &view::FLATTEN,
    &view::IDENTITY,
    // Shape arithmetic.
    &shape::SHAPE,
    &shape::SIZE,
    // Data movement.
    &transpose::TRANSPOSE,
    &expand::EXPAND,
    &expand::TILE,
    &concat::CONCAT,
    &split::SPLIT,
    &slice::SLICE,
    &gather::GATHER,
    &pad::PAD,
    &resize::RESIZE,
    // Control.
    &control::IF,
    // Products.
    &matmul::MATMUL,
    &gemm::GEMM,
];
