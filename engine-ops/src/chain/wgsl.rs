//! Stages as WGSL: a function `finish` that a kernel calls with each finished element and its number in the result.

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
        let mut body = String::new();
        let mut called = false;
        for stage in stated.iter().flatten() {
            match stage {
                Stage::Function(function, scalars) => {
                    called = true;
                    finish.function(&mut body, function.wgsl, *scalars);
                }
                Stage::Pair(pair, at) => {
                    let operand = ctx.input(own + at);
                    finish.operand(*at, own + at, operand, out, binding)?;
                    let _ = writeln!(
                        body,
                        "    {{ let x = y; let b = stage{at}_in[stage{at}_at(i)]; y = {}; }}",
                        pair.wgsl
                    );
                }
            }
        }
        if stated[0].is_some() {
            finish.functions += crate::gpu::elementwise::PRELUDE;
        }
        if called {
            finish.functions += crate::ops::elementwise::unary::FUNCTIONS;
        }
        let _ = write!(
            finish.functions,
            "fn finish(start: {element}, i: u32) -> {element} {{\n    var y = start;\n{body}    return y;\n}}\n"
        );
        if !finish.params.is_empty() {
            finish.field = format!("chain: array<vec4<u32>, {}>,", finish.params.len() / 4);
        }
        Ok(finish)
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
        let index = match walk.axes() {
            [one] if one.strides == [0] => "    return 0u;\n".to_owned(),
            [_] => "    return i;\n".to_owned(),
            axes => {
                let mut text = "    var rest = i;\n    var at = 0u;\n".to_owned();
                for axis in axes {
                    let line = format!("params.chain[{}]", self.params.len() / 4);
                    let _ = writeln!(
                        text,
                        "    at += rest % {line}.x * {line}.y;\n    rest /= {line}.x;"
                    );
                    self.params.extend([axis.size as u32, axis.strides[0] as u32, 0, 0]);
                }
                text + "    return at;\n"
            }
        };
        let _ = write!(
            self.functions,
            "@group(0) @binding({binding}) var<storage, read> stage{at}_in: array<f32>;\nfn stage{at}_at(i: u32) -> u32 {{\n{index}}}\n"
        );
        Ok(())
    }
}
