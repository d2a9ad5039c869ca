//! Transposed convolution over one, two or three spatial axes.

use crate::AttrsExt;
use crate::case::{Case, ramp, ramp_of};
use crate::chain::{self, Chain, Finish};
use crate::cpu::{Cpu, CpuCtx, TensorMeta, planned};
use crate::dtypes::FLOATS;
use crate::gpu::halves::Lying;
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, narrowing, render, wgsl_type};
use crate::infer::{Facts, InferCtx, InferError};
use crate::kernels::blocked::Term;
use crate::kernels::transposed::{Epilogue, Shape, Transposed, sources};
use crate::kernels::window::{Axis, three, volume};
use crate::ops::convolution::window::{axis_params, groups};
use crate::parallel;
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand, Tolerance, for_dtype};
use engine_format::{Attr, Attrs, DType, Dim, Tensor};
use half::{bf16, f16};

pub static CONV_TRANSPOSE: OpDef = OpDef {
    name: "ConvTranspose",
    doc: "`Y[n, o, p] = B[o] + Σ X[n, c, i] · W[c, o, t]` over the channels c of o's group, the taps t and the inputs i with \
          `p = i·stride + t·dilation − before`: what Conv takes to X it takes back.",
    onnx: &[OnnxName::since("ConvTranspose", 1)],
    attrs: &[
        AttrDef::str("auto_pad", "NOTSET"),
        AttrDef::opt_ints("dilations"),
        AttrDef::int("group", 1),
        AttrDef::opt_ints("kernel_shape"),
        AttrDef::opt_ints("output_padding"),
        AttrDef::opt_ints("output_shape"),
        AttrDef::opt_ints("pads"),
        AttrDef::opt_ints("strides"),
    ],
    inputs: &[
        Operand::data("X").of(FLOATS).shaped("N C ..."),
        Operand::data("W").like(0).shaped("C _ ...").learned(),
        Operand::opt_data("B").like(0).shaped("_").learned(),
    ],
    kind: Kind::Compute,
    infer,
    cpu: Cpu::Planned(|shapes| {
        let (x, w) = (shapes.input(0), shapes.input(1));
        let plan = Plan::new(shapes.attrs, &x.shape, &w.shape)?;
        let by_product = plan.by_product(x);
        let scratch = by_product.as_ref().map_or(0, |made| made.scratch(parallel::threads()));
        planned((plan, by_product), scratch, run)
    }),
    gpu: Some(gpu),
    tolerance: Tolerance::SUMS,
    cases,
    fused: Some(&FUSED_CONV_TRANSPOSE),
    ..OpDef::BASE
};

pub static FUSED_CONV_TRANSPOSE: OpDef = OpDef {
    name: "FusedConvTranspose",
    doc: "ConvTranspose with stages applied to every output after the bias. Written by the builder's passes, never imported.",
    onnx: &[],
    attrs: &[
        CONV_TRANSPOSE.attrs[0],
        CONV_TRANSPOSE.attrs[1],
        CONV_TRANSPOSE.attrs[2],
        CONV_TRANSPOSE.attrs[3],
        CONV_TRANSPOSE.attrs[4],
        CONV_TRANSPOSE.attrs[5],
        CONV_TRANSPOSE.attrs[6],
        CONV_TRANSPOSE.attrs[7],
        chain::STAGES,
        chain::SCALARS,
    ],
    inputs: &[
        CONV_TRANSPOSE.inputs[0],
        CONV_TRANSPOSE.inputs[1].or_halves(),
        CONV_TRANSPOSE.inputs[2],
        chain::OPERANDS,
    ],
    variadic_input: true,
    infer: |ctx| chain::infer(ctx, OWN, infer(ctx)?),
    cases: fused_cases,
    fused: None,
    ..CONV_TRANSPOSE
};

/// Operands of the convolution itself.
const OWN: usize = 3;

/// One axis of the attributes.
struct Spread {
    kernel: Dim,
    stride: i64,
    dilation: i64,
    extra: i64,
}

