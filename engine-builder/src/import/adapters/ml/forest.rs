//! Trees on their way into the one layout that the table's operator takes, and from there into a node.

use super::rows;
use crate::import::call::Call;
use engine_format::{Attr, DType, Tensor, ValueId};
use engine_ops::OpError;
use std::collections::BTreeMap;

/// The comparison for equality.
pub(super) const EQUAL: i32 = 4;
/// Added to a comparison where NaN passes.
pub(super) const MISSING: i32 = 8;

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    Node(usize),
    Leaf(usize),
}

/// An inner node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inner {
    pub(super) feature: i64,
    pub(super) test: i32,
    pub(super) split: f64,
    pub(super) passed: Next,
    pub(super) failed: Next,
}

/// Trees, and the votes of their leaves.
#[derive(Default)]
pub(super) struct Forest {
    pub(super) nodes: Vec<Inner>,
    pub(super) roots: Vec<Next>,
    /// Of each leaf: target and weight.
    pub(super) votes: Vec<Vec<(i64, f64)>>,
}

impl Forest {
    /// Writes the node that votes, over `x` in the type that trees calculate in: the wider of `x`'s and `wide`.
    pub(super) fn vote(
        &self,
        call: &mut Call<'_>,
        wide: DType,
        targets: usize,
        aggregate: &str,
    ) -> Result<ValueId, OpError> {
        let x = call.input(0)?;
        let double = wide == DType::F64 || call.facts(x).dtype == DType::F64;
        let dtype = if double { DType::F64 } else { DType::F32 };
        let x = call.cast(x, dtype)?;
        let x = rows(call, x)?;
        let order = self.order()?;
        let place: BTreeMap<usize, i32> =
            order.iter().enumerate().map(|(at, &node)| (node, at as i32)).collect();
        let next = |next: Next| match next {
            Next::Node(node) => place[&node],
            Next::Leaf(leaf) => !(leaf as i32),
        };
        let mut nodes = Vec::with_capacity(order.len() * 4);
        let mut splits = Vec::with_capacity(order.len());
        for &node in &order {
            let Inner { feature, test, split, passed, failed } = self.nodes[node];
            let feature = i32::try_from(feature).ok().filter(|&feature| feature >= 0);
            let feature =
                feature.ok_or_else(|| OpError::new(format!("node {node} has no feature")))?;
            nodes.extend([feature, test, next(passed), next(failed)]);
            splits.push(split);
        }
        let roots: Vec<i32> = self.roots.iter().map(|&root| next(root)).collect();
        let (mut starts, mut which, mut weights) = (vec![0i32], Vec::new(), Vec::new());
        for (leaf, votes) in self.votes.iter().enumerate() {
            for &(target, weight) in votes {
                let target =
                    i32::try_from(target).ok().filter(|&t| (0..targets as i32).contains(&t));
                let target = target.ok_or_else(|| {
                    OpError::new(format!("leaf {leaf} votes for a target beyond the {targets}"))
                })?;
                which.push(target);
                weights.push(weight);
            }
            starts.push(which.len() as i32);
        }
        let ints = |v: &[i32]| Tensor::from_slice(&[v.len()], v);
        let operands = [
            Tensor::from_slice(&[order.len(), 4], &nodes),
            reals(dtype, &splits),
            ints(&roots),
            ints(&starts),
            ints(&which),
            reals(dtype, &weights),
        ];
        let [nodes, splits, roots, starts, which, weights] = operands.map(|t| call.literal(t));
        let attrs = vec![
            ("aggregate", Attr::Str(aggregate.to_owned())),
            ("n_targets", Attr::Int(targets as i64)),
        ];
        call.emit("TreeEnsemble", [x, nodes, splits, roots, starts, which, weights], attrs)
    }

    /// The nodes that can be reached, each before those it leads to.
    fn order(&self) -> Result<Vec<usize>, OpError> {
        #[derive(Clone, Copy, PartialEq)]
        enum Seen {
            Never,
            Above,
            Done,
        }
        let mut seen = vec![Seen::Never; self.nodes.len()];
        let mut done = Vec::with_capacity(self.nodes.len());
        let mut stack: Vec<(usize, bool)> = Vec::new();
        let start = |next: Next, from: &str| match next {
            Next::Leaf(leaf) if leaf >= self.votes.len() => Err(OpError::new(format!(
                "{from} leads to leaf {leaf}, but there are {}",
                self.votes.len()
            ))),
            Next::Node(node) if node >= self.nodes.len() => Err(OpError::new(format!(
                "{from} leads to node {node}, but there are {}",
                self.nodes.len()
            ))),
            Next::Node(node) => Ok(Some(node)),
            Next::Leaf(_) => Ok(None),
        };
        for (tree, &root) in self.roots.iter().enumerate().rev() {
            stack.extend(start(root, &format!("tree {tree}"))?.map(|node| (node, false)));
            while let Some((node, finished)) = stack.pop() {
                if finished {
                    seen[node] = Seen::Done;
                    done.push(node);
                    continue;
                }
                match seen[node] {
                    Seen::Done => continue,
                    Seen::Above => return Err(circle(node)),
                    Seen::Never => {}
                }
                seen[node] = Seen::Above;
                stack.push((node, true));
                for next in [self.nodes[node].failed, self.nodes[node].passed] {
                    let Some(next) = start(next, &format!("node {node}"))? else { continue };
                    match seen[next] {
                        Seen::Above => return Err(circle(next)),
                        Seen::Never => stack.push((next, false)),
                        Seen::Done => {}
                    }
                }
            }
        }
        done.reverse();
        Ok(done)
    }

