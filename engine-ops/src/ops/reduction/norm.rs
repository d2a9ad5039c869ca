//! Normalisation of rows to zero mean and unit variance, with a scale and a shift.
//!
//! The operators differ in what a row is and in which scale belongs to which element of it; both are a [`Layout`].

use crate::case::{Case, ramp};
use crate::convert::{Calc, cast};
use crate::cpu::{Cpu, CpuCtx, CpuShapes, TensorMeta, TensorMut, TensorRef};
use crate::dtypes::FLOATS;
use crate::float::Float;
use crate::gpu::elementwise::{PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::parallel::pieces;
use crate::reduction::{Folded, fold_slice};
use crate::wide::{Loop, wide};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use crate::{AttrKind, AttrsExt};
use engine_format::{Attr, Attrs, DType, Dim, Tensor};

/// Which operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Layer,
    Rms,
    Instance,
    Group,
}

/// Rows of a tensor, and which scale belongs to an element: that of row `r` and position `j` is at
/// `r % cycle * step + j / run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    rows: usize,
    width: usize,
    cycle: usize,
    step: usize,
    run: usize,
    scales: usize,
}

impl Layout {
    fn new(op: Op, attrs: &Attrs, shape: &[usize]) -> Result<Self, OpError> {
        if matches!(op, Op::Layer | Op::Rms) {
            let at = axis(attrs.int("axis"), shape.len())?;
            let width = shape[at..].iter().product();
            let rows = shape[..at].iter().product();
            return Ok(Self { rows, width, cycle: 1, step: 0, run: 1, scales: width });
        }
        let &[batch, channels, ref rest @ ..] = shape else {
            return Err(OpError::new(format!(
                "operand has shape {shape:?}, expected batch, channels, …"
            )));
        };
        let space = rest.iter().product::<usize>();
        let groups = match op {
            Op::Group => usize::try_from(attrs.int("num_groups")).unwrap_or(0),
            _ => channels,
        };
        if groups == 0 && channels != 0 || channels % groups.max(1) != 0 {
            return Err(OpError::new(format!(
                "{channels} channels do not divide into {groups} groups"
            )));
        }
        let step = channels / groups.max(1);
        let (rows, width) = (batch * groups, step * space);
        Ok(Self { rows, width, cycle: groups, step, run: space, scales: channels })
    }
}

/// Neutral values of a row in this file.
const ROW: OpDef = OpDef { tolerance: Tolerance::SUMS, ..OpDef::BASE };

pub static LAYER_NORMALIZATION: OpDef = OpDef {
    name: "LayerNormalization",
    doc: "`(x − mean) / √(variance + epsilon) · scale + B` over the axes from `axis` on; the second and third result are the \
          mean and `1 / √(variance + epsilon)`.",
    attrs: &[
        AttrDef::int("axis", -1),
        AttrDef::float("epsilon", 1e-5),
        AttrDef::int("stash_type", 1),
    ],
    inputs: &[
        Operand::data("X").of(FLOATS),
        Operand::data("Scale").of(FLOATS).learned(),
        Operand::opt_data("B").of(FLOATS).learned(),
    ],
    outputs: &["Y", "Mean", "InvStdDev"],
    infer: |ctx| infer(ctx, Op::Layer),
    cpu: Cpu::Kernel { run: |ctx| run(ctx, Op::Layer), scratch: |s| scratch(s, Op::Layer) },
    gpu: Some(|ctx| gpu(ctx, "LayerNormalization", Op::Layer)),
    cases: layer_cases,
    ..ROW
};

pub static RMS_NORMALIZATION: OpDef = OpDef {
    name: "RMSNormalization",
    doc: "`x / √(mean of squares + epsilon) · scale` over the axes from `axis` on.",
    attrs: &[
        AttrDef::int("axis", -1),
        AttrDef::float("epsilon", 1e-5),
        AttrDef::int("stash_type", 1),
    ],
    inputs: &[Operand::data("X").of(FLOATS), Operand::data("scale").of(FLOATS).learned()],
    infer: |ctx| infer(ctx, Op::Rms),
    cpu: Cpu::Kernel { run: |ctx| run(ctx, Op::Rms), scratch: |s| scratch(s, Op::Rms) },
    gpu: Some(|ctx| gpu(ctx, "RMSNormalization", Op::Rms)),
    cases: rms_cases,
    ..ROW
};

