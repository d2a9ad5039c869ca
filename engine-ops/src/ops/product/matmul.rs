//! Matrix products over batches, and the GPU kernel that [`Gemm`](super::gemm) shares.

use crate::AttrsExt;
use crate::case::{Case, ramp, ramp_of};
use crate::chain::{self, Chain, Finish};
use crate::cpu::{Cpu, CpuCtx, CpuShapes, CpuStep};
use crate::dtypes::PRODUCTS;
use crate::fill::filled;
use crate::form::Form;
use crate::gpu::halves::Lying;
use crate::gpu::product::{Algorithm, Along, Body, Candidates, Share, Sizes, Strided, Tiled};
use crate::gpu::thin::{MOST_ROWS, Right};
use crate::gpu::units::Halves;
use crate::gpu::{Bind, GpuCtx, GpuProgram, narrowing, wgsl_type};
use crate::infer::{Facts, InferCtx, InferError, broadcast};
use crate::kernels::blocked::{self, Mat, Term};
use crate::kernels::gemm::{Epilogue, Gemm, MatRef, PackedB, Panels};
use crate::{AttrDef, Kind, OnnxName, OpDef, OpError, Operand, Tolerance, for_dtype};
use engine_format::{Attr, Attrs, DType, Element, Tensor};
use half::{bf16, f16};

pub static MATMUL: OpDef = OpDef {
    name: "MatMul",
    doc: "`Y[…, i, j] = Σₖ A[…, i, k] · B[…, k, j]`; leading dimensions broadcast, an operand of rank 1 is a row on \
          the left and a column on the right, and that dimension is dropped from the result.",
    onnx: &[OnnxName::since("MatMul", 1)],
    inputs: &[Operand::data("A").of(PRODUCTS).learned(), Operand::data("B").like(0).learned()],
    kind: Kind::Compute,
    infer,
    cpu: Cpu::Planned(|shapes| Ok(Box::new(Step::new(shapes)?))),
    gpu: Some(|ctx| OnGpu::program(ctx, Algorithm::OWN)),
    gpu_candidates: Candidates::<OnGpu>::ALL,
    multiplications: |attrs, inputs| {
        let [Some(a), Some(b), ..] = inputs else { return None };
        Some(Product::new(&a.shape, &b.shape, transposed(attrs)).gemm.multiplications())
    },
    tolerance: Tolerance::SUMS,
    cases,
    fused: Some(&FUSED_MATMUL),
    ..OpDef::BASE
};

pub static FUSED_MATMUL: OpDef = OpDef {
    name: "FusedMatMul",
    doc: "MatMul of operands whose last two dimensions are swapped where `transA` and `transB` say so (they then have two \
          or more), with stages applied to every element of the result. Written by the builder's passes, never imported.",
    onnx: &[],
    attrs: &[AttrDef::int("transA", 0), AttrDef::int("transB", 0), chain::STAGES, chain::SCALARS],
    inputs: &[MATMUL.inputs[0], MATMUL.inputs[1].or_halves(), chain::OPERANDS],
    variadic_input: true,
    infer: fused_infer,
    cases: fused_cases,
    fused: None,
    ..MATMUL
};

/// Operands of the product itself.
const OWN: usize = 2;

/// Whether A and B are transposed.
fn transposed(attrs: &Attrs) -> [bool; 2] {
    ["transA", "transB"].map(|name| attrs.opt_int(name).is_some_and(|on| on != 0))
}

