//! Regions of an image, pooled to one size.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx};
use crate::dtypes::FLOATS;
use crate::gpu::elementwise::{PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, outside_wgsl, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::memory::filled;
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, DType, Dim, Tensor};

pub static ROI_ALIGN: OpDef = OpDef {
    name: "RoiAlign",
    doc: "Each region (x₁, y₁, x₂, y₂ times `spatial_scale`) cut into `output_height` × `output_width` bins; a bin is the mean, \
          or the maximum, of `sampling_ratio`² points read between pixels, or of as many as it has pixels.",
    onnx: &[OnnxName::since("RoiAlign", 16)],
    attrs: &[
        AttrDef::str("coordinate_transformation_mode", "half_pixel"),
        AttrDef::str("mode", "avg"),
        AttrDef::int("output_height", 1),
        AttrDef::int("output_width", 1),
        AttrDef::int("sampling_ratio", 0),
        AttrDef::float("spatial_scale", 1.0),
    ],
    inputs: &[
        Operand::data("X").of(FLOATS).shaped("N C H W"),
        Operand::data("rois").of(FLOATS).shaped("regions 4"),
        Operand::data("batch_indices").of(&[DType::I64]).shaped("regions"),
    ],
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    tolerance: Tolerance::SUMS,
    cases: || {
        let x = Tensor::from_slice(&[1, 1, 2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
        let region = Tensor::from_slice(&[1, 4], &[0.0f32, 0.0, 2.0, 2.0]);
        let inputs = vec![x, region, Tensor::from_slice(&[1], &[0i64])];
        let regions = [0.5f32, 1.0, 6.0, 7.5, -2.0, 0.0, 3.0, 3.5, 4.0, 4.0, 4.25, 12.0];
        let several = || {
            let batches = Tensor::from_slice(&[3], &[1i64, 0, 1]);
            let inputs = vec![ramp(&[2, 3, 9, 8]), Tensor::from_slice(&[3, 4], &regions), batches];
            Case::new("", inputs)
                .attr("output_height", Attr::Int(3))
                .attr("output_width", Attr::Int(2))
                .attr("spatial_scale", Attr::Float(0.75))
        };
        let text = |s: &str| Attr::Str(s.to_owned());
        vec![
            Case { name: "as many points as pixels", ..several() },
            Case { name: "greatest", ..several().attr("mode", text("max")) },
            Case {
                name: "not shifted",
                ..several()
                    .attr("coordinate_transformation_mode", text("output_half_pixel"))
                    .attr("sampling_ratio", Attr::Int(2))
            },
            Case::new("the whole image", inputs)
                .attr("sampling_ratio", Attr::Int(1))
                .expect(vec![Tensor::from_slice(&[1, 1, 1, 1], &[2.5f32])]),
        ]
    },
    ..OpDef::BASE
};

/// Points of a bin along an axis; a region with more reaches far out of every image.
const MOST_POINTS: usize = 1 << 12;

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (x, shape, regions) = (ctx.facts(0)?, ctx.shape(0)?, ctx.shape(1)?);
    let ratio = ctx.attrs.int("sampling_ratio");
    if usize::try_from(ratio).is_ok_and(|ratio| ratio > MOST_POINTS) {
        return Err(InferError::invalid(format!(
            "sampling_ratio is {ratio}, expected at most {MOST_POINTS}"
        )));
    }
    let sizes = ["output_height", "output_width"].map(|name| Dim::from(ctx.attrs.int(name)));
    let out = [regions[0].clone(), shape[1].clone()].into_iter().chain(sizes).collect();
    Ok(vec![Facts::new(x.dtype, out)])
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    let types = [x.dtype, ctx.input(1).dtype].map(element_type);
    let &[batches, channels, height, width] = x.shape.as_slice() else { return Ok(None) };
    if types != [Some("f32"); 2] || ctx.input(2).dtype != DType::I64 || x.is_empty() {
        return Ok(None);
    }
    let maxima = ctx.attrs.str("mode") == "max";
    let half = ctx.attrs.str("coordinate_transformation_mode") == "half_pixel";
    let text = render(
        include_str!("roi_align.wgsl"),
        &[
            ("functions", PRELUDE),
            ("outside", &outside_wgsl(4)),
            ("y", &rounded(x.dtype, "result")),
        ],
    );
    let ratio = u32::try_from(ctx.attrs.int("sampling_ratio")).unwrap_or(0);
    let sizes = [y.len(), channels, height, width, y.shape[2], y.shape[3]].map(|n| n as u32);
    let mut params = sizes.to_vec();
    params.extend([ratio, batches as u32, ctx.attrs.float("spatial_scale").to_bits()]);
    params.extend([half.into(), maxima.into(), 0]);
    // Without a ratio the regions decide how many points there are.
    let points = (ratio as usize).saturating_mul(ratio as usize);
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: if ratio == 0 { usize::MAX } else { points },
        label: "RoiAlign".into(),
        wgsl: text.into(),
        binds: (0..3).map(Bind::In).chain([Bind::Out(0), Bind::Outside]).collect(),
        params,
        groups: ctx.limits.linear(y.len(), 64),
    })))
}