pub static INSTANCE_NORMALIZATION: OpDef = OpDef {
    name: "InstanceNormalization",
    doc: "`(x − mean) / √(variance + epsilon) · scale + B` over the space of each channel of each instance.",
    onnx: &[OnnxName::since("InstanceNormalization", 6)],
    attrs: &[AttrDef::float("epsilon", 1e-5)],
    inputs: &[
        Operand::data("input").of(FLOATS),
        Operand::data("scale").of(FLOATS).learned(),
        Operand::data("B").of(FLOATS).learned(),
    ],
    outputs: &["output"],
    infer: |ctx| infer(ctx, Op::Instance),
    cpu: Cpu::Kernel { run: |ctx| run(ctx, Op::Instance), scratch: |s| scratch(s, Op::Instance) },
    gpu: Some(|ctx| gpu(ctx, "InstanceNormalization", Op::Instance)),
    cases: instance_cases,
    ..ROW
};

pub static GROUP_NORMALIZATION: OpDef = OpDef {
    name: "GroupNormalization",
    doc: "`(x − mean) / √(variance + epsilon) · scale + bias` over each of `num_groups` groups of neighbouring channels; scale and \
          bias are those of the channel.",
    onnx: &[OnnxName::since("GroupNormalization", 21)],
    attrs: &[
        AttrDef::required("num_groups", AttrKind::Int),
        AttrDef::float("epsilon", 1e-5),
        AttrDef::int("stash_type", 1),
    ],
    inputs: &[
        Operand::data("X").of(FLOATS),
        Operand::data("scale").of(FLOATS).learned(),
        Operand::data("bias").of(FLOATS).learned(),
    ],
    infer: |ctx| infer(ctx, Op::Group),
    cpu: Cpu::Kernel { run: |ctx| run(ctx, Op::Group), scratch: |s| scratch(s, Op::Group) },
    gpu: Some(|ctx| gpu(ctx, "GroupNormalization", Op::Group)),
    cases: group_cases,
    ..ROW
};

fn infer(ctx: &InferCtx<'_>, op: Op) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    if let Some(shape) = x.concrete() {
        let layout = Layout::new(op, ctx.attrs, &shape)?;
        for (i, scale) in (1..3).filter_map(|i| Some((i, ctx.opt(i)?))) {
            let n = scale.concrete().map_or(layout.scales, |s| s.iter().product());
            if n != layout.scales {
                let expected = layout.scales;
                return Err(InferError::invalid(format!(
                    "operand {i} is {scale}, expected {expected} floats"
                )));
            }
        }
    }
    let mut results = vec![Facts { value: None, ..x.clone() }];
    if op == Op::Layer && ctx.outputs > 1 {
        let mut shape = ctx.shape(0)?.to_vec();
        let at = axis(ctx.attrs.int("axis"), shape.len())?;
        shape[at..].fill(Dim::from(1));
        let dtype = calculating(ctx.inputs.iter().flatten().map(|facts| facts.dtype));
        results.resize(ctx.outputs.min(3), Facts::new(dtype, shape));
    }
    Ok(results)
}

/// The type that operands of these types are calculated in.
fn calculating(mut types: impl Iterator<Item = DType>) -> DType {
    if types.any(|dtype| dtype == DType::F64) { DType::F64 } else { DType::F32 }
}

/// Room for the mean and deviation of each row, and for operands and result in the calculating type.
fn scratch(shapes: &CpuShapes<'_>, op: Op) -> usize {
    let inputs = || shapes.inputs.iter().flatten();
    let calc = calculating(inputs().map(|x| x.dtype));
    let converted = |m: &TensorMeta| if m.dtype == calc { 0 } else { m.len() };
    let Some(x) = &shapes.inputs[0] else { return 0 };
    let rows = Layout::new(op, shapes.attrs, &x.shape).map_or(0, |l| l.rows);
    let elements = inputs().map(converted).sum::<usize>() + converted(x) + 2 * rows;
    elements * calc.width()
}

