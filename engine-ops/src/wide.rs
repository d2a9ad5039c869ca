//! Loops compiled once for every machine and once more for wide vectors, chosen at run time.
//!
//! Both compilations give the same bits: the loops add and multiply one after the other (never fused), and no
//! reassociation is allowed, so only the number of elements per instruction differs.

/// A loop worth wide vectors. `run` must be `#[inline(always)]`, as must be what it calls per element; otherwise the
/// wide compilation calls the narrow one.
pub(crate) trait Loop {
    fn run(self);
}

/// Runs a loop with the widest vectors of this machine.
#[inline]
pub(crate) fn wide<L: Loop>(work: L) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<L: Loop>(work: L) {
            work.run();
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine was just asked whether it has AVX2.
            unsafe { avx2(work) };
            return;
        }
    }
    work.run();
}