/// Integers of an attribute, one an axis, or a default.
fn list(attrs: &Attrs, name: &str, len: usize, default: i64) -> Result<Vec<i64>, OpError> {
    match attrs.ints(name) {
        None => Ok(vec![default; len]),
        Some(v) if v.len() == len && v.iter().all(|&v| (0..=i64::from(u32::MAX)).contains(&v)) => {
            Ok(v.to_vec())
        }
        Some(v) => {
            let message = format!("attribute {name:?} is {v:?}, expected {len} of at least 0");
            Err(OpError::new(message))
        }
    }
}

fn spreads(attrs: &Attrs, weight: &[Dim]) -> Result<Vec<Spread>, OpError> {
    let rank = weight.len();
    let (strides, dilations) =
        (list(attrs, "strides", rank, 1)?, list(attrs, "dilations", rank, 1)?);
    let extra = list(attrs, "output_padding", rank, 0)?;
    if strides.iter().chain(&dilations).any(|&v| v == 0) {
        return Err(OpError::new(format!(
            "strides {strides:?}, dilations {dilations:?}; at least 1"
        )));
    }
    if let Some(stated) = attrs.ints("kernel_shape") {
        let same = |(s, w): (&i64, &Dim)| w.known().is_none_or(|w| w == *s);
        if stated.len() != rank || !stated.iter().zip(weight).all(same) {
            return Err(OpError::new(format!("kernel_shape {stated:?} of a weight {weight:?}")));
        }
    }
    if weight.iter().any(|size| size.known() == Some(0)) {
        return Err(OpError::new(format!("a kernel of size 0: {weight:?}")));
    }
    let one = |i: usize| Spread {
        kernel: weight[i].clone(),
        stride: strides[i],
        dilation: dilations[i],
        extra: extra[i],
    };
    Ok((0..rank).map(one).collect())
}

impl Spread {
    /// Elements that an input of this size reaches, without padding.
    fn reach(&self, input: &Dim) -> Dim {
        let steps = &(input - &Dim::from(1)) * &Dim::from(self.stride);
        let taps = &(&self.kernel - &Dim::from(1)) * &Dim::from(self.dilation);
        &(&steps + &taps) + &Dim::from(1 + self.extra)
    }
}