fn fused_infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let mut inputs = ctx.inputs.to_vec();
    for (facts, on) in inputs.iter_mut().zip(transposed(ctx.attrs)) {
        let Some(Facts { shape: Some(shape), .. }) = facts else { continue };
        match shape.as_mut_slice() {
            [.., rows, columns] if on => std::mem::swap(rows, columns),
            vector if on => {
                let message =
                    format!("an operand {vector:?} is to be transposed, expected a matrix");
                return Err(InferError::invalid(message));
            }
            _ => {}
        }
    }
    let plain = InferCtx { attrs: ctx.attrs, inputs: &inputs, outputs: ctx.outputs };
    chain::infer(ctx, OWN, infer(&plain)?)
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = ctx.dtype(0)?;
    let (a, b) = (ctx.shape(0)?, ctx.shape(1)?);
    let (Some((a_k, a_rest)), false) = (a.split_last(), b.is_empty()) else {
        return Err(InferError::invalid("operands of MatMul have at least one dimension"));
    };
    let (b_k, n, b_batch) = match b {
        [.., k, n] => (k, Some(n), &b[..b.len() - 2]),
        _ => (&b[0], None, &b[..0]),
    };
    if let (Some(left), Some(right)) = (a_k.known(), b_k.known())
        && left != right
    {
        return Err(InferError::invalid(format!(
            "A {a:?} has {left} columns, B {b:?} {right} rows"
        )));
    }
    let (m, a_batch) = match a_rest {
        [batch @ .., m] => (Some(m), batch),
        [] => (None, a_rest),
    };
    let mut shape = broadcast(&[a_batch, b_batch])?;
    shape.extend(m.into_iter().chain(n).cloned());
    Ok(vec![Facts::new(dtype, shape)])
}

/// A batched product with the steps of both operands, from concrete shapes.
struct Product {
    gemm: Gemm,
    /// Sizes of the batch dimensions with the elements from one item to the next in A and B, 0 where it is broadcast;
    /// neighbours that step alike are merged.
    dims: Vec<[usize; 3]>,
    /// From row to row and from column to column of A.
    a: [usize; 2],
    /// Likewise of B.
    b: [usize; 2],
}

impl Product {
    fn new(a: &[usize], b: &[usize], [a_transposed, b_transposed]: [bool; 2]) -> Self {
        let (a_batch, m, k) = match a {
            [batch @ .., k, m] if a_transposed => (batch, *m, *k),
            [batch @ .., m, k] => (batch, *m, *k),
            _ => (&a[..0], 1, a[0]),
        };
        let (b_batch, n) = match b {
            [batch @ .., n, _] if b_transposed => (batch, *n),
            [batch @ .., _, n] => (batch, *n),
            _ => (&b[..0], 1),
        };
        let steps = |transposed, rows, columns| if transposed { [1, rows] } else { [columns, 1] };
        let mut product = Self {
            gemm: Gemm { batch: 1, m, n, k },
            dims: Vec::new(),
            a: steps(a_transposed, m, k),
            b: steps(b_transposed, k, n),
        };
        let (mut a_step, mut b_step) = (m * k, k * n);
        for i in 0..a_batch.len().max(b_batch.len()) {
            let size = |dims: &[usize]| dims.len().checked_sub(i + 1).map_or(1, |at| dims[at]);
            let (left, right) = (size(a_batch), size(b_batch));
            let count = if left == 1 { right } else { left };
            let steps = [if left == 1 { 0 } else { a_step }, if right == 1 { 0 } else { b_step }];
            (a_step, b_step) = (a_step * left, b_step * right);
            product.push(count, steps);
        }
        // Rows of one right operand for all: one tall product.
        if let [[count, a_step, 0]] = product.dims[..]
            && a_step == m * k
            && !a_transposed
        {
            product.gemm.m *= count;
            product.gemm.batch = 1;
            product.dims.clear();
        }
        product
    }

    /// Adds the next outer dimension.
    fn push(&mut self, count: usize, [a, b]: [usize; 2]) {
        self.gemm.batch *= count;
        match self.dims.last_mut() {
            _ if count == 1 => {}
            Some([inner, x, y]) if *x * *inner == a && *y * *inner == b => *inner *= count,
            _ => self.dims.push([count, a, b]),
        }
    }

    /// Where item `i` of the batch begins in A and in B.
    fn starts(&self, mut i: usize) -> (usize, usize) {
        let (mut a, mut b) = (0, 0);
        for [count, a_step, b_step] in &self.dims {
            a += i % count * a_step;
            b += i % count * b_step;
            i /= count;
        }
        (a, b)
    }
}

/// A product of concrete shapes.
struct Step {
    dtype: DType,
    product: Product,
    scratch: usize,
    /// The form in which B is read if it is there: one matrix for all rows, which would be packed at every run.
    panels: Option<Panels>,
}

