//! Images: cropping, affine grids, normalisation across channels, convolutions whose windows are bent.

use super::attention::iota;
use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("CenterCropPad", ALL, center_crop_pad),
    row("AffineGrid", ALL, affine_grid),
    row("LRN", ALL, local_response_normalization),
    row("RoiAlign", (10, 15), roi_align),
    row("DeformConv", ALL, deformable_convolution),
];

/// Until opset 15 corners were not moved by half a pixel.
fn roi_align(call: &mut Call<'_>) -> Result<Last, OpError> {
    let mut last = call.same(call.inputs())?;
    let mode = Attr::Str("output_half_pixel".to_owned());
    last.attrs.insert("coordinate_transformation_mode".to_owned(), mode);
    Ok(last)
}

fn joined(call: &mut Call<'_>, parts: &[ValueId], axis: i64) -> Result<ValueId, OpError> {
    let parts = parts.iter().copied().map(Some).collect();
    let last = call.last("Concat", parts, vec![("axis", Attr::Int(axis))])?;
    call.emit_last(last)
}

/// Each axis cut or filled with zeros on both sides to the asked size; where sides differ, the later one has more.
fn center_crop_pad(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, asked) = (call.input(0)?, call.input(1)?);
    let rank = call.rank(x)? as i64;
    let asked = call.cast(asked, DType::I64)?;
    let axes: Vec<i64> = match call.ints("axes")? {
        Some(axes) => axes.to_vec(),
        None => (0..rank).collect(),
    };
    let axes = call.vector(&axes);
    let sizes = call.sizes(x, 0, rank)?;
    // Negative axes count from the end, as they do in a gather.
    let sizes = call.emit("Gather", [sizes, axes], vec![("axis", Attr::Int(0))])?;
    let (zero, two) = (call.vector(&[0]), call.vector(&[2]));
    let half = |call: &mut Call<'_>, more, less| {
        let all = call.emit("Sub", [more, less], vec![])?;
        let all = call.emit("Max", [all, zero], vec![])?;
        let half = call.emit("Div", [all, two], vec![])?;
        Ok::<_, OpError>((all, half))
    };
    let kept = call.emit("Min", [sizes, asked], vec![])?;
    let (_, start) = half(call, sizes, asked)?;
    let end = call.emit("Add", [start, kept], vec![])?;
    let cut = call.emit("Slice", [x, start, end, axes], vec![])?;
    let (lacks, before) = half(call, asked, sizes)?;
    let behind = call.emit("Sub", [lacks, before], vec![])?;
    let pads = joined(call, &[before, behind], 0)?;
    let nothing = call.scalar_like(x, 0.0)?;
    call.finish("Pad", [cut, pads, nothing, axes], vec![])
}

/// Coordinates of an image's pixels in −1…1, each multiplied by the matrix `theta`.
fn affine_grid(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (theta, size) = (call.input(0)?, call.input(1)?);
    let aligned = call.int("align_corners", 0)? != 0;
    let known = call.facts(theta).shape.as_ref().and_then(|shape| shape.get(1)?.known());
    let spatial = known.ok_or_else(|| OpError::new("the shape of theta must be known"))?;
    let dtype = call.facts(theta).dtype;
    let part = |call: &mut Call<'_>, from: i64, to: i64| {
        let [from, to, axis] = [from, to, 0].map(|n| call.vector(&[n]));
        call.emit("Slice", [size, from, to, axis], vec![])
    };
    let image = part(call, 2, 2 + spatial)?;
    let one = call.scalar_of(dtype, 1.0)?;
    let mut columns = Vec::new();
    for axis in (0..spatial).rev() {
        let count = part(call, 2 + axis, 3 + axis)?;
        let line = pixel_centres(call, count, aligned, dtype)?;
        let behind: Vec<i64> = (1..spatial - axis).collect();
        let behind = call.vector(&behind);
        let line = call.emit("Unsqueeze", [line, behind], vec![])?;
        columns.push(call.emit("Expand", [line, image], vec![])?);
    }
    columns.push(call.emit("Expand", [one, image], vec![])?);
    let last = call.vector(&[-1]);
    let flat = call.vector(&[-1, 1]);
    for column in &mut columns {
        *column = call.emit("Reshape", [*column, flat], vec![])?;
    }
    let points = joined(call, &columns, 1)?;
    let transposed = call.emit("Transpose", [theta], vec![("perm", Attr::Ints(vec![0, 2, 1]))])?;
    let places = call.emit("MatMul", [points, transposed], vec![])?;
    let batch = part(call, 0, 1)?;
    let shape = joined(call, &[batch, image, last], 0)?;
    call.finish("Reshape", [places, shape], vec![])
}

