use super::*;
use crate::kernels::instances::available;

fn values(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| (((i + seed) * 7919 + 13) % 2003) as f32 / 1001.5 - 1.0).collect()
}

/// Sums in `f64`, and the sum of magnitudes that bounds the error.
fn reference(gemm: &Gemm, a: &MatRef<'_>, b: &MatRef<'_>) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    for i in 0..gemm.m {
        for j in 0..gemm.n {
            let terms = (0..gemm.k).map(|k| {
                f64::from(a.data[i * a.row + k * a.col]) * f64::from(b.data[k * b.row + j * b.col])
            });
            out.push(terms.fold((0.0, 0.0), |(s, t), x| (s + x, t + x.abs())));
        }
    }
    out
}

fn check(kernels: &'static Kernels, gemm: Gemm, a: MatRef<'_>, b: MatRef<'_>) {
    let mut out = vec![f32::NAN; gemm.m * gemm.n];
    let mut scratch = vec![0u8; 4 << 20];
    gemm.run_on(kernels, |_| (a, b), &mut out, &mut scratch, None);
    for (i, (&got, (sum, size))) in out.iter().zip(reference(&gemm, &a, &b)).enumerate() {
        let error = (f64::from(got) - sum).abs();
        assert!(
            error <= 1e-6 * size + 1e-7,
            "{} {gemm:?} strides {:?} {:?}: element {i} is {got}, expected {sum}",
            kernels.name,
            (a.row, a.col),
            (b.row, b.col)
        );
    }
}

#[test]
fn every_layout_and_remainder_on_every_instruction_set() {
    let sizes = [1, 2, 3, 5, 7, 12, 13, 16, 25, 31, 33, 48, 70];
    let data = values(60_000, 3);
    for kernels in available() {
        for (i, &m) in sizes.iter().enumerate() {
            for (j, &n) in sizes.iter().enumerate() {
                let k = sizes[(i * 5 + j * 3) % sizes.len()] * (1 + (i + j) % 2 * 9);
                let gemm = Gemm { batch: 1, m, n, k };
                let a = MatRef::rows(&data[7..], k);
                let b = MatRef::rows(&data[501..], n);
                let (at, bt) = (MatRef::rows(&data[9..], m).t(), MatRef::rows(&data[11..], k).t());
                check(kernels, gemm, a, b);
                check(kernels, gemm, at, b);
                check(kernels, gemm, a, bt);
                check(kernels, gemm, at, bt);
            }
        }
        let wide = Gemm { batch: 1, m: 3, n: 600, k: 40 };
        check(kernels, wide, MatRef::rows(&data, 40), MatRef::rows(&data[1..], 601));
        let deep = Gemm { batch: 1, m: 50, n: 40, k: 700 };
        check(kernels, deep, MatRef::rows(&data, 700), MatRef::rows(&data[5..], 41));
    }
}

#[test]
fn bits_do_not_depend_on_threads_packing_or_neighbours() {
    let gemm = Gemm { batch: 2, m: 130, n: 1050, k: 300 };
    let (a, b) = (values(2 * 130 * 300, 1), values(2 * 300 * 1050, 2));
    let operands = |i: usize| {
        (MatRef::rows(&a[i * 130 * 300..], 300), MatRef::rows(&b[i * 300 * 1050..], 1050))
    };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut out = vec![f32::NAN; 2 * 130 * 1050];
            let mut scratch = vec![0u8; gemm.scratch()];
            gemm.run(operands, &mut out, &mut scratch, None);
            out
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(7));

    let mut packed = vec![0.0; PackedB::len(300, 1050)];
    PackedB::pack(&operands(0).1, 300, 1050, &mut packed);
    let first = Gemm { batch: 1, ..gemm };
    let mut out = vec![f32::NAN; 130 * 1050];
    let mut scratch = vec![0u8; first.scratch()];
    let b = PackedB::new(&packed, 300, 1050);
    first.run(|_| (operands(0).0, b), &mut out, &mut scratch, None);
    assert_eq!(out, one[..out.len()]);

    // A row by itself goes through the kernels for few rows.
    let row = Gemm { m: 1, ..first };
    row.run(|_| operands(0), &mut out[..1050], &mut scratch, None);
    assert_eq!(out[..1050], one[..1050]);
}

#[test]
fn the_epilogue_sees_every_element_once_and_finished() {
    let gemm = Gemm { batch: 1, m: 70, n: 300, k: 520 };
    let (a, b) = (values(70 * 520, 1), values(520 * 300, 2));
    let operands = |_| (MatRef::rows(&a, 520), MatRef::rows(&b, 300));
    let (mut plain, mut added) = (vec![0.0; 70 * 300], vec![0.0; 70 * 300]);
    let mut scratch = vec![0u8; gemm.scratch()];
    gemm.run(operands, &mut plain, &mut scratch, None);
    let add = |_: usize, row: usize, col: usize, run: &mut [f32]| {
        for (j, y) in run.iter_mut().enumerate() {
            *y += (row * 1000 + col + j) as f32;
        }
    };
    gemm.run(operands, &mut added, &mut scratch, Some(&add));
    for (i, (p, q)) in plain.iter().zip(&added).enumerate() {
        assert_eq!(p + (i / 300 * 1000 + i % 300) as f32, *q);
    }
}

#[test]
fn empty_sums_are_zero() {
    let gemm = Gemm { batch: 1, m: 3, n: 5, k: 0 };
    let mut out = vec![f32::NAN; 15];
    let mut scratch = vec![0u8; gemm.scratch()];
    gemm.run(|_| (MatRef::rows(&[], 0), MatRef::rows(&[], 5)), &mut out, &mut scratch, None);
    assert_eq!(out, [0.0; 15]);
}

#[test]
fn lines_become_columns_on_every_instruction_set() {
    let data = values(3000, 1);
    for kernels in available() {
        for lines in [1, 3, 8, 12, 16, 17, 32] {
            for len in [1, 7, 8, 16, 40, 61] {
                let (stride, to_stride) = (len + 5, lines + len % 3);
                let mut out = vec![f32::NAN; len * to_stride];
                let transpose = tile::Transpose {
                    from: data.as_ptr(),
                    stride,
                    lines,
                    len,
                    to: out.as_mut_ptr(),
                    to_stride,
                };
                // SAFETY: there are `lines` lines within the data, and room for as many columns.
                unsafe { (kernels.transpose)(&transpose) };
                for (i, &found) in out.iter().enumerate() {
                    let (at, line) = (i / to_stride, i % to_stride);
                    match line < lines {
                        true => assert_eq!(
                            found,
                            data[line * stride + at],
                            "{} {lines} × {len}",
                            kernels.name
                        ),
                        false => {
                            assert!(found.is_nan(), "{} {lines} × {len}: beyond", kernels.name)
                        }
                    }
                }
            }
        }
    }
}
