//! Passes: one file each, listed here. A pass never reads a value that a refit may change.

mod activations;
#[cfg(test)]
mod agreement;
mod attention;
mod batch_norm;
mod branches;
mod common;
mod dead;
mod dense;
mod factors;
mod fold;
mod fuse;
mod identities;
mod normalisations;
mod prepare;
mod product;
mod projections;
mod rotary;
mod rounding;
mod scalars;
mod scale;
mod sequences;
mod shift;
#[cfg(test)]
mod tests;
mod transposes;
mod use_def;
mod values;

use crate::error::BuildError;
use crate::graph::Graph;
use crate::report::Notes;
use engine_format::{DType, Node};
use engine_ops::lookup;

/// A rewrite of the graph that keeps what it computes.
pub(crate) struct Pass {
    /// Name for traces and errors.
    pub(crate) name: &'static str,
    /// The rewrite; says whether it changed anything.
    pub(crate) run: fn(&mut Graph, &mut Notes) -> Result<bool, BuildError>,
}

/// Run again and again, in this order, until none of them changes anything.
static SIMPLIFY: &[Pass] = &[
    Pass { name: "fold", run: fold::run },
    Pass { name: "branches", run: branches::run },
    Pass { name: "identities", run: identities::run },
    Pass { name: "common", run: common::run },
    Pass { name: "dead", run: dead::run },
    Pass { name: "sequences", run: sequences::run },
    Pass { name: "transposes", run: transposes::run },
    Pass { name: "dense", run: dense::run },
    Pass { name: "normalisations", run: normalisations::run },
    Pass { name: "activations", run: activations::run },
    Pass { name: "rotary", run: rotary::run },
    Pass { name: "batch_norm", run: batch_norm::run },
    Pass { name: "scale", run: scale::run },
    Pass { name: "shift", run: shift::run },
    Pass { name: "factors", run: factors::run },
];

/// Run once, after the others: passes that recognise patterns come before `prepare`, which takes them apart, and what is
/// left to run per call is fused.
static FINISH: &[Pass] = &[
    Pass { name: "prepare", run: prepare::run },
    Pass { name: "projections", run: projections::run },
    Pass { name: "prepare", run: prepare::run },
    Pass { name: "fuse", run: fuse::run },
    // Masks that were made for one product serve others.
    Pass { name: "common", run: common::run },
    Pass { name: "attention", run: attention::run },
    Pass { name: "dead", run: dead::run },
];

/// Run in the end, one of them, where weights are rounded.
static ROUND: [(DType, Pass); 2] = [
    (DType::F16, Pass { name: "f16", run: rounding::to_f16 }),
    (DType::BF16, Pass { name: "bf16", run: rounding::to_bf16 }),
];

/// Run after one of [`ROUND`].
static ROUNDED: &[Pass] = &[
    Pass { name: "common", run: common::run },
    Pass { name: "prepare", run: prepare::run },
    Pass { name: "dead", run: dead::run },
];

/// Run first, where no weight can change.
static FIXED: &[Pass] = &[Pass { name: "values", run: values::run }];

/// Every one of [`SIMPLIFY`] shrinks the graph or moves it towards literals, so they end by themselves; this bounds the
/// work on a graph that shrinks by one node a round.
const MOST_ROUNDS: usize = 64;

/// Runs all passes; `fixed` says that the weights never change, so that passes may read them.
pub(crate) fn optimise(
    graph: &mut Graph,
    fixed: bool,
    notes: &mut Notes,
) -> Result<(), BuildError> {
    if fixed {
        FIXED.iter().try_for_each(|pass| apply(pass, graph, notes).map(drop))?;
    }
    for _ in 0..MOST_ROUNDS {
        let mut changed = false;
        for pass in SIMPLIFY {
            changed |= apply(pass, graph, notes)?;
        }
        if !changed {
            break;
        }
    }
    FINISH.iter().try_for_each(|pass| apply(pass, graph, notes).map(drop))
}

/// Rounds the weights of products to `to`: each time that they change, unless the graph is not `optimised`.
pub(crate) fn round(
    graph: &mut Graph,
    to: DType,
    optimised: bool,
    notes: &mut Notes,
) -> Result<(), BuildError> {
    let passes = ROUND.iter().filter(|(dtype, _)| *dtype == to).map(|(_, pass)| pass);
    let after = if optimised { ROUNDED } else { &[] };
    passes.chain(after).try_for_each(|pass| apply(pass, graph, notes).map(drop))
}

/// Runs one pass, brings types up to date and checks the graph (in debug builds and tests).
pub(crate) fn apply(pass: &Pass, graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    notes.begin(pass.name);
    let changed = (pass.run)(graph, notes)?;
    if changed {
        crate::infer_all(graph)?;
        tracing::debug!(
            pass = pass.name,
            prepare = graph.prepare.len(),
            execute = graph.execute.len(),
            "changed the graph"
        );
    }
    if cfg!(debug_assertions) {
        graph
            .verify()
            .map_err(|error| BuildError::internal(format!("after pass {}: {error}", pass.name)))?;
    }
    Ok(changed)
}

/// Whether equal operands give equal results.
fn is_deterministic(node: &Node) -> bool {
    lookup(&node.op, node.version).is_some_and(|def| !def.random)
}

/// Literals above this many bytes are not made: the nodes that compute them stay, in `prepare`.
const LARGEST_LITERAL: usize = 64 * 1024;
