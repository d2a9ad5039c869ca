//! Takes a piece of a tensor that was split into a sequence straight from the tensor: shapes are followed through it.

use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::op;
use crate::report::Notes;
use engine_format::{Attrs, Node};
use engine_ops::{AttrsExt, OpName};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    rewrite(graph, notes, rule)
}

fn rule(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    if OpName::of(root) != op::SequenceAt {
        return None;
    }
    let split = use_def.made_by(UseDef::operand(root, 0)?, &[op::SplitToSequence])?;
    let x = UseDef::operand(split, 0)?;
    let shape = graph.facts(x).shape.as_ref()?;
    let axis = engine_ops::infer::axis(split.attrs.int("axis"), shape.len()).ok()?;
    let size = shape[axis].known()?;
    let (lengths, all) = lengths(graph, split, size)?;
    let &[position] = graph.known_tensor(UseDef::operand(root, 1)?)?.to_i64s()?.as_slice() else {
        return None;
    };
    let at = engine_ops::infer::axis(position, lengths.len()).ok()?;
    // A split that does not add up fails when it runs, and has to.
    if all != size {
        return None;
    }
    let start: i64 = lengths[..at].iter().sum();
    notes.done(&root.name, format!("a part of what {} splits", split.name));
    let mut rewriter = Rewriter::at(graph, root);
    let [start, end, axis] =
        [("start", start), ("end", start + lengths[at]), ("axis", axis as i64)]
            .map(|(name, n)| rewriter.ints(name, &[n]));
    Some(rewriter.last(op::Slice, [x, start, end, axis].map(Some).to_vec(), Attrs::new(), root))
}

/// The lengths of the pieces of an axis of `size`, and their sum.
fn lengths(graph: &Graph, split: &Node, size: i64) -> Option<(Vec<i64>, i64)> {
    let given = graph.known_tensor(UseDef::operand(split, 1)?)?;
    let numbers = given.to_i64s()?;
    let lengths = match (given.shape(), numbers.as_slice()) {
        ([], &[each]) if each > 0 => {
            let begins = (0..size).step_by(usize::try_from(each).ok()?);
            begins.map(|from| each.min(size - from)).collect()
        }
        ([_], lengths) if lengths.iter().all(|&n| n >= 0) => lengths.to_vec(),
        _ => return None,
    };
    let all = lengths.iter().try_fold(0i64, |sum, &n| sum.checked_add(n))?;
    Some((lengths, all))
}