/// Two pixels along an axis and the share of the second; `None` outside.
fn between(at: f64, n: usize) -> Option<(usize, usize, f64)> {
    if n == 0 || at.is_nan() || at < -1.0 || at > n as f64 {
        return None;
    }
    let at = at.clamp(0.0, n as f64 - 1.0);
    let low = at as usize;
    Some((low, (low + 1).min(n - 1), at - low as f64))
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, regions, batches) = (ctx.input(0), ctx.input(1), ctx.input(2).slice::<i64>());
    let mut maxima = false;
    match ctx.attrs.str("mode") {
        "avg" => {}
        "max" => maxima = true,
        other => return Err(OpError::new(format!("mode {other:?}, expected avg or max"))),
    }
    let half = ctx.attrs.str("coordinate_transformation_mode") == "half_pixel";
    let (ratio, scale) =
        (ctx.attrs.int("sampling_ratio"), f64::from(ctx.attrs.float("spatial_scale")));
    let (channels, height, width) = (x.shape[1], x.shape[2], x.shape[3]);
    let plane = height * width;
    let y = ctx.output();
    let (rows, columns) = (y.shape[2], y.shape[3]);
    let mut pixels = filled(plane, 0.0f64)?;
    let mut corners = [0.0f64; 4];
    let mut out = filled(rows * columns, 0.0f64)?;
    let size = y.dtype.width();
    for (region, &batch) in batches.iter().enumerate() {
        let batch = usize::try_from(batch).ok().filter(|&batch| batch < x.shape[0]);
        let batch =
            batch.ok_or_else(|| OpError::new("batch_indices has an index that is no batch"))?;
        f64::load(regions.dtype, regions.bytes, region * 4, &mut corners);
        let [x0, y0, x1, y1] = corners.map(|v| v * scale - if half { 0.5 } else { 0.0 });
        // Without the shift of half a pixel regions have at least one.
        let extent = |low: f64, high: f64| if half { high - low } else { (high - low).max(1.0) };
        let (bin_h, bin_w) = (extent(y0, y1) / rows as f64, extent(x0, x1) / columns as f64);
        let points =
            |bin: f64| if ratio > 0 { ratio as usize } else { bin.ceil().max(0.0) as usize };
        let (down, across) = (points(bin_h), points(bin_w));
        if down.max(across) > MOST_POINTS {
            let why = format!(
                "region {region} has bins of {down}×{across} points, more than {MOST_POINTS} along an axis"
            );
            return Err(OpError::new(why));
        }
        for channel in 0..channels {
            f64::load(x.dtype, x.bytes, (batch * channels + channel) * plane, &mut pixels);
            for (bin, slot) in out.iter_mut().enumerate() {
                let (top, left) =
                    (y0 + (bin / columns) as f64 * bin_h, x0 + (bin % columns) as f64 * bin_w);
                let mut best: Option<f64> = None;
                let mut sum = 0.0;
                for point in 0..down * across {
                    let (i, j) = ((point / across) as f64 + 0.5, (point % across) as f64 + 0.5);
                    let v = between(top + i * bin_h / down as f64, height);
                    let h = between(left + j * bin_w / across as f64, width);
                    let shares = v.zip(h).map(|((t, b, dy), (l, r, dx))| {
                        [
                            (1.0 - dy) * (1.0 - dx) * pixels[t * width + l],
                            (1.0 - dy) * dx * pixels[t * width + r],
                            dy * (1.0 - dx) * pixels[b * width + l],
                            dy * dx * pixels[b * width + r],
                        ]
                    });
                    let shares = shares.unwrap_or_default();
                    sum += shares.iter().sum::<f64>();
                    // The standard takes the maximum over weighted pixels, not over points between them.
                    let most = shares.into_iter().fold(f64::NEG_INFINITY, f64::max);
                    best = Some(best.map_or(most, |best| best.max(most)));
                }
                *slot =
                    if maxima { best.unwrap_or(0.0) } else { sum / (down * across).max(1) as f64 };
            }
            let at = (region * channels + channel) * out.len() * size;
            f64::store(y.dtype, &out, &mut y.bytes[at..][..out.len() * size]);
        }
    }
    Ok(())
}
