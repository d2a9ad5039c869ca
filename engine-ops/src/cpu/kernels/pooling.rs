//! Reducing the windows of a pool, many neighbouring outputs at once.

use crate::kernels::window::{Axis, volume};
use crate::parallel;
use crate::wide::{Loop, wide};
use engine_format::Element;

/// Outputs that are reduced at once.
const STRIP: usize = 64;
/// Elements of the output per task, about, of windows of few taps.
const TASK: usize = 4096;
/// Taps of a small window.
const SMALL: usize = 16;

/// Reduces every window: `step` takes one element in, `finish` gives the output of a window at a position.
pub(crate) fn reduce<T: Element, A: Copy + Send + Sync>(
    axes: &[Axis; 3],
    (x, y): (&[T], &mut [T]),
    init: A,
    step: impl Fn(A, T) -> A + Sync,
    finish: impl Fn(A, [usize; 3]) -> T + Sync,
) {
    let w = &axes[2];
    if y.is_empty() {
        return;
    }
    let taps = volume(axes, |axis| axis.kernel.min(axis.input.max(1)));
    let at_once = (TASK / w.output.saturating_mul(taps.div_ceil(SMALL)).max(1)).max(1);
    parallel::each(y.chunks_mut(w.output * at_once).enumerate(), |(chunk, y)| {
        wide(Rows { axes, x, y, first: chunk * at_once, init, step: &step, finish: &finish });
    });
}

/// Neighbouring rows of outputs.
struct Rows<'a, T, A, S, F> {
    axes: &'a [Axis; 3],
    x: &'a [T],
    y: &'a mut [T],
    /// Number of the first row.
    first: usize,
    init: A,
    step: &'a S,
    finish: &'a F,
}

impl<T: Copy, A: Copy, S: Fn(A, T) -> A, F: Fn(A, [usize; 3]) -> T> Loop for Rows<'_, T, A, S, F> {
    #[inline(always)]
    fn run(self) {
        let [d, h, w] = self.axes;
        let (rows, plane) = (d.output * h.output, volume(self.axes, |a| a.input));
        // Positions are counted on: divisions show where a row is one register.
        let mut image = self.first / rows;
        let mut next = [self.first % rows / h.output, self.first % h.output];
        for y in self.y.chunks_exact_mut(w.output) {
            let (x, at) = (&self.x[image * plane..][..plane], next);
            next[1] += 1;
            if next[1] == h.output {
                next = [next[0] + 1, 0];
            }
            if next[0] == d.output {
                (image, next) = (image + 1, [0, 0]);
            }
            if let (true, Ok(y)) = (w.is_still(), <&mut [T; REGISTER]>::try_from(&mut *y)) {
                let sums = register(self.axes, x, at, self.init, self.step);
                for (i, (y, &sum)) in y.iter_mut().zip(&sums).enumerate() {
                    *y = (self.finish)(sum, [at[0], at[1], i]);
                }
                continue;
            }
            for (s, y) in y.chunks_mut(STRIP).enumerate() {
                let mut sums = [self.init; STRIP];
                strip(self.axes, x, at, s * STRIP, &mut sums[..y.len()], self.step);
                for (i, (y, &sum)) in y.iter_mut().zip(&sums).enumerate() {
                    *y = (self.finish)(sum, [at[0], at[1], s * STRIP + i]);
                }
            }
        }
    }
}

/// Elements of the widest register there is, and channels of a block.
const REGISTER: usize = 16;

/// Reduces the windows of the one row of outputs at a position, along which nothing happens: the channels of a block.
#[inline(always)]
fn register<T: Copy, A: Copy>(
    [d, h, _]: &[Axis; 3],
    x: &[T],
    at: [usize; 2],
    init: A,
    step: &impl Fn(A, T) -> A,
) -> [A; REGISTER] {
    let mut sums = [init; REGISTER];
    let lines = x.as_chunks::<REGISTER>().0;
    let taps = h.inside(at[1]);
    if taps.is_empty() {
        return sums;
    }
    let first = at[1] * h.stride + taps.start * h.dilation - h.before;
    let far = (taps.len() - 1) * h.dilation;
    for kd in d.inside(at[0]) {
        let z = at[0] * d.stride + kd * d.dilation - d.before;
        // Where lines begin is calculated once for all taps of a row, so that a line costs an addition.
        let row = &lines[z * h.input + first..][..=far];
        // By numbers, not zipped: what is one register stays one.
        let mut held = sums;
        for line in row.iter().step_by(h.dilation) {
            for i in 0..REGISTER {
                held[i] = step(held[i], line[i]);
            }
        }
        sums = held;
    }
    sums
}

/// Reduces the windows of neighbouring outputs in one row, from output `first` on.
#[inline(always)]
fn strip<T: Copy, A: Copy>(
    [d, h, w]: &[Axis; 3],
    x: &[T],
    at: [usize; 2],
    first: usize,
    sums: &mut [A],
    step: &impl Fn(A, T) -> A,
) {
    // The taps on the input at one of the outputs: a kernel may be far larger than the input.
    let taps = w.inside(first + sums.len() - 1).start..w.inside(first).end;
    for kd in d.inside(at[0]) {
        for kh in h.inside(at[1]) {
            let z = at[0] * d.stride + kd * d.dilation - d.before;
            let v = at[1] * h.stride + kh * h.dilation - h.before;
            let line = &x[(z * h.input + v) * w.input..][..w.input];
            for kw in taps.clone() {
                // An axis along which nothing happens is as long as the line, and needs no divisions.
                let inside =
                    if w.kernel == 1 && w.before == 0 { 0..w.output } else { w.outputs(kw) };
                let from = inside.start.max(first);
                let end = inside.end.min(first + sums.len());
                if from < end {
                    let line = &line[from * w.stride + kw * w.dilation - w.before..];
                    take_in(&mut sums[from - first..end - first], line, w.stride, step);
                }
            }
        }
    }
}

/// Takes elements that are `stride` apart into one sum each. Loops and pairs that the compiler turns into vectors.
#[inline(always)]
fn take_in<T: Copy, A: Copy>(sums: &mut [A], line: &[T], stride: usize, step: &impl Fn(A, T) -> A) {
    match stride {
        1 => {
            for (sum, &x) in sums.iter_mut().zip(line) {
                *sum = step(*sum, x);
            }
        }
        2 => {
            let pairs = line.as_chunks::<2>().0;
            let whole = sums.len().min(pairs.len());
            for (sum, pair) in sums[..whole].iter_mut().zip(pairs) {
                *sum = step(*sum, pair[0]);
            }
            // The last element of the line may have no neighbour.
            for (sum, &x) in sums[whole..].iter_mut().zip(&line[2 * whole..]) {
                *sum = step(*sum, x);
            }
        }
        _ => {
            for (sum, &x) in sums.iter_mut().zip(line.iter().step_by(stride)) {
                *sum = step(*sum, x);
            }
        }
    }
}