/// Output size of each axis, and the padding cut off before it as far as it is known.
fn sizes(attrs: &Attrs, input: &[Dim], weight: &[Dim]) -> Result<Vec<(Dim, Option<i64>)>, OpError> {
    let rank = input.len();
    let spreads = spreads(attrs, weight)?;
    let pads = list(attrs, "pads", 2 * rank, 0)?;
    let auto = attrs.str("auto_pad");
    if !["NOTSET", "", "SAME_UPPER", "SAME_LOWER", "VALID"].contains(&auto) {
        let message = format!("auto_pad {auto:?}; takes NOTSET, SAME_UPPER, SAME_LOWER and VALID");
        return Err(OpError::new(message));
    }
    let stated = match attrs.ints("output_shape") {
        Some(shape) if shape.len() < rank => {
            let message = format!("output_shape {shape:?}, expected {rank} sizes");
            return Err(OpError::new(message));
        }
        // Some exporters state batch and channels too.
        stated => stated.map(|shape| &shape[shape.len() - rank..]),
    };
    let axis = |(i, spread): (usize, &Spread)| {
        let reach = spread.reach(&input[i]);
        let same = auto.starts_with("SAME");
        let output = match stated {
            Some(stated) => Dim::from(stated[i]),
            None if same => &input[i] * &Dim::from(spread.stride),
            None if auto == "VALID" => reach.clone(),
            None => &(&reach - &Dim::from(pads[i])) - &Dim::from(pads[rank + i]),
        };
        let before = if stated.is_some() || same {
            // What is too much is cut off on both sides; an odd element before the output, unless asked for behind it.
            (&reach - &output).known().map(|cut| {
                let cut = cut.max(0);
                if auto == "SAME_UPPER" { cut / 2 } else { cut - cut / 2 }
            })
        } else if auto == "VALID" {
            Some(0)
        } else {
            Some(pads[i])
        };
        match output.known() {
            Some(n) if n < 0 => {
                Err(OpError::new(format!("spatial axis {i} would have {n} outputs")))
            }
            _ => Ok((output, before)),
        }
    };
    spreads.iter().enumerate().map(axis).collect()
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = ctx.dtype(0)?;
    let (x, w) = (ctx.shape(0)?, ctx.shape(1)?);
    if x.len() < 3 || w.len() != x.len() {
        let message = format!("X {x:?} and W {w:?}, expected as many dimensions, at least 3");
        return Err(InferError::invalid(message));
    }
    let group = groups(ctx.attrs)?;
    if let (Some(found), Some(expected)) = (x[1].known(), w[0].known())
        && (found != expected || found % group as i64 != 0)
    {
        let message = format!("X has {found} channels, W takes {expected} in {group} groups");
        return Err(InferError::invalid(message));
    }
    let filters = &w[1] * &Dim::from(group);
    if let (Some(bias), Some(expected)) = (ctx.opt(2), filters.known())
        && bias.shape.as_ref().and_then(|shape| shape[0].known()).is_some_and(|n| n != expected)
    {
        return Err(InferError::invalid(format!(
            "operand B is {bias}, expected {expected} elements"
        )));
    }
    let mut shape = vec![x[0].clone(), filters];
    shape.extend(sizes(ctx.attrs, &x[2..], &w[2..])?.into_iter().map(|(size, _)| size));
    Ok(vec![Facts::new(dtype, shape)])
}

/// A transposed convolution of concrete shapes. In `axes`, `input` is Y's size and `output` X's, as in the convolution
/// that this one takes back.
struct Plan {
    groups: usize,
    /// Channels of X in a group.
    channels: usize,
    /// Channels of Y in a group.
    filters: usize,
    axes: [Axis; 3],
}

impl Plan {
    fn new(attrs: &Attrs, x: &[usize], w: &[usize]) -> Result<Self, OpError> {
        let dims = |shape: &[usize]| shape[2..].iter().map(|&d| Dim::from(d)).collect::<Vec<_>>();
        let (input, weight) = (dims(x), dims(w));
        let sizes = sizes(attrs, &input, &weight)?;
        let spreads = spreads(attrs, &weight)?;
        let axis = |i: usize| {
            let known = |size: Option<i64>| size.and_then(|n| usize::try_from(n).ok());
            Axis {
                input: known(sizes[i].0.known()).unwrap_or(0),
                output: x[2 + i],
                kernel: w[2 + i],
                stride: spreads[i].stride as usize,
                dilation: spreads[i].dilation as usize,
                before: known(sizes[i].1).unwrap_or(0),
                after: 0,
            }
        };
        let axes: Vec<Axis> = (0..input.len()).map(axis).collect();
        let groups = groups(attrs)?;
        let channels = w[0] / groups;
        Ok(Self { groups, channels, filters: w[1], axes: three(&axes)? })
    }

    /// As products of matrices, where that pays.
    fn by_product(&self, x: &TensorMeta) -> Option<Transposed> {
        let Self { groups, channels, filters, axes } = *self;
        let shape = Shape { images: x.shape[0], groups, channels, filters, axes };
        let threads = parallel::threads();
        (x.dtype == DType::F32).then(|| Transposed::new(shape, threads))?
    }
}

