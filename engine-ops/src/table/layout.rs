//! Physical layouts: how a device may lay a value out between the steps of a plan.
//!
//! A row says what it does to images whose channels lie in blocks ([`OpDef::blocked`]): most do the same under other shapes. A
//! device that has kernels for such images rewrites a plan once its shapes are known; the program knows nothing of it.

use crate::cpu::CpuShapes;
use crate::kernels::nchwc::BLOCK;
use crate::ops::convolution::nchwc::{FROM_BLOCKS, TO_BLOCKS};
use crate::{Blocked, OpDef, Takes};
use engine_format::{Attrs, DType};
use std::sync::Arc;

/// The shape of `[n, c, h, w]` when its channels lie in blocks: `[n, ⌈c / 16⌉, h, w, 16]`.
pub fn blocks(shape: &[usize]) -> Option<Vec<usize>> {
    let &[n, c, h, w] = shape else { return None };
    Some(vec![n, c.div_ceil(BLOCK), h, w, BLOCK])
}

/// Whether the image has the same bytes either way: one position, and whole blocks.
pub fn same_bytes(shape: &[usize]) -> bool {
    matches!(*shape, [_, c, 1, 1] if c % BLOCK == 0)
}

/// The step that does over blocks what `def` does to images, if there is one for these shapes.
pub fn blocked(def: &'static OpDef, attrs: &Arc<Attrs>, shapes: &CpuShapes<'_>) -> Option<Blocked> {
    let [Some(result)] = shapes.outputs else { return None };
    let image = result.dtype == DType::F32 && result.shape.len() == 4 && !result.is_empty();
    if !image {
        return None;
    }
    match def.blocked {
        Some(rule) => rule(attrs, shapes),
        None if def.elementwise => elementwise(def, attrs, shapes),
        None => None,
    }
}

/// The row itself: it does to elements the same wherever they lie.
pub(crate) fn elementwise(
    def: &'static OpDef,
    attrs: &Arc<Attrs>,
    shapes: &CpuShapes<'_>,
) -> Option<Blocked> {
    let result = shapes.outputs[0].as_ref()?;
    let mut takes = Vec::new();
    for input in shapes.inputs {
        takes.push(match input {
            Some(input) if input.dtype != DType::F32 || input.shape.len() > 4 => return None,
            Some(input) if input.shape == result.shape => Takes::Blocks,
            _ => Takes::Broadcast,
        });
    }
    Some(Blocked { def, attrs: attrs.clone(), takes, leads: false })
}

/// The reorder between the layouts: to blocks, or from them.
pub fn reorder(to_blocks: bool) -> &'static OpDef {
    if to_blocks { &TO_BLOCKS } else { &FROM_BLOCKS }
}
