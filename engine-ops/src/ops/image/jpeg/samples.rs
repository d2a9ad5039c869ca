//! From coefficients to pixels.

use super::frame::{Component, Failure, Frame, Image};
use crate::memory::{filled, room};

/// Bits behind the point of the transform's factors, and those that the first pass keeps of them.
const FACTOR_BITS: u32 = 13;
const PASS_BITS: u32 = 2;

/// One pass over eight numbers (Loeffler, Ligtenberg and Moschytz, 1989); `bits` are dropped from what comes out, rounded.
fn pass(x: [i64; 8], bits: u32) -> [i64; 8] {
    let even = (x[2] + x[6]) * 4433;
    let (even_2, even_3) = (even - x[6] * 15137, even + x[2] * 6270);
    let (sum, difference) = ((x[0] + x[4]) << FACTOR_BITS, (x[0] - x[4]) << FACTOR_BITS);
    let evens = [sum + even_3, difference + even_2, difference - even_2, sum - even_3];
    let (z1, z2, z3, z4) = (x[7] + x[1], x[5] + x[3], x[7] + x[3], x[5] + x[1]);
    let z5 = (z3 + z4) * 9633;
    let (z1, z2, z3, z4) = (-z1 * 7373, -z2 * 20995, z5 - z3 * 16069, z5 - z4 * 3196);
    let odds = [
        x[1] * 12299 + z1 + z4,
        x[3] * 25172 + z2 + z3,
        x[5] * 16819 + z2 + z4,
        x[7] * 2446 + z1 + z3,
    ];
    std::array::from_fn(|i| {
        let value = if i < 4 { evens[i] + odds[i] } else { evens[7 - i] - odds[7 - i] };
        (value + (1 << (bits - 1))) >> bits
    })
}

/// The samples of a block: columns first, then rows.
fn inverse(coefficients: &[i16; 64], factors: &[u16; 64]) -> [u8; 64] {
    let mut work = [0i64; 64];
    for column in 0..8 {
        let x = |row: usize| {
            let at = row * 8 + column;
            i64::from(coefficients[at]) * i64::from(factors[at])
        };
        let values = pass(std::array::from_fn(x), FACTOR_BITS - PASS_BITS);
        for (row, value) in values.into_iter().enumerate() {
            work[row * 8 + column] = value;
        }
    }
    let mut samples = [0; 64];
    for (row, out) in work.as_chunks::<8>().0.iter().zip(samples.as_chunks_mut::<8>().0) {
        let values = pass(*row, FACTOR_BITS + PASS_BITS + 3);
        *out = values.map(|value| (value + 128).clamp(0, 255) as u8);
    }
    samples
}

/// A component's samples, row by row.
struct Plane<'a> {
    component: &'a Component,
    samples: Vec<u8>,
    /// Pixels for each sample.
    across: usize,
    down: usize,
}

impl<'a> Plane<'a> {
    fn new(component: &'a Component, frame: &Frame) -> Result<Self, Failure> {
        let factors = component.factors.as_ref().ok_or(Failure::Broken)?;
        let stride = component.columns * 8;
        let mut samples = filled(stride * component.rows * 8, 0)?;
        for (i, block) in component.coefficients.iter().enumerate() {
            let (row, column) = (i / component.columns, i % component.columns);
            let block = inverse(block, factors);
            for (line, values) in block.as_chunks::<8>().0.iter().enumerate() {
                let at = (row * 8 + line) * stride + column * 8;
                samples[at..at + 8].copy_from_slice(values);
            }
        }
        Ok(Self { component, samples, across: frame.h / component.h, down: frame.v / component.v })
    }

    /// The samples of a row; behind the last row it stands again.
    fn row(&self, row: usize) -> &[u8] {
        let row = row.min(self.component.height - 1);
        &self.samples[row * self.component.columns * 8..][..self.component.width]
    }

    /// The row of pixels `y`, or a little more. Where there are twice as many pixels as samples, each lies a quarter of the way to
    /// the next sample and takes a quarter of it.
    fn pixels(&self, y: usize, out: &mut Vec<u8>) {
        out.clear();
        let near = self.row(y / self.down);
        // The next row, above or below; above the first row it stands again.
        let next = || self.row(if y % 2 == 1 { y / 2 + 1 } else { (y / 2).saturating_sub(1) });
        let is_wide = near.len() > 2;
        match (self.across, self.down) {
            (1, 1) => out.extend_from_slice(near),
            (2, 1) if is_wide => spread(near.len(), |i| near[i].into(), [1, 2], 2, out),
            (1, 2) => {
                let bias = if y % 2 == 1 { 2 } else { 1 };
                let pairs = near.iter().zip(next());
                out.extend(
                    pairs.map(|(&a, &b)| ((3 * u32::from(a) + u32::from(b) + bias) >> 2) as u8),
                );
            }
            (2, 2) if is_wide => {
                let next = next();
                let sum = |i: usize| 3 * u32::from(near[i]) + u32::from(next[i]);
                spread(near.len(), sum, [8, 7], 4, out);
            }
            (across, _) => {
                out.extend(near.iter().flat_map(|&sample| std::iter::repeat_n(sample, across)));
            }
        }
    }
}

/// Two pixels for each of `n` samples: three quarters of it and one of the neighbour on their side; behind the ends, the last sample
/// stands again. `biases` are added before `bits` are dropped; they differ, so that rounding has no direction.
fn spread(n: usize, sample: impl Fn(usize) -> u32, biases: [u32; 2], bits: u32, out: &mut Vec<u8>) {
    for i in 0..n {
        for (neighbour, bias) in [i.saturating_sub(1), (i + 1).min(n - 1)].into_iter().zip(biases) {
            out.push(((3 * sample(i) + sample(neighbour) + bias) >> bits) as u8);
        }
    }
}

/// The image of a frame whose scans were read.
pub(super) fn image(frame: &Frame, is_rgb: bool) -> Result<Image, Failure> {
    let planes = frame.components.iter().map(|component| Plane::new(component, frame));
    let planes = planes.collect::<Result<Vec<_>, _>>()?;
    let mut rgb = room(frame.height * frame.width * 3)?;
    let mut rows = vec![Vec::new(); planes.len()];
    for y in 0..frame.height {
        planes.iter().zip(&mut rows).for_each(|(plane, row)| plane.pixels(y, row));
        match rows.as_slice() {
            [a, b, c] => {
                let pixels = a.iter().zip(b).zip(c).take(frame.width);
                let colour = |a, b, c| if is_rgb { [a, b, c] } else { colour(a, b, c) };
                rgb.extend(pixels.flat_map(|((&a, &b), &c)| colour(a, b, c)));
            }
            grays => {
                let grays = grays.iter().flatten().take(frame.width);
                rgb.extend(grays.flat_map(|&gray| [gray; 3]));
            }
        }
    }
    Ok(Image { height: frame.height, width: frame.width, rgb })
}

/// Red, green and blue of a brightness and two differences, in 65536ths.
fn colour(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let [y, cb, cr] = [y, cb, cr].map(i32::from);
    let (cb, cr) = (cb - 128, cr - 128);
    let red = y + ((91881 * cr + HALF) >> 16);
    let green = y + ((-22554 * cb - 46802 * cr + HALF) >> 16);
    let blue = y + ((116130 * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}
