//! Transforms of one length on the CPU, in `f64`: from the definition where they are short, by halves where the length is a power
//! of two, and as a convolution with a chirp for every other length (Bluestein, 1970). So the time grows as `n log n` for all.

use crate::OpError;
use crate::memory::filled;
use std::f64::consts::TAU;

/// Real and imaginary part.
pub(super) type Complex = (f64, f64);

/// Lengths up to this one are transformed from the definition.
const SHORT: usize = 64;

fn times((a, b): Complex, (c, d): Complex) -> Complex {
    (a * c - b * d, a * d + b * c)
}

fn conjugate((re, im): Complex) -> Complex {
    (re, -im)
}

/// The roots of unity: `exp(2πik/n)`, or their conjugates.
fn roots(n: usize, inverse: bool) -> Result<Vec<Complex>, OpError> {
    let mut roots = filled(n, (0.0, 0.0))?;
    for (k, root) in roots.iter_mut().enumerate() {
        let angle = TAU * k as f64 / n as f64;
        *root = (angle.cos(), if inverse { angle.sin() } else { -angle.sin() });
    }
    Ok(roots)
}

/// What transforms of a length and a direction have in common.
pub(super) struct Transform {
    /// Numbers of the signal, and of what becomes of it.
    n: usize,
    inverse: bool,
    algorithm: Algorithm,
    /// Numbers on the way.
    space: Vec<Complex>,
}

enum Algorithm {
    /// The sums as they are defined, with the roots of the length.
    Definition(Vec<Complex>),
    /// Halves of halves, with the roots of the length.
    Halves(Vec<Complex>),
    /// A convolution with a chirp, over a power of two.
    Chirp {
        /// `exp(∓πik²/n)`.
        chirp: Vec<Complex>,
        /// The transform of its conjugate.
        filter: Vec<Complex>,
        /// The roots of the power of two.
        roots: Vec<Complex>,
    },
}

impl Transform {
    /// The transform of `n` numbers; the inverse one has the factor `1/n`.
    ///
    /// # Errors
    /// There is no memory for its tables.
    pub(super) fn new(n: usize, inverse: bool) -> Result<Self, OpError> {
        let (algorithm, space) = if n <= SHORT {
            (Algorithm::Definition(roots(n, inverse)?), n)
        } else if n.is_power_of_two() {
            (Algorithm::Halves(roots(n, inverse)?), 0)
        } else {
            let len = n.checked_mul(2).and_then(usize::checked_next_power_of_two);
            let len = len.ok_or_else(|| OpError::new(format!("a transform of {n} numbers")))?;
            (Self::chirp(n, len, inverse)?, len)
        };
        Ok(Self { n, inverse, algorithm, space: filled(space, (0.0, 0.0))? })
    }

    fn chirp(n: usize, len: usize, inverse: bool) -> Result<Algorithm, OpError> {
        // The exponents repeat after 2n, so that no precision is lost to large squares.
        let (circle, roots) = (roots(2 * n, inverse)?, roots(len, false)?);
        let mut chirp = filled(n, (0.0, 0.0))?;
        let mut at = 0;
        for (k, value) in chirp.iter_mut().enumerate() {
            *value = circle[at];
            // (k + 1)² = k² + 2k + 1.
            at = (at + 2 * k + 1) % (2 * n);
        }
        let mut filter = filled(len, (0.0, 0.0))?;
        for (k, &value) in chirp.iter().enumerate() {
            filter[k] = conjugate(value);
            filter[(len - k) % len] = conjugate(value);
        }
        halves(&mut filter, &roots);
        Ok(Algorithm::Chirp { chirp, filter, roots })
    }

    /// Transforms `signal`, which has the length that this was made for.
    pub(super) fn run(&mut self, signal: &mut [Complex]) {
        match &self.algorithm {
            Algorithm::Definition(roots) => {
                for (k, sum) in self.space.iter_mut().enumerate() {
                    let mut at = 0;
                    *sum = (0.0, 0.0);
                    for &value in &*signal {
                        let (re, im) = times(value, roots[at]);
                        *sum = (sum.0 + re, sum.1 + im);
                        at = (at + k) % self.n;
                    }
                }
                signal.copy_from_slice(&self.space);
            }
            Algorithm::Halves(roots) => halves(signal, roots),
            Algorithm::Chirp { chirp, filter, roots } => {
                self.space.fill((0.0, 0.0));
                for ((slot, &value), &turn) in self.space.iter_mut().zip(&*signal).zip(chirp) {
                    *slot = times(value, turn);
                }
                halves(&mut self.space, roots);
                for (value, &factor) in self.space.iter_mut().zip(filter) {
                    // The way back is the way there over conjugates.
                    *value = conjugate(times(*value, factor));
                }
                halves(&mut self.space, roots);
                let scale = 1.0 / self.space.len() as f64;
                for ((slot, &value), &turn) in signal.iter_mut().zip(&self.space).zip(chirp) {
                    let (re, im) = times(conjugate(value), turn);
                    *slot = (re * scale, im * scale);
                }
            }
        }
        if self.inverse {
            let scale = 1.0 / self.n as f64;
            signal.iter_mut().for_each(|value| *value = (value.0 * scale, value.1 * scale));
        }
    }
}

/// The transform of as many numbers as there are roots, a power of two, in place.
fn halves(values: &mut [Complex], roots: &[Complex]) {
    let n = values.len();
    let bits = n.trailing_zeros();
    for i in 0..n {
        let j = if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) };
        if i < j {
            values.swap(i, j);
        }
    }
    let mut half = 1;
    while half < n {
        let step = n / (2 * half);
        for block in values.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (k, (a, b)) in low.iter_mut().zip(high).enumerate() {
                let (re, im) = times(*b, roots[k * step]);
                (*a, *b) = ((a.0 + re, a.1 + im), (a.0 - re, a.1 - im));
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_gives_the_sums_of_the_definition() {
        for n in [1, 2, 63, 64, 65, 97, 128, 1000, 1021] {
            let signal: Vec<Complex> =
                (0..n).map(|t| ((t * t % 17) as f64 - 8.0, (t * 5 % 11) as f64)).collect();
            for inverse in [false, true] {
                let mut found = signal.clone();
                Transform::new(n, inverse).unwrap().run(&mut found);
                let (sign, scale) = if inverse { (1.0, 1.0 / n as f64) } else { (-1.0, 1.0) };
                for (k, &(re, im)) in found.iter().enumerate() {
                    let mut sum = (0.0, 0.0);
                    for (t, &value) in signal.iter().enumerate() {
                        let angle = sign * TAU * (k * t % n) as f64 / n as f64;
                        let (re, im) = times(value, (angle.cos(), angle.sin()));
                        sum = (sum.0 + re * scale, sum.1 + im * scale);
                    }
                    let near = |a: f64, b: f64| (a - b).abs() < 1e-9 * scale * n as f64;
                    assert!(near(re, sum.0) && near(im, sum.1), "{n} {inverse} {k}");
                }
            }
        }
    }

    #[test]
    fn a_long_transform_of_a_prime_length_and_back_is_the_signal() {
        let n = 65_537;
        let signal: Vec<Complex> = (0..n).map(|t| ((t % 101) as f64, (t % 7) as f64)).collect();
        let mut found = signal.clone();
        Transform::new(n, false).unwrap().run(&mut found);
        Transform::new(n, true).unwrap().run(&mut found);
        for (a, b) in found.iter().zip(&signal) {
            assert!((a.0 - b.0).abs() < 1e-9 && (a.1 - b.1).abs() < 1e-9, "{a:?} {b:?}");
        }
    }
}
