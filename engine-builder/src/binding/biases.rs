//! Biases that an exporter took away because they held only zeros.
//!
//! Its rewriting says of which nodes. A refit brings other values, so the operand is put back for the time of binding, and stays where it
//! turns out to be a tensor of the checkpoint or something made of such.

use super::Initializer;
use super::pair::Decision;
use crate::graph::{Constant, ConstantClass, Graph};
use crate::import::Origins;
use engine_format::{Attr, DType, Node, Tensor, ValueId};
use std::collections::BTreeSet;

/// The operand that is the bias, of the operators that exporters take it from.
const BIAS: usize = 2;

/// Puts zeros where a bias was.
pub(super) fn put_back(graph: &mut Graph, origins: &Origins) -> BTreeSet<ValueId> {
    let mut biases = BTreeSet::new();
    for i in 0..graph.execute.len() {
        let node = &graph.execute[i];
        let lost = origins.get(&node.name).is_some_and(|origin| origin.lost_bias);
        let Some(channels) = channels(graph, node).filter(|_| lost) else { continue };
        let constant = Constant {
            tensor: Tensor::from_slice(&[channels], &vec![0.0f32; channels]),
            source: Some(format!("{}.bias", node.name)),
            class: ConstantClass::Weight { parameter: false, pinned: None },
            is_node: false,
        };
        let id = graph.add_constant(format!("{}.bias", graph.execute[i].name), constant);
        graph.execute[i].inputs.resize(BIAS + 1, None);
        graph.execute[i].inputs[BIAS] = Some(id);
        biases.insert(id);
    }
    biases
}

/// The length of the bias of a node that has none; `None` for other nodes, and where it is not known.
fn channels(graph: &Graph, node: &Node) -> Option<usize> {
    if node.inputs.get(BIAS).is_some_and(Option::is_some) {
        return None;
    }
    let facts = graph.facts((*node.inputs.get(1)?)?);
    let size = |axis: usize| facts.shape.as_ref()?.get(axis)?.known();
    let number = |name: &str| match node.attrs.get(name) {
        Some(Attr::Int(number)) => Some(*number),
        _ => None,
    };
    let channels = match node.op.as_str() {
        "Conv" => size(0),
        "ConvTranspose" => Some(size(1)?.checked_mul(number("group")?)?),
        "Gemm" if number("transB") == Some(1) => size(0),
        "Gemm" => size(1),
        _ => None,
    };
    usize::try_from(channels?).ok().filter(|_| facts.dtype == DType::F32)
}

/// Takes away again what turned out to be no bias of the checkpoint's.
pub(super) fn take_away(
    graph: &mut Graph,
    initializers: &mut Vec<Initializer>,
    decisions: &mut Vec<Decision>,
) {
    let stays = |initializer: &Initializer, decision: &Decision| {
        !initializer.is_put_back || matches!(decision, Decision::Stands(_))
    };
    let all = initializers.drain(..).zip(decisions.drain(..)).collect::<Vec<_>>();
    for (initializer, decision) in all {
        if stays(&initializer, &decision) {
            initializers.push(initializer);
            decisions.push(decision);
            continue;
        }
        graph.constants.remove(&initializer.id);
        for node in &mut graph.execute {
            if node.inputs.get(BIAS) == Some(&Some(initializer.id)) {
                node.inputs.truncate(BIAS);
            }
        }
    }
}
