//! The operator table.
//!
//! Each operator (or family that differs in one expression) is one file under `ops/`: definition, shape
//! rule, CPU kernel, cases, with its WGSL beside it. [`TABLE`] lists them; import, planning, both devices,
//! documentation and conformance read that one list.
//!
//! This crate knows no GPU library and does no I/O: a GPU kernel is data ([`gpu::GpuProgram`]), and images are decoded from bytes
//! that are given (feature `images`, on by default).

mod approx;
mod broadcast;
pub mod case;
pub mod chain;
pub mod control;
mod convert;
pub mod cpu;
pub mod def;
pub mod demand;
pub mod dependence;
pub mod equation;
mod eval;
mod fill;
mod float;
pub mod form;
pub mod gpu;
pub mod hostile;
pub mod infer;
#[cfg(feature = "images")]
mod jpeg;
pub mod kernels;
pub mod layout;
mod mapped;
pub mod memory;
mod mersenne;
mod operand;
mod ops;
pub mod parallel;
mod reduction;
mod small_float;
mod strided;
pub mod text;
mod tolerance;
mod wide;

pub use def::{AttrDef, AttrKind, Default, Kind, OnnxName, OpDef, OpError};
pub use eval::eval;
pub use operand::{Operand, Role, Types};
pub use ops::{TABLE, onnx_dtype};
pub use text::Text;
pub use tolerance::{Agreement, Mismatch, Tolerance, compare};

/// The operator of this name and version.
pub fn lookup(name: &str, version: u16) -> Option<&'static OpDef> {
    TABLE.iter().copied().find(|def| def.name == name && def.version == version)
}

/// The operator that an ONNX node imports as one to one: same operands, attributes, results.
pub fn lookup_onnx(domain: &str, name: &str, opset: i64) -> Option<&'static OpDef> {
    let matches =
        |o: &OnnxName| o.domain == domain && o.name == name && (o.since..=o.until).contains(&opset);
    TABLE.iter().copied().find(|def| def.onnx.iter().any(matches))
}

/// The README's examples are compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