impl Step {
    fn new(shapes: &CpuShapes<'_>) -> Result<Self, OpError> {
        let [Some(a), Some(b), ..] = shapes.inputs else {
            return Err(OpError::new("an operand is missing"));
        };
        let transposed = transposed(shapes.attrs);
        let product = Product::new(&a.shape, &b.shape, transposed);
        let Gemm { batch, n, k, .. } = product.gemm;
        let float = a.dtype == DType::F32;
        let scratch = if float { product.gemm.scratch() } else { 0 };
        let one = float && batch == 1 && b.shape.len() == 2;
        let panels = (one && product.gemm.packs(product.a, product.b)).then_some(Panels {
            k,
            n,
            transposed: transposed[1],
        });
        Ok(Self { dtype: a.dtype, product, scratch, panels })
    }

    fn multiply(&self, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
        let (a, b) = (ctx.input(0).slice::<f32>(), ctx.input(1));
        let Self { product, .. } = self;
        let Gemm { m, n, .. } = product.gemm;
        let ([a_row, a_col], [b_row, b_col]) = (product.a, product.b);
        let left = |start| MatRef { data: &a[start..], row: a_row, col: a_col };
        let out = ctx.outputs[0].as_mut().expect("the first result is never omitted");
        let chain = Chain::new(ctx.attrs, ctx.inputs.get(OWN..).unwrap_or_default(), out.shape)?;
        let finish = |i: usize, row: usize, col: usize, run: &mut [f32]| {
            if let Some(chain) = &chain {
                chain.apply((i * m + row) * n + col, run);
            }
        };
        let epilogue = chain.is_some().then_some(&finish as Epilogue<'_>);
        let made = ctx.forms.get(1).copied().flatten();
        if let (Some(form), Some(Panels { k, n, .. })) = (made, self.panels) {
            let operands = |i| (left(product.starts(i).0), PackedB::new(form, k, n));
            product.gemm.run(operands, out.slice(), ctx.scratch, epilogue);
            return Ok(());
        }
        let b = b.slice::<f32>();
        let operands = |i| {
            let (x, y) = product.starts(i);
            (left(x), MatRef { data: &b[y..], row: b_row, col: b_col })
        };
        product.gemm.run(operands, out.slice(), ctx.scratch, epilogue);
        Ok(())
    }
}

impl CpuStep for Step {
    fn scratch(&self) -> usize {
        self.scratch
    }

    fn form(&self, i: usize) -> Option<Form> {
        self.panels.filter(|_| i == 1).map(Form::Panels)
    }

    fn run(&self, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
        let (a, b) = (ctx.input(0), ctx.input(1));
        for_dtype!(
            self.dtype,
            [F64 => f64, F16 => f16, BF16 => bf16, I32 => i32, I64 => i64, U32 => u32, U64 => u64, F32 => f32],
            T => {
                if T::DTYPE == DType::F32 {
                    return self.multiply(ctx);
                }
                plain(&self.product, a.slice::<T>(), b.slice::<T>(), ctx.output().slice::<T>());
                Ok(())
            }
        )
    }
}

fn plain<T: Term>(product: &Product, a: &[T], b: &[T], out: &mut [T]) {
    let Gemm { m, n, k, .. } = product.gemm;
    if out.is_empty() {
        return;
    }
    for (i, out) in out.chunks_exact_mut(m * n).enumerate() {
        let (x, y) = product.starts(i);
        let mat = |data, [row, col]: [usize; 2]| Mat { data, row, col };
        let (a, b) = (mat(&a[x..], product.a), mat(&b[y..], product.b));
        blocked::multiply(a, b, (n, k), out, |sum, _, _| T::finish(sum));
    }
}

/// What the GPU kernel multiplies. Strides are in elements.
pub(in crate::ops) struct GpuProduct<'a> {
    pub(in crate::ops) label: &'static str,
    pub(in crate::ops) dtype: DType,
    pub(in crate::ops) gemm: Gemm,
    /// From row to row and from column to column of A.
    pub(in crate::ops) a: [usize; 2],
    /// Likewise of B.
    pub(in crate::ops) b: [usize; 2],
    /// Likewise of the addend C, if there is one; 0 where it is broadcast.
    pub(in crate::ops) c: Option<[usize; 2]>,
    pub(in crate::ops) alpha: f32,
    pub(in crate::ops) beta: f32,
    /// Batch dimensions, innermost first: count, step in A, step in B.
    pub(in crate::ops) dims: &'a [[usize; 3]],
}