/// The coordinates along an axis of `count` pixels: ±1 are centres if aligned, else edges.
fn pixel_centres(
    call: &mut Call<'_>,
    count: ValueId,
    aligned: bool,
    dtype: DType,
) -> Result<ValueId, OpError> {
    let (one, two) = (call.scalar_of(dtype, 1.0)?, call.scalar_of(dtype, 2.0)?);
    let index = iota(call, count)?;
    let (index, count) = (call.cast(index, dtype)?, call.cast(count, dtype)?);
    let doubled = call.emit("Mul", [index, two], vec![])?;
    if aligned {
        let steps = call.emit("Sub", [count, one], vec![])?;
        let share = call.emit("Div", [doubled, steps], vec![])?;
        return call.emit("Sub", [share, one], vec![]);
    }
    let odd = call.emit("Add", [doubled, one], vec![])?;
    let share = call.emit("Div", [odd, count], vec![])?;
    call.emit("Sub", [share, one], vec![])
}

/// `x / (bias + alpha/size · Σ x²)^beta`, the sum over `size` neighbouring channels: a pool over channels.
fn local_response_normalization(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let size = call.int("size", 1)?;
    let (alpha, beta) = (call.float("alpha", 1e-4)?, call.float("beta", 0.75)?);
    let bias = call.float("bias", 1.0)?;
    let rank = call.rank(x)?;
    if rank < 3 || size < 1 {
        return Err(OpError::new(format!(
            "operand of rank {rank} and size {size}, expected at least 3 and 1"
        )));
    }
    let place = call.vector(&[1]);
    let squares = call.emit("Mul", [x, x], vec![])?;
    let lifted = call.emit("Unsqueeze", [squares, place], vec![])?;
    let mut kernel = vec![1; rank - 1];
    kernel[0] = size;
    let mut pads = vec![0; 2 * (rank - 1)];
    pads[0] = (size - 1) / 2;
    pads[rank - 1] = size - 1 - pads[0];
    let attrs = vec![
        ("kernel_shape", Attr::Ints(kernel)),
        ("pads", Attr::Ints(pads)),
        // What is beyond the channels counts as 0, so that every mean is over `size`.
        ("count_include_pad", Attr::Int(1)),
    ];
    let mean = call.emit("AveragePool", [lifted], attrs)?;
    let mean = call.emit("Squeeze", [mean, place], vec![])?;
    let (alpha, bias) = (call.scalar_like(x, alpha.into())?, call.scalar_like(x, bias.into())?);
    let beta = call.scalar_like(x, beta.into())?;
    let scaled = call.emit("Mul", [mean, alpha], vec![])?;
    let shifted = call.emit("Add", [scaled, bias], vec![])?;
    let power = call.emit("Pow", [shifted, beta], vec![])?;
    call.finish("Div", [x, power], vec![])
}

/// The taps of every window as columns, times the filters: a product of matrices for each group of channels.
fn deformable_convolution(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (x, w, offset) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let Some(&[filters, depth, height, width]) = call.facts(w).concrete().as_deref() else {
        return Err(OpError::new(
            "the shape of W must be known and of rank 4; bent windows are taken over two axes",
        ));
    };
    let group = call.int("group", 1)?;
    if group <= 0 || filters as i64 % group != 0 {
        return Err(OpError::new(format!("{filters} filters in {group} groups of equal size")));
    }
    call.ignore("kernel_shape");
    let columns = call.same_as("DeformIm2Col", vec![Some(x), Some(offset), call.opt(4)])?;
    let taps = (depth * height * width) as i64;
    let columns = with_kernel(columns, &[height as i64, width as i64]);
    let columns = call.emit_last(columns)?;
    let (of_columns, of_filters) =
        (call.vector(&[0, group, taps, -1]), call.vector(&[group, filters as i64 / group, taps]));
    let columns = call.emit("Reshape", [columns, of_columns], vec![])?;
    let matrix = call.emit("Reshape", [w, of_filters], vec![])?;
    let sums = call.emit("MatMul", [matrix, columns], vec![])?;
    let (front, image) = (call.vector(&[0, filters as i64]), call.sizes(offset, 2, 4)?);
    let shape = joined(call, &[front, image], 0)?;
    let Some(shift) = call.opt(3) else { return call.finish("Reshape", [sums, shape], vec![]) };
    let y = call.emit("Reshape", [sums, shape], vec![])?;
    let column = call.vector(&[-1, 1, 1]);
    let shift = call.emit("Reshape", [shift, column], vec![])?;
    call.finish("Add", [y, shift], vec![])
}

fn with_kernel(mut node: Last, kernel: &[i64]) -> Last {
    node.attrs.insert("kernel_shape".to_owned(), Attr::Ints(kernel.to_vec()));
    node
}
