//! The windows of a deformable convolution, unrolled.

use super::window::operand_types;
use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::convert::cast;
use crate::cpu::{Cpu, CpuCtx, CpuShapes, TensorMeta, TensorMut, TensorRef};
use crate::dtypes::FLOATS;
use crate::float::Float;
use crate::gpu::elementwise::{PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::kernels::window::{Axis, Window};
use crate::parallel::pieces;
use crate::{AttrDef, AttrKind, OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, Attrs, DType, Dim, Tensor};

/// DeformIm2Col.
pub static DEFORM_IM2COL: OpDef = OpDef {
    name: "DeformIm2Col",
    doc: "The taps of the windows over an image [N, C, H, W] as columns [N, C · taps, windows]: each tap is moved by the two \
          numbers that `offset` [N, groups · taps · 2, rows, columns] has for it (down, then right), read between pixels \
          linearly, 0 outside, and multiplied by `mask` [N, groups · taps, rows, columns]. The channels of one of \
          `offset_group` groups share offsets. Dai et al., Deformable Convolutional Networks, 2017; Zhu et al. for the mask.",
    attrs: &[
        AttrDef::str("auto_pad", "NOTSET"),
        AttrDef::opt_ints("dilations"),
        AttrDef::required("kernel_shape", AttrKind::Ints),
        AttrDef::int("offset_group", 1),
        AttrDef::opt_ints("pads"),
        AttrDef::opt_ints("strides"),
    ],
    inputs: &[
        Operand::data("X").of(FLOATS).shaped("N C H W"),
        Operand::data("offset").like(0).shaped("N _ _ _"),
        Operand::opt_data("mask").like(0).shaped("N _ _ _"),
    ],
    infer,
    cpu: Cpu::Kernel { run, scratch },
    gpu: Some(gpu),
    tolerance: Tolerance::SUMS,
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = operand_types(ctx)?;
    let (x, offset) = (ctx.shape(0)?, ctx.shape(1)?);
    if !dtype.is_float() || x.len() != 4 || offset.len() != 4 {
        return Err(InferError::invalid(format!(
            "X is {dtype}{x:?} and offset {offset:?}, expected floats of rank 4"
        )));
    }
    let window = Window::read(ctx.attrs, 2, None)?;
    let places = [window.output(0, &x[2])?, window.output(1, &x[3])?];
    let kernel = ctx.attrs.ints("kernel_shape").expect("the table requires it");
    let taps = kernel.iter().fold(Dim::from(1), |taps, &size| &taps * &Dim::from(size));
    let groups = ctx.attrs.int("offset_group");
    if groups <= 0 || x[1].known().is_some_and(|channels| channels % groups != 0) {
        return Err(InferError::invalid(format!(
            "{} channels in {groups} groups of equal size",
            x[1]
        )));
    }
    for (i, numbers) in [(1, 2), (2, 1)] {
        let Some(facts) = ctx.opt(i) else { continue };
        let Some(found) = &facts.shape else { continue };
        let depth = &(&taps * &Dim::from(groups)) * &Dim::from(numbers);
        let expected = [x[0].clone(), depth, places[0].clone(), places[1].clone()];
        let differs =
            |(f, e): (&Dim, &Dim)| matches!((f.known(), e.known()), (Some(f), Some(e)) if f != e);
        if found.len() != 4 || found.iter().zip(&expected).any(differs) {
            return Err(InferError::invalid(format!(
                "operand {} has shape {found:?}, expected {expected:?}",
                DEFORM_IM2COL.inputs[i].name
            )));
        }
    }
    let rows = &x[1] * &taps;
    Ok(vec![Facts::new(dtype, vec![x[0].clone(), rows, &places[0] * &places[1]])])
}

/// Concrete sizes.
struct Plan {
    images: usize,
    channels: usize,
    groups: usize,
    axes: [Axis; 2],
}

impl Plan {
    fn new(attrs: &Attrs, x: &[usize]) -> Result<Self, OpError> {
        let axes = Window::read(attrs, 2, None)?.axes(&x[2..])?;
        Ok(Self {
            images: x[0],
            channels: x[1],
            groups: attrs.int("offset_group") as usize,
            axes: [axes[0], axes[1]],
        })
    }

    fn taps(&self) -> usize {
        self.axes[0].kernel * self.axes[1].kernel
    }

    fn places(&self) -> usize {
        self.axes[0].output * self.axes[1].output
    }
}

/// The operands in the calculating type, and the result, if they have another one.
fn scratch(shapes: &CpuShapes<'_>) -> usize {
    let metas = || shapes.inputs.iter().chain(shapes.outputs).flatten();
    let direct = metas().all(|m| matches!(m.dtype, DType::F32 | DType::F64));
    if direct { 0 } else { metas().map(TensorMeta::len).sum::<usize>() * size_of::<f32>() }
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let plan = Plan::new(ctx.attrs, ctx.input(0).shape)?;
    let operands = [Some(ctx.input(0)), Some(ctx.input(1)), ctx.opt_input(2)];
    let y = ctx.outputs[0].as_mut().expect("the first result is never omitted");
    match y.dtype {
        DType::F32 => unroll::<f32>(&plan, operands.map(|x| x.map(|x| x.slice())), y.slice()),
        DType::F64 => unroll::<f64>(&plan, operands.map(|x| x.map(|x| x.slice())), y.slice()),
        _ => {
            let mut rest: &mut [f32] = bytemuck::cast_slice_mut(ctx.scratch);
            let mut widened = [None; 3];
            for (to, from) in widened.iter_mut().zip(operands) {
                let Some(from) = from else { continue };
                let (own, behind) = rest.split_at_mut(from.len());
                let bytes = bytemuck::cast_slice_mut(own);
                cast(from, &mut TensorMut { dtype: DType::F32, shape: from.shape, bytes });
                (*to, rest) = (Some(&*own), behind);
            }
            let wide = &mut rest[..y.shape.iter().product()];
            unroll::<f32>(&plan, widened, wide);
            let bytes = bytemuck::cast_slice(wide);
            cast(TensorRef { dtype: DType::F32, shape: y.shape, bytes }, y);
        }
    }
    Ok(())
}

/// One row of the result for each tap of each channel.
fn unroll<W: Float>(plan: &Plan, operands: [Option<&[W]>; 3], y: &mut [W]) {
    let [x, offset, mask] = operands;
    let (x, offset) = (x.expect("required"), offset.expect("required"));
    let (taps, places) = (plan.taps(), plan.places());
    let [down, across] = &plan.axes;
    let plane = down.input * across.input;
    pieces(y, places, 8, |start, y| {
        for (i, y) in y.chunks_exact_mut(places).enumerate() {
            let row = start / places + i;
            let (tap, channel) = (row % taps, row / taps);
            let (image, group) =
                (channel / plan.channels, channel % plan.channels / (plan.channels / plan.groups));
            let pixels = &x[channel * plane..][..plane];
            let set = (image * plan.groups + group) * taps + tap;
            let moves = &offset[set * 2 * places..][..2 * places];
            let (moves_down, moves_across) = moves.split_at(places);
            let line = |axis: &Axis, at: usize, tap: usize, by: W| {
                let fixed = (at * axis.stride + tap * axis.dilation) as f64 - axis.before as f64;
                W::of64(fixed).add(by)
            };
            for (at, y) in y.iter_mut().enumerate() {
                let v = line(down, at / across.output, tap / across.kernel, moves_down[at]);
                let h = line(across, at % across.output, tap % across.kernel, moves_across[at]);
                let value = between(pixels, [down.input, across.input], [v, h]);
                *y = mask.map_or(value, |mask| value.mul(mask[set * places + at]));
            }
        }
    });
}

/// The image between the four pixels around a place; pixels outside count as 0.
fn between<W: Float>(pixels: &[W], [height, width]: [usize; 2], [v, h]: [W; 2]) -> W {
    let (top, left) = (v.floor(), h.floor());
    let shares = |at: W, first: W| [W::ONE.sub(at.sub(first)), at.sub(first)];
    let (rows, columns) = (shares(v, top), shares(h, left));
    let mut sum = W::ZERO;
    for (i, down) in rows.into_iter().enumerate() {
        let Some(row) = top.add(W::of64(i as f64)).index(height) else { continue };
        for (j, across) in columns.into_iter().enumerate() {
            let Some(column) = left.add(W::of64(j as f64)).index(width) else { continue };
            sum = sum.add(down.mul(across).mul(pixels[row * width + column]));
        }
    }
    sum
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    if element_type(x.dtype) != Some("f32") {
        return Ok(None);
    }
    let plan = Plan::new(ctx.attrs, &x.shape)?;
    let masked = ctx.opt_input(2).is_some();
    let mask = if masked { "mask_in[rows * places + at]" } else { "1.0" };
    let binding = "@group(0) @binding(2) var<storage, read> mask_in: array<f32>;";
    let wgsl = render(
        include_str!("deform_im2col.wgsl"),
        &[
            ("mask_binding", if masked { binding } else { "" }),
            ("out", if masked { "3" } else { "2" }),
            ("params", if masked { "4" } else { "3" }),
            ("functions", PRELUDE),
            ("mask", mask),
            ("y", &rounded(x.dtype, "value")),
        ],
    );
    let mut params = vec![y.len() as u32, plan.channels as u32, plan.groups as u32, 0];
    for axis in plan.axes {
        let sizes =
            [axis.input, axis.output, axis.kernel, axis.stride, axis.dilation, axis.before, 0, 0];
        params.extend(sizes.map(|n| n as u32));
    }
    debug_assert_eq!(plan.images * plan.channels * plan.taps() * plan.places(), y.len());
    let operands: &[Bind] = match masked {
        true => &[Bind::In(0), Bind::In(1), Bind::In(2), Bind::Out(0)],
        false => &[Bind::In(0), Bind::In(1), Bind::Out(0)],
    };
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: 0,
        label: "DeformIm2Col".into(),
        wgsl: wgsl.into(),
        binds: operands.to_vec(),
        params,
        groups: ctx.limits.linear(y.len(), 256),
    })))
}

