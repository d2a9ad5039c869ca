//! What only holds for the weights at build: equal weights become one, an addend of zeros is dropped.
//!
//! Runs where no weight can change, in frozen engines and under `REFIT_IDENTICAL`. There a weight that this makes
//! unnecessary stays in the weight table with its digest, so that a fill still checks it.

use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::{ConstantClass, Graph};
use crate::op;
use crate::report::Notes;
use engine_format::{DType, Digest, Node, Tensor, ValueId};
use engine_ops::OpName;
use std::collections::BTreeMap;

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    let merged = merge(graph, notes);
    Ok(rewrite(graph, notes, drop_zeros)? | merged)
}

fn merge(graph: &mut Graph, notes: &mut Notes) -> bool {
    let mut first: BTreeMap<_, ValueId> = BTreeMap::new();
    let mut replacements = BTreeMap::new();
    for (&id, constant) in &graph.constants {
        if !matches!(constant.class, ConstantClass::Weight { .. }) {
            continue;
        }
        let tensor = &constant.tensor;
        let key = (tensor.dtype(), tensor.shape().to_vec(), Digest::of(tensor.bytes()));
        let kept = *first.entry(key).or_insert(id);
        if kept != id {
            notes.done(&graph.value(id).name, format!("equals {}", graph.value(kept).name));
            replacements.insert(id, kept);
        }
    }
    graph.replace_uses(&replacements);
    graph.constants.retain(|id, _| !replacements.contains_key(id));
    !replacements.is_empty()
}

/// The optional addend of a product that is all zeros.
fn drop_zeros(
    graph: &mut Graph,
    _: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    if !matches!(OpName::of(root), op::Conv | op::ConvTranspose | op::Gemm) {
        return None;
    }
    let addend = UseDef::operand(root, 2)?;
    let zeros = graph.constants.get(&addend).is_some_and(|constant| is_zero(&constant.tensor));
    if !zeros {
        return None;
    }
    notes.done(&root.name, format!("{} is all zeros", graph.value(addend).name));
    let inputs = root.inputs[..2].to_vec();
    Some(Rewriter::at(graph, root).last(OpName::of(root), inputs, root.attrs.clone(), root))
}

/// Whether every element is zero, of either sign.
fn is_zero(tensor: &Tensor) -> bool {
    tensor.dtype() == DType::F32
        && tensor.as_slice::<f32>().is_ok_and(|values| values.iter().all(|&v| v == 0.0))
}
