//! Blocks put back together to an image.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx};
use crate::dtypes::FLOATS;
use crate::gpu::elementwise::{PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::memory::filled;
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, Attrs, Dim, Tensor};

pub static COL2IM: OpDef = OpDef {
    name: "Col2Im",
    doc: "The image whose sliding blocks are the columns of the operand, overlapping blocks summed: [N, C·block, count] → \
          [N, C, image].",
    onnx: &[OnnxName::since("Col2Im", 18)],
    attrs: &[
        AttrDef::opt_ints("dilations"),
        AttrDef::opt_ints("pads"),
        AttrDef::opt_ints("strides"),
    ],
    inputs: &[
        Operand::data("input").of(FLOATS).shaped("N _ _"),
        Operand::shape("image_shape").shaped("axes"),
        Operand::shape("block_shape").shaped("axes"),
    ],
    outputs: &["output"],
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    tolerance: Tolerance::SUMS,
    cases: || {
        let columns = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let inputs = vec![
            Tensor::from_slice(&[1, 2, 3], &columns),
            Tensor::from_slice(&[2], &[1i64, 4]),
            Tensor::from_slice(&[2], &[1i64, 2]),
        ];
        let y = Tensor::from_slice(&[1, 1, 1, 4], &[1.0f32, 6.0, 8.0, 6.0]);
        let image = vec![
            ramp(&[2, 18, 40]),
            Tensor::from_slice(&[2], &[9i64, 8]),
            Tensor::from_slice(&[2], &[3i64, 3]),
        ];
        vec![
            Case::new("overlapping pairs", inputs).expect(vec![y]),
            Case::new("strides, gaps and edges", image)
                .attr("strides", Attr::Ints(vec![1, 2]))
                .attr("dilations", Attr::Ints(vec![2, 1]))
                .attr("pads", Attr::Ints(vec![2, 1, 1, 2])),
        ]
    },
    ..OpDef::BASE
};

/// One spatial axis.
struct Axis {
    image: usize,
    block: usize,
    dilation: usize,
    stride: usize,
    pad: usize,
    /// Blocks along the axis.
    count: usize,
}

fn axes(attrs: &Attrs, image: &[i64], block: &[i64]) -> Result<Vec<Axis>, OpError> {
    let rank = image.len();
    let list = |name: &str, length: usize, default: i64| match attrs.ints(name) {
        None => Ok(vec![default; length]),
        Some(given) if given.len() == length => Ok(given.to_vec()),
        Some(given) => {
            Err(OpError::new(format!("attribute {name:?} is {given:?}, expected {length} numbers")))
        }
    };
    let (dilations, strides) = (list("dilations", rank, 1)?, list("strides", rank, 1)?);
    let pads = list("pads", 2 * rank, 0)?;
    let axis = |i: usize| {
        let reach = dilations[i].checked_mul(block[i].checked_sub(1)?)?.checked_add(1)?;
        let padded = image[i].checked_add(pads[i])?.checked_add(pads[rank + i])?;
        let room = padded.checked_sub(reach).filter(|&room| room >= 0)?;
        let positive = |n: i64| usize::try_from(n).ok().filter(|&n| n > 0);
        Some(Axis {
            image: usize::try_from(image[i]).ok()?,
            block: positive(block[i])?,
            dilation: positive(dilations[i])?,
            stride: positive(strides[i])?,
            pad: usize::try_from(pads[i]).ok()?,
            count: positive(room / strides[i] + 1)?,
        })
    };
    (0..rank).map(axis).collect::<Option<_>>().ok_or_else(|| {
        OpError::new(format!(
            "blocks {block:?} do not fit the image {image:?} with strides {strides:?}, dilations {dilations:?}, pads {pads:?}"
        ))
    })
}

