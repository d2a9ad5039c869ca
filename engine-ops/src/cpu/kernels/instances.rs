//! The micro-kernels of each instruction set, inside functions that carry its `target_feature`, and the choice among them, made once
//! for a machine.

use crate::kernels::gemm::tile::{Dots, Panel, Transpose};
use crate::kernels::nchwc::tile::{Greatest, Lanes, Tile};
use crate::kernels::nchwc::transform::{Forward, Inverse};
use crate::kernels::simd;
use std::sync::LazyLock;

/// The instances of one instruction set.
pub(crate) struct Kernels {
    /// Name, for reports.
    pub(crate) name: &'static str,
    /// Rows of the largest tile.
    pub(crate) rows: usize,
    /// Columns of a packed micro-panel.
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
    /// See [`crate::kernels::gemm::tile::transpose`].
    ///
    /// # Safety
    /// The pointers of the argument must be valid for what its fields say.
    pub(crate) transpose: unsafe fn(&Transpose),
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
    /// See [`crate::kernels::nchwc::tile::greatest`].
    ///
    /// # Safety
    /// The pointers of the argument must be valid for what its fields say.
    pub(crate) greatest: unsafe fn(&Greatest) -> bool,
    /// See [`crate::kernels::nchwc::transform::forward`].
    ///
    /// # Safety
    /// The pointers of the argument must be valid for what its fields say.
    pub(crate) forward: unsafe fn(&Forward),
    /// See [`crate::kernels::nchwc::transform::inverse`].
    ///
    /// # Safety
    /// The pointers of the argument must be valid for what its fields say.
    pub(crate) inverse: unsafe fn(&Inverse),
}

/// Instantiates the kernels for one instruction set.
macro_rules! instantiate {
    ($table:ident, $name:literal, $simd:ty $(, $feature:literal)?) => {
        static $table: $crate::kernels::instances::Kernels = {
            use $crate::kernels::gemm::tile;
            use $crate::kernels::nchwc::{tile as nchwc, transform};
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
            unsafe fn transpose(t: &tile::Transpose) {
                // SAFETY: passed on from the caller.
                unsafe { tile::transpose::<$simd>(t) }
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
            // SAFETY: as above.
            $(#[target_feature(enable = $feature)])?
            unsafe fn greatest(t: &nchwc::Greatest) -> bool {
                // SAFETY: passed on from the caller.
                unsafe { nchwc::greatest::<$simd>(t) }
            }
            // SAFETY: as above.
            $(#[target_feature(enable = $feature)])?
            unsafe fn forward(t: &transform::Forward) {
                // SAFETY: passed on from the caller.
                unsafe { transform::forward::<$simd>(t) }
            }
            // SAFETY: as above.
            $(#[target_feature(enable = $feature)])?
            unsafe fn inverse(t: &transform::Inverse) {
                // SAFETY: passed on from the caller.
                unsafe { transform::inverse::<$simd>(t) }
            }
            $crate::kernels::instances::Kernels {
                name: $name,
                rows: <$simd as Simd>::ROWS,
                cols: <$simd as Simd>::WIDTH * <$simd as Simd>::LANES,
                lanes: <$simd as Simd>::LANES,
                panel,
                dots,
                transpose,
                tile: conv,
                lanes_of_taps,
                greatest,
                forward,
                inverse,
            }
        };
    };
}

#[cfg(target_arch = "x86_64")]
instantiate!(AVX512, "avx512", simd::x86::Avx512, "avx512f");
#[cfg(target_arch = "x86_64")]
instantiate!(AVX2, "avx2", simd::x86::Avx2, "avx2,fma");
#[cfg(target_arch = "aarch64")]
instantiate!(NEON, "neon", simd::neon::Neon, "neon");
instantiate!(PORTABLE, "portable", simd::portable::Portable);

/// Every table that this machine can run, best first.
pub(crate) fn available() -> Vec<&'static Kernels> {
    let mut tables = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            tables.push(&AVX512);
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            tables.push(&AVX2);
        }
    }
    #[cfg(target_arch = "aarch64")]
    tables.push(&NEON);
    tables.push(&PORTABLE);
    tables
}

/// The best table for this machine.
pub(crate) fn kernels() -> &'static Kernels {
    static BEST: LazyLock<&'static Kernels> = LazyLock::new(|| available()[0]);
    *BEST
}
