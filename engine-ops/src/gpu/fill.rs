//! Results on a GPU whose elements are all the same: what a fold over nothing gives, and what is written where nothing else is.

use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, words};

/// The dispatch that writes `element`, the words of one element, to all elements of result `i`; `None` where its type is not kept on
/// the GPU.
pub(crate) fn fill(ctx: &GpuCtx<'_>, i: usize, element: [u32; 2]) -> Option<Dispatch> {
    let meta = ctx.outputs[i].as_ref()?;
    let width = words(meta.dtype)?;
    let n = meta.len() * width;
    Some(Dispatch {
        rounds: 0,
        label: "Fill".into(),
        wgsl: include_str!("fill.wgsl").into(),
        binds: vec![Bind::Out(i)],
        params: vec![u32::try_from(n).ok()?, width as u32, element[0], element[1]],
        groups: ctx.limits.linear(n, 256),
    })
}

/// The program that only fills the first result.
pub(crate) fn filled(ctx: &GpuCtx<'_>, element: [u32; 2]) -> Option<GpuProgram> {
    fill(ctx, 0, element).map(GpuProgram::one)
}
