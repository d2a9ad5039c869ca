//! How operators run on a GPU: a kernel is data ([`GpuProgram`]), and this is the WGSL that several rows share.

/// One more line of WGSL in a text that grows. Writing to a text cannot fail.
macro_rules! line {
    ($text:expr, $($format:tt)*) => {{
        use std::fmt::Write as _;
        let _ = writeln!($text, $($format)*);
    }};
}

pub(crate) mod elementwise;
mod fetch;
pub(crate) mod fill;
pub(crate) mod halves;
pub(crate) mod product;
mod program;
pub(crate) mod small_float;
pub(crate) mod thin;
pub(crate) mod units;

pub use program::*;
