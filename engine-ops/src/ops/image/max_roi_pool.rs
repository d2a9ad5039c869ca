//! The greatest pixels of regions of an image, whose corners are rounded to pixels.

use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx};
use crate::dtypes::FLOATS;
use crate::gpu::elementwise::{PRELUDE, element_type};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, outside_wgsl, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::memory::filled;
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use crate::{AttrKind, AttrsExt};
use engine_format::{Attr, Attrs, Dim, Tensor};

pub static MAX_ROI_POOL: OpDef = OpDef {
    name: "MaxRoiPool",
    doc: "Each region (batch, x₁, y₁, x₂, y₂; corners times `spatial_scale`, rounded, both inside) cut into `pooled_shape` bins, which \
          may share pixels; the greatest pixel of each bin, NaN if one is, 0 where a bin has none.",
    onnx: &[OnnxName::since("MaxRoiPool", 1)],
    attrs: &[
        AttrDef::required("pooled_shape", AttrKind::Ints),
        AttrDef::float("spatial_scale", 1.0),
    ],
    inputs: &[
        Operand::data("X").of(FLOATS).shaped("N C H W"),
        Operand::data("rois").like(0).shaped("regions 5"),
    ],
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    tolerance: Tolerance::EXACT,
    cases,
    ..OpDef::BASE
};

/// No pixel is farther from an image's corner.
const FARTHEST: f32 = (1 << 29) as f32;

fn pooled(attrs: &Attrs) -> Result<[usize; 2], OpError> {
    let sizes = attrs.ints("pooled_shape").unwrap_or_default();
    let one = |size: &i64| u32::try_from(*size).ok().filter(|&size| size > 0);
    match *sizes.iter().map(one).collect::<Vec<_>>() {
        [Some(rows), Some(columns)] => Ok([rows as usize, columns as usize]),
        _ => Err(OpError::new(format!("pooled_shape {sizes:?}, expected two sizes of at least 1"))),
    }
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (x, shape, regions) = (ctx.facts(0)?, ctx.shape(0)?, ctx.shape(1)?);
    let [rows, columns] = pooled(ctx.attrs)?;
    let sizes = [regions[0].clone(), shape[1].clone(), Dim::from(rows), Dim::from(columns)];
    Ok(vec![Facts::new(x.dtype, sizes.to_vec())])
}

/// Where the pixels of each bin of a region begin and end along an axis of `size` pixels. Bins are cut in whole numbers, so that they are
/// the same on every device.
fn bins(low: f32, high: f32, count: usize, size: usize) -> Vec<(usize, usize)> {
    // What is no number becomes 0, as a cast has it.
    let [low, high] = [low, high].map(|at| at.round().clamp(-FARTHEST, FARTHEST) as i64);
    let (extent, count) = ((high - low + 1).max(1), count as i64);
    let inside = |at: i64| at.clamp(0, size as i64) as usize;
    let bin = |i: i64| {
        let (begin, end) = (i * extent / count, ((i + 1) * extent + count - 1) / count);
        (inside(low + begin), inside(low + end))
    };
    (0..count).map(bin).collect()
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, regions) = (ctx.input(0), ctx.input(1));
    let [rows, columns] = pooled(ctx.attrs)?;
    let scale = ctx.attrs.float("spatial_scale");
    let &[batches, channels, height, width] = x.shape else {
        return Err(OpError::new(format!("X has shape {:?}, expected rank 4", x.shape)));
    };
    let plane = height * width;
    let y = ctx.output();
    let mut pixels = filled(plane, 0f64)?;
    let mut out = filled(rows * columns, 0f64)?;
    let bytes = out.len() * y.dtype.width();
    for region in 0..regions.shape[0] {
        let mut numbers = [0f64; 5];
        f64::load(regions.dtype, regions.bytes, region * 5, &mut numbers);
        let [batch, corners @ ..] = numbers.map(|number| number as f32);
        if !(0.0..batches as f32).contains(&batch) {
            return Err(OpError::new(format!(
                "region {region} is of batch {batch}, expected one of {batches}"
            )));
        }
        let [x0, y0, x1, y1] = corners.map(|corner| corner * scale);
        let (down, across) = (bins(y0, y1, rows, height), bins(x0, x1, columns, width));
        for channel in 0..channels {
            f64::load(x.dtype, x.bytes, (batch as usize * channels + channel) * plane, &mut pixels);
            for (bin, slot) in out.iter_mut().enumerate() {
                let ((top, bottom), (left, right)) = (down[bin / columns], across[bin % columns]);
                let lines = (top..bottom).filter(|_| left < right);
                let inside = lines.flat_map(|row| &pixels[row * width..][left..right]);
                let greater = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
                *slot = inside.copied().reduce(greater).unwrap_or(0.0);
            }
            let at = (region * channels + channel) * bytes;
            f64::store(y.dtype, &out, &mut y.bytes[at..][..bytes]);
        }
    }
    Ok(())
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    let &[batches, channels, height, width] = x.shape.as_slice() else { return Ok(None) };
    if element_type(x.dtype) != Some("f32") || x.is_empty() {
        return Ok(None);
    }
    let sizes = [y.len(), batches, channels, height, width, y.shape[2], y.shape[3]];
    let mut params = sizes.map(|n| n as u32).to_vec();
    params.push(ctx.attrs.float("spatial_scale").to_bits());
    let parts = [("functions", PRELUDE), ("outside", &outside_wgsl(3))];
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: height * (1 + width),
        label: "MaxRoiPool".into(),
        wgsl: render(include_str!("max_roi_pool.wgsl"), &parts).into(),
        binds: vec![Bind::In(0), Bind::In(1), Bind::Out(0), Bind::Outside],
        params,
        groups: ctx.limits.linear(y.len(), 64),
    })))
}

