//! Convolution over one, two or three spatial axes.

use crate::case::{Case, ramp, ramp_of};
use crate::chain::{self, Chain, Finish};
use crate::cpu::{Cpu, CpuCtx, planned};
use crate::fill::filled;
use crate::gpu::halves::Lying;
use crate::gpu::product::{Algorithm, Along, Body, Candidates, Share, Sizes, Strided, Tiled};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, narrowing, render, wgsl_type};
use crate::infer::{Facts, InferCtx, InferError};
use crate::kernels::blocked::Term;
use crate::kernels::direct::{Direct, Operands, fills_registers};
use crate::kernels::gemm::{DOTS, Epilogue, Gemm, MatRef};
use crate::kernels::im2col::Im2col;
use crate::kernels::window::{Axis, Window, three, volume};
use crate::ops::convolution::window::{ATTRS, axis_params, groups, window_rounds};
use crate::parallel::{self, aligned};
use crate::{Kind, OnnxName, OpDef, OpError, Operand, Tolerance, for_dtype};
use engine_format::{Attr, Attrs, DType, Dim, Tensor};
use half::{bf16, f16};

/// Types that are convolved.
const TYPES: &[DType] = &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32];

pub static CONV: OpDef = OpDef {
    name: "Conv",
    doc: "`Y[n, o, p] = B[o] + Σ X[n, c, p·stride + t·dilation − before] · W[o, c, t]` over the taps t and the channels c \
          of o's group; outside the input X is 0. Sums of integers wrap.",
    onnx: &[OnnxName::since("Conv", 1)],
    attrs: &ATTRS,
    inputs: &[
        Operand::data("X").of(TYPES).shaped("N _ ..."),
        Operand::data("W").like(0).shaped("M _ ...").learned(),
        Operand::opt_data("B").like(0).shaped("M").learned(),
    ],
    kind: Kind::Compute,
    infer,
    blocked: Some(crate::ops::convolution::nchwc::blocked_conv),
    cpu: Cpu::Planned(|shapes| {
        let plan = Plan::new(shapes.attrs, &shapes.input(0).shape, &shapes.input(1).shape)?;
        let scratch = plan.scratch(shapes.input(0).dtype);
        planned(plan, scratch, run)
    }),
    gpu: Some(gpu),
    gpu_candidates: Candidates::<OnGpu>::ALL,
    multiplications: |attrs, inputs| {
        let [Some(x), Some(w), ..] = inputs else { return None };
        Some(Plan::new(attrs, &x.shape, &w.shape).ok()?.gemm().multiplications())
    },
    tolerance: Tolerance::SUMS,
    cases,
    fused: Some(&FUSED_CONV),
    ..OpDef::BASE
};

pub static FUSED_CONV: OpDef = OpDef {
    name: "FusedConv",
    doc: "Conv with stages applied to every output after the bias. Written by the builder's passes, never imported.",
    onnx: &[],
    attrs: &[
        ATTRS[0],
        ATTRS[1],
        ATTRS[2],
        ATTRS[3],
        ATTRS[4],
        ATTRS[5],
        chain::STAGES,
        chain::SCALARS,
    ],
    inputs: &[
        CONV.inputs[0].of(&[DType::F32]),
        CONV.inputs[1].or_halves(),
        CONV.inputs[2],
        chain::OPERANDS,
    ],
    variadic_input: true,
    infer: |ctx| chain::infer(ctx, OWN, infer(ctx)?),
    cases: fused_cases,
    fused: None,
    ..CONV
};

