//! How exact the GPU's products are: each kernel that the table has for one, held against sums of `f64`, beside the kernel that adds up
//! `f32` term by term.

mod support;

use engine_format::{Attr, DType, Tensor};
use engine_ops::cpu::TensorMeta;
use engine_ops::{OpDef, lookup};
use engine_runtime::gpu::{GpuCandidates, GpuDevice, GpuOptions};
use half::{bf16, f16};
use support::device;

/// Rows, columns and terms of a product: several tiles, none whole; and a few rows.
const SIZES: [[usize; 3]; 3] = [[150, 164, 520], [70, 36, 1_000], [5, 72, 2_048]];

/// A generator of numbers that look like chance.
struct Numbers(u64);

impl Numbers {
    /// The next one, in −1..1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
}

/// What an element of an operand is, by its row (column), its term and a number in −1..1.
type Fill = fn(usize, usize, f32) -> f32;

const FILLS: [(&str, Fill); 7] = [
    ("of one size", |_, _, x| x),
    ("small", |_, _, x| 1e-6 * x),
    ("large", |_, _, x| 1e6 * x),
    ("of one sign", |_, _, x| 1.0 + x),
    ("rows from 1e-6 to 1e6", |side, _, x| x * 10f32.powi(side as i32 % 13 - 6)),
    ("outliers", |side, term, x| if (side + 7 * term) % 97 == 0 { 1e4 * x } else { x }),
    ("zeros", |side, term, x| if side % 5 == 0 || term % 3 == 0 { 0.0 } else { x }),
];

/// A product of matrices: row by row, and column by column.
struct Product {
    size: [usize; 3],
    left: Vec<f32>,
    right: Vec<f32>,
    transposed: [bool; 2],
    dtype: DType,
}

impl Product {
    fn new(size: [usize; 3], fill: Fill, transposed: [bool; 2], dtype: DType) -> Self {
        let [rows, cols, terms] = size;
        let mut numbers = Numbers(rows as u64 * 77 + cols as u64);
        let mut operand = |sides: usize| -> Vec<f32> {
            (0..sides * terms).map(|i| fill(i / terms, i % terms, numbers.next())).collect()
        };
        let (left, mut right) = (operand(rows), operand(cols));
        let round: fn(f32) -> f32 = match dtype {
            DType::F16 => |x| f16::from_f32(x).to_f32(),
            DType::BF16 => |x| bf16::from_f32(x).to_f32(),
            _ => |x| x,
        };
        right.iter_mut().for_each(|x| *x = round(*x));
        Self { size, left, right, transposed, dtype }
    }

    /// What the device makes of it.
    fn run(&self, device: &GpuDevice) -> Vec<f32> {
        let def: &'static OpDef = lookup("FusedMatMul", 1).expect("the table has it");
        let [rows, cols, terms] = self.size;
        // The values of a matrix of `sides` lines of terms, with the terms or the sides in rows.
        let lying = |values: &[f32], sides: usize, by_terms: bool| -> Vec<f32> {
            let turned = (0..sides * terms).map(|i| values[i % sides * terms + i / sides]);
            if by_terms { values.to_vec() } else { turned.collect() }
        };
        let [a_turned, b_turned] = self.transposed;
        let a = lying(&self.left, rows, !a_turned);
        let b = lying(&self.right, cols, b_turned);
        let a_shape = if a_turned { [terms, rows] } else { [rows, terms] };
        let b_shape = if b_turned { [cols, terms] } else { [terms, cols] };
        let halves = |b: &[f32]| match self.dtype {
            DType::F16 => {
                let b: Vec<f16> = b.iter().map(|&x| f16::from_f32(x)).collect();
                Tensor::from_slice(&b_shape, &b)
            }
            DType::BF16 => {
                let b: Vec<bf16> = b.iter().map(|&x| bf16::from_f32(x)).collect();
                Tensor::from_slice(&b_shape, &b)
            }
            _ => Tensor::from_slice(&b_shape, b),
        };
        let inputs = [Some(Tensor::from_slice(&a_shape, &a)), Some(halves(&b))];
        let attrs = [
            ("transA", Attr::Int(a_turned.into())),
            ("transB", Attr::Int(b_turned.into())),
            ("stages", Attr::Strs(Vec::new())),
        ];
        let attrs = attrs.into_iter().map(|(name, attr)| (name.to_owned(), attr)).collect();
        let attrs = def.normalise(attrs).expect("the attributes are the operator's");
        let asked = [Some(TensorMeta { dtype: DType::F32, shape: vec![rows, cols] })];
        let results = device.run_node(def, &attrs, &inputs, &asked).expect("it runs");
        let results = results.expect("it has a kernel for this device");
        let y = results.into_iter().flatten().next().expect("it was asked for");
        y.as_slice::<f32>().expect("it is f32").to_vec()
    }