/// Batch dimensions that the shader has room for, after merging.
const MAX_DIMS: usize = 6;

impl GpuProduct<'_> {
    /// Its sizes.
    pub(in crate::ops) fn sizes(&self, ctx: &GpuCtx<'_>) -> Sizes {
        let Gemm { batch, m, n, k } = self.gemm;
        let few = (1..=MOST_ROWS).contains(&m);
        let thin = few && self.a[1] == 1 && self.matrix(Lying::of(ctx, 1)).is_some();
        let units = (wgsl_type(self.dtype) == Some("f32")).then(|| Halves::of(Lying::of(ctx, 1)));
        Sizes { items: batch, rows: m, cols: n, terms: k, thin, units }
    }

    /// The right operand as the kernel of thin products reads it, if it lies so.
    fn matrix(&self, lying: Lying) -> Option<Right<'static>> {
        let (step, name, by_terms) = match self.b {
            [1, step] => (step, "params.b_col", true),
            [step, _] => (step, "params.b_row", false),
        };
        let side = if by_terms { self.gemm.k } else { self.gemm.n };
        let starts = self.dims.iter().map(|dim| dim[2]);
        let whole = |n: usize| starts.clone().chain([step, side]).all(|at| at.is_multiple_of(n));
        let line = lying.line(whole)?;
        let (start, size) = ("at.b", "params.n");
        Some(Right { binding: "b_in", lying, line, start, size, step: name, by_terms })
    }

    /// How an operand is read whose rows (columns) are `steps[0]` apart, and whose terms `steps[1]`: along what, and whether in whole vectors.
    fn reading(&self, side: usize, steps: [usize; 2], batch: usize) -> (Along, bool) {
        let whole = |n: usize| n.is_multiple_of(4);
        let starts = self.dims.iter().all(|dim| whole(dim[batch]));
        match steps {
            [step, 1] => (Along::Terms, starts && whole(self.gemm.k) && (side == 1 || whole(step))),
            [_, term] => (Along::Side, starts && steps[0] == 1 && whole(side) && whole(term)),
        }
    }

    /// The program by an algorithm; `None` for types, sizes and devices that it is not for. The operator's own operands are the first `own`.
    pub(in crate::ops) fn program(
        &self,
        ctx: &GpuCtx<'_>,
        own: usize,
        algorithm: Algorithm,
    ) -> Result<Option<GpuProgram>, OpError> {
        let Gemm { batch, m, n, k } = self.gemm;
        let Some(element) = wgsl_type(self.dtype) else { return Ok(None) };
        if self.dims.len() > MAX_DIMS || !algorithm.fits(ctx.limits) {
            return Ok(None);
        }
        // An empty operand must not be bound. The CPU writes an addend, and applies stages to it.
        if k == 0 && batch * m * n > 0 {
            let plain = self.c.is_none() && !ctx.attrs.contains_key(chain::STAGES.name);
            return Ok(plain.then(|| filled(ctx, [0; 2])).flatten());
        }
        let mut binds = vec![Bind::In(0), Bind::In(1)];
        binds.extend(self.c.map(|_| Bind::In(2)));
        let finish = Finish::new(ctx, &ctx.output().shape, (own, binds.len()), element)?;
        binds.extend(&finish.binds);
        let output = binds.len().to_string();
        binds.push(Bind::Out(0));
        let [c_row, c_col] = self.c.unwrap_or_default();
        let params = |share: Share| {
            let words =
                |values: &[usize]| -> Vec<u32> { values.iter().map(|&v| v as u32).collect() };
            let mut params = words(&[batch, m, n, k]);
            params.extend(share);
            params.extend(words(&[self.a[0], self.a[1], self.b[0], self.b[1], c_row, c_col]));
            params.extend([self.alpha.to_bits(), self.beta.to_bits()]);
            params.extend(words(&[self.dims.len(), 0, 0, 0]));
            for i in 0..MAX_DIMS {
                let [count, a, b] = self.dims.get(i).copied().unwrap_or([1, 0, 0]);
                params.extend(words(&[count, a, b, 0]));
            }
            params.extend(&finish.params);
            params
        };
        let b_lying = Lying::of(ctx, 1);
        let left = self.reading(m, self.a, 1);
        let right = self.reading(n, [self.b[1], self.b[0]], 2);
        let strided = |name, (along, quads)| match name {
            "left" => Strided {
                name,
                binding: "a_in",
                lying: Lying::Words,
                start: "at.a",
                size: "params.m",
                steps: ["params.a_row", "params.a_col"],
                along,
                quads,
            },
            _ => Strided {
                name,
                binding: "b_in",
                lying: b_lying,
                start: "at.b",
                size: "params.n",
                steps: ["params.b_col", "params.b_row"],
                along,
                quads,
            },
        };
        let matrix = self.matrix(b_lying).filter(|_| algorithm.is_thin());
        let mut loaders = strided("left", left).wgsl() + "\n";
        let b_element = match &matrix {
            Some(matrix) => b_lying.line_element(matrix.line),
            None => {
                loaders += &strided("right", right).wgsl();
                b_lying.element(right.1)
            }
        };
        let elements = |quads| Lying::Words.element(quads);
        let quads = n.is_multiple_of(4);
        let scaled = "{{T}}(bitcast<f32>(params.alpha)) * sums";
        let values = [
            ("write", if quads { WRITE_QUADS } else { WRITE_EACH }),
            ("addend", if self.c.is_some() { ADDEND } else { NO_ADDEND }),
            ("scaled", if self.alpha == 1.0 { "sums" } else { scaled }),
            ("a_element", elements(left.1)),
            ("b_element", b_element),
            ("y_element", elements(quads)),
            ("chain", &finish.field),
            ("finish", &finish.functions),
            ("output", &output),
            ("narrow", narrowing(self.dtype)),
            ("T", element),
        ];
        let body = Body {
            label: self.label,
            sizes: self.sizes(ctx),
            along: [left.0, right.0],
            text: include_str!("matmul.wgsl"),
            loaders: &loaders,
            matrix,
            values: &values,
            binds,
            params: &params,
        };
        Ok(algorithm.program(ctx, body))
    }
}