/// Operands of the convolution itself.
const OWN: usize = 3;

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = ctx.dtype(0)?;
    let (x, w) = (ctx.shape(0)?, ctx.shape(1)?);
    if x.len() < 3 || w.len() != x.len() {
        let message = format!("X {x:?} and W {w:?}, expected as many dimensions, at least 3");
        return Err(InferError::invalid(message));
    }
    let group = groups(ctx.attrs)?;
    let channels = &w[1] * &Dim::from(group);
    if let (Some(found), Some(expected)) = (x[1].known(), channels.known())
        && found != expected
    {
        let message = format!("X has {found} channels, W and {group} groups take {expected}");
        return Err(InferError::invalid(message));
    }
    if w[0].known().is_some_and(|o| o % i64::try_from(group).unwrap_or(i64::MAX) != 0) {
        let message = format!("{} output channels do not split into {group} groups", w[0]);
        return Err(InferError::invalid(message));
    }
    let window = Window::read(ctx.attrs, x.len() - 2, Some(&w[2..]))?;
    let mut shape = vec![x[0].clone(), w[0].clone()];
    for (i, size) in x[2..].iter().enumerate() {
        shape.push(window.output(i, size)?);
    }
    Ok(vec![Facts::new(dtype, shape)])
}

/// A convolution of concrete shapes.
struct Plan {
    images: usize,
    groups: usize,
    /// Channels of a group.
    channels: usize,
    /// Output channels of a group.
    filters: usize,
    axes: [Axis; 3],
}

/// How the CPU computes a convolution; follows from shapes alone.
#[derive(PartialEq)]
enum OnCpu {
    /// The window is the whole image: images are rows of a matrix and filters columns of one.
    Whole,
    /// The input is the matrix.
    Pointwise,
    /// So few outputs that columns would not fill registers: filters and windows, which are unrolled as rows, lie along the terms.
    Few,
    /// Input lines are copied once and read at an offset for each tap.
    Direct,
    /// The input is unrolled into a matrix while packing, for rows too short to fill registers.
    Unroll,
}

/// Filters of a group up to which unrolling costs more than it saves, however short the rows are.
const FEW_FILTERS: usize = 3;

/// Terms of a sum from which on they fill registers.
const FEW_TERMS: usize = 64;

impl Plan {
    fn new(attrs: &Attrs, x: &[usize], w: &[usize]) -> Result<Self, OpError> {
        let groups = groups(attrs)?;
        let kernel: Vec<Dim> = w[2..].iter().map(|&k| Dim::from(k)).collect();
        let window = Window::read(attrs, x.len() - 2, Some(&kernel))?;
        let axes = three(&window.axes(&x[2..])?)?;
        Ok(Self { images: x[0], groups, channels: w[1], filters: w[0] / groups, axes })
    }

    fn outputs(&self) -> usize {
        volume(&self.axes, |a| a.output)
    }

    fn inputs(&self) -> usize {
        volume(&self.axes, |a| a.input)
    }

    fn taps(&self) -> usize {
        volume(&self.axes, |a| a.kernel)
    }

    fn on_cpu(&self) -> OnCpu {
        let whole = |a: &Axis| {
            a.output == 1
                && a.kernel == a.input
                && a.before == 0
                && (a.kernel == 1 || a.dilation == 1)
        };
        match self.axes.iter().all(Axis::is_still) {
            _ if self.groups == 1 && self.axes.iter().all(whole) => OnCpu::Whole,
            _ if self.outputs() <= DOTS && self.channels * self.taps() >= FEW_TERMS => OnCpu::Few,
            true => OnCpu::Pointwise,
            false if self.filters <= FEW_FILTERS => OnCpu::Direct,
            false if fills_registers(&self.axes[2]) => OnCpu::Direct,
            false => OnCpu::Unroll,
        }
    }

    /// Bytes that a run takes over elements of this type.
    fn scratch(&self, dtype: DType) -> usize {
        match self.on_cpu() {
            _ if dtype != DType::F32 => 0,
            OnCpu::Direct => self.direct().scratch(),
            OnCpu::Whole => self.whole().scratch(),
            OnCpu::Few => self.gemm().scratch() + self.windows() * size_of::<f32>() + 64,
            OnCpu::Pointwise | OnCpu::Unroll => self.gemm().scratch(),
        }
    }

    /// One product where the window is the whole image: images times filters.
    fn whole(&self) -> Gemm {
        let k = self.channels * self.taps();
        Gemm { batch: 1, m: self.images, n: self.filters, k }
    }

