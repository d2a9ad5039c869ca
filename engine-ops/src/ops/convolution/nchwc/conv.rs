//! Convolution that gives its channels in blocks.

use super::cases::conv as cases;
use crate::chain::{self, Chain};
use crate::cpu::{Cpu, CpuCtx, CpuShapes, CpuStep};
use crate::form::Form;
use crate::infer::{Facts, InferCtx, InferError};
use crate::kernels::nchwc::{BLOCK, Dense, Depthwise, Epilogue, Finish, Shape, Winograd};
use crate::kernels::window::{Axis, Window};
use crate::ops::convolution::window::{ATTRS, groups};
use crate::parallel;
use crate::{AttrDef, AttrKind, OpDef, OpError, Operand, Tolerance};
use crate::{Blocked, Takes, layout};
use engine_format::{AlignedBuf, Attrs, DType, Dim};
use std::sync::Arc;

pub static BLOCKED_CONV: OpDef = OpDef {
    name: "BlockedConv",
    doc: "Conv of two spatial axes with stages applied to every output after the bias. The result has its channels in blocks of \
          16, `[n, ⌈c / 16⌉, h, w, 16]`, as X may have; so have the operands of the stages. Groups are of whole blocks, or of one \
          channel and one filter. What lies beyond the last channel is anything. Written by physical plans, never imported.",
    onnx: &[],
    attrs: &[
        ATTRS[0],
        ATTRS[1],
        ATTRS[2],
        ATTRS[3],
        ATTRS[4],
        ATTRS[5],
        AttrDef { name: "stages", kind: AttrKind::Strs, default: crate::Default::Absent },
        chain::SCALARS,
    ],
    inputs: &[
        Operand::data("X").of(&[DType::F32]),
        Operand::data("W").like(0).or_halves().shaped("M C H W").learned(),
        Operand::opt_data("B").like(0).shaped("M").learned(),
        chain::OPERANDS,
    ],
    variadic_input: true,
    infer,
    cpu: Cpu::Planned(|shapes| Ok(Box::new(Step::new(shapes)?))),
    tolerance: Tolerance::SUMS,
    cases,
    ..OpDef::BASE
};

/// Operands of the convolution itself.
const OWN: usize = 3;

/// Inputs under a window along an axis, and padding, up to which there is a kernel: lines are copied with both.
const MOST: usize = 1 << 14;

/// A Conv or FusedConv as a step over blocks.
pub(in crate::ops) fn blocked(attrs: &Arc<Attrs>, shapes: &CpuShapes<'_>) -> Option<Blocked> {
    let (x, w) = (shapes.inputs[0].as_ref()?, shapes.inputs[1].as_ref()?);
    let result = shapes.outputs[0].as_ref()?;
    let [filters, channels, ..] = w.shape[..] else { return None };
    let groups = groups(attrs).ok()?;
    let depthwise = channels == 1 && filters == groups;
    let whole = groups == 1 || (channels % BLOCK == 0 && (filters / groups) % BLOCK == 0);
    // A matrix times a vector is better off as one.
    let positions = result.shape[2] * result.shape[3];
    shape(attrs, &x.shape, &w.shape)
        .ok()
        .or_else(|| shape(attrs, &layout::blocks(&x.shape)?, &w.shape).ok())?;
    if x.dtype != DType::F32
        || !(whole || depthwise)
        || (positions < 4 && !depthwise)
        || filters < BLOCK / 2
    {
        return None;
    }
    let mut takes =
        vec![if depthwise { Takes::Blocks } else { Takes::Either }, Takes::Rows, Takes::Rows];
    takes.resize(shapes.inputs.len().max(OWN), Takes::Broadcast);
    takes.truncate(shapes.inputs.len());
    Some(Blocked { def: &BLOCKED_CONV, attrs: attrs.clone(), takes, leads: true })
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (x, w) = (ctx.shape(0)?, ctx.shape(1)?);
    let known = |dims: &[Dim]| -> Result<Vec<usize>, InferError> {
        let size = |dim: &Dim| dim.known().and_then(|n| usize::try_from(n).ok());
        let sizes: Option<Vec<usize>> = dims.iter().map(size).collect();
        sizes.ok_or_else(|| {
            InferError::invalid(format!("{dims:?}, physical plans have known sizes"))
        })
    };
    let shape = shape(ctx.attrs, &known(x)?, &known(w)?)?;
    let blocks = (shape.groups * shape.filters).div_ceil(BLOCK);
    let sizes = [shape.images, blocks, shape.h.output, shape.w.output, BLOCK];
    let facts = Facts::new(DType::F32, sizes.map(Dim::from).to_vec());
    chain::infer(ctx, OWN.min(ctx.inputs.len()), vec![facts])
}