fn cases() -> Vec<Case> {
    let x = || {
        let values: Vec<f32> = (0..36).map(|i| i as f32).collect();
        Tensor::from_slice(&[1, 1, 6, 6], &values)
    };
    let pool = |name, x: Tensor, rois: &[f32], shape: &[i64]| {
        let rois = Tensor::from_slice(&[rois.len() / 5, 5], rois);
        Case::new(name, vec![x, rois]).attr("pooled_shape", Attr::Ints(shape.to_vec()))
    };
    let several = [
        0.0, 0.5, 1.0, 6.0, 7.5, 1.0, -2.0, 0.0, 3.0, 3.5, 1.0, 4.0, 4.0, 4.25, 12.0, 0.0, 6.0,
        6.0, 2.0, 3.0,
    ];
    let mut holed = ramp(&[1, 2, 5, 5]).as_slice::<f32>().unwrap_or_default().to_vec();
    holed[7] = f32::NAN;
    vec![
        pool("even bins", x(), &[0.0, 0.0, 0.0, 3.0, 3.0], &[2, 2])
            .expect(vec![Tensor::from_slice(&[1, 1, 2, 2], &[7.0f32, 9.0, 19.0, 21.0])]),
        // Three pixels in two bins: the middle one is in both.
        pool("bins that share pixels", x(), &[0.0, 1.0, 1.0, 3.0, 3.0], &[2, 2])
            .expect(vec![Tensor::from_slice(&[1, 1, 2, 2], &[14.0f32, 15.0, 20.0, 21.0])]),
        pool("outside there is nothing", x(), &[0.0, 8.0, 8.0, 9.0, 9.0], &[1, 1])
            .expect(vec![Tensor::from_slice(&[1, 1, 1, 1], &[0.0f32])]),
        pool("halves are rounded away from zero", x(), &[0.0, 1.0, 1.0, 5.0, 5.0], &[1, 1])
            .attr("spatial_scale", Attr::Float(0.5))
            .expect(vec![Tensor::from_slice(&[1, 1, 1, 1], &[21.0f32])]),
        pool("several", ramp(&[2, 3, 9, 8]), &several, &[3, 2])
            .attr("spatial_scale", Attr::Float(0.75)),
        pool(
            "what is no number stays",
            Tensor::from_slice(&[1, 2, 5, 5], &holed),
            &[0.0, 0.0, 0.0, 4.0, 4.0],
            &[2, 2],
        ),
        pool("no regions", x(), &[], &[2, 2]).expect(vec![ramp(&[0, 1, 2, 2])]),
    ]
}
