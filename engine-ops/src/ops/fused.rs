//! A chain of elementwise stages over one operand: one pass over memory, or one dispatch, for several operators.

use crate::case::{Case, ramp};
use crate::chain::{self, Chain, Finish};
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::layout::elementwise;
use crate::parallel::pieces;
use crate::{OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, DType, Tensor};

/// The rows of this family.
pub(crate) const ROWS: &[&OpDef] = &[&ELEMENTWISE];

pub static ELEMENTWISE: OpDef = OpDef {
    name: "Elementwise",
    doc: "The stages applied to every element of X, one after another; an operand of a stage broadcasts to X. Written by \
          the builder's passes, never imported.",
    attrs: &[chain::STAGES, chain::SCALARS],
    inputs: &[Operand::data("X").of(&[DType::F32]), chain::OPERANDS],
    variadic_input: true,
    infer: |ctx| {
        let x = ctx.facts(0)?;
        chain::infer(ctx, 1, vec![crate::infer::Facts { value: None, ..x.clone() }])
    },
    blocked: Some(|attrs, shapes| elementwise(&ELEMENTWISE, attrs, shapes)),
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    tolerance: Tolerance::ELEMENTWISE,
    cases,
    ..OpDef::BASE
};

/// Elements that are copied before the stages change them: they stay in the first cache.
const BLOCK: usize = 2048;

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let Some(chain) = Chain::new(ctx.attrs, &ctx.inputs[1..], x.shape)? else {
        return Err(OpError::new("no stages, expected one at least"));
    };
    let x = x.slice::<f32>();
    pieces(ctx.output().slice::<f32>(), 1, 8, |start, y| {
        for (i, y) in y.chunks_mut(BLOCK).enumerate() {
            let at = start + i * BLOCK;
            y.copy_from_slice(&x[at..at + y.len()]);
            chain.apply(at, y);
        }
    });
    Ok(())
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let operands = ctx.inputs.len() - 1;
    let n = ctx.output().len();
    if n == 0 {
        return Ok(None);
    }
    let finish = Finish::new(ctx, &ctx.output().shape, (1, 1), "f32")?;
    let (output, uniform) = ((1 + operands).to_string(), (2 + operands).to_string());
    let values = [
        ("output", output.as_str()),
        ("uniform", &uniform),
        ("chain", &finish.field),
        ("finish", &finish.functions),
    ];
    let mut params = vec![n as u32, 0, 0, 0];
    params.extend(finish.params);
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS,
        label: "Elementwise".into(),
        wgsl: render(include_str!("fused.wgsl"), &values).into(),
        binds: [Bind::In(0)].into_iter().chain(finish.binds).chain([Bind::Out(0)]).collect(),
        params,
        groups: ctx.limits.linear(n, 256),
    })))
}

/// The attribute that names stages.
pub(super) fn named(stages: &[&str]) -> Attr {
    Attr::Strs(stages.iter().map(|&stage| stage.to_owned()).collect())
}

fn cases() -> Vec<Case> {
    let f = |shape: &[usize], v: &[f32]| Tensor::from_slice(shape, v);
    let every = ["Add", "Sub", "SubFrom", "Mul"];
    vec![
        Case::new(
            "(2x − 1)⁺, then at most 4",
            vec![
                f(&[2, 3], &[-1.0, 0.25, 1.0, 2.0, f32::NAN, f32::INFINITY]),
                f(&[], &[2.0]),
                f(&[3], &[1.0, 1.0, 1.0]),
                f(&[1], &[4.0]),
            ],
        )
        .attr("stages", named(&["Mul", "Sub", "Relu", "AtMost"]))
        .expect(vec![f(&[2, 3], &[0.0, 0.0, 1.0, 3.0, f32::NAN, 4.0])]),
        Case::new("scalars go to their stages", vec![f(&[3], &[-2.0, 1.0, -10.0])])
            .attr("stages", named(&["LeakyRelu", "HardSigmoid"]))
            .attr("scalars", Attr::Floats(vec![0.5, 0.25, 0.5]))
            .expect(vec![f(&[3], &[0.25, 0.75, 0.0])]),
        Case::new(
            "columns, rows, channels, all",
            vec![
                ramp(&[2, 3, 40, 50]),
                ramp(&[40, 1]),
                ramp(&[50]),
                ramp(&[3, 1, 1]),
                ramp(&[2, 3, 40, 50]),
            ],
        )
        .attr("stages", named(&every)),
        Case::new(
            "quotients and slopes",
            vec![ramp(&[5, 301]), ramp(&[5, 1]), ramp(&[301]), ramp(&[1])],
        )
        .attr("stages", named(&["PRelu", "Div", "DivInto"])),
        Case::new("functions", vec![ramp(&[3000])])
            .attr(
                "stages",
                named(&[
                    "Gelu",
                    "GeluByTanh",
                    "Tanh",
                    "Sigmoid",
                    "Swish",
                    "HardSwish",
                    "Erf",
                    "Exp",
                ]),
            )
            .attr("scalars", Attr::Floats(vec![1.5])),
        Case::new("held from both sides", vec![ramp(&[2, 2, 65]), ramp(&[]), f(&[1], &[0.5])])
            .attr("stages", named(&["AtLeast", "AtMost"])),
        Case::new(
            "elements that a mask replaces",
            vec![
                f(&[2, 3], &[1.0, f32::NAN, f32::INFINITY, 2.0, f32::NAN, 5.0]),
                f(&[3], &[f32::NAN, f32::NEG_INFINITY, f32::MIN]),
            ],
        )
        .attr("stages", named(&["Replace"]))
        .expect(vec![f(
            &[2, 3],
            &[1.0, f32::NEG_INFINITY, f32::MIN, 2.0, f32::NEG_INFINITY, f32::MIN],
        )]),
        Case::new("empty", vec![ramp(&[0, 4]), ramp(&[4])]).attr("stages", named(&["Add"])),
    ]
}
