//! Vectors of `f32` and the choice of instruction set.
//!
//! Kernels are written once over [`Simd`] and instantiated per instruction set inside functions that carry the
//! `target_feature`; [`Kernels`] is the table of those instances, chosen once for this machine.

use crate::kernels::gemm::tile::{Dots, Panel, Turn};
use crate::kernels::nchwc::tile::{Lanes, Tile};
use std::sync::LazyLock;

#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

/// A vector register of `f32` lanes.
///
/// # Safety
/// All methods must be called only where the CPU has the instruction set of the implementor, from a function that enables
/// it, so that they are inlined into it. Pointers must be valid for the lanes that a method names.
pub(crate) trait Simd: 'static {
    /// The register.
    type V: Copy;
    /// Lanes of a register.
    const LANES: usize;
    /// Rows of the largest tile of a matrix product.
    const ROWS: usize;
    /// Registers in a row of a tile.
    const WIDTH: usize;
    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// `LANES` values from memory, of any alignment.
    unsafe fn load(from: *const f32) -> Self::V;
    /// The first `n < LANES` values from memory, zeros in the other lanes.
    unsafe fn load_first(from: *const f32, n: usize) -> Self::V;
    /// `LANES` values to memory, of any alignment.
    unsafe fn store(to: *mut f32, v: Self::V);
    /// The first `n < LANES` lanes to memory.
    unsafe fn store_first(to: *mut f32, n: usize, v: Self::V);
    /// `a·b + c`; one rounding where the instruction set has it.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Turns a block: reads `rows <= LANES` runs of `LANES` values, `stride` apart, and writes `LANES` runs of `rows` values,
    /// `to_stride` apart.
    unsafe fn turn(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
        for lane in 0..Self::LANES {
            for row in 0..rows {
                // SAFETY: passed on from the caller.
                unsafe { *to.add(lane * to_stride + row) = *from.add(row * stride + lane) };
            }
        }
    }
    /// The sum of the lanes, in an order that is part of the instruction set's instance.
    unsafe fn sum(v: Self::V) -> f32;
}

/// The instances of one instruction set.
pub(crate) struct Kernels {
    /// Name, for reports.
    pub(crate) name: &'static str,
    /// Rows of the largest tile.
    pub(crate) rows: usize,
    /// Columns of a packed sliver.
    pub(crate) cols: usize,
    /// Lanes of a register.
    pub(crate) lanes: usize,
    /// See [`crate::kernels::gemm::tile::panel`].
    ///
    /// # Safety
    /// The pointers of the argument must be valid for what its fields say.
    pub(crate) panel: unsafe fn(&Panel),
    /// See [`crate::kernels::gemm::tile::dots`].
    ///
    /// # Safety
    /// The pointers of the argument must be valid for what its fields say.
    pub(crate) dots: unsafe fn(&Dots),
    /// See [`crate::kernels::gemm::tile::turn`].
    ///
    /// # Safety
    /// The pointers of the argument must be valid for what its fields say.
    pub(crate) turn: unsafe fn(&Turn),
    /// See [`crate::kernels::nchwc::tile::tile`].
    ///
    /// # Safety
    /// The pointers of the argument must be valid for what its fields say.
    pub(crate) tile: unsafe fn(&Tile),
    /// See [`crate::kernels::nchwc::tile::lanes`].
    ///
    /// # Safety
    /// The pointers of the argument must be valid for what its fields say.
    pub(crate) lanes_of_taps: unsafe fn(&Lanes),
}

/// The body for every index below a constant, written out. What is indexed by such a number is in registers from the start: a loop
/// would have to be unrolled for that first, which compilers do or do not depending on how a crate is cut and linked.
macro_rules! unrolled {
    ($i:ident < $n:expr => $body:block) => {
        $crate::kernels::simd::unrolled!($i, $n, $body, [0 1 2 3 4 5 6 7 8 9 10 11])
    };
    ($i:ident < 4 and $n:expr => $body:block) => {
        $crate::kernels::simd::unrolled!($i, $n, $body, [0 1 2 3])
    };
    ($i:ident, $n:expr, $body:block, [$($at:literal)*]) => {
        $(if $at < $n {
            let $i: usize = $at;
            $body
        })*
    };
}
pub(crate) use unrolled;

/// Instantiates the kernels for one instruction set.
macro_rules! instantiate {
    ($table:ident, $name:literal, $simd:ty $(, $feature:literal)?) => {
        pub(crate) static $table: $crate::kernels::simd::Kernels = {
            use $crate::kernels::gemm::tile;
            use $crate::kernels::nchwc::tile as nchwc;
            use $crate::kernels::simd::Simd;

            // SAFETY: the caller checked that the CPU has the features and vouches for the pointers.
            $(#[target_feature(enable = $feature)])?
            unsafe fn panel(p: &tile::Panel) {
                // SAFETY: passed on from the caller.
                unsafe { tile::panel::<$simd>(p) }
            }
            // SAFETY: as above.
            $(#[target_feature(enable = $feature)])?
            unsafe fn dots(d: &tile::Dots) {
                // SAFETY: passed on from the caller.
                unsafe { tile::dots::<$simd>(d) }
            }
            // SAFETY: as above.
            $(#[target_feature(enable = $feature)])?
            unsafe fn turn(t: &tile::Turn) {
                // SAFETY: passed on from the caller.
                unsafe { tile::turn::<$simd>(t) }
            }
            // SAFETY: as above.
            $(#[target_feature(enable = $feature)])?
            unsafe fn conv(t: &nchwc::Tile) {
                // SAFETY: passed on from the caller.
                unsafe { nchwc::tile::<$simd>(t) }
            }
            // SAFETY: as above.
            $(#[target_feature(enable = $feature)])?
            unsafe fn lanes_of_taps(t: &nchwc::Lanes) {
                // SAFETY: passed on from the caller.
                unsafe { nchwc::lanes::<$simd>(t) }
            }
            $crate::kernels::simd::Kernels {
                name: $name,
                rows: <$simd as Simd>::ROWS,
                cols: <$simd as Simd>::WIDTH * <$simd as Simd>::LANES,
                lanes: <$simd as Simd>::LANES,
                panel,
                dots,
                turn,
                tile: conv,
                lanes_of_taps,
            }
        };
    };
}
use instantiate;

/// Every table that this machine can run, best first.
pub(crate) fn available() -> Vec<&'static Kernels> {
    let mut tables = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            tables.push(&x86::AVX512);
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            tables.push(&x86::AVX2);
        }
    }
    #[cfg(target_arch = "aarch64")]
    tables.push(&neon::NEON);
    tables.push(&portable::PORTABLE);
    tables
}

/// The best table for this machine.
pub(crate) fn kernels() -> &'static Kernels {
    static BEST: LazyLock<&'static Kernels> = LazyLock::new(|| available()[0]);
    *BEST
}