const WRITE_QUADS: &str = "let y = finish4({{scaled}} + addend(row, col), i);
    y_out[i / 4u] = vec4<{{T}}>(narrow(y.x), narrow(y.y), narrow(y.z), narrow(y.w));";
const WRITE_EACH: &str = "let y = {{scaled}} + addend(row, col);
    y_out[i] = narrow(finish(y.x, i));
    if (col + 1u < params.n) { y_out[i + 1u] = narrow(finish(y.y, i + 1u)); }
    if (col + 2u < params.n) { y_out[i + 2u] = narrow(finish(y.z, i + 2u)); }
    if (col + 3u < params.n) { y_out[i + 3u] = narrow(finish(y.w, i + 3u)); }";
const NO_ADDEND: &str = "fn addend(row: u32, col: u32) -> vec4<{{T}}> { return vec4<{{T}}>(); }";
const ADDEND: &str = "@group(0) @binding(2) var<storage, read> c_in: array<{{T}}>;
fn addend(row: u32, col: u32) -> vec4<{{T}}> {
    let at = row * params.c_row + col * params.c_col;
    let step = params.c_col;
    let c = vec4<{{T}}>(c_in[at], c_in[at + step], c_in[at + 2u * step], c_in[at + 3u * step]);
    return {{T}}(bitcast<f32>(params.beta)) * c;
}";

/// The GPU kernels of MatMul.
struct OnGpu;

impl Tiled for OnGpu {
    fn sizes(ctx: &GpuCtx<'_>) -> Option<Sizes> {
        let product = product_of(ctx);
        Some(on_gpu(ctx, &product).sizes(ctx))
    }

    fn program(ctx: &GpuCtx<'_>, algorithm: Algorithm) -> Result<Option<GpuProgram>, OpError> {
        let product = product_of(ctx);
        on_gpu(ctx, &product).program(ctx, OWN, algorithm)
    }
}

fn product_of(ctx: &GpuCtx<'_>) -> Product {
    Product::new(&ctx.input(0).shape, &ctx.input(1).shape, transposed(ctx.attrs))
}

fn on_gpu<'a>(ctx: &GpuCtx<'_>, product: &'a Product) -> GpuProduct<'a> {
    GpuProduct {
        label: "MatMul",
        dtype: ctx.input(0).dtype,
        gemm: product.gemm,
        a: product.a,
        b: product.b,
        c: None,
        alpha: 1.0,
        beta: 0.0,
        dims: &product.dims,
    }
}