fn run(
    (plan, by_product): &(Plan, Option<Transposed>),
    ctx: &mut CpuCtx<'_>,
) -> Result<(), OpError> {
    let (x, w, bias) = (ctx.input(0), ctx.input(1), ctx.opt_input(2));
    let out = ctx.outputs[0].as_mut().expect("the first result is never omitted");
    let operands = ctx.inputs.get(OWN..).unwrap_or_default();
    let chain = Chain::new(ctx.attrs, operands, out.shape)?;
    if let Some(by_product) = by_product {
        let bias = bias.map(|b| b.slice::<f32>());
        let apply = chain.as_ref().map(|chain| |start, run: &mut [f32]| chain.apply(start, run));
        let epilogue = apply.as_ref().map(|apply| apply as Epilogue<'_>);
        by_product.run(x.slice(), w.slice(), bias, out.slice(), ctx.scratch, epilogue);
        return Ok(());
    }
    if let Some(chain) = chain {
        let bias = bias.map(|b| b.slice::<f32>());
        let finish = |start: usize, run: &mut [f32]| chain.apply(start, run);
        spread(plan, x.slice(), w.slice(), bias, out.slice(), finish);
        return Ok(());
    }
    for_dtype!(x.dtype, [F32 => f32, F64 => f64, F16 => f16, BF16 => bf16], T => {
        let bias = bias.map(|b| b.slice::<T>());
        spread(plan, x.slice::<T>(), w.slice::<T>(), bias, out.slice::<T>(), |_, _| {});
        Ok(())
    })
}

/// Outputs whose sums are kept at once.
const STRIP: usize = 64;

/// Each row of the output gathers the rows of the input that reach it; `finish` gets what is summed and its place in the output.
fn spread<T: Term>(
    plan: &Plan,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    out: &mut [T],
    finish: impl Fn(usize, &mut [T]) + Sync,
) {
    let [d, h, width] = &plan.axes;
    let (inputs, taps) = (volume(&plan.axes, |a| a.output), volume(&plan.axes, |a| a.kernel));
    if out.is_empty() {
        return;
    }
    let planes = d.input * h.input;
    parallel::rows(out, width.input, plan.channels.saturating_mul(taps), |row, y| {
        let (filter, at) = (row / planes, row % planes);
        let (product, own) = (filter / plan.filters, filter % plan.filters);
        let channel = filter % (plan.groups * plan.filters);
        let group = product % plan.groups;
        for (s, y) in y.chunks_mut(STRIP).enumerate() {
            let mut sums = [T::ZERO; STRIP];
            for c in 0..plan.channels {
                let x = &x[(product * plan.channels + c) * inputs..][..inputs];
                let at_w = ((group * plan.channels + c) * plan.filters + own) * taps;
                let w = &w[at_w..at_w + taps];
                for (kd, z) in sources(d, at / h.input) {
                    for (kh, v) in sources(h, at % h.input) {
                        let x = &x[(z * h.output + v) * width.output..][..width.output];
                        let w = &w[(kd * h.kernel + kh) * width.kernel..][..width.kernel];
                        line(width, x, w, s * STRIP, &mut sums[..y.len()]);
                    }
                }
            }
            for (y, &sum) in y.iter_mut().zip(&sums) {
                *y = T::finish(T::scale(sum, 1.0, 1.0, bias.map(|b| b[channel])));
            }
            finish(row * width.input + s * STRIP, y);
        }
    });
}

/// Adds one row of the input to neighbouring outputs of one row, from output `first` on.
fn line<T: Term>(axis: &Axis, x: &[T], w: &[T], first: usize, sums: &mut [T::Sum]) {
    for (tap, &weight) in w.iter().enumerate() {
        // Inputs `i` with `first ≤ i·stride + tap·dilation − before < first + sums`.
        let shift = tap * axis.dilation;
        let from = (first + axis.before).saturating_sub(shift).div_ceil(axis.stride);
        let end = (first + sums.len() + axis.before).saturating_sub(shift).div_ceil(axis.stride);
        for (i, &x) in x.iter().enumerate().take(end).skip(from) {
            let at = i * axis.stride + shift - axis.before - first;
            sums[at] = T::add(sums[at], x, weight);
        }
    }
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, w, bias) = (ctx.input(0), ctx.input(1), ctx.opt_input(2));
    let Some(element) = wgsl_type(x.dtype) else { return Ok(None) };
    let plan = Plan::new(ctx.attrs, &x.shape, &w.shape)?;
    let outputs = ctx.output().len();
    // An empty operand must not be bound: the CPU writes the bias.
    if outputs > 0 && (x.is_empty() || w.is_empty()) {
        return Ok(None);
    }
    let mut params = [plan.groups, plan.channels, plan.filters, outputs].map(|v| v as u32).to_vec();
    params.extend(axis_params(&plan.axes));
    let mut binds = vec![Bind::In(0), Bind::In(1)];
    binds.extend(bias.map(|_| Bind::In(2)));
    let finish = Finish::new(ctx, &ctx.output().shape, (OWN, binds.len()), element)?;
    binds.extend(&finish.binds);
    params.extend(&finish.params);
    let (output, uniform) = (binds.len().to_string(), (binds.len() + 1).to_string());
    binds.push(Bind::Out(0));
    let lying = Lying::of(ctx, 1);
    let reader = lying.reader("w_in", false);
    let values = [
        ("bias", if bias.is_some() { BIAS } else { NO_BIAS }),
        ("w_element", lying.element(false)),
        ("weight", &reader),
        ("chain", &finish.field),
        ("finish", &finish.functions),
        ("output", &output),
        ("uniform", &uniform),
        ("narrow", narrowing(x.dtype)),
        ("T", element),
    ];
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS + volume(&plan.axes, |a| a.kernel) * (1 + plan.channels),
        label: "ConvTranspose".into(),
        wgsl: render(include_str!("conv_transpose.wgsl"), &values).into(),
        binds,
        params,
        groups: ctx.limits.linear(outputs, 256),
    })))
}