    /// A product for each group of each image: filters times outputs.
    fn gemm(&self) -> Gemm {
        let k = self.channels * self.taps();
        Gemm { batch: self.images * self.groups, m: self.filters, n: self.outputs(), k }
    }

    /// Elements of all windows.
    fn windows(&self) -> usize {
        let Gemm { batch, n, k, .. } = self.gemm();
        batch * n * k
    }

    /// The same without unrolling.
    fn direct(&self) -> Direct<'_> {
        Direct {
            products: self.images * self.groups,
            channels: self.channels,
            filters: self.filters,
            axes: &self.axes,
        }
    }

    /// The input channels of product `i`.
    fn image<'a, T>(&self, x: &'a [T], i: usize) -> &'a [T] {
        let size = self.channels * self.inputs();
        &x[i * size..(i + 1) * size]
    }

    /// The filters of product `i`.
    fn weights<'a, T>(&self, w: &'a [T], i: usize) -> &'a [T] {
        let size = self.filters * self.channels * self.taps();
        &w[i % self.groups * size..(i % self.groups + 1) * size]
    }
}

fn run(plan: &Plan, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, w, bias) = (ctx.input(0), ctx.input(1), ctx.opt_input(2));
    if x.dtype != DType::F32 {
        return for_dtype!(x.dtype, [F64 => f64, F16 => f16, BF16 => bf16, I32 => i32], T => {
            let bias = bias.map(|b| b.slice::<T>());
            plain(plan, x.slice::<T>(), w.slice::<T>(), bias, ctx.output().slice::<T>());
            Ok(())
        });
    }
    let (x, w, bias) = (x.slice::<f32>(), w.slice::<f32>(), bias.map(|b| b.slice::<f32>()));
    let out = ctx.outputs[0].as_mut().expect("the first result is never omitted");
    let operands = ctx.inputs.get(OWN..).unwrap_or_default();
    let chain = Chain::new(ctx.attrs, operands, out.shape)?;
    let out = out.slice::<f32>();
    let (gemm, algorithm) = (plan.gemm(), plan.on_cpu());
    let finish = |i: usize, row: usize, col: usize, run: &mut [f32]| {
        if let Some(bias) = bias {
            let bias = bias[i % plan.groups * plan.filters + row];
            run.iter_mut().for_each(|y| *y += bias);
        }
        if let Some(chain) = &chain {
            chain.apply((i * plan.filters + row) * gemm.n + col, run);
        }
    };
    let epilogue = (bias.is_some() || chain.is_some()).then_some(&finish as Epilogue<'_>);
    let filters = |i| MatRef::rows(plan.weights(w, i), gemm.k);
    match algorithm {
        OnCpu::Whole => {
            let gemm = plan.whole();
            let operands = |_| (MatRef::rows(x, gemm.k), MatRef::rows(w, gemm.k).t());
            let finish = |_: usize, row: usize, col: usize, run: &mut [f32]| {
                if let Some(bias) = bias {
                    run.iter_mut().zip(&bias[col..]).for_each(|(y, bias)| *y += bias);
                }
                if let Some(chain) = &chain {
                    chain.apply(row * gemm.n + col, run);
                }
            };
            let epilogue = epilogue.map(|_| &finish as Epilogue<'_>);
            gemm.run(operands, out, ctx.scratch, epilogue);
        }
        OnCpu::Pointwise => {
            let operands = |i| (filters(i), MatRef::rows(plan.image(x, i), gemm.n));
            gemm.run(operands, out, ctx.scratch, epilogue);
        }
        OnCpu::Few => {
            let (windows, scratch) = aligned(ctx.scratch).split_at_mut(plan.windows());
            for (i, rows) in windows.chunks_exact_mut(gemm.n * gemm.k).enumerate() {
                Im2col { data: plan.image(x, i), axes: &plan.axes }.rows(gemm.k, rows);
            }
            let window = |i: usize| &windows[i * gemm.n * gemm.k..][..gemm.n * gemm.k];
            let operands = |i| (filters(i), MatRef::rows(window(i), gemm.k).t());
            gemm.run(operands, out, bytemuck::cast_slice_mut(scratch), epilogue);
        }
        OnCpu::Direct => {
            let operands = |i| Operands { image: plan.image(x, i), weights: plan.weights(w, i) };
            plan.direct().run(operands, out, ctx.scratch, epilogue);
        }
        OnCpu::Unroll => {
            let operands = |i| (filters(i), Im2col { data: plan.image(x, i), axes: &plan.axes });
            gemm.run(operands, out, ctx.scratch, epilogue);
        }
    }
    Ok(())
}

/// Other types than `f32`: one output at a time.
fn plain<T: Term>(plan: &Plan, x: &[T], w: &[T], bias: Option<&[T]>, out: &mut [T]) {
    let outputs = plan.outputs();
    let [d, h, width] = &plan.axes;
    parallel::rows(out, 1, plan.channels.saturating_mul(plan.taps()), |at, y| {
        let (filter, p) = (at / outputs, at % outputs);
        let (product, own) = (filter / plan.filters, filter % plan.filters);
        let image = plan.image(x, product);
        let size = plan.channels * plan.taps();
        let weights = &plan.weights(w, product)[own * size..(own + 1) * size];
        let (o, v) = (p / width.output, p % width.output);
        let (q, r) = (o / h.output, o % h.output);
        let mut sum = T::ZERO;
        for (t, &weight) in weights.iter().enumerate() {
            let (kw, rest) = (t % width.kernel, t / width.kernel);
            let (kh, rest) = (rest % h.kernel, rest / h.kernel);
            let (kd, c) = (rest % d.kernel, rest / d.kernel);
            if let (Some(z), Some(y), Some(x)) = (d.at(q, kd), h.at(r, kh), width.at(v, kw)) {
                let from = ((c * d.input + z) * h.input + y) * width.input + x;
                sum = T::add(sum, image[from], weight);
            }
        }
        let bias = bias.map(|b| b[filter % (plan.groups * plan.filters)]);
        y[0] = T::finish(T::scale(sum, 1.0, 1.0, bias));
    });
}

/// Filters of a group up to which the GPU computes outputs one by one: tiles of the matrix product would be mostly empty.
const GPU_FEW_FILTERS: usize = 8;

/// The GPU kernels of Conv.
struct OnGpu;

impl Tiled for OnGpu {
    fn sizes(ctx: &GpuCtx<'_>) -> Option<Sizes> {
        let plan = Plan::new(ctx.attrs, &ctx.input(0).shape, &ctx.input(1).shape).ok()?;
        (plan.filters > GPU_FEW_FILTERS).then(|| plan.sizes())
    }

    fn program(ctx: &GpuCtx<'_>, algorithm: Algorithm) -> Result<Option<GpuProgram>, OpError> {
        let plan = Plan::new(ctx.attrs, &ctx.input(0).shape, &ctx.input(1).shape)?;
        match plan.filters > GPU_FEW_FILTERS && algorithm.fits(ctx.limits) {
            true => plan.on_gpu(ctx, Some(algorithm)),
            false => Ok(None),
        }
    }
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let plan = Plan::new(ctx.attrs, &ctx.input(0).shape, &ctx.input(1).shape)?;
    let algorithm = (plan.filters > GPU_FEW_FILTERS).then_some(Algorithm::OWN);
    plan.on_gpu(ctx, algorithm)
}

impl Plan {
    /// A product for each group: filters times the outputs of all images.
    fn sizes(&self) -> Sizes {
        Sizes {
            items: self.groups,
            rows: self.filters,
            cols: self.images.saturating_mul(self.outputs()),
            terms: self.channels * self.taps(),
            thin: false,
            units: None,
        }
    }

    /// What reads the input for a product, and whether it reads vectors of four.
    fn right(&self) -> (&'static str, bool) {
        let whole = self.outputs().is_multiple_of(4);
        let point = |a: &Axis| a.kernel == 1 && a.before == 0 && a.after == 0;
        match self.axes.iter().all(point) {
            true if whole && self.axes.iter().all(Axis::is_still) => {
                (include_str!("conv_same.wgsl"), true)
            }
            true => (include_str!("conv_point.wgsl"), false),
            false => (include_str!("conv_window.wgsl"), false),
        }
    }

    /// The program as a product by an algorithm, or with outputs computed one by one.
    fn on_gpu(
        &self,
        ctx: &GpuCtx<'_>,
        algorithm: Option<Algorithm>,
    ) -> Result<Option<GpuProgram>, OpError> {
        let bias = ctx.opt_input(2);
        let dtype = ctx.input(0).dtype;
        let Some(element) = wgsl_type(dtype) else { return Ok(None) };
        let Gemm { batch, m, n, k } = self.gemm();
        // An empty operand must not be bound. The CPU writes a bias, and applies stages to it.
        if k == 0 && batch * m * n > 0 {
            let plain = bias.is_none() && !ctx.attrs.contains_key(chain::STAGES.name);
            return Ok(plain.then(|| filled(ctx, [0; 2])).flatten());
        }
        let mut binds = vec![Bind::In(0), Bind::In(1)];
        binds.extend(bias.map(|_| Bind::In(2)));
        let finish = Finish::new(ctx, &ctx.output().shape, (OWN, binds.len()), element)?;
        binds.extend(&finish.binds);
        let (output, uniform) = (binds.len().to_string(), (binds.len() + 1).to_string());
        binds.push(Bind::Out(0));
        let params = |share: Share| {
            let own = [self.images, self.groups, self.channels, self.filters, n, k, 0, 0];
            let mut params: Vec<u32> = own.iter().map(|&v| v as u32).collect();
            params.extend(share);
            params.extend(axis_params(&self.axes));
            params.extend(&finish.params);
            params
        };
        let (right, x_quads) = self.right();
        let w_quads = k.is_multiple_of(4);
        let y_quads = n.is_multiple_of(4);
        let elements = |quads| Lying::Words.element(quads && algorithm.is_some());
        let w_lying = Lying::of(ctx, 1);
        let kernel = self.axes.each_ref().map(|axis| format!("{}u", axis.kernel)).join(", ");
        let values = [
            ("head", include_str!("conv_head.wgsl")),
            ("x_element", elements(x_quads)),
            ("w_element", w_lying.element(w_quads && algorithm.is_some())),
            ("y_element", elements(y_quads)),
            (
                "write",
                if y_quads { "" } else { "y_out[i] = narrow(finish(sum + bias(channel), i));" },
            ),
            ("put", if y_quads { PUT_QUADS } else { PUT_EACH }),
            ("bias", if bias.is_some() { BIAS } else { NO_BIAS }),
            ("kernel", &kernel),
            ("chain", &finish.field),
            ("finish", &finish.functions),
            ("output", &output),
            ("narrow", narrowing(dtype)),
            ("T", element),
        ];
        let Some(algorithm) = algorithm else {
            let reader = w_lying.reader("w_in", false);
            let (weight, last) = ([("weight", reader.as_str())], [("uniform", uniform.as_str())]);
            let values = [&weight[..], &values, &last].concat();
            let taps = window_rounds(&self.axes);
            return Ok(Some(GpuProgram::one(Dispatch {
                rounds: FEW_ROUNDS + self.channels * (1 + taps),
                label: "Conv one by one".into(),
                wgsl: render(include_str!("conv_direct.wgsl"), &values).into(),
                binds,
                params: params([0; 4]),
                groups: ctx.limits.linear(batch * m * n, 256),
            })));
        };
        let left = Strided {
            name: "left",
            binding: "w_in",
            lying: w_lying,
            start: "at.w",
            size: "params.filters",
            steps: ["params.terms", "1u"],
            along: Along::Terms,
            quads: w_quads,
        };
        let body = Body {
            label: "Conv as a product",
            sizes: self.sizes(),
            along: [Along::Terms, Along::Side],
            text: include_str!("conv.wgsl"),
            loaders: &(left.wgsl() + "\n" + right),
            matrix: None,
            values: &values,
            binds,
            params: &params,
        };
        Ok(algorithm.program(ctx, body))
    }
}

const NO_BIAS: &str = "fn bias(channel: u32) -> {{T}} { return {{T}}(0); }";
const BIAS: &str = "@group(0) @binding(2) var<storage, read> b_in: array<{{T}}>;
fn bias(channel: u32) -> {{T}} { return b_in[channel]; }";
const PUT_QUADS: &str = "    if (col >= cols()) { return; }
    let channel = item * params.filters + row;
    let image = col / params.outputs;
    let i = (image * params.groups * params.filters + channel) * params.outputs + col % params.outputs;
    let y = finish4(sums + bias(channel), i);
    y_out[i / 4u] = vec4<{{T}}>(narrow(y.x), narrow(y.y), narrow(y.z), narrow(y.w));";
const PUT_EACH: &str = "    put_one(item, row, col, sums.x);
    put_one(item, row, col + 1u, sums.y);
    put_one(item, row, col + 2u, sums.z);
    put_one(item, row, col + 3u, sums.w);";

fn fused_cases() -> Vec<Case> {
    let ints = |values: &[i64]| Attr::Ints(values.to_vec());
    let stages = |names: &[&str]| Attr::Strs(names.iter().map(|&n| n.to_owned()).collect());
    let conv = |name, x: &[usize], w: &[usize]| Case::new(name, vec![ramp(x), ramp(w)]);
    let hand = || {
        vec![
            Tensor::from_slice(&[1, 1, 4], &[1.0f32, 2.0, 3.0, f32::NAN]),
            Tensor::from_slice(&[2, 1, 2], &[1.0f32, -1.0, 2.0, 0.5]),
        ]
    };
    vec![
        // Sums: −1 −1 NaN and 3 5.5 NaN.
        Case::new("worked by hand, a residual added", hand())
            .input(Some(Tensor::from_slice(&[2], &[0.5f32, -4.0])))
            .input(Some(Tensor::from_slice(&[2, 3], &[2.0f32, 0.0, 1.0, 0.0, 1.0, 2.0])))
            .attr("stages", stages(&["Add", "Relu"]))
            .expect(vec![Tensor::from_slice(
                &[1, 2, 3],
                &[1.5f32, 0.0, f32::NAN, 0.0, 2.5, f32::NAN],
            )]),
        Case::new(
            "filters of halves",
            vec![ramp(&[2, 3, 20, 21]), ramp_of(DType::F16, &[16, 3, 3, 3])],
        )
        .input(Some(ramp(&[16])))
        .attr("stages", stages(&["Relu"])),
        Case::new(
            "pointwise halves",
            vec![ramp(&[2, 20, 4, 7]), ramp_of(DType::BF16, &[33, 20, 1, 1])],
        )
        .attr("stages", stages(&[])),
        Case::new(
            "depthwise halves",
            vec![ramp(&[1, 20, 9, 8]), ramp_of(DType::F16, &[20, 1, 3, 3])],
        )
        .attr("group", Attr::Int(20))
        .attr("stages", stages(&["HardSwish"])),
        conv("pointwise, no bias, a factor for each channel", &[2, 20, 5, 7], &[33, 20, 1, 1])
            .input(None)
            .input(Some(ramp(&[33, 1, 1])))
            .attr("stages", stages(&["Mul", "HardSwish"])),
        conv("one position, a residual", &[3, 40, 1, 1], &[33, 40, 1, 1])
            .input(Some(ramp(&[33])))
            .input(Some(ramp(&[3, 33, 1, 1])))
            .attr("stages", stages(&["Add", "HardSwish"])),
        conv("image, held between bounds", &[1, 3, 20, 21], &[16, 3, 3, 3])
            .input(Some(ramp(&[16])))
            .input(Some(ramp(&[])))
            .input(Some(Tensor::from_slice(&[1], &[6.0f32])))
            .attr("stages", stages(&["AtLeast", "AtMost"]))
            .attr("pads", ints(&[1, 1, 1, 1]))
            .attr("strides", ints(&[2, 2])),
        conv("depthwise", &[2, 16, 9, 40], &[16, 1, 3, 3])
            .input(Some(ramp(&[16])))
            .input(Some(ramp(&[2, 16, 9, 40])))
            .attr("stages", stages(&["LeakyRelu", "Add"]))
            .attr("scalars", Attr::Floats(vec![0.25]))
            .attr("group", Attr::Int(16))
            .attr("pads", ints(&[1, 1, 1, 1])),
        conv("groups, more stages", &[2, 12, 8, 8], &[18, 4, 3, 3])
            .attr("group", Attr::Int(3))
            .attr("stages", stages(&["Sigmoid", "Tanh", "Gelu"])),
        conv("no images", &[0, 3, 5, 5], &[16, 3, 3, 3]).attr("stages", stages(&["Relu"])),
    ]
}

fn cases() -> Vec<Case> {
    let integers = |shape: &[usize]| {
        let values: Vec<i32> =
            (0..shape.iter().product::<usize>() as i32).map(|i| i * 37 % 511 - 255).collect();
        Tensor::from_slice(shape, &values)
    };
    let conv = |name, x: &[usize], w: &[usize]| Case::new(name, vec![ramp(x), ramp(w)]);
    let ints = |values: &[i64]| Attr::Ints(values.to_vec());
    vec![
        Case::new(
            "one axis, worked by hand",
            vec![
                Tensor::from_slice(&[1, 1, 4], &[1.0f32, 2.0, 3.0, 4.0]),
                Tensor::from_slice(&[2, 1, 2], &[1.0f32, -1.0, 2.0, 0.5]),
                Tensor::from_slice(&[2], &[10.0f32, 0.0]),
            ],
        )
        .attr("pads", ints(&[1, 0]))
        .expect(vec![Tensor::from_slice(&[1, 2, 4], &[9.0f32, 9.0, 9.0, 9.0, 0.5, 3.0, 5.5, 8.0])]),
        Case::new(
            "two axes, worked by hand",
            vec![
                Tensor::from_slice(
                    &[1, 1, 3, 3],
                    &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
                ),
                Tensor::from_slice(&[1, 1, 2, 2], &[1.0f32, 0.0, 0.0, -1.0]),
            ],
        )
        .attr("pads", ints(&[0, 0, 1, 1]))
        .attr("strides", ints(&[2, 1]))
        .expect(vec![Tensor::from_slice(&[1, 1, 2, 3], &[-4.0f32, -4.0, 3.0, 7.0, 8.0, 9.0])]),
        Case::new(
            "NaN and infinity survive",
            vec![
                Tensor::from_slice(&[1, 1, 3], &[f32::NAN, 1.0, f32::INFINITY]),
                Tensor::from_slice(&[1, 1, 1], &[2.0f32]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[1, 1, 3], &[f32::NAN, 2.0, f32::INFINITY])]),
        Case::new(
            "integers",
            vec![
                Tensor::from_slice(&[1, 1, 3], &[1i32, -2, 1 << 30]),
                Tensor::from_slice(&[2, 1, 2], &[3i32, 1, -1, 4]),
                Tensor::from_slice(&[2], &[10i32, 0]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[1, 2, 2], &[11i32, (1 << 30) + 4, -9, 2])]),
        Case::new(
            "integers, many filters",
            vec![integers(&[2, 4, 9, 10]), integers(&[12, 4, 3, 3])],
        )
        .attr("pads", ints(&[1, 1, 1, 1])),
        conv("pointwise", &[2, 20, 5, 7], &[33, 20, 1, 1]).input(Some(ramp(&[33]))),
        conv("one filter, pointwise", &[1, 20, 6, 7], &[1, 20, 1, 1]),
        conv("image, strided", &[1, 3, 20, 21], &[16, 3, 3, 3])
            .input(Some(ramp(&[16])))
            .attr("pads", ints(&[1, 1, 1, 1]))
            .attr("strides", ints(&[2, 2])),
        conv("depthwise", &[2, 16, 9, 40], &[16, 1, 3, 3])
            .input(Some(ramp(&[16])))
            .attr("group", Attr::Int(16))
            .attr("pads", ints(&[1, 1, 1, 1])),
        conv("depthwise, long rows", &[1, 2, 3, 150], &[2, 1, 3, 5])
            .attr("group", Attr::Int(2))
            .attr("pads", ints(&[1, 2, 1, 2])),
        conv("depthwise, strided and dilated", &[1, 6, 20, 70], &[6, 1, 3, 3])
            .attr("group", Attr::Int(6))
            .attr("strides", ints(&[2, 2]))
            .attr("dilations", ints(&[2, 3]))
            .attr("pads", ints(&[2, 0, 1, 3])),
        conv("depthwise with a multiplier", &[1, 4, 6, 6], &[12, 1, 3, 3])
            .attr("group", Attr::Int(4)),
        conv("groups", &[2, 12, 8, 8], &[18, 4, 3, 3])
            .attr("group", Attr::Int(3))
            .attr("auto_pad", Attr::Str("SAME_UPPER".to_owned())),
        conv("groups of many filters", &[1, 8, 10, 10], &[40, 4, 3, 3]).attr("group", Attr::Int(2)),
        conv("frames of a signal", &[1, 1, 300], &[66, 1, 64]).attr("strides", ints(&[32])),
        conv("sequence", &[1, 30, 41], &[64, 30, 3])
            .input(Some(ramp(&[64])))
            .attr("pads", ints(&[1, 1]))
            .attr("strides", ints(&[2])),
        conv("few outputs of many terms", &[2, 30, 4], &[50, 30, 3])
            .input(Some(ramp(&[50])))
            .attr("pads", ints(&[1, 1])),
        conv("few outputs of groups, strided and dilated", &[2, 40, 5, 6], &[12, 20, 2, 3])
            .attr("group", Attr::Int(2))
            .attr("strides", ints(&[2, 3]))
            .attr("dilations", ints(&[1, 2]))
            .attr("pads", ints(&[0, 2, 1, 1])),
        conv("tall kernel", &[1, 24, 50, 1], &[72, 24, 5, 1]),
        conv("three axes", &[1, 3, 5, 6, 7], &[10, 3, 2, 3, 2])
            .attr("pads", ints(&[0, 1, 0, 1, 1, 1]))
            .attr("dilations", ints(&[2, 1, 1])),
        conv("same, lower", &[1, 2, 7, 7], &[10, 2, 4, 4])
            .attr("auto_pad", Attr::Str("SAME_LOWER".to_owned()))
            .attr("strides", ints(&[2, 1])),
        conv("padding wider than the input", &[1, 2, 2], &[9, 2, 5]).attr("pads", ints(&[6, 4])),
        conv("no images", &[0, 3, 5, 5], &[16, 3, 3, 3]),
        conv("the window is the whole image", &[11, 6, 4, 5], &[10, 6, 4, 5])
            .input(Some(ramp(&[10]))),
        Case::new(
            "one position, worked by hand",
            vec![
                Tensor::from_slice(&[2, 2, 1, 1], &[1.0f32, 2.0, 3.0, 4.0]),
                Tensor::from_slice(&[3, 2, 1, 1], &[1.0f32, 0.0, 0.0, 1.0, 1.0, -1.0]),
                Tensor::from_slice(&[3], &[10.0f32, 20.0, 30.0]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[2, 3, 1, 1], &[11.0f32, 22.0, 29.0, 13.0, 24.0, 29.0])]),
        Case::new(
            "doubles",
            vec![
                Tensor::from_slice(&[1, 1, 3], &[1.0f64, 2.0, 3.0]),
                Tensor::from_slice(&[1, 1, 2], &[0.5f64, 0.25]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[1, 1, 2], &[1.0f64, 1.75])]),
    ]
}