/// Elements of a block and number of blocks, if they can be counted.
fn sizes(axes: &[Axis]) -> Result<(usize, usize), OpError> {
    let product =
        |of: fn(&Axis) -> usize| axes.iter().try_fold(1usize, |n, axis| n.checked_mul(of(axis)));
    product(|a| a.block)
        .zip(product(|a| a.count))
        .ok_or_else(|| OpError::new("blocks of more elements than can be counted"))
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (x, shape) = (ctx.facts(0)?, ctx.shape(0)?);
    let (image, block) = (ctx.ints(1)?, ctx.ints(2)?);
    let (size, count) = sizes(&axes(ctx.attrs, &image, &block)?)?;
    let (elements, count) = (Dim::from(size), Dim::from(count));
    if shape[2].known().is_some_and(|n| Some(n) != count.known()) {
        return Err(InferError::invalid(format!("{} columns, expected {count}", shape[2])));
    }
    let channels = shape[1].known().ok_or(InferError::NeedsValue(0))?;
    let channels = match elements.known() {
        Some(size) if channels % size == 0 => channels / size,
        _ => {
            return Err(InferError::invalid(format!(
                "{channels} rows, expected the {elements} elements of a block for each channel"
            )));
        }
    };
    let sizes = image.iter().map(|&n| Dim::from(n));
    let out = [shape[0].clone(), Dim::from(channels)].into_iter().chain(sizes).collect();
    Ok(vec![Facts::new(x.dtype, out)])
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let y = ctx.output();
    if element_type(y.dtype) != Some("f32") {
        return Ok(None);
    }
    let known = |i: usize| ctx.value(i).and_then(Tensor::to_i64s);
    let (Some(image), Some(block)) = (known(1), known(2)) else { return Ok(None) };
    let axes = axes(ctx.attrs, &image, &block)?;
    let text = render(
        include_str!("col2im.wgsl"),
        &[
            ("functions", PRELUDE),
            ("words", &(2 * axes.len()).to_string()),
            ("y", &rounded(y.dtype, "sum")),
        ],
    );
    let (elements, count) = sizes(&axes)?;
    let mut params = [y.len(), axes.len(), elements, count].map(|n| n as u32).to_vec();
    for a in &axes {
        let sizes = [a.image, a.block, a.dilation, a.stride, a.pad, a.count, 0, 0];
        params.extend(sizes.map(|n| n as u32));
    }
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: axes.len() + elements * (1 + axes.len()),
        label: "Col2Im".into(),
        wgsl: text.into(),
        binds: vec![Bind::In(0), Bind::Out(0)],
        params,
        groups: ctx.limits.linear(y.len(), 256),
    })))
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let axes = axes(ctx.attrs, ctx.input(1).slice::<i64>(), ctx.input(2).slice::<i64>())?;
    let y = ctx.output();
    let pixels: usize = y.shape[2..].iter().product();
    let (block, count) = sizes(&axes)?;
    let planes = y.shape[0] * y.shape[1];
    let mut columns = filled(block * count, 0.0f64)?;
    let mut image = filled(pixels, 0.0f64)?;
    let size = y.dtype.width();
    for plane in 0..planes {
        f64::load(x.dtype, x.bytes, plane * block * count, &mut columns);
        image.fill(0.0);
        for (at, &value) in columns.iter().enumerate() {
            if let Some(pixel) = pixel(&axes, at / count, at % count) {
                image[pixel] += value;
            }
        }
        f64::store(y.dtype, &image, &mut y.bytes[plane * pixels * size..][..pixels * size]);
    }
    Ok(())
}

/// Where in the image element `inside` of block `block` lies; `None` for what lies in the padding.
fn pixel(axes: &[Axis], mut inside: usize, mut block: usize) -> Option<usize> {
    let (mut at, mut stride) = (0, 1);
    for axis in axes.iter().rev() {
        let place = block % axis.count * axis.stride + inside % axis.block * axis.dilation;
        let place = place.checked_sub(axis.pad).filter(|&place| place < axis.image)?;
        at += place * stride;
        stride *= axis.image;
        inside /= axis.block;
        block /= axis.count;
    }
    Some(at)
}