fn fused_cases() -> Vec<Case> {
    let stages = |names: &[&str]| Attr::Strs(names.iter().map(|&n| n.to_owned()).collect());
    let f = |shape: &[usize], values: &[f32]| Tensor::from_slice(shape, values);
    // The last one is 1638 / 16384 as a half.
    let halves = || Tensor::from_slice(&[3, 1], &[-2.0, 1.5, 0.1].map(f16::from_f32));
    vec![
        // The product with the transposed right operand is 1 2; 3 NaN.
        Case::new(
            "worked by hand",
            vec![f(&[2, 1], &[1.0, 3.0]), f(&[2, 1], &[1.0, f32::NAN]), f(&[2], &[-2.0, 1.0])],
        )
        .attr("transB", Attr::Int(1))
        .attr("stages", stages(&["Add", "Relu"]))
        .expect(vec![f(&[2, 2], &[0.0, f32::NAN, 1.0, f32::NAN])]),
        Case::new("scaled scores of heads", vec![ramp(&[2, 3, 10, 16]), ramp(&[2, 3, 12, 16])])
            .input(Some(f(&[], &[0.25])))
            .input(Some(ramp(&[2, 1, 1, 12])))
            .attr("transB", Attr::Int(1))
            .attr("stages", stages(&["Mul", "Add"])),
        Case::new("a dense layer with a residual", vec![ramp(&[3, 7, 33]), ramp(&[33, 70])])
            .input(Some(ramp(&[70])))
            .input(Some(ramp(&[3, 7, 70])))
            .attr("stages", stages(&["Add", "Gelu", "Add"])),
        Case::new("both transposed, broadcast", vec![ramp(&[2, 1, 8, 5]), ramp(&[3, 6, 8])])
            .attr("transA", Attr::Int(1))
            .attr("transB", Attr::Int(1))
            .attr("stages", stages(&["Tanh"])),
        Case::new("a transposed batch on the left", vec![ramp(&[4, 20, 9]), ramp(&[20, 17])])
            .attr("transA", Attr::Int(1))
            .attr("stages", stages(&["Sigmoid"])),
        Case::new("halves worked by hand", vec![f(&[1, 3], &[1.0, 2.0, 3.0]), halves()])
            .attr("stages", stages(&[]))
            .expect(vec![f(&[1, 1], &[21_298.0 / 16_384.0])]),
        Case::new("a row of halves", vec![ramp(&[1, 96]), ramp_of(DType::BF16, &[96, 70])])
            .input(Some(ramp(&[70])))
            .attr("stages", stages(&["Add"])),
        Case::new("transposed halves", vec![ramp(&[2, 20, 37]), ramp_of(DType::F16, &[33, 37])])
            .attr("transB", Attr::Int(1))
            .attr("stages", stages(&["Gelu"])),
        Case::new("halves in vectors", vec![ramp(&[70, 64]), ramp_of(DType::F16, &[64, 132])])
            .attr("stages", stages(&[])),
        Case::new("transposed, in vectors", vec![ramp(&[9, 64]), ramp_of(DType::BF16, &[68, 64])])
            .attr("transB", Attr::Int(1))
            .attr("stages", stages(&["Relu"])),
        Case::new("a batch of halves", vec![ramp(&[3, 5, 7]), ramp_of(DType::F16, &[3, 7, 9])])
            .attr("stages", stages(&[])),
        Case::new("no rows", vec![ramp(&[0, 4]), ramp(&[4, 3])]).attr("stages", stages(&["Relu"])),
    ]
}