fn run(ctx: &mut CpuCtx<'_>, op: Op) -> Result<(), OpError> {
    match calculating(ctx.inputs.iter().flatten().map(|x| x.dtype)) {
        DType::F64 => normalise::<f64>(ctx, op),
        _ => normalise::<f32>(ctx, op),
    }
}

/// An operand in the calculating type, converted into the front of `space` if it has another; and the rest of that.
fn in_type<'a, W: Calc>(x: TensorRef<'a>, space: &'a mut [u8]) -> (&'a [W], &'a mut [u8]) {
    if x.dtype == W::DTYPE {
        return (x.slice::<W>(), space);
    }
    let (bytes, rest) = space.split_at_mut(x.len() * size_of::<W>());
    cast(x, &mut TensorMut { dtype: W::DTYPE, shape: x.shape, bytes });
    (bytemuck::cast_slice(bytes), rest)
}

fn normalise<W: Float>(ctx: &mut CpuCtx<'_>, op: Op) -> Result<(), OpError> {
    let x = ctx.input(0);
    let layout = Layout::new(op, ctx.attrs, x.shape)?;
    let epsilon = W::of(ctx.attrs.float("epsilon"));
    let (scale, shift) = (ctx.input(1), ctx.opt_input(2));
    let space = &mut *ctx.scratch;
    let (stats, space) = space.split_at_mut(2 * layout.rows * size_of::<W>());
    let stats: &mut [W] = bytemuck::cast_slice_mut(stats);
    let (xs, space) = in_type::<W>(x, space);
    let (scale, space) = in_type::<W>(scale, space);
    let (shift, space) = match shift {
        Some(shift) => {
            let (shift, space) = in_type::<W>(shift, space);
            (Some(shift), space)
        }
        None => (None, space),
    };
    statistics(&layout, op, xs, stats, epsilon);
    let affine = Affine { layout, scale, shift, stats };
    let y = ctx.outputs[0].as_mut().expect("the first result is never omitted");
    if y.dtype == W::DTYPE {
        affine.apply(xs, y.slice::<W>());
    } else {
        let bytes = &mut space[..size_of_val(xs)];
        affine.apply(xs, bytemuck::cast_slice_mut(bytes));
        cast(TensorRef { dtype: W::DTYPE, shape: y.shape, bytes }, y);
    }
    for (k, out) in ctx.outputs.iter_mut().skip(1).enumerate() {
        if let Some(out) = out {
            let rows = out.slice::<W>().iter_mut().zip(affine.stats.chunks_exact(2));
            rows.for_each(|(out, row)| *out = row[k]);
        }
    }
    Ok(())
}

/// For each row the mean and `1 / √(variance + epsilon)`, side by side.
fn statistics<W: Float>(layout: &Layout, op: Op, x: &[W], stats: &mut [W], epsilon: W) {
    let (n, sum) = (layout.width, W::add);
    pieces(stats, 2, layout.width, |start, stats| {
        for (i, row) in stats.chunks_exact_mut(2).enumerate() {
            let at = (start / 2 + i) * n;
            let x = &x[at..at + n];
            let mean = match op {
                Op::Rms => W::ZERO,
                _ => fold_slice(x, Folded { start: W::ZERO, step: sum, merge: sum }).divided_by(n),
            };
            let square = move |a: W, x: W| a.add(x.sub(mean).mul(x.sub(mean)));
            let squares = fold_slice(x, Folded { start: W::ZERO, step: square, merge: sum });
            row[0] = mean;
            row[1] = W::ONE.div(squares.divided_by(n).add(epsilon).sqrt());
        }
    });
}

struct Affine<'a, W> {
    layout: Layout,
    scale: &'a [W],
    shift: Option<&'a [W]>,
    stats: &'a [W],
}

