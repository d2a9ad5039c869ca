//! Matrix products against a peer, `matrixmultiply`, on the sizes that models have.
//!
//! `cargo bench -p engine-ops --bench gemm`. Expected on one core: 85 % of the machine's rate of fused multiply-adds from
//! 256 × 256 × 256 on, 75 % for the 32 to 128 rows of a short sequence, and the speed of memory for one row.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine_ops::kernels::gemm::{Gemm, MatRef, PackedB};

/// Batch, rows, columns, terms.
const SIZES: [[usize; 4]; 13] = [
    // One token, and a few.
    [1, 1, 384, 384],
    [1, 1, 4096, 4096],
    [1, 8, 1024, 1024],
    [1, 32, 384, 384],
    // A sentence encoder: projections, scores and values of its heads.
    [1, 128, 384, 384],
    [1, 128, 1536, 384],
    [12, 128, 128, 32],
    [12, 128, 32, 128],
    // Pointwise convolutions of a face detector.
    [1, 16, 25_600, 16],
    [1, 64, 1600, 64],
    // Squares.
    [1, 64, 64, 64],
    [1, 512, 512, 512],
    [1, 1024, 1024, 1024],
];

fn products(criterion: &mut Criterion) {
    for [batch, m, n, k] in SIZES {
        let gemm = Gemm { batch, m, n, k };
        let mut group = criterion.benchmark_group(format!("{batch} x {m} x {n} x {k}"));
        // Elements a second are then multiply-adds a second.
        group.throughput(Throughput::Elements((batch * m * n * k) as u64));
        let values = |count: usize| (0..count).map(|i| (i % 17) as f32 * 0.1).collect::<Vec<_>>();
        let (a, b, mut c) = (values(batch * m * k), values(batch * k * n), values(batch * m * n));
        let mut scratch = vec![0u8; gemm.scratch()];
        let left = |i: usize| MatRef::rows(&a[i * m * k..], k);
        group.bench_function(BenchmarkId::from_parameter("ours"), |bench| {
            let operands = |i: usize| (left(i), MatRef::rows(&b[i * k * n..], n));
            bench.iter(|| gemm.run(operands, &mut c, &mut scratch, None));
        });
        if batch == 1 {
            let mut packed = vec![0.0; PackedB::len(k, n)];
            PackedB::pack(&MatRef::rows(&b, n), k, n, &mut packed);
            let right = PackedB::new(&packed, k, n);
            group.bench_function(BenchmarkId::from_parameter("ours, packed before"), |bench| {
                bench.iter(|| gemm.run(|i| (left(i), right), &mut c, &mut scratch, None));
            });
        }
        group.bench_function(BenchmarkId::from_parameter("matrixmultiply"), |bench| {
            bench.iter(|| {
                for i in 0..batch {
                    let (a, b) = (a[i * m * k..].as_ptr(), b[i * k * n..].as_ptr());
                    let c = c[i * m * n..].as_mut_ptr();
                    let [rows, cols] = [k as isize, n as isize];
                    // SAFETY: the slices hold dense matrices of these sizes.
                    unsafe {
                        matrixmultiply::sgemm(
                            m, k, n, 1.0, a, rows, 1, b, cols, 1, 0.0, c, cols, 1,
                        );
                    }
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