    /// The sums of `f64`, and those of the magnitudes of the terms.
    fn exact(&self) -> Vec<[f64; 2]> {
        let [rows, cols, terms] = self.size;
        let each = |i: usize| {
            let a = &self.left[i / cols * terms..][..terms];
            let b = &self.right[i % cols * terms..][..terms];
            let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
            products.fold([0.0, 0.0], |[sum, size], x| [sum + x, size + x.abs()])
        };
        (0..rows * cols).map(each).collect()
    }
}

/// The root of the mean square of the errors, each as a share of the magnitudes that were added up.
fn error(found: &[f32], exact: &[[f64; 2]]) -> f64 {
    let shares = found.iter().zip(exact).map(|(&found, &[sum, size])| match size {
        0.0 => f64::from(found),
        _ => (f64::from(found) - sum) / size,
    });
    (shares.map(|x| x * x).sum::<f64>() / exact.len() as f64).sqrt()
}

/// Every kernel, the rule's own choice and the one that works everywhere first.
fn devices() -> Option<Vec<(&'static str, GpuDevice)>> {
    let open = |candidates| device(GpuOptions { candidates, ..GpuOptions::default() });
    let mut devices =
        vec![("plain", open(GpuCandidates::Last)?), ("chosen", open(GpuCandidates::ByRule)?)];
    let def = lookup("FusedMatMul", 1).expect("the table has it");
    for candidate in def.gpu_candidates {
        devices.push((candidate.name, open(GpuCandidates::Always(candidate.name.to_owned()))?));
    }
    Some(devices)
}

/// All ways in which operands lie, and all types of the right one.
fn lyings() -> Vec<([bool; 2], DType)> {
    let ways = [[false, false], [false, true], [true, false], [true, true]];
    let halves =
        [DType::F16, DType::BF16].iter().flat_map(|&t| ways[..2].iter().map(move |&w| (w, t)));
    ways.iter().map(|&way| (way, DType::F32)).chain(halves).collect()
}

#[test]
fn no_kernel_is_off_by_more_than_twice_what_plain_sums_are() {
    let Some(devices) = devices() else { return };
    let mut wrong = Vec::new();
    for size in SIZES {
        for (name, fill) in FILLS {
            for (transposed, dtype) in lyings() {
                // Magnitudes of 1e6 are beyond halves.
                if dtype == DType::F16 && name != "of one size" && name != "of one sign" {
                    continue;
                }
                let product = Product::new(size, fill, transposed, dtype);
                let exact = product.exact();
                let of = |device| error(&product.run(device), &exact);
                let plain = of(&devices[0].1);
                assert!(plain < 1e-6, "{name}: plain sums are off by {plain:e}");
                for (kernel, device) in &devices[1..] {
                    let found = of(device);
                    if found.is_nan() || found > 2.0 * plain {
                        wrong.push(format!(
                            "{kernel}, {size:?} {dtype} {transposed:?} {name}: {found:.1e}, plain {plain:.1e}"
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are off:\n{}", wrong.len(), wrong.join("\n"));
}

/// NaN and infinities come out where sums of `f64` have them, and nowhere else.
#[test]
fn what_is_not_finite_comes_through() {
    let Some(devices) = devices() else { return };
    let odd: Fill = |side, term, x| match (side % 40, term) {
        (3, 5) => f32::NAN,
        (7, 17) => f32::INFINITY,
        (11, 100) => f32::NEG_INFINITY,
        // A factor that is one half, and one that is none.
        (_, 17 | 100) => 1.0,
        _ => x,
    };
    for size in SIZES {
        for (transposed, dtype) in lyings() {
            let product = Product::new(size, odd, transposed, dtype);
            let exact = product.exact();
            for (kernel, device) in &devices {
                let at = format!("{kernel}, {size:?} {dtype} {transposed:?}");
                for (i, (found, &[sum, size])) in product.run(device).iter().zip(&exact).enumerate()
                {
                    let fits = match sum {
                        _ if sum.is_nan() => found.is_nan(),
                        _ if sum.is_infinite() => f64::from(*found) == sum,
                        _ => (f64::from(*found) - sum).abs() <= 1e-5 * size,
                    };
                    assert!(fits, "{at}: element {i} is {found}, expected {sum}");
                }
            }
        }
    }
}
