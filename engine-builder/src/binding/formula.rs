//! Tables that follow a formula: frequencies, sines and cosines of positions, slopes times distances, grids.
//!
//! What nobody learns is mostly such a table. All of them are, line by line along one axis, solutions of
//! `x[p + 1] = a · x[p] + b · x[p − 1]`: geometric and arithmetic sequences, sines and cosines. A line of n numbers is then told by
//! four, and so the table by four for each line, which bounds what of a checkpoint may be in it. Weights are no such lines.

use engine_format::Tensor;

/// Bits by which a table has to follow its formula beyond what the free numbers explain.
const BITS: f64 = 60.0;

/// The number of lines of which a table of f32 consists, each a solution of a recurrence of two terms; `None` if it is no such table.
pub(super) fn lines(tensor: &Tensor) -> Option<usize> {
    let values = tensor.as_slice::<f32>().ok()?;
    let whole = |x: &f32| x.fract() == 0.0 && x.abs() <= 65536.0;
    if values.iter().all(whole) || matches!(values, [only] if is_root(f64::from(*only))) {
        return Some(0);
    }
    let axes = (0..tensor.shape().len()).filter(|&axis| tensor.shape()[axis] > 4);
    axes.filter_map(|axis| along(values, tensor.shape(), axis)).min()
}

/// Whether a number is the square root of a small fraction, or of one over π: what attention and activations are scaled by.
fn is_root(number: f64) -> bool {
    const LARGEST: f64 = 65536.0;
    let square = number * number;
    let is_fraction = |x: f64| {
        (1..=16).map(f64::from).any(|q| {
            let p = (x * q).round();
            (1.0..=LARGEST).contains(&p) && (x * q - p).abs() <= 3e-7 * p
        })
    };
    [square, 1.0 / square, square * std::f64::consts::PI].into_iter().any(is_fraction)
}

/// The number of lines along an axis.
fn along(values: &[f32], shape: &[usize], axis: usize) -> Option<usize> {
    let (n, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let outer: usize = shape[..axis].iter().product();
    let at =
        |line: usize, p: usize| f64::from(values[((line / inner) * n + p) * inner + line % inner]);
    let count = outer * inner;
    // Positions that a table leaves out, the padding's say, hold zeros in all lines.
    let left_out: Vec<bool> = (0..n).map(|p| (0..count).all(|line| at(line, p) == 0.0)).collect();
    // Sines of large positions are as exact as the product of position and frequency.
    let tolerance = 3e-7 * n.max(8) as f64;
    let mut bits = 0.0;
    for line in 0..count {
        let triples: Vec<[f64; 3]> = (1..n - 1)
            .filter(|&p| !(left_out[p - 1] || left_out[p] || left_out[p + 1]))
            .map(|p| [at(line, p - 1), at(line, p), at(line, p + 1)])
            .collect();
        let largest = triples.iter().flatten().fold(0.0f64, |most, x| most.max(x.abs()));
        if largest == 0.0 {
            continue;
        }
        let (a, b) = coefficients(&triples)?;
        let fits = |[before, now, next]: &[f64; 3]| {
            // What falls over many orders of magnitude is held to its own size.
            let scale = (a * now).abs() + (b * before).abs() + next.abs();
            (next - a * now - b * before).abs() <= tolerance * scale
        };
        if !triples.iter().all(fits) {
            return None;
        }
        bits += (triples.len() as f64 - 2.0) * -tolerance.log2();
    }
    (bits >= BITS).then_some(count)
}

/// The coefficients that fit best, every equation weighed by its own size; `None` for numbers that are not finite.
fn coefficients(triples: &[[f64; 3]]) -> Option<(f64, f64)> {
    let (mut xx, mut xy, mut yy, mut xz, mut yz) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for [y, x, z] in triples {
        let weight = 1.0 / (x * x + y * y + z * z).max(f64::MIN_POSITIVE);
        xx += weight * x * x;
        xy += weight * x * y;
        yy += weight * y * y;
        xz += weight * x * z;
        yz += weight * y * z;
    }
    let determinant = xx * yy - xy * xy;
    let solution = match determinant.abs() <= 1e-10 * xx * yy {
        // One term is enough: a geometric sequence.
        true => (xz / xx, 0.0),
        false => ((xz * yy - yz * xy) / determinant, (yz * xx - xz * xy) / determinant),
    };
    (solution.0.is_finite() && solution.1.is_finite()).then_some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(shape: [usize; 2], f: impl Fn(usize, usize) -> f32) -> Tensor {
        let values: Vec<f32> = (0..shape[0])
            .flat_map(|i| (0..shape[1]).map(move |j| (i, j)))
            .map(|(i, j)| f(i, j))
            .collect();
        Tensor::from_slice(&shape, &values)
    }

    #[test]
    fn tables_of_formulas_are_recognised() {
        let frequency = |j: usize| 10_000f32.powf(-(j as f32) / 16.0);
        assert_eq!(lines(&table([1, 32], |_, j| frequency(j))), Some(1), "frequencies");
        assert_eq!(
            lines(&table([1, 32], |_, j| frequency(j / 2 * 2))),
            Some(1),
            "frequencies in pairs"
        );
        let sines =
            table([66, 32], |p, j| if p == 1 { 0.0 } else { (p as f32 * frequency(j % 16)).sin() });
        assert_eq!(lines(&sines), Some(32), "positions, one of them padding");
        assert_eq!(
            lines(&table([4, 64], |h, p| -(p as f32) * 2f32.powi(-2 * h as i32 - 2))),
            Some(4),
            "slopes"
        );
        assert_eq!(lines(&table([16, 3], |i, j| (i * j) as f32)), Some(0), "whole numbers");
        for x in
            [0.5f32.sqrt(), 2f32.sqrt(), (2.0 / std::f32::consts::PI).sqrt(), 1.0 / 96f32.sqrt()]
        {
            assert_eq!(lines(&Tensor::from_slice(&[], &[x])), Some(0), "{x}");
        }
    }

    #[test]
    fn weights_are_no_formula() {
        for x in [0.707_2f32, 2.013_752_7, 14.285_714] {
            assert_eq!(lines(&Tensor::from_slice(&[], &[x])), None, "{x}");
        }
        let learned = table([16, 16], |i, j| {
            ((i * i * 31 + j * j * 17 + 3 * i * j) as f32 * 0.618_034).sin()
        });
        assert_eq!(lines(&learned), None);
        let near = table([1, 32], |_, j| {
            10_000f32.powf(-(j as f32) / 16.0) * (1.0 + 1e-4 * (j as f32 * 1.7).sin())
        });
        assert_eq!(lines(&near), None, "frequencies that were trained on");
        assert_eq!(
            lines(&table([3, 4], |i, j| 0.1 + (i * 4 + j) as f32 * 0.3)),
            None,
            "too short to tell"
        );
    }
}