/// The convolution, if its blocks are such that there is a kernel.
fn shape(attrs: &Attrs, x: &[usize], w: &[usize]) -> Result<Shape, OpError> {
    let unfit = |why: &str| Err(OpError::new(format!("X {x:?} and W {w:?}: {why}")));
    let (blocks, [images, found, height, width]) = match *x {
        [n, c, h, w] => (false, [n, c, h, w]),
        [n, c, h, w, BLOCK] => (true, [n, c, h, w]),
        _ => return unfit("expected [n, c, h, w] or [n, c / 16, h, w, 16]"),
    };
    let &[all, channels, kh, kw] = w else { return unfit("expected W of four axes") };
    let groups = groups(attrs)?;
    let filters = all / groups;
    let depthwise = channels == 1 && filters == 1;
    let whole = groups == 1 || (channels % BLOCK == 0 && filters % BLOCK == 0);
    if all % groups != 0 || !(whole || (depthwise && blocks)) {
        return unfit(
            "groups of whole blocks, or of one channel and one filter over blocks, are convolved",
        );
    }
    let Some(expected) = channels.checked_mul(groups) else { return unfit("too many channels") };
    if found != if blocks { expected.div_ceil(BLOCK) } else { expected } {
        return unfit("W takes another number of channels");
    }
    let window = Window::read(attrs, 2, Some(&[Dim::from(kh), Dim::from(kw)]))?;
    let axes = window.axes(&[height, width])?;
    let far =
        |a: &Axis| (a.kernel - 1).saturating_mul(a.dilation).max(a.before).max(a.after) > MOST;
    if axes.iter().any(far) {
        return unfit("the window or the padding is too large");
    }
    Ok(Shape { images, groups, channels, filters, h: axes[0], w: axes[1], blocks })
}

enum Algorithm {
    Dense(Dense),
    Depthwise(Depthwise),
    Winograd(Winograd),
}

struct Step {
    algorithm: Algorithm,
    threads: usize,
}

impl Step {
    fn new(shapes: &CpuShapes<'_>) -> Result<Self, OpError> {
        let operand = |i: usize| {
            let meta = shapes.inputs.get(i).and_then(Option::as_ref);
            meta.ok_or_else(|| OpError::new(format!("operand {i} is missing")))
        };
        let mut shape = shape(shapes.attrs, &operand(0)?.shape, &operand(1)?.shape)?;
        if (Axis { stride: 1, dilation: 1, ..shape.w }) == Axis::UNIT {
            // The elements lie as those of a line do, whose outputs are neighbours.
            shape = Shape { h: Axis::UNIT, w: shape.h, ..shape };
        }
        let threads = parallel::threads();
        let depthwise = shape.channels == 1 && shape.filters == 1 && shape.blocks;
        let algorithm = if depthwise {
            Algorithm::Depthwise(Depthwise::new(shape))
        } else if let Some(winograd) = Winograd::new(shape, threads) {
            Algorithm::Winograd(winograd)
        } else {
            Algorithm::Dense(Dense::new(shape, threads))
        };
        Ok(Self { algorithm, threads })
    }

    fn filters(&self) -> Form {
        match &self.algorithm {
            Algorithm::Dense(dense) => Form::Filters(dense.form()),
            Algorithm::Depthwise(depthwise) => Form::Channels(depthwise.form()),
            Algorithm::Winograd(winograd) => Form::Points(winograd.form()),
        }
    }
}

impl CpuStep for Step {
    fn scratch(&self) -> usize {
        match &self.algorithm {
            Algorithm::Dense(dense) => dense.scratch(self.threads),
            Algorithm::Depthwise(depthwise) => depthwise.scratch(self.threads),
            Algorithm::Winograd(winograd) => winograd.scratch(self.threads),
        }
    }

    fn form(&self, i: usize) -> Option<Form> {
        (i == 1).then(|| self.filters())
    }

    fn run(&self, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
        let (x, w, bias) = (ctx.input(0), ctx.input(1), ctx.opt_input(2));
        let bias = bias.map(|b| b.slice::<f32>());
        let out = ctx.outputs[0].as_mut().expect("the first result is never omitted");
        let operands = ctx.inputs.get(OWN..).unwrap_or_default();
        let mut chain = Chain::new(ctx.attrs, operands, out.shape)?;
        let mut take = |pair: &str| chain.as_mut()?.take_lanes(pair, out.shape);
        let (scale, shift) = (take("Mul"), take("Add"));
        let activation = chain.as_mut().map(Chain::take_activation).unwrap_or_default();
        let chain = chain.filter(|chain| !chain.is_empty());
        let apply = chain
            .as_ref()
            .map(|chain| move |start: usize, run: &mut [f32]| chain.apply(start, run));
        let epilogue = apply.as_ref().map(|apply| apply as Epilogue<'_>);
        let finish = Finish { bias, scale, shift, activation, epilogue };
        let mut made;
        let w = match ctx.forms.get(1).copied().flatten() {
            Some(form) => form,
            None => {
                let form = self.filters();
                let bytes = form.len().saturating_mul(size_of::<f32>());
                made =
                    AlignedBuf::try_zeroed(bytes).map_err(|why| OpError::new(why.to_string()))?;
                form.make(w.dtype, w.bytes, bytemuck::cast_slice_mut(&mut made));
                bytemuck::cast_slice(&made)
            }
        };
        let (x, out) = (x.slice::<f32>(), out.slice::<f32>());
        match &self.algorithm {
            Algorithm::Dense(dense) => dense.run(x, w, out, ctx.scratch, finish),
            Algorithm::Depthwise(depthwise) => depthwise.run(x, w, out, ctx.scratch, finish),
            Algorithm::Winograd(winograd) => winograd.run(x, w, out, ctx.scratch, finish),
        }
        Ok(())
    }
}
