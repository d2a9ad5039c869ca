//! What keeps a node off the GPU.

use super::device::GpuDevice;
use super::words::gpu_len;
use crate::placement::Obstacle;
use engine_ops::cpu::TensorMeta;
use engine_ops::gpu::{Bind, Dispatch, GpuProgram};

/// What keeps `program` from running on `device`, if anything.
pub(crate) fn obstacle(
    device: &GpuDevice,
    program: &GpuProgram,
    inputs: &[Option<TensorMeta>],
    outputs: &[Option<TensorMeta>],
) -> Option<Obstacle> {
    let fits = |bytes: u64| {
        let limit = device.max_binding();
        (bytes > limit).then_some(Obstacle::TooLarge { bytes, limit })
    };
    let tensor = |metas: &[Option<TensorMeta>], i: usize| {
        let meta = metas.get(i).and_then(Option::as_ref)?;
        gpu_len(meta).map_or(Some(Obstacle::Type(meta.dtype)), fits)
    };
    program.dispatches.iter().find_map(|dispatch| {
        let binding = |bind: &Bind| match *bind {
            Bind::In(i) => tensor(inputs, i),
            Bind::Out(i) => tensor(outputs, i),
            Bind::Scratch(i) => fits(program.scratch.get(i).map_or(0, |&words| words as u64 * 4)),
            Bind::Outside => None,
        };
        over_limits(device, dispatch).or_else(|| dispatch.binds.iter().find_map(binding))
    })
}

fn over_limits(device: &GpuDevice, dispatch: &Dispatch) -> Option<Obstacle> {
    let limits = device.wgpu_limits();
    let buffers = dispatch.binds.len();
    let limit = limits.max_storage_buffers_per_shader_stage as usize;
    if buffers > limit {
        return Some(Obstacle::TooManyBuffers { buffers, limit });
    }
    let (rounds, limit) = (dispatch.rounds, device.most_rounds());
    if rounds > limit {
        return Some(Obstacle::TooManyRounds { rounds, limit });
    }
    let limit = limits.max_compute_workgroups_per_dimension;
    let groups = dispatch.groups;
    groups.iter().any(|&n| n > limit).then_some(Obstacle::TooManyWorkgroups { groups, limit })
}
