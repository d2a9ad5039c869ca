//! Loops compiled once for every machine and once more for each width of vectors, chosen at run time.
//!
//! All compilations give the same bits: the loops add and multiply one after the other (never fused), and no
//! reassociation is allowed, so only the number of elements per instruction differs.

/// A loop worth wide vectors. `run` must be `#[inline(always)]`, as must be what it calls per element; otherwise the
/// wide compilation calls the narrow one.
pub(crate) trait Loop {
    fn run(self);
}

/// Whether the machine has all of AVX-512 that these loops are compiled for.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}

/// Runs a loop with the widest vectors of this machine.
#[inline]
pub(crate) fn wide<L: Loop>(work: L) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn avx512<L: Loop>(work: L) {
            work.run();
        }
        #[target_feature(enable = "avx2")]
        fn avx2<L: Loop>(work: L) {
            work.run();
        }
        if has_avx512() {
            // SAFETY: the machine was just asked whether it has these.
            unsafe { avx512(work) };
            return;
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine was just asked whether it has AVX2.
            unsafe { avx2(work) };
            return;
        }
    }
    work.run();
}