impl<W: Float> Affine<'_, W> {
    fn apply(&self, x: &[W], y: &mut [W]) {
        let Layout { width, cycle, step, run, .. } = self.layout;
        pieces(y, width, 2, |start, y| {
            for (i, y) in y.chunks_exact_mut(width.max(1)).enumerate() {
                let row = start / width + i;
                let x = &x[row * width..(row + 1) * width];
                let (mean, inverse) = (self.stats[2 * row], self.stats[2 * row + 1]);
                let first = row % cycle * step;
                let scales = &self.scale[first..first + width / run];
                let shifts = self.shift.map(|s| &s[first..first + width / run]);
                if run == 1 {
                    wide(Row { x, y, mean, inverse, scales, shifts });
                    continue;
                }
                for (j, (x, y)) in x.chunks_exact(run).zip(y.chunks_exact_mut(run)).enumerate() {
                    let factor = inverse.mul(scales[j]);
                    let shift = shifts.map_or(W::ZERO, |s| s[j]);
                    let pairs = x.iter().zip(y);
                    pairs.for_each(|(&x, y)| *y = x.sub(mean).mul(factor).add(shift));
                }
            }
        });
    }
}

/// A row whose every element has a scale of its own.
struct Row<'a, W> {
    x: &'a [W],
    y: &'a mut [W],
    mean: W,
    inverse: W,
    scales: &'a [W],
    shifts: Option<&'a [W]>,
}

impl<W: Float> Loop for Row<'_, W> {
    #[inline(always)]
    fn run(self) {
        let Self { x, y, mean, inverse, scales, shifts } = self;
        let scaled = x.iter().zip(scales).map(|(&x, &s)| x.sub(mean).mul(inverse).mul(s));
        match shifts {
            Some(shifts) => {
                y.iter_mut().zip(scaled).zip(shifts).for_each(|((y, v), &b)| *y = v.add(b))
            }
            None => y.iter_mut().zip(scaled).for_each(|(y, v)| *y = v),
        }
    }
}

fn gpu(ctx: &GpuCtx<'_>, label: &'static str, op: Op) -> Result<Option<GpuProgram>, OpError> {
    let metas = || ctx.inputs.iter().chain(ctx.outputs).flatten();
    if metas().any(|m| element_type(m.dtype) != Some("f32")) {
        return Ok(None);
    }
    let x = ctx.input(0);
    let layout = Layout::new(op, ctx.attrs, &x.shape)?;
    let rows = if layout.width == 0 { 0 } else { layout.rows };
    if rows == 0 && ctx.outputs.iter().flatten().any(|m| !m.is_empty()) {
        return Ok(None);
    }
    let mut binds = vec![Bind::In(0), Bind::In(1)];
    let mut declarations = String::new();
    let mut declare = |bind: Bind, name: &str| {
        let at = binds.len();
        let access = if matches!(bind, Bind::In(_)) { "read" } else { "read_write" };
        declarations +=
            &format!("@group(0) @binding({at}) var<storage, {access}> {name}: array<f32>;\n");
        binds.push(bind);
    };
    let shift = ctx.opt_input(2).is_some();
    if shift {
        declare(Bind::In(2), "b_in");
    }
    declare(Bind::Out(0), "y_out");
    let asked = |k: usize| ctx.outputs.get(k).is_some_and(Option::is_some);
    let mut extra = String::new();
    for (k, name, value) in [(1, "mean_out", "mean"), (2, "inverse_out", "inverse")] {
        if asked(k) {
            declare(Bind::Out(k), name);
            extra += &format!("{name}[row] = {value}; ");
        }
    }
    let params = binds.len();
    let centred = if op == Op::Rms { "0.0" } else { "total(sum, lane) / f32(params.width)" };
    let scaled =
        format!("(x - mean) * inverse * s_in[at]{}", if shift { " + b_in[at]" } else { "" });
    let wgsl = render(
        include_str!("norm.wgsl"),
        &[
            ("declarations", &declarations),
            ("params", &params.to_string()),
            ("functions", PRELUDE),
            ("mean", centred),
            ("extra", &extra),
            ("y", &rounded(ctx.output().dtype, &format!("({scaled})"))),
        ],
    );
    let Layout { width, cycle, step, run, .. } = layout;
    let mut words: Vec<u32> = [rows, width, cycle, step, run].map(|v| v as u32).to_vec();
    words.push(ctx.attrs.float("epsilon").to_bits());
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS + 3 * width.div_ceil(128),
        label: label.into(),
        wgsl: wgsl.into(),
        binds,
        params: words,
        groups: ctx.limits.linear(rows, 1),
    })))
}

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(shape, values)
}