const NO_BIAS: &str = "fn bias(channel: u32) -> {{T}} { return {{T}}(0); }";
const BIAS: &str = "@group(0) @binding(2) var<storage, read> b_in: array<{{T}}>;
fn bias(channel: u32) -> {{T}} { return b_in[channel]; }";

fn fused_cases() -> Vec<Case> {
    let f = |shape: &[usize], values: &[f32]| Tensor::from_slice(shape, values);
    let ints = |values: &[i64]| Attr::Ints(values.to_vec());
    let stages = crate::ops::fused::named;
    vec![
        // Before the stages: 1 10 2 20 −3 −30.
        Case::new(
            "worked by hand",
            vec![f(&[1, 1, 3], &[1.0, 2.0, -3.0]), f(&[1, 1, 2], &[1.0, 10.0])],
        )
        .input(None)
        .input(Some(f(&[6], &[0.5, -20.0, 1.0, 1.0, 1.0, 1.0])))
        .attr("strides", ints(&[2]))
        .attr("stages", stages(&["Add", "Relu"]))
        .expect(vec![f(&[1, 1, 6], &[1.5, 0.0, 3.0, 21.0, 0.0, 0.0])]),
        Case::new("bias, activation, residual", vec![ramp(&[2, 6, 5, 70]), ramp(&[6, 2, 2, 2])])
            .input(Some(ramp(&[4])))
            .input(Some(ramp(&[2, 4, 10, 140])))
            .attr("group", Attr::Int(2))
            .attr("strides", ints(&[2, 2]))
            .attr("stages", stages(&["HardSwish", "Add"])),
        Case::new("halves", vec![ramp(&[2, 6, 5, 7]), ramp_of(DType::F16, &[6, 4, 2, 2])])
            .attr("strides", ints(&[2, 2]))
            .attr("stages", stages(&[])),
        Case::new("no images", vec![ramp(&[0, 2, 5]), ramp(&[2, 3, 3])])
            .attr("stages", stages(&["Relu"])),
    ]
}

