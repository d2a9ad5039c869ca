//! Sums of products over labelled axes.

use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::equation::{Equation, Label};
use crate::fill::filled;
use crate::gpu::elementwise::{INT64, PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::ops::elementwise::binary::{PRODUCT, SUM};
use crate::{AttrDef, OpDef, OpError, Operand, Tolerance};
use crate::{AttrKind, AttrsExt};
use engine_format::{Attr, DType, Dim, Tensor};
use std::collections::BTreeMap;
use std::fmt::Write;

pub static EINSUM: OpDef = OpDef {
    name: "Einsum",
    doc: "The sum of products that `equation` writes down: each operand's axes by letters, `...` for those that broadcast, and \
          after `->` the axes that remain.",
    attrs: &[AttrDef::required("equation", AttrKind::Str)],
    inputs: &[Operand::data("Inputs").learned()],
    variadic_input: true,
    outputs: &["Output"],
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    tolerance: Tolerance::SUMS,
    cases: || {
        let (a, b) = ([1.0f32, 2.0, 3.0, 4.0], [1.0f32, 0.0, 1.0, 1.0]);
        let (a, b) = (Tensor::from_slice(&[2, 2], &a), Tensor::from_slice(&[2, 2], &b));
        let equation = |text: &str| Attr::Str(text.to_owned());
        vec![
            Case::new("matrix product", vec![a.clone(), b])
                .attr("equation", equation("ij, jk"))
                .expect(vec![Tensor::from_slice(&[2, 2], &[3.0f32, 2.0, 7.0, 4.0])]),
            Case::new("diagonal", vec![a.clone()])
                .attr("equation", equation("ii->i"))
                .expect(vec![Tensor::from_slice(&[2], &[1.0f32, 4.0])]),
            Case::new("three operands", vec![ramp(&[4, 5]), ramp(&[5, 6, 3]), ramp(&[6, 4])])
                .attr("equation", equation("ij,jkl,ki->li")),
            Case::new("batches of diagonals", vec![ramp(&[3, 7, 7])])
                .attr("equation", equation("...ii->...i")),
            Case::new("of no term", vec![Tensor::zeros(DType::F32, &[2, 0])])
                .attr("equation", equation("ij->i"))
                .expect(vec![Tensor::zeros(DType::F32, &[2])]),
            Case::new("long integers", {
                let row = Tensor::from_slice(&[2], &[3i64 << 33, -5]);
                vec![row, Tensor::from_slice(&[2], &[2i64, 7])]
            })
            .attr("equation", equation("i,i->"))
            .expect(vec![Tensor::from_slice(&[], &[(6i64 << 33) - 35])]),
            Case::new("axes that broadcast", vec![a])
                .attr("equation", equation("...j->..."))
                .expect(vec![Tensor::from_slice(&[2], &[3.0f32, 7.0])]),
        ]
    },
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = ctx.dtype(0)?;
    let shapes = (0..ctx.inputs.len()).map(|i| ctx.shape(i)).collect::<Result<Vec<_>, _>>()?;
    if dtype == DType::Bool || ctx.inputs.iter().flatten().any(|facts| facts.dtype != dtype) {
        return Err(InferError::invalid("operands are expected to be numbers of one type"));
    }
    let ranks: Vec<usize> = shapes.iter().map(|shape| shape.len()).collect();
    let equation = Equation::new(ctx.attrs.str("equation"), &ranks)?;
    let mut sizes = BTreeMap::<Label, Dim>::new();
    for (labels, shape) in equation.operands.iter().zip(&shapes) {
        for (label, dim) in labels.iter().zip(*shape) {
            let size = sizes.entry(*label).or_insert_with(|| dim.clone());
            match (size.known(), dim.known()) {
                (Some(1), _) | (None, Some(2..)) => *size = dim.clone(),
                (Some(a), Some(b)) if a != b && b != 1 => {
                    return Err(InferError::invalid(format!(
                        "axes of one label have sizes {a} and {b}"
                    )));
                }
                _ => {}
            }
        }
    }
    Ok(vec![Facts::new(dtype, equation.result.iter().map(|label| sizes[label].clone()).collect())])
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let dtype = ctx.input(0).dtype;
    let operands: Vec<TensorRef<'_>> = ctx.inputs.iter().flatten().copied().collect();
    let ranks: Vec<usize> = operands.iter().map(|x| x.shape.len()).collect();
    let equation = Equation::new(ctx.attrs.str("equation"), &ranks)?;
    let shapes: Vec<&[usize]> = operands.iter().map(|x| x.shape).collect();
    let walk = Walk::new(&equation, &shapes);
    let y = ctx.output();
    match dtype {
        DType::F64 => walk.run(&operands, y.dtype, y.bytes, 1.0, |a: f64, b| a + b, |a, b| a * b),
        DType::U64 => {
            walk.run(&operands, y.dtype, y.bytes, 1, u64::wrapping_add, u64::wrapping_mul)
        }
        float if float.is_float() => {
            walk.run(&operands, y.dtype, y.bytes, 1.0, |a: f32, b| a + b, |a, b| a * b);
        }
        _ => walk.run(&operands, y.dtype, y.bytes, 1, i64::wrapping_add, i64::wrapping_mul),
    }
    Ok(())
}

/// Sizes of the result's axes and of those summed over, with every operand's strides along them.
struct Walk {
    kept: Vec<(usize, Vec<usize>)>,
    summed: Vec<(usize, Vec<usize>)>,
}

impl Walk {
    fn new(equation: &Equation, operands: &[&[usize]]) -> Self {
        let mut axes = BTreeMap::<Label, (usize, Vec<usize>)>::new();
        for (i, (labels, shape)) in equation.operands.iter().zip(operands).enumerate() {
            let mut stride = 1;
            for (label, &size) in labels.iter().zip(*shape).rev() {
                let axis = axes.entry(*label).or_insert_with(|| (1, vec![0; operands.len()]));
                // An axis of size 1 stays where it is; a label that occurs twice goes along the diagonal.
                if size != 1 {
                    axis.0 = size;
                    axis.1[i] += stride;
                }
                stride *= size;
            }
        }
        let kept = equation.result.iter().map(|label| axes[label].clone()).collect();
        equation.result.iter().for_each(|label| drop(axes.remove(label)));
        Self { kept, summed: axes.into_values().collect() }
    }

    fn run<W: Calc>(
        &self,
        operands: &[TensorRef<'_>],
        dtype: DType,
        out: &mut [u8],
        one: W,
        add: fn(W, W) -> W,
        multiply: fn(W, W) -> W,
    ) {
        let terms: usize = self.summed.iter().map(|(size, _)| size).product();
        for (at, slot) in out.chunks_exact_mut(dtype.width()).enumerate() {
            let start = offsets(&self.kept, at, operands.len());
            let mut sum = W::default();
            for term in 0..terms {
                let more = offsets(&self.summed, term, operands.len());
                let mut product = one;
                for (i, x) in operands.iter().enumerate() {
                    let mut value = [W::default()];
                    W::load(x.dtype, x.bytes, start[i] + more[i], &mut value);
                    product = multiply(product, value[0]);
                }
                sum = add(sum, product);
            }
            W::store(dtype, &[sum], slot);
        }
    }
}

/// Where each operand's element is for the `at`-th combination of `axes`.
fn offsets(axes: &[(usize, Vec<usize>)], mut at: usize, operands: usize) -> Vec<usize> {
    let mut out = vec![0; operands];
    for (size, strides) in axes.iter().rev() {
        let index = at % size;
        at /= size;
        out.iter_mut().zip(strides).for_each(|(offset, stride)| *offset += index * stride);
    }
    out
}

/// Operands that fit a shader beside the result.
const GPU_OPERANDS: usize = 7;

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let y = ctx.output();
    let shapes: Vec<&[usize]> = ctx.inputs.iter().flatten().map(|x| x.shape.as_slice()).collect();
    let (Some(word), Some(add), Some(multiply)) =
        (element_type(y.dtype), SUM.of(y.dtype), PRODUCT.of(y.dtype))
    else {
        return Ok(None);
    };
    if shapes.len() > GPU_OPERANDS {
        return Ok(None);
    }
    // A sum without terms: what is empty must not be bound.
    if shapes.iter().any(|shape| shape.contains(&0)) && !y.is_empty() {
        return Ok(filled(ctx, [0; 2]));
    }
    let ranks: Vec<usize> = shapes.iter().map(|shape| shape.len()).collect();
    let walk = Walk::new(&Equation::new(ctx.attrs.str("equation"), &ranks)?, &shapes);
    let (mut bindings, mut product) = (String::new(), "one".to_owned());
    for k in 0..shapes.len() {
        let declared = format!("var<storage, read> x{k}: array<{word}>;");
        let _ = writeln!(bindings, "@group(0) @binding({k}) {declared}");
        product = format!("multiplied({product}, x{k}[at[{k}]])");
    }
    let (zero, one) = match word {
        "vec2<u32>" => ("vec2<u32>(0u, 0u)".to_owned(), "vec2<u32>(1u, 0u)".to_owned()),
        word => (format!("{word}(0)"), format!("{word}(1)")),
    };
    let (table, axes) = (walk.table(), walk.kept.len() + walk.summed.len());
    let (count, result) = (shapes.len().to_string(), shapes.len().to_string());
    let (uniform, lines) = ((shapes.len() + 1).to_string(), (2 * axes).max(1).to_string());
    let keys = [
        ("functions", [PRELUDE, INT64].concat()),
        ("narrowed", rounded(y.dtype, "sum")),
        ("bindings", bindings),
        ("product", product),
        ("add", add.to_owned()),
        ("multiply", multiply.to_owned()),
        ("zero", zero),
        ("one", one),
        ("count", count),
        ("result", result),
        ("uniform", uniform),
        ("lines", lines),
        ("word", word.to_owned()),
    ];
    let keys = keys.each_ref().map(|(key, value)| (*key, value.as_str()));
    let terms: usize = walk.summed.iter().map(|(size, _)| size).product();
    let mut params =
        [y.len(), terms, walk.kept.len(), walk.summed.len()].map(|n| n as u32).to_vec();
    params.extend(table);
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS + terms * (1 + axes * (1 + shapes.len())),
        label: "Einsum".into(),
        wgsl: render(include_str!("einsum.wgsl"), &keys).into(),
        binds: (0..shapes.len()).map(Bind::In).chain([Bind::Out(0)]).collect(),
        params,
        groups: ctx.limits.linear(y.len(), 64),
    })))
}

impl Walk {
    /// The axes as the shader takes them, the kept ones first, each the innermost first: a size and a stride of every operand.
    fn table(&self) -> Vec<u32> {
        let mut table = Vec::new();
        for (size, strides) in self.kept.iter().rev().chain(self.summed.iter().rev()) {
            let end = table.len() + 1 + GPU_OPERANDS;
            table.push(*size as u32);
            table.extend(strides.iter().map(|&stride| stride as u32));
            table.resize(end, 0);
        }
        if table.is_empty() { vec![0; 4] } else { table }
    }
}