fn cases() -> Vec<Case> {
    let ints = |shape: &[usize], values: &[i32]| Tensor::from_slice(shape, values);
    vec![
        Case::new(
            "small, worked by hand",
            vec![
                Tensor::from_slice(&[2, 3], &[1.0f32, 2.0, 3.0, -1.0, 0.5, 4.0]),
                Tensor::from_slice(&[3, 2], &[1.0f32, -1.0, 2.0, 0.0, 0.5, 3.0]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[2, 2], &[6.5f32, 8.0, 2.0, 13.0])]),
        Case::new("integers", vec![ints(&[1, 2], &[3, -4]), ints(&[2, 2], &[1, 2, 5, 7])])
            .expect(vec![ints(&[1, 2], &[-17, -22])]),
        Case::new(
            "rank 1 on both sides",
            vec![
                Tensor::from_slice(&[3], &[1.0f32, 2.0, 3.0]),
                Tensor::from_slice(&[3], &[4.0f32, 5.0, 6.0]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[], &[32.0f32])]),
        Case::new(
            "NaN and infinity survive",
            vec![
                Tensor::from_slice(&[2, 2], &[f32::NAN, 1.0, f32::INFINITY, 1.0]),
                Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]),
            ],
        )
        .expect(vec![Tensor::from_slice(
            &[2, 2],
            &[f32::NAN, f32::NAN, f32::INFINITY, f32::INFINITY],
        )]),
        Case::new("no terms", vec![ramp(&[2, 0]), ramp(&[0, 3])])
            .expect(vec![Tensor::from_slice(&[2, 3], &[0.0f32; 6])]),
        Case::new("no rows", vec![ramp(&[0, 4]), ramp(&[4, 3])]),
        Case::new("row on the left", vec![ramp(&[40]), ramp(&[2, 40, 5])]),
        Case::new("column on the right", vec![ramp(&[2, 5, 40]), ramp(&[40])]),
        Case::new("one right operand for a batch", vec![ramp(&[3, 7, 33]), ramp(&[33, 70])]),
        Case::new("one left operand for a batch", vec![ramp(&[9, 20]), ramp(&[4, 20, 17])]),
        Case::new("heads", vec![ramp(&[2, 3, 10, 16]), ramp(&[2, 3, 16, 10])]),
        Case::new("both sides broadcast", vec![ramp(&[2, 1, 5, 8]), ramp(&[1, 3, 8, 6])]),
        Case::new("uneven broadcast", vec![ramp(&[2, 1, 3, 5, 8]), ramp(&[4, 1, 8, 6])]),
        Case::new("several tiles, none whole", vec![ramp(&[130, 75]), ramp(&[75, 97])]),
        Case::new("one row", vec![ramp(&[1, 300]), ramp(&[300, 200])]),
        Case::new("half precision", vec![halves(&[5, 9]), halves(&[9, 4])]),
    ]
}

fn halves(shape: &[usize]) -> Tensor {
    let values: Vec<f16> = ramp(shape)
        .as_slice::<f32>()
        .expect("a ramp is f32")
        .iter()
        .map(|&v| f16::from_f32(v))
        .collect();
    Tensor::from_slice(shape, &values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_format::Dim;

    #[test]
    fn symbolic_batches_and_sequences_pass_through() {
        let sym = |text: &str| text.parse::<Dim>().unwrap();
        let facts =
            |dims: &[&str]| Some(Facts::new(DType::F32, dims.iter().map(|d| sym(d)).collect()));
        let inputs = [facts(&["batch", "12", "seq", "32"]), facts(&["batch", "12", "32", "seq"])];
        let attrs = engine_format::Attrs::new();
        let out = infer(&InferCtx { attrs: &attrs, inputs: &inputs, outputs: 1 }).unwrap();
        assert_eq!(format!("{:?}", out[0].shape), "Some([batch, 12, seq, seq])");

        let inputs = [facts(&["batch", "5"]), facts(&["6", "3"])];
        let err = infer(&InferCtx { attrs: &attrs, inputs: &inputs, outputs: 1 }).unwrap_err();
        assert!(err.to_string().contains("5 columns"), "{err}");
    }

    #[test]
    fn merged_batches_start_where_they_should() {
        let p = Product::new(&[2, 1, 3, 5, 8], &[4, 1, 8, 6], [false; 2]);
        assert_eq!((p.gemm.batch, p.starts(0)), (24, (0, 0)));
        // Item (1, 2, 1): A has dims 2 × 1 × 3, B has 4 × 1.
        assert_eq!(p.starts((4 + 2) * 3 + 1), ((3 + 1) * 40, 2 * 48));
        let tall = Product::new(&[3, 7, 33], &[33, 70], [false; 2]);
        assert_eq!(tall.gemm, Gemm { batch: 1, m: 21, n: 70, k: 33 });
    }
}
