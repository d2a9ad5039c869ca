use super::*;
use crate::form::Form;
use crate::kernels::instances::available;
use engine_format::DType;

/// Values without a pattern, from a small generator.
pub(in crate::cpu::kernels) fn values(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn axis(input: usize, kernel: usize, stride: usize, dilation: usize, pads: [usize; 2]) -> Axis {
    let [before, after] = pads;
    let output = (input + before + after - (kernel - 1) * dilation - 1) / stride + 1;
    Axis { input, output, kernel, stride, dilation, before, after }
}

/// A value of an image, wherever its channels lie.
fn at(
    x: &[f32],
    blocks: bool,
    (n, c): (usize, usize),
    channels: usize,
    (h, w): (usize, usize),
    p: usize,
) -> f32 {
    match blocks {
        true => x[((n * channels.div_ceil(BLOCK) + c / BLOCK) * h * w + p) * BLOCK + c % BLOCK],
        false => x[(n * channels + c) * h * w + p],
    }
}

/// Every output by its definition, in `f64`, with the sum of the terms' magnitudes.
fn expected(shape: &Shape, x: &[f32], w: &[f32]) -> Vec<(usize, f64, f64)> {
    let Shape { images, groups, channels, filters, h, w: width, blocks } = *shape;
    let mut all = Vec::new();
    let whole = (groups * filters).div_ceil(BLOCK);
    for (n, o) in (0..images).flat_map(|n| (0..groups * filters).map(move |o| (n, o))) {
        for (oy, ox) in (0..h.output).flat_map(|y| (0..width.output).map(move |x| (y, x))) {
            let (mut sum, mut size) = (0.0, 0.0);
            for (c, kh, kw) in (0..channels).flat_map(|c| {
                (0..h.kernel).flat_map(move |kh| (0..width.kernel).map(move |kw| (c, kh, kw)))
            }) {
                if let (Some(y), Some(v)) = (h.at(oy, kh), width.at(ox, kw)) {
                    let channel = o / filters * channels + c;
                    let place = y * width.input + v;
                    let x = at(
                        x,
                        blocks,
                        (n, channel),
                        groups * channels,
                        (h.input, width.input),
                        place,
                    );
                    let weight = w[((o * channels + c) * h.kernel + kh) * width.kernel + kw];
                    sum += f64::from(x) * f64::from(weight);
                    size += (f64::from(x) * f64::from(weight)).abs();
                }
            }
            let position = oy * width.output + ox;
            let index =
                ((n * whole + o / BLOCK) * h.output * width.output + position) * BLOCK + o % BLOCK;
            all.push((index, sum, size));
        }
    }
    all
}

fn form(form: Form, w: &[f32]) -> Vec<f32> {
    let mut made = vec![f32::NAN; form.len()];
    form.make(DType::F32, bytemuck::cast_slice(w), &mut made);
    made
}

/// Lanes beyond the last channel hold NaN, which nothing may read.
fn input(shape: &Shape) -> Vec<f32> {
    let channels = shape.groups * shape.channels;
    let plane = shape.h.input * shape.w.input;
    if !shape.blocks {
        return values(shape.images * channels * plane, 1);
    }
    let whole = channels.div_ceil(BLOCK);
    let mut x = values(shape.images * whole * plane * BLOCK, 1);
    for (i, x) in x.iter_mut().enumerate() {
        if i / (plane * BLOCK) % whole * BLOCK + i % BLOCK >= channels {
            *x = f32::NAN;
        }
    }
    x
}

/// One of the algorithms for a shape.
enum Made {
    Dense(Dense),
    Depthwise(Depthwise),
    Winograd(Winograd),
}

impl Made {
    /// Sums over taps.
    fn taps(shape: Shape, threads: usize) -> Self {
        match shape.channels == 1 && shape.filters == 1 {
            true => Self::Depthwise(Depthwise::new(shape)),
            false => Self::Dense(Dense::new(shape, threads)),
        }
    }

    fn winograd(shape: Shape, threads: usize) -> Self {
        Self::Winograd(Winograd::new(shape, threads).unwrap_or_else(|| panic!("{shape:?}")))
    }

    /// Every output for the weights `w`; there were NaN before.
    fn run(
        &self,
        shape: &Shape,
        x: &[f32],
        w: &[f32],
        threads: usize,
        finish: Finish<'_>,
    ) -> Vec<f32> {
        let len = shape.images * (shape.groups * shape.filters).div_ceil(BLOCK) * shape.plane();
        let mut out = vec![f32::NAN; len];
        let scratch = |len: usize| vec![0xFFu8; len];
        match self {
            Self::Dense(made) => {
                let w = form(Form::Filters(made.form()), w);
                made.run(x, &w, &mut out, &mut scratch(made.scratch(threads)), finish);
            }
            Self::Depthwise(made) => {
                let w = form(Form::Channels(made.form()), w);
                made.run(x, &w, &mut out, &mut scratch(made.scratch(threads)), finish);
            }
            Self::Winograd(made) => {
                let w = form(Form::Points(made.form()), w);
                made.run(x, &w, &mut out, &mut scratch(made.scratch(threads)), finish);
            }
        }
        out
    }
}

fn weights(shape: &Shape) -> Vec<f32> {
    values(shape.groups * shape.filters * shape.channels * shape.taps(), 2)
}

fn dense(shape: Shape, threads: usize) -> Vec<f32> {
    let made = Made::taps(shape, threads);
    made.run(&shape, &input(&shape), &weights(&shape), threads, Finish::default())
}

/// Images under windows of three by three, several of them with tiles that reach beyond an edge.
fn tiled() -> [Shape; 6] {
    let wide = |input, pads| axis(input, 3, 1, 1, pads);
    [
        (2, 64, 64, wide(14, [1, 1]), wide(14, [1, 1])),
        (1, 16, 16, wide(40, [1, 1]), wide(37, [0, 0])),
        (2, 37, 40, wide(9, [0, 2]), wide(11, [2, 0])),
        (1, 300, 24, wide(16, [5, 6]), wide(13, [7, 0])),
        (3, 20, 9, wide(30, [1, 1]), wide(6, [1, 1])),
        (1, 48, 80, wide(12, [0, 0]), wide(90, [1, 1])),
    ]
    .map(|(images, channels, filters, h, w)| Shape {
        images,
        groups: 1,
        channels,
        filters,
        h,
        w,
        blocks: true,
    })
}

#[test]
fn tiles_by_winograd_are_their_definition() {
    for shape in tiled() {
        let (x, w) = (input(&shape), weights(&shape));
        let run = |threads| {
            Made::winograd(shape, threads).run(&shape, &x, &w, threads, Finish::default())
        };
        let one = run(1);
        // The windows of a tile share their errors: beside large elements even nothing but padding has one.
        let expected = expected(&shape, &x, &w);
        let most = expected.iter().map(|(_, _, size)| *size).fold(0.0, f64::max);
        for (i, sum, _) in expected {
            let off = (f64::from(one[i]) - sum).abs();
            assert!(off <= 5e-7 * most, "{shape:?} output {i}: {} of {sum}", one[i]);
        }
        // How work is cut shows nowhere.
        for threads in [2, 5, 40] {
            assert_eq!(run(threads), one, "{shape:?} on {threads} threads");
        }
    }
}

/// The root of the mean square error beside that of sums over taps, as the documentation has it.
#[test]
fn winograd_is_as_exact_as_it_says() {
    let shape = tiled()[0];
    for (sign, most) in [(false, 2.5), (true, 1.0)] {
        let of = |mut all: Vec<f32>| {
            all.iter_mut().filter(|_| sign).for_each(|x| *x = x.abs());
            all
        };
        let (x, w) = (of(input(&shape)), of(weights(&shape)));
        let expected = expected(&shape, &x, &w);
        let error = |made: Made| {
            let found = made.run(&shape, &x, &w, 1, Finish::default());
            let square = |&(i, sum, _): &(usize, f64, f64)| (f64::from(found[i]) - sum).powi(2);
            expected.iter().map(square).sum::<f64>().sqrt()
        };
        let (tiles, taps) = (error(Made::winograd(shape, 1)), error(Made::taps(shape, 1)));
        assert!(tiles <= most * taps, "of one sign: {sign}, {tiles:e} beside {taps:e}");
    }
}

#[test]
fn winograd_is_for_windows_of_three_and_many_tiles() {
    let plain = tiled()[0];
    let axis = |kernel, stride, dilation| axis(14, kernel, stride, dilation, [1, 1]);
    for (kernel, stride, dilation) in [(3, 2, 1), (3, 1, 2), (5, 1, 1), (1, 1, 1)] {
        let shape = Shape { h: axis(kernel, stride, dilation), ..plain };
        assert!(Winograd::new(shape, 1).is_none(), "{shape:?}");
    }
    let small = axis(3, 1, 1);
    let small = Axis { input: 7, output: 7, ..small };
    let few = Shape { images: 1, channels: 512, filters: 512, h: small, w: small, ..plain };
    assert!(Winograd::new(few, 1).is_none());
    assert!(Winograd::new(Shape { blocks: false, ..plain }, 1).is_none());
    assert!(Winograd::new(Shape { groups: 2, ..plain }, 1).is_none());
}

/// Integers are exact at every step, so that every instruction set gives the same bits as the polynomials do.
#[test]
fn every_instruction_set_evaluates_and_interpolates() {
    use transform::{FAR, Forward, INPUTS, Inverse, NEAR, OUTPUTS, POINTS};
    let points = [0.0, NEAR, -NEAR, FAR, -FAR].map(f64::from);
    // The product of a variable's distances from all points but one, by its coefficients.
    let others = |skip: usize| {
        let mut product = vec![1.0];
        for (_, point) in points.iter().enumerate().filter(|(i, _)| *i != skip) {
            product.push(0.0);
            for at in (0..product.len()).rev() {
                let below = if at > 0 { product[at - 1] } else { 0.0 };
                product[at] = below - point * product[at];
            }
        }
        product.resize(INPUTS, 0.0);
        product
    };
    let powers = |j: usize| -> Vec<f64> {
        let infinite = if j + 1 == OUTPUTS { 1.0 } else { 0.0 };
        points.iter().map(|point| point.powi(j as i32)).chain([infinite]).collect()
    };
    let x: Vec<f32> = values(POINTS * BLOCK, 3).iter().map(|x| (x * 8.0).round()).collect();
    let both = |rows: &[Vec<f64>], lane: usize| -> Vec<f64> {
        let at = |r: &[f64], c: &[f64]| {
            let term = |i: usize| r[i / INPUTS] * c[i % INPUTS] * f64::from(x[i * BLOCK + lane]);
            (0..POINTS).map(term).sum()
        };
        rows.iter().flat_map(|r| rows.iter().map(move |c| at(r, c))).collect()
    };
    let evaluated: Vec<_> = (0..INPUTS).map(others).collect();
    let interpolated: Vec<_> = (0..OUTPUTS).map(powers).collect();
    for kernels in available() {
        let mut v = vec![f32::NAN; POINTS * BLOCK];
        let forward =
            Forward { x: x.as_ptr(), row: INPUTS * BLOCK, v: v.as_mut_ptr(), point: BLOCK };
        // SAFETY: there are six by six elements, and as many points.
        unsafe { (kernels.forward)(&forward) };
        let mut y = vec![7.0; OUTPUTS * OUTPUTS * BLOCK];
        let ending = Ending {
            bias: std::ptr::null(),
            scale: std::ptr::null(),
            shift: std::ptr::null(),
            activation: Activation::Identity,
        };
        let (m, y_first) = (x.as_ptr(), y.as_mut_ptr());
        let row = OUTPUTS * BLOCK;
        let inverse =
            Inverse { m, point: BLOCK, y: y_first, row, there: (3, OUTPUTS), ending, lane: 0 };
        // SAFETY: there are six by six sums, and outputs for more rows than are there.
        unsafe { (kernels.inverse)(&inverse) };
        for lane in 0..BLOCK {
            for (i, expected) in both(&evaluated, lane).into_iter().enumerate() {
                let found = f64::from(v[i * BLOCK + lane]);
                assert_eq!(found, expected, "{} point {i}", kernels.name);
            }
            for (i, expected) in both(&interpolated, lane).into_iter().enumerate() {
                let expected = if i / OUTPUTS < 3 { expected } else { 7.0 };
                assert_eq!(f64::from(y[i * BLOCK + lane]), expected, "{} {i}", kernels.name);
            }
        }
    }
}

#[test]
fn dense_convolutions_are_their_definition() {
    let plain = |n| axis(n, 1, 1, 1, [0, 0]);
    for (groups, channels, filters, h, w, blocks) in [
        (1, 37, 40, plain(5), plain(7), true),
        (1, 64, 96, plain(14), plain(14), true),
        (1, 300, 20, plain(9), plain(11), true),
        (1, 3, 24, axis(20, 3, 2, 1, [1, 1]), axis(21, 3, 2, 1, [1, 1]), false),
        (1, 35, 33, axis(6, 3, 1, 1, [1, 1]), axis(30, 3, 1, 1, [1, 1]), false),
        (1, 20, 48, axis(9, 3, 1, 1, [0, 2]), axis(13, 2, 1, 2, [3, 0]), true),
        (1, 32, 16, axis(9, 1, 2, 1, [0, 0]), axis(9, 1, 2, 1, [0, 0]), true),
        (1, 40, 17, axis(8, 3, 1, 2, [0, 0]), axis(40, 5, 3, 1, [0, 0]), true),
        (2, 32, 16, axis(5, 3, 1, 1, [1, 1]), axis(6, 3, 1, 1, [1, 1]), true),
        (1, 5, 16, axis(2, 5, 1, 1, [6, 4]), axis(3, 2, 2, 3, [9, 1]), false),
    ] {
        let shape = Shape { images: 2, groups, channels, filters, h, w, blocks };
        let weights = values(groups * filters * channels * shape.taps(), 2);
        let expected = expected(&shape, &input(&shape), &weights);
        let one = dense(shape, 1);
        for (i, sum, size) in expected {
            let off = (f64::from(one[i]) - sum).abs();
            assert!(off <= 1e-6 * size + 1e-12, "{shape:?} output {i}: {} of {sum}", one[i]);
        }
        // How work is cut shows nowhere.
        for threads in [2, 5] {
            assert_eq!(dense(shape, threads), one, "{shape:?} on {threads} threads");
        }
    }
}

#[test]
fn depthwise_convolutions_are_their_definition() {
    for (channels, h, w) in [
        (20, axis(9, 3, 1, 1, [1, 1]), axis(30, 3, 1, 1, [1, 1])),
        (16, axis(5, 5, 2, 1, [2, 9]), axis(4, 7, 2, 2, [9, 9])),
        (3, axis(12, 3, 2, 1, [0, 1]), axis(12, 3, 2, 1, [0, 1])),
        (33, axis(4, 2, 1, 3, [0, 0]), axis(60, 5, 1, 1, [2, 2])),
        (40, axis(7, 5, 1, 1, [2, 2]), axis(7, 5, 1, 1, [2, 2])),
        (8, axis(300, 3, 1, 2, [2, 2]), axis(30, 3, 1, 2, [1, 3])),
        (8, axis(3, 9, 1, 1, [4, 4]), axis(2, 9, 1, 1, [4, 4])),
    ] {
        let shape =
            Shape { images: 2, groups: channels, channels: 1, filters: 1, h, w, blocks: true };
        let x: Vec<f32> = input(&shape).iter().map(|x| if x.is_nan() { 0.0 } else { *x }).collect();
        let weights = values(channels * shape.taps(), 2);
        let out = Made::taps(shape, 3).run(&shape, &x, &weights, 3, Finish::default());
        for (i, sum, size) in expected(&shape, &x, &weights) {
            let off = (f64::from(out[i]) - sum).abs();
            assert!(off <= 1e-6 * size + 1e-12, "{shape:?} output {i}: {} of {sum}", out[i]);
        }
    }
}

#[test]
fn the_epilogue_sees_every_output_once_and_finished() {
    let shape = Shape {
        images: 2,
        groups: 1,
        channels: 70,
        filters: 40,
        h: axis(13, 3, 1, 1, [1, 1]),
        w: axis(17, 3, 1, 1, [1, 1]),
        blocks: true,
    };
    for made in [Made::taps(shape, 3), Made::winograd(shape, 3)] {
        let run = |finish| made.run(&shape, &input(&shape), &weights(&shape), 3, finish);
        let add = |start: usize, run: &mut [f32]| {
            for (i, y) in run.iter_mut().enumerate() {
                *y += ((start + i) % 7) as f32;
            }
        };
        let plain = run(Finish::default());
        let added = run(Finish { epilogue: Some(&add), ..Finish::default() });
        for (i, (p, q)) in plain.iter().zip(&added).enumerate() {
            assert_eq!(p + (i % 7) as f32, *q, "output {i}");
        }
    }
}

const ACTIVATIONS: [Activation; 4] = [
    Activation::Identity,
    Activation::Clamp(0.0, f32::INFINITY),
    Activation::Clamp(-0.25, 0.5),
    Activation::HardSwish,
];

/// Whether there is a bias, a scale, a shift.
const SOME: [[bool; 3]; 5] = [
    [false, false, false],
    [true, false, false],
    [false, true, true],
    [true, true, false],
    [true, true, true],
];

/// A sum as it ends, by the definitions of the operators.
fn ended(sum: f32, [bias, scale, shift]: [Option<f32>; 3], activation: Activation) -> f32 {
    let x = bias.map_or(sum, |bias| sum + bias);
    let x = scale.map_or(x, |scale| x * scale);
    let x = shift.map_or(x, |shift| x + shift);
    match activation {
        Activation::Identity => x,
        Activation::Clamp(low, _) if x < low => low,
        Activation::Clamp(_, high) if x > high => high,
        Activation::Clamp(..) => x,
        Activation::HardSwish => x * (x * (1.0 / 6.0) + 0.5).clamp(0.0, 1.0),
    }
}

#[test]
fn sums_end_with_bias_scale_shift_and_activation() {
    let h = axis(13, 3, 1, 1, [1, 1]);
    // Several chunks of terms, a last block of filters that is not full, groups; and each channel by itself.
    let shape = |(groups, channels, filters)| Shape {
        images: 2,
        groups,
        channels,
        filters,
        h,
        w: h,
        blocks: true,
    };
    let taps = [(1, 70, 40), (2, 32, 32), (24, 1, 1)].map(shape);
    let made = taps.map(|shape| (shape, Made::taps(shape, 3)));
    for (shape, made) in made.into_iter().chain([(taps[0], Made::winograd(taps[0], 3))]) {
        let all = shape.groups * shape.filters;
        let (x, w) = (input(&shape), weights(&shape));
        let run = |finish| made.run(&shape, &x, &w, 3, finish);
        let (plain, bias) = (run(Finish::default()), values(all, 3));
        let lanes = all.div_ceil(BLOCK) * BLOCK;
        let (scale, shift) = (values(lanes, 4), values(lanes, 5));
        for (activation, some) in ACTIVATIONS.into_iter().flat_map(|a| SOME.map(|some| (a, some))) {
            let [bias, scale, shift] = [(&bias, some[0]), (&scale, some[1]), (&shift, some[2])]
                .map(|(all, some)| some.then_some(all.as_slice()));
            let found = run(Finish { bias, scale, shift, activation, epilogue: None });
            for (i, (&sum, found)) in plain.iter().zip(found).enumerate() {
                let filter = i / shape.plane() % all.div_ceil(BLOCK) * BLOCK + i % BLOCK;
                let of = |all: &[f32]| all.get(filter).copied().unwrap_or(0.0);
                let expected = ended(sum, [bias, scale, shift].map(|all| all.map(of)), activation);
                assert_eq!(found.to_bits(), expected.to_bits(), "{i} {activation:?} of {sum}");
            }
        }
    }
}

/// One tap with the weight 1 leaves the values as they are, so that odd ones come to the end too.
#[test]
fn every_instruction_set_ends_sums_alike() {
    let odd = [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -3.0, 3.0, 0.4, -0.3, 1e-40];
    for kernels in available() {
        let x: Vec<f32> = (0..kernels.rows * BLOCK).map(|i| odd[i % odd.len()]).collect();
        let (ones, added) = ([1.0; BLOCK], [4, 5, 6].map(|seed| values(BLOCK, seed)));
        for (activation, some) in ACTIVATIONS.into_iter().flat_map(|a| SOME.map(|some| (a, some))) {
            let of = |i: usize| if some[i] { added[i].as_ptr() } else { std::ptr::null() };
            let mut out = vec![0.0; x.len()];
            let lanes = tile::Lanes {
                x: x.as_ptr(),
                step: BLOCK,
                rows: (1, 0),
                cols: (1, 0),
                w: ones.as_ptr(),
                w_row: 0,
                y: out.as_mut_ptr(),
                positions: kernels.rows,
                ending: Ending { bias: of(0), scale: of(1), shift: of(2), activation },
            };
            // SAFETY: there are values, a weight and outputs for every position and lane, and biases, scales and shifts for every lane.
            unsafe { (kernels.lanes_of_taps)(&lanes) };
            for (i, (&x, found)) in x.iter().zip(out).enumerate() {
                // The sum begins with zero, which takes the sign from another zero.
                let of = |at: usize| some[at].then(|| added[at][i % BLOCK]);
                let expected = ended(0.0 + x, [0, 1, 2].map(of), activation);
                let same =
                    found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
                assert!(same, "{} {activation:?} of {x}: {found}", kernels.name);
            }
        }
    }
}

#[test]
fn every_instruction_set_has_tiles_of_whole_blocks() {
    for kernels in available() {
        let whole = kernels.cols % BLOCK == 0 || BLOCK.is_multiple_of(kernels.cols);
        assert!(kernels.cols <= TILE_BLOCKS * BLOCK, "{}", kernels.name);
        assert!(whole && BLOCK.is_multiple_of(kernels.lanes), "{}", kernels.name);
    }
}

/// Windows with and without padding, and with odd values, which only some windows see.
#[test]
fn the_greatest_elements_of_windows_are_by_definition() {
    for (h, w) in [
        (axis(6, 2, 2, 1, [0, 0]), axis(10, 2, 2, 1, [0, 0])),
        (axis(5, 3, 1, 1, [1, 1]), axis(9, 3, 2, 1, [1, 1])),
        (axis(7, 2, 1, 3, [0, 2]), axis(4, 3, 1, 2, [5, 4])),
        (axis(1, 1, 1, 1, [0, 0]), axis(20, 5, 5, 1, [0, 0])),
    ] {
        for odd in [&[][..], &[f32::NAN], &[-0.0, 0.0], &[f32::INFINITY, f32::NEG_INFINITY]] {
            let mut x = values(3 * h.input * w.input * BLOCK, 7);
            for (i, &value) in odd.iter().cycle().take(20 * odd.len()).enumerate() {
                let len = x.len();
                x[i * 577 % len] = value;
            }
            let mut y = vec![7.0; 3 * h.output * w.output * BLOCK];
            greatest(&h, &w, &x, &mut y);
            for (i, &found) in y.iter().enumerate() {
                let (lane, position) = (i % BLOCK, i / BLOCK);
                let (plane, row) = (position / w.output / h.output, position / w.output % h.output);
                let mut most = f32::NEG_INFINITY;
                for (kh, kw) in (0..h.kernel).flat_map(|kh| (0..w.kernel).map(move |kw| (kh, kw))) {
                    let (Some(v), Some(u)) = (h.at(row, kh), w.at(position % w.output, kw)) else {
                        continue;
                    };
                    let x = x[((plane * h.input + v) * w.input + u) * BLOCK + lane];
                    most = if most.is_nan() || !(x > most || x.is_nan()) { most } else { x };
                }
                let same = found.to_bits() == most.to_bits() || (found.is_nan() && most.is_nan());
                assert!(same, "{h:?} {w:?} {odd:?}: output {i} is {found}, not {most}");
            }
        }
    }
}

#[test]
fn every_instruction_set_finds_the_greatest() {
    let x = values(5 * BLOCK, 9);
    for kernels in available() {
        let mut y = [0.0; 2 * BLOCK];
        let (step, cols) = (2 * BLOCK, (3, BLOCK));
        let windows = tile::Greatest {
            x: x.as_ptr(),
            step,
            rows: (1, 0),
            cols,
            y: y.as_mut_ptr(),
            positions: 2,
        };
        // SAFETY: two windows of three columns, two apart, are on the five there are.
        assert!(unsafe { (kernels.greatest)(&windows) }, "{}", kernels.name);
        for (i, found) in y.iter().enumerate() {
            let first = i / BLOCK * step + i % BLOCK;
            let expected = x[first].max(x[first + BLOCK]).max(x[first + 2 * BLOCK]);
            assert_eq!(*found, expected, "{} output {i}", kernels.name);
        }
    }
}