fn cases() -> Vec<Case> {
    let f = |shape: &[usize], v: &[f32]| Tensor::from_slice(shape, v);
    let kernel = |h: i64, w: i64| Attr::Ints(vec![h, w]);
    let x = || f(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let halves = |t: &Tensor| {
        let values = t.as_slice::<f32>().expect("a ramp is of f32");
        let values: Vec<half::f16> = values.iter().map(|&v| half::f16::from_f32(v)).collect();
        Tensor::from_slice(t.shape(), &values)
    };
    let grouped = |x: Tensor, offset: Tensor, mask: Option<Tensor>| {
        Case::new("", vec![x, offset])
            .input(mask)
            .attr("kernel_shape", kernel(3, 2))
            .attr("offset_group", Attr::Int(2))
            .attr("pads", Attr::Ints(vec![1, 0, 1, 1]))
            .attr("strides", Attr::Ints(vec![2, 1]))
            .attr("dilations", Attr::Ints(vec![1, 2]))
    };
    let (image, offset, mask) = (ramp(&[2, 4, 7, 9]), ramp(&[2, 24, 4, 8]), ramp(&[2, 12, 4, 8]));
    vec![
        Case::new(
            "between pixels",
            vec![x(), f(&[1, 2, 2, 2], &[0.5, 0.0, 0.0, 0.0, 0.25, 0.5, 0.0, -1.5])],
        )
        .attr("kernel_shape", kernel(1, 1))
        .expect(vec![f(&[1, 1, 4], &[2.25, 1.0, 3.0, 1.5])]),
        Case::new("with a mask", vec![x(), f(&[1, 2, 2, 2], &[0.0; 8])])
            .input(Some(f(&[1, 1, 2, 2], &[2.0, 0.5, f32::NAN, 0.0])))
            .attr("kernel_shape", kernel(1, 1))
            .expect(vec![f(&[1, 1, 4], &[2.0, 1.0, f32::NAN, 0.0])]),
        Case { name: "groups", ..grouped(image.clone(), offset.clone(), Some(mask.clone())) },
        Case { name: "groups without a mask", ..grouped(image.clone(), offset.clone(), None) },
        Case { name: "halves", ..grouped(halves(&image), halves(&offset), Some(halves(&mask))) },
    ]
}
