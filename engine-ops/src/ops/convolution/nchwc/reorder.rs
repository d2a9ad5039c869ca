//! From one layout to the other.

use super::cases;
use crate::AttrsExt;
use crate::cpu::{Cpu, CpuCtx};
use crate::infer::{Facts, InferCtx, InferError};
use crate::kernels::gemm::transpose;
use crate::kernels::nchwc::BLOCK;
use crate::parallel::pieces;
use crate::{AttrDef, AttrKind, Kind, OpDef, OpError, Operand};
use engine_format::{DType, Dim};

pub static TO_BLOCKS: OpDef = OpDef {
    name: "ToBlocks",
    doc: "`[n, c, h, w]` with its channels in blocks: `[n, ⌈c / 16⌉, h, w, 16]`, zeros beyond the last channel. Written by physical \
          plans, never imported.",
    inputs: &[Operand::data("X").of(&[DType::F32]).shaped("N C H W")],
    kind: Kind::Move,
    infer: |ctx| {
        let x = ctx.shape(0)?;
        let blocks = (&x[1] + &Dim::from(BLOCK - 1)).floor_div(&Dim::from(BLOCK));
        let shape = vec![x[0].clone(), blocks, x[2].clone(), x[3].clone(), Dim::from(BLOCK)];
        Ok(vec![Facts::new(DType::F32, shape)])
    },
    cpu: Cpu::kernel(to_blocks),
    cases: cases::to_blocks,
    ..OpDef::BASE
};

pub static FROM_BLOCKS: OpDef = OpDef {
    name: "FromBlocks",
    doc: "The first `channels` channels of `[n, ⌈channels / 16⌉, h, w, 16]`, row-major: `[n, channels, h, w]`. Written by physical \
          plans, never imported.",
    attrs: &[AttrDef::required("channels", AttrKind::Int)],
    inputs: &[Operand::data("X").of(&[DType::F32]).shaped("N B H W 16")],
    kind: Kind::Move,
    infer: from_infer,
    cpu: Cpu::kernel(from_blocks),
    cases: cases::from_blocks,
    ..OpDef::BASE
};

fn from_infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.shape(0)?;
    let channels = Dim::from(ctx.attrs.int("channels"));
    let blocks = (&channels + &Dim::from(BLOCK - 1)).floor_div(&Dim::from(BLOCK));
    if !channels.is_size() || (x[1].known().is_some() && x[1] != blocks) {
        return Err(InferError::invalid(format!("{channels} channels of {} blocks", x[1])));
    }
    Ok(vec![Facts::new(DType::F32, vec![x[0].clone(), channels, x[2].clone(), x[3].clone()])])
}

fn to_blocks(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let &[_, channels, h, w] = x.shape else { return Err(OpError::new("expected four axes")) };
    let (x, plane) = (x.slice::<f32>(), h * w);
    let blocks = channels.div_ceil(BLOCK);
    pieces(ctx.output().slice::<f32>(), plane * BLOCK, 1, |start, y| {
        for (i, y) in y.chunks_exact_mut(plane * BLOCK).enumerate() {
            let number = start / (plane * BLOCK) + i;
            let (image, first) = (number / blocks, number % blocks * BLOCK);
            let there = BLOCK.min(channels - first);
            if there < BLOCK {
                y.fill(0.0);
            }
            transpose(&x[(image * channels + first) * plane..], plane, (there, plane), y, BLOCK);
        }
    });
    Ok(())
}

fn from_blocks(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let &[_, blocks, h, w, _] = x.shape else { return Err(OpError::new("expected five axes")) };
    let (x, plane) = (x.slice::<f32>(), h * w);
    let channels = ctx.output().shape[1];
    pieces(ctx.output().slice::<f32>(), plane, 1, |start, y| {
        for (i, y) in y.chunks_exact_mut(plane).enumerate() {
            let number = start / plane + i;
            let (image, channel) = (number / channels, number % channels);
            let from = &x[(image * blocks + channel / BLOCK) * plane * BLOCK + channel % BLOCK..];
            y.iter_mut().zip(from.iter().step_by(BLOCK)).for_each(|(y, &x)| *y = x);
        }
    });
    Ok(())
}
