//! Physical layouts: how a device may lay a value out between the steps of a plan.
//!
//! A row says what it does to images whose channels lie in blocks ([`OpDef::blocked`]): most do the same under other shapes. A
//! device that has kernels for such images rewrites a plan once its shapes are known; the program knows nothing of it.

use crate::cpu::CpuShapes;
use crate::kernels::nchwc::BLOCK;
use crate::{OpDef, lookup};
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

/// How a step over blocks takes an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// As it is, row-major.
    Rows,
    /// Its channels in blocks.
    Blocks,
    /// Its channels in blocks if they lie so, else row-major.
    Either,
    /// As it broadcasts to an image: one of one channel lies the same way in both layouts, another has its channels in blocks.
    Broadcast,
}

/// A step that gives its first result in blocks, in the place of another.
#[derive(Clone, Debug)]
pub struct Blocked {
    /// The operator.
    pub def: &'static OpDef,
    /// Its attributes.
    pub attrs: Arc<Attrs>,
    /// How it takes its operands.
    pub takes: Vec<Takes>,
    /// Whether it is worth reordering operands for. Other steps follow what they are given.
    pub leads: bool,
}

/// How a row says what does the same over blocks, given its attributes and the shapes of images.
pub type BlockedRule = fn(&Arc<Attrs>, &CpuShapes<'_>) -> Option<Blocked>;

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
    let name = if to_blocks { "ToBlocks" } else { "FromBlocks" };
    lookup(name, 1).expect("the table has the reorders")
}