/// One axis of 4 inputs and 3 taps at stride 2, whose 9 elements 1 10 102 20 203 30 304 40 400 a stated shape cuts.
fn cut(name: &'static str, auto_pad: &str, expected: &[f32]) -> Case {
    let x = Tensor::from_slice(&[1, 1, 4], &[1.0f32, 2.0, 3.0, 4.0]);
    let w = Tensor::from_slice(&[1, 1, 3], &[1.0f32, 10.0, 100.0]);
    Case::new(name, vec![x, w])
        .attr("strides", Attr::Ints(vec![2]))
        .attr("output_shape", Attr::Ints(vec![expected.len() as i64]))
        .attr("auto_pad", Attr::Str(auto_pad.to_owned()))
        .expect(vec![Tensor::from_slice(&[1, 1, expected.len()], expected)])
}

fn cases() -> Vec<Case> {
    let ints = |values: &[i64]| Attr::Ints(values.to_vec());
    let (first, last) = ([1.0, 10.0], [40.0, 400.0]);
    let middle = [102.0, 20.0, 203.0, 30.0, 304.0];
    let less_first = [&first[1..], &middle, &last].concat();
    let less_last = [&first, &middle[..], &last[..1]].concat();
    let conv = |name, x: &[usize], w: &[usize]| Case::new(name, vec![ramp(x), ramp(w)]);
    vec![
        Case::new(
            "worked by hand",
            vec![
                Tensor::from_slice(&[1, 1, 3], &[1.0f32, 2.0, 3.0]),
                Tensor::from_slice(&[1, 2, 2], &[1.0f32, 10.0, -1.0, 0.0]),
                Tensor::from_slice(&[2], &[0.0f32, 0.5]),
            ],
        )
        .attr("strides", ints(&[2]))
        .attr("pads", ints(&[1, 0]))
        .attr("output_padding", ints(&[1]))
        .expect(vec![Tensor::from_slice(
            &[1, 2, 6],
            &[10.0f32, 2.0, 20.0, 3.0, 30.0, 0.0, 0.5, -1.5, 0.5, -2.5, 0.5, 0.5],
        )]),
        conv("doubling", &[2, 6, 5, 40], &[6, 4, 2, 2])
            .input(Some(ramp(&[4])))
            .attr("strides", ints(&[2, 2])),
        conv("padded, dilated", &[1, 3, 6, 7], &[3, 5, 3, 3])
            .attr("strides", ints(&[2, 1]))
            .attr("dilations", ints(&[1, 2]))
            .attr("pads", ints(&[1, 2, 0, 1])),
        conv("groups", &[1, 6, 4, 5], &[6, 2, 3, 3]).attr("group", Attr::Int(3)),
        conv("stated shape", &[1, 2, 5, 5], &[2, 3, 3, 3])
            .attr("strides", ints(&[2, 2]))
            .attr("output_shape", ints(&[10, 9])),
        conv("same, lower", &[1, 2, 5, 70], &[2, 3, 3, 4])
            .attr("strides", ints(&[2, 2]))
            .attr("auto_pad", Attr::Str("SAME_LOWER".to_owned())),
        cut("an odd element cut before the output", "NOTSET", &less_first),
        cut("an odd element cut before, without padding", "VALID", &less_first),
        cut("an odd element cut before, same", "SAME_LOWER", &less_first),
        cut("an odd element cut behind", "SAME_UPPER", &less_last),
        cut("two of three elements cut before", "NOTSET", &[102.0, 20.0, 203.0, 30.0, 304.0, 40.0]),
        cut(
            "one of three elements cut before",
            "SAME_UPPER",
            &[10.0, 102.0, 20.0, 203.0, 30.0, 304.0],
        ),
        cut(
            "nothing to cut",
            "NOTSET",
            &[1.0, 10.0, 102.0, 20.0, 203.0, 30.0, 304.0, 40.0, 400.0, 0.0],
        ),
        conv("three axes", &[1, 2, 2, 3, 4], &[2, 2, 2, 2, 3]).attr("strides", ints(&[1, 2, 2])),
        conv("no images", &[0, 2, 5], &[2, 3, 3]),
    ]
}