fn layer_cases() -> Vec<Case> {
    // Mean 2.5 and variance 1.25, so that 1 / √1.25 = 0.894427…
    let x = || f32s(&[1, 4], &[1.0, 2.0, 3.0, 4.0]);
    let unit = [-1.341_635_5, -0.447_211_8, 0.447_211_8, 1.341_635_5];
    let (scale, shift) = (f32s(&[4], &[1.0, 2.0, 1.0, 0.5]), f32s(&[4], &[0.0, 1.0, -1.0, 0.5]));
    let [a, b, c, d] = unit;
    let shifted = f32s(&[1, 4], &[a, 2.0 * b + 1.0, c - 1.0, d * 0.5 + 0.5]);
    let stats = vec![
        f32s(&[1, 4], &[a, 2.0 * b, c, d * 0.5]),
        f32s(&[1, 1], &[2.5]),
        f32s(&[1, 1], &[0.894_423_6]),
    ];
    vec![
        Case::new("scale and shift", vec![x(), scale.clone(), shift]).expect(vec![shifted]),
        Case::new("with mean and deviation", vec![x(), scale]).expect(stats),
        Case::new("hidden states", vec![ramp(&[2, 7, 384]), ramp(&[384]), ramp(&[384])]),
        Case::new("two axes", vec![ramp(&[3, 4, 50]), ramp(&[4, 50]), ramp(&[4, 50])])
            .attr("axis", Attr::Int(1))
            .attr("epsilon", Attr::Float(0.1)),
        Case::new("not a number", vec![f32s(&[1, 2], &[f32::NAN, 1.0]), f32s(&[2], &[1.0, 1.0])])
            .expect(vec![f32s(&[1, 2], &[f32::NAN, f32::NAN])]),
        Case::new("empty", vec![ramp(&[0, 4]), ramp(&[4]), ramp(&[4])]),
    ]
}

fn rms_cases() -> Vec<Case> {
    // The mean of squares of (3, 4) is 12.5.
    let expected = f32s(&[1, 2], &[0.848_527_8, 2.262_740_8]);
    vec![
        Case::new("row", vec![f32s(&[1, 2], &[3.0, 4.0]), f32s(&[2], &[1.0, 2.0])])
            .expect(vec![expected]),
        Case::new("hidden states", vec![ramp(&[5, 300]), ramp(&[300])]),
    ]
}

fn instance_cases() -> Vec<Case> {
    let x = f32s(&[1, 2, 1, 3], &[-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    let (scale, shift) = (f32s(&[2], &[1.0, 1.5]), f32s(&[2], &[0.0, 1.0]));
    let u = 1.224_735_7;
    let y = f32s(&[1, 2, 1, 3], &[-u, 0.0, u, 1.0 - 1.5 * u, 1.0, 1.0 + 1.5 * u]);
    vec![
        Case::new("two channels", vec![x, scale, shift]).expect(vec![y]),
        Case::new("image", vec![ramp(&[2, 3, 17, 19]), ramp(&[3]), ramp(&[3])]),
    ]
}

fn group_cases() -> Vec<Case> {
    let x = f32s(&[1, 4, 1], &[1.0, 3.0, -2.0, 2.0]);
    let (scale, shift) = (f32s(&[4], &[1.0, 2.0, 1.0, 1.0]), f32s(&[4], &[0.0, 0.0, 0.0, 1.0]));
    let (u, v) = (0.999_995, 0.999_998_75);
    let y = f32s(&[1, 4, 1], &[-u, 2.0 * u, -v, v + 1.0]);
    vec![
        Case::new("two groups", vec![x, scale, shift])
            .attr("num_groups", Attr::Int(2))
            .expect(vec![y]),
        Case::new("image", vec![ramp(&[2, 6, 9, 5]), ramp(&[6]), ramp(&[6])])
            .attr("num_groups", Attr::Int(3)),
    ]
}
