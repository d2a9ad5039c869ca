//! Vectors of `f32`: kernels are written once over [`Simd`], for every instruction set.

#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

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
    /// `a + b`.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a·b`.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a > b ? a : b` in every lane: `b` where one of them is NaN, or they are equal.
    unsafe fn greater(a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b` in every lane: `b` where one of them is NaN, or they are equal.
    unsafe fn lesser(a: Self::V, b: Self::V) -> Self::V;
    /// `a·b + c`; one rounding where the instruction set has it.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Transposes a block: reads `rows <= LANES` runs of `LANES` values, `stride` apart, and writes `LANES` runs of `rows` values,
    /// `to_stride` apart.
    unsafe fn transpose(
        from: *const f32,
        stride: usize,
        rows: usize,
        to: *mut f32,
        to_stride: usize,
    ) {
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
