use super::*;
use crate::form::Form;
use crate::kernels::instances::available;

/// Values without a pattern, from a small generator.
fn values(len: usize, seed: u32) -> Vec<f32> {
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
    form.make(w, &mut made);
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

fn dense(shape: Shape, threads: usize) -> Vec<f32> {
    let dense = Dense::new(shape, threads);
    let w = values(shape.groups * shape.filters * shape.channels * shape.taps(), 2);
    let len = shape.images * shape.groups * shape.filters.div_ceil(BLOCK) * shape.plane();
    let mut out = vec![f32::NAN; len];
    let mut scratch = vec![0xFFu8; dense.scratch(threads)];
    dense.run(&input(&shape), &form(Form::Filters(dense.form()), &w), &mut out, &mut scratch, None);
    out
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
        let depthwise = Depthwise::new(shape);
        let mut out = vec![f32::NAN; 2 * channels.div_ceil(BLOCK) * shape.plane()];
        let mut scratch = vec![0xFFu8; depthwise.scratch(3)];
        let w = form(Form::Channels(depthwise.form()), &weights);
        depthwise.run(&x, &w, &mut out, &mut scratch, None);
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
    let plain = dense(shape, 3);
    let made = Dense::new(shape, 3);
    let w = values(40 * 70 * 9, 2);
    let (mut out, mut scratch) = (vec![f32::NAN; plain.len()], vec![0u8; made.scratch(3)]);
    let add = |block: usize, start: usize, run: &mut [f32]| {
        for (i, y) in run.iter_mut().enumerate() {
            *y += (block * 10 + (start + i) % 7) as f32;
        }
    };
    made.run(
        &input(&shape),
        &form(Form::Filters(made.form()), &w),
        &mut out,
        &mut scratch,
        Some(&add),
    );
    for (i, (p, q)) in plain.iter().zip(&out).enumerate() {
        let block = i / shape.plane() % 3;
        assert_eq!(p + (block * 10 + i % 7) as f32, *q, "output {i}");
    }
}

#[test]
fn every_instruction_set_has_tiles_of_whole_blocks() {
    for kernels in available() {
        let whole = kernels.cols % BLOCK == 0 || BLOCK.is_multiple_of(kernels.cols);
        assert!(whole && BLOCK.is_multiple_of(kernels.lanes), "{}", kernels.name);
    }
}
