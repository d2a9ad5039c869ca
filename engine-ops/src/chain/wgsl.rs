//! Stages as WGSL: a function `finish` that a kernel calls with each finished element and its number in the result, and `finish4` for four
//! elements that follow one another from a multiple of four on.

use super::{Stage, stages};
use crate::OpError;
use crate::broadcast::Broadcast;
use crate::cpu::TensorMeta;
use crate::gpu::{Bind, GpuCtx};
use std::fmt::Write;

/// What a kernel's text and dispatch get from the stages.
#[derive(Default)]
pub(crate) struct Finish {
    /// Declarations: the operands' bindings and the function `finish(x: T, i: u32) -> T`.
    pub(crate) functions: String,
    /// The last field of the kernel's parameters, or nothing.
    pub(crate) field: String,
    /// The operands.
    pub(crate) binds: Vec<Bind>,
    /// Contents of the field: vectors of four.
    pub(crate) params: Vec<u32>,
}

impl Finish {
    /// The stages of a node over elements of the shape `out`. Its own operands are the first `own`; those of the stages are
    /// bound from `binding` on. Elements have the WGSL type `element`, which is `f32` where there are stages. The text calls
    /// functions of the prelude and has it, if it has stages.
    pub(crate) fn new(
        ctx: &GpuCtx<'_>,
        out: &[usize],
        (own, binding): (usize, usize),
        element: &str,
    ) -> Result<Self, OpError> {
        let stated = stages(ctx.attrs)?;
        let mut finish = Self::default();
        let (mut body, mut operands) = (String::new(), Vec::new());
        let mut called = false;
        for stage in stated.iter().flatten() {
            match stage {
                Stage::Function(_, function, scalars) => {
                    called = true;
                    finish.function(&mut body, function.wgsl, *scalars);
                }
                Stage::Pair(pair, at) => {
                    let operand = ctx.input(own + at);
                    finish.operand(*at, own + at, operand, out, binding)?;
                    operands.push(*at);
                    let _ =
                        writeln!(body, "    {{ let x = y; let b = b{at}; y = {}; }}", pair.wgsl);
                }
            }
        }
        if stated[0].is_some() {
            finish.functions += crate::gpu::elementwise::PRELUDE;
        }
        if called {
            finish.functions += crate::ops::elementwise::unary::FUNCTIONS;
        }
        finish.called(element, &body, &operands);
        if !finish.params.is_empty() {
            finish.field = format!("chain: array<vec4<u32>, {}>,", finish.params.len() / 4);
        }
        Ok(finish)
    }

    /// The functions that kernels call: one element through the stages, and four.
    fn called(&mut self, element: &str, body: &str, operands: &[usize]) {
        let list = |each: &dyn Fn(usize) -> String| -> String {
            operands.iter().map(|&at| format!(", {}", each(at))).collect()
        };
        let parameters = list(&|at| format!("b{at}: f32"));
        let read = list(&|at| format!("stage{at}_in[stage{at}_at(i)]"));
        let quads: String =
            operands.iter().map(|at| format!("    let b{at} = stage{at}_quad(i);\n")).collect();
        let of =
            |lane: &str| format!("stages_of(start.{lane}{})", list(&|at| format!("b{at}.{lane}")));
        let [x, y, z, w] = ["x", "y", "z", "w"].map(of);
        let _ = write!(
            self.functions,
            "fn stages_of(start: {element}{parameters}) -> {element} {{\n    var y = start;\n{body}    return y;\n}}
fn finish(start: {element}, i: u32) -> {element} {{ return stages_of(start{read}); }}
fn finish4(start: vec4<{element}>, i: u32) -> vec4<{element}> {{
{quads}    return vec4<{element}>({x}, {y}, {z}, {w});
}}\n"
        );
    }

    fn function(&mut self, body: &mut String, expression: &str, scalars: [f32; 3]) {
        let mut parameters = String::new();
        let line = self.params.len() / 4;
        for (i, lane) in ["x", "y", "z"].iter().enumerate() {
            if expression.contains(&format!("p{i}")) {
                let _ =
                    write!(parameters, "let p{i} = bitcast<f32>(params.chain[{line}].{lane}); ");
            }
        }
        if !parameters.is_empty() {
            self.params.extend(scalars.map(f32::to_bits));
            self.params.push(0);
        }
        let _ = writeln!(body, "    {{ let x = y; {parameters}y = {expression}; }}");
    }

    /// Declares an operand and the function that says where it lies for element `i` of the result.
    fn operand(
        &mut self,
        at: usize,
        input: usize,
        meta: &TensorMeta,
        out: &[usize],
        binding: usize,
    ) -> Result<(), OpError> {
        let walk = Broadcast::new(out, [meta.shape.as_slice()])?;
        let binding = binding + self.binds.len();
        self.binds.push(Bind::In(input));
        let each = "vec4<f32>(stageN_in[stageN_at(i)], stageN_in[stageN_at(i + 1u)], stageN_in[stageN_at(i + 2u)], stageN_in[stageN_at(i + 3u)])";
        let apart = "vec4<f32>(stageN_in[p], stageN_in[p + s], stageN_in[p + 2u * s], stageN_in[p + 3u * s])";
        let (index, quad) = match walk.axes() {
            [one] if one.strides == [0] => {
                ("    return 0u;\n".to_owned(), "return vec4<f32>(stageN_in[0]);".to_owned())
            }
            [_] => ("    return i;\n".to_owned(), format!("return {each};")),
            axes => {
                let first = format!("params.chain[{}]", self.params.len() / 4);
                let mut text = "    var rest = i;\n    var at = 0u;\n".to_owned();
                for axis in axes {
                    let line = format!("params.chain[{}]", self.params.len() / 4);
                    let _ = writeln!(
                        text,
                        "    at += rest % {line}.x * {line}.y;\n    rest /= {line}.x;"
                    );
                    self.params.extend([axis.size as u32, axis.strides[0] as u32, 0, 0]);
                }
                // Four elements of one line are as far apart as any two.
                let quad = format!(
                    "if ({first}.x % 4u == 0u) {{ let p = stageN_at(i); let s = {first}.y; return {apart}; }}\n    return {each};"
                );
                (text + "    return at;\n", quad)
            }
        };
        let quad = quad.replace("stageN", &format!("stage{at}"));
        let _ = write!(
            self.functions,
            "@group(0) @binding({binding}) var<storage, read> stage{at}_in: array<f32>;
fn stage{at}_at(i: u32) -> u32 {{\n{index}}}
fn stage{at}_quad(i: u32) -> vec4<f32> {{\n    {quad}\n}}\n"
        );
        Ok(())
    }
}