    /// Makes a test of membership a chain of tests for each member, which the table has.
    pub(super) fn spread_members(&mut self, node: usize, members: &[f64]) {
        let Inner { feature, test, passed, failed, .. } = self.nodes[node];
        let missing = test & MISSING;
        let Some((&first, others)) = members.split_first() else {
            // Nothing is below −∞.
            let split = f64::NEG_INFINITY;
            self.nodes[node] = Inner { feature, test: 1 + missing, split, passed, failed };
            return;
        };
        let mut at = node;
        self.nodes[at] = Inner { feature, test: EQUAL + missing, split: first, passed, failed };
        for &split in others {
            let next = self.nodes.len();
            self.nodes[at].failed = Next::Node(next);
            self.nodes.push(Inner { feature, test: EQUAL, split, passed, failed });
            at = next;
        }
    }
}

fn circle(node: usize) -> OpError {
    OpError::new(format!("the branches of node {node} lead back to it"))
}

/// A vector of f32 or f64.
pub(super) fn reals(dtype: DType, values: &[f64]) -> Tensor {
    match dtype {
        DType::F64 => Tensor::from_slice(&[values.len()], values),
        _ => {
            let narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            Tensor::from_slice(&[narrow.len()], &narrow)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A forest of inner nodes by where they lead, with three leaves.
    fn forest(roots: &[usize], nodes: &[[Next; 2]]) -> Forest {
        let inner = |&[passed, failed]: &[Next; 2]| Inner {
            feature: 0,
            test: 0,
            split: 0.0,
            passed,
            failed,
        };
        Forest {
            nodes: nodes.iter().map(inner).collect(),
            roots: roots.iter().map(|&root| Next::Node(root)).collect(),
            votes: vec![vec![(0, 1.0)]; 3],
        }
    }

    use Next::{Leaf, Node};

    #[test]
    fn nodes_come_before_those_they_lead_to() {
        // Two trees, of which the second shares a node of the first; node 4 is reached by none.
        let nodes = [
            [Leaf(0), Leaf(1)],
            [Node(0), Node(2)],
            [Leaf(2), Node(0)],
            [Node(2), Leaf(0)],
            [Leaf(0), Leaf(0)],
        ];
        let forest = forest(&[1, 3], &nodes);
        let order = forest.order().unwrap();
        let at = |node: usize| order.iter().position(|&n| n == node);
        for (node, next) in nodes.iter().enumerate().take(4) {
            for next in next {
                if let Node(next) = next {
                    assert!(at(node) < at(*next), "{order:?}");
                }
            }
        }
        assert_eq!((order.len(), at(4)), (4, None));
    }

    #[test]
    fn branches_that_lead_back_or_astray_are_refused() {
        let refused = |nodes: &[[Next; 2]]| forest(&[0], nodes).order().unwrap_err().to_string();
        assert!(refused(&[[Node(0), Leaf(0)]]).contains("node 0 lead back"));
        let circle = refused(&[[Leaf(0), Node(1)], [Node(2), Leaf(0)], [Leaf(0), Node(1)]]);
        assert!(circle.contains("node 1 lead back"), "{circle}");
        assert!(refused(&[[Node(5), Leaf(0)]]).contains("node 0 leads to node 5, but there are 1"));
        assert!(refused(&[[Leaf(3), Leaf(0)]]).contains("node 0 leads to leaf 3, but there are 3"));
    }

    #[test]
    fn members_become_a_chain_of_tests() {
        let mut forest = forest(&[0], &[[Leaf(0), Leaf(1)]]);
        forest.nodes[0].test = EQUAL + MISSING;
        forest.spread_members(0, &[1.0, 2.0, 3.0]);
        let chain: Vec<_> =
            forest.nodes.iter().map(|n| (n.test, n.split, n.passed, n.failed)).collect();
        assert_eq!(
            chain,
            [
                (EQUAL + MISSING, 1.0, Leaf(0), Node(1)),
                (EQUAL, 2.0, Leaf(0), Node(2)),
                (EQUAL, 3.0, Leaf(0), Leaf(1)),
            ]
        );
    }
}
