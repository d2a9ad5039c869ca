//! The operator table.
//!
//! Each operator (or family that differs in one expression) is one file below `ops/`: definition, shape
//! rule, CPU kernel, cases, with its WGSL beside it. [`TABLE`] lists them; import, planning, both devices,
//! documentation and conformance read that one list.
//!
//! | room | what is there |
//! |---|---|
//! | `ops` | the rows, by family |
//! | `table` | what a row says, and what is asked of the table: inference, demand, evaluation |
//! | `chain` | elementwise stages that fused rows carry |
//! | `cpu` | what CPU kernels see, threads, forms, shared kernels |
//! | `gpu` | what a GPU kernel is, shared WGSL |
//! | `indexing` | which elements meet which, on both devices |
//!
//! This crate knows no GPU library and does no I/O: a GPU kernel is data ([`gpu::GpuProgram`]), and images are decoded from bytes
//! that are given (feature `images`, on by default).

pub mod chain;
pub mod cpu;
mod error;
pub mod gpu;
mod indexing;
mod ops;
mod table;

pub(crate) use cpu::{approx, convert, float, reduction, small_float, wide, widened};
pub use cpu::{form, kernels, memory, parallel};
pub use error::OpError;
pub(crate) use gpu::fill;
pub use indexing::equation;
pub(crate) use indexing::{broadcast, mapped, strided};
pub use ops::op_name::OpName;
pub use ops::{TABLE, lookup, lookup_onnx};
pub use table::attrs::{AttrDef, AttrKind, AttrsExt, Default};
pub use table::def::{Blocked, BlockedRule, Kind, OnnxName, OpDef, Takes, Text};
pub use table::dtypes::onnx_dtype;
pub use table::eval::eval;
pub use table::function::Function;
pub use table::operand::{Operand, Role, Types};
pub use table::tolerance::{Agreement, Mismatch, Tolerance, compare, coordinates, to_f64s};
pub use table::{case, control, demand, dependence, hostile, infer, layout};
pub(crate) use table::{dtypes, operand, text};

/// The README's examples are compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
