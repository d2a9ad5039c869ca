//! Trees of all three operators in the one layout of the table's.

use super::forest::{EQUAL, Forest, Inner, MISSING, Next, reals};
use super::scores::{Labels, Other, Transform, pair, transformed};
use super::{ALL, check_count, row};
use crate::import::adapters::Adapter;
use crate::import::call::{Call, Last};
use engine_format::{DType, Tensor, ValueId};
use engine_ops::OpError;
use std::collections::BTreeMap;

pub(super) static ROWS: &[Adapter] = &[
    row("TreeEnsemble", (5, ALL.1), ensemble),
    row("TreeEnsembleRegressor", ALL, regressor),
    row("TreeEnsembleClassifier", ALL, classifier),
];

/// Comparisons in the table's order, by the names that the older operators have for them.
const MODES: [&str; 6] =
    ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];
/// TreeEnsemble's number of a test of membership.
const MEMBER: i64 = 6;

/// The elements of a tensor of floats, or of small integers.
fn numbers(tensor: &Tensor) -> Result<Vec<f64>, OpError> {
    use half::f16;
    let taken = || OpError::new(format!("a tensor attribute is {tensor:?}, expected floats"));
    match tensor.dtype() {
        DType::F64 => Ok(tensor.as_slice::<f64>().map_err(|_| taken())?.to_vec()),
        DType::F32 => {
            Ok(tensor.as_slice::<f32>().map_err(|_| taken())?.iter().map(|&v| v.into()).collect())
        }
        DType::F16 => {
            Ok(tensor.as_slice::<f16>().map_err(|_| taken())?.iter().map(|&v| v.into()).collect())
        }
        _ => Err(taken()),
    }
}

/// Floats of an attribute or, where it has one, of its form as a tensor; and the type that they are in.
fn list(
    call: &mut Call<'_>,
    name: &'static str,
    tensor: &'static str,
) -> Result<(Vec<f64>, DType), OpError> {
    if let Some(tensor) = call.tensor(tensor)? {
        return Ok((numbers(&tensor)?, tensor.dtype()));
    }
    let floats = call.floats(name)?.unwrap_or_default();
    Ok((floats.iter().map(|&v| v.into()).collect(), DType::F32))
}

/// The wider of two types of floats.
fn wider(a: DType, b: DType) -> DType {
    if a == DType::F64 { a } else { b }
}

/// Trees as the two older operators have them, their leaves' votes being the attributes `[trees, nodes, targets]` and
/// `weights`; and the type that they are in.
fn older(
    call: &mut Call<'_>,
    [trees, nodes, targets]: [&'static str; 3],
    (weights, tensor): (&'static str, &'static str),
) -> Result<(Forest, DType), OpError> {
    call.ignore("nodes_hitrates");
    call.ignore("nodes_hitrates_as_tensor");
    let tree_of = call.required_ints("nodes_treeids")?;
    let id_of = call.required_ints("nodes_nodeids")?;
    let feature_of = call.required_ints("nodes_featureids")?;
    let modes = call.strs("nodes_modes")?.unwrap_or_default();
    let (passed, failed) =
        (call.required_ints("nodes_truenodeids")?, call.required_ints("nodes_falsenodeids")?);
    let missing = call.ints("nodes_missing_value_tracks_true")?.unwrap_or_default();
    let (splits, split_type) = list(call, "nodes_values", "nodes_values_as_tensor")?;
    let count = tree_of.len();
    for (name, found) in [
        ("nodes_nodeids", id_of.len()),
        ("nodes_featureids", feature_of.len()),
        ("nodes_modes", modes.len()),
        ("nodes_truenodeids", passed.len()),
        ("nodes_falsenodeids", failed.len()),
        ("nodes_values", splits.len()),
    ] {
        check_count(name, found, count)?;
    }
    if !missing.is_empty() {
        check_count("nodes_missing_value_tracks_true", missing.len(), count)?;
    }
    let mut forest = Forest::default();
    let mut places = BTreeMap::new();
    for i in 0..count {
        let next = if modes[i] == "LEAF" {
            forest.votes.push(Vec::new());
            Next::Leaf(forest.votes.len() - 1)
        } else {
            forest.nodes.push(Inner {
                feature: feature_of[i],
                test: 0,
                split: splits[i],
                passed: Next::Leaf(0),
                failed: Next::Leaf(0),
            });
            Next::Node(forest.nodes.len() - 1)
        };
        if places.insert((tree_of[i], id_of[i]), next).is_some() {
            return Err(OpError::new(format!("tree {} has two nodes {}", tree_of[i], id_of[i])));
        }
    }
    let place = |tree: i64, id: i64| {
        places
            .get(&(tree, id))
            .copied()
            .ok_or_else(|| OpError::new(format!("tree {tree} has no node {id}")))
    };
    let mut below = std::collections::BTreeSet::new();
    for i in 0..count {
        let Next::Node(node) = place(tree_of[i], id_of[i])? else { continue };
        let test = MODES.iter().position(|mode| *mode == modes[i]).ok_or_else(|| {
            OpError::new(format!(
                "nodes_modes has {:?}, expected LEAF or one of {MODES:?}",
                modes[i]
            ))
        })?;
        let tracks = missing.get(i).is_some_and(|&tracks| tracks != 0);
        let inner = &mut forest.nodes[node];
        inner.test = test as i32 + if tracks { MISSING } else { 0 };
        inner.passed = place(tree_of[i], passed[i])?;
        inner.failed = place(tree_of[i], failed[i])?;
        below.extend([(tree_of[i], passed[i]), (tree_of[i], failed[i])]);
    }
    let mut roots = BTreeMap::new();
    for key in tree_of.iter().copied().zip(id_of.iter().copied()).filter(|key| !below.contains(key))
    {
        if roots.insert(key.0, place(key.0, key.1)?).is_some() {
            return Err(OpError::new(format!(
                "tree {} has two nodes that no other leads to",
                key.0
            )));
        }
    }
    let trees_there: std::collections::BTreeSet<i64> = tree_of.iter().copied().collect();
    if let Some(tree) = trees_there.iter().find(|tree| !roots.contains_key(tree)) {
        return Err(OpError::new(format!(
            "the nodes of tree {tree} lead in a circle: none is its root"
        )));
    }
    forest.roots = roots.into_values().collect();
    let (of_tree, of_node, of_target) =
        (call.required_ints(trees)?, call.required_ints(nodes)?, call.required_ints(targets)?);
    let (weights, weight_type) = list(call, weights, tensor)?;
    check_count(nodes, of_node.len(), of_tree.len())?;
    check_count(targets, of_target.len(), of_tree.len())?;
    check_count("the list of weights", weights.len(), of_tree.len())?;
    for i in 0..of_tree.len() {
        match place(of_tree[i], of_node[i])? {
            Next::Leaf(leaf) => forest.votes[leaf].push((of_target[i], weights[i])),
            Next::Node(_) => {
                return Err(OpError::new(format!(
                    "node {} of tree {} has a vote, but is no leaf",
                    of_node[i], of_tree[i]
                )));
            }
        }
    }
    Ok((forest, wider(split_type, weight_type)))
}

/// Scores with what each starts from added, in f32.
fn based(call: &mut Call<'_>, scores: ValueId, base: &[f64]) -> Result<ValueId, OpError> {
    let dtype = call.facts(scores).dtype;
    let scores = match base {
        [] => scores,
        base => {
            let base = call.literal(reals(dtype, base));
            call.emit("Add", [scores, base], vec![])?
        }
    };
    call.cast(scores, DType::F32)
}

fn regressor(call: &mut Call<'_>) -> Result<Last, OpError> {
    let how = Transform::read(call)?;
    let aggregate = call.str("aggregate_function", "SUM")?;
    let votes = ["target_treeids", "target_nodeids", "target_ids"];
    let weights = ("target_weights", "target_weights_as_tensor");
    let (forest, dtype) = older(call, votes, weights)?;
    let targets = targets(call)?;
    let (base, _) = list(call, "base_values", "base_values_as_tensor")?;
    if !base.is_empty() {
        check_count("base_values", base.len(), targets)?;
    }
    let scores = forest.vote(call, dtype, targets, aggregate)?;
    let scores = based(call, scores, &base)?;
    let y = transformed(call, scores, how)?;
    call.finish("Identity", [y], vec![])
}

fn targets(call: &mut Call<'_>) -> Result<usize, OpError> {
    let targets = call.int("n_targets", 1)?;
    let count = usize::try_from(targets).ok().filter(|&count| count > 0);
    count.ok_or_else(|| OpError::new(format!("n_targets is {targets}, expected at least 1")))
}

fn classifier(call: &mut Call<'_>) -> Result<Last, OpError> {
    let how = Transform::read(call)?;
    let labels = Labels::read(call, "classlabels_int64s", "classlabels_strings")?;
    let votes = ["class_treeids", "class_nodeids", "class_ids"];
    let (forest, dtype) = older(call, votes, ("class_weights", "class_weights_as_tensor"))?;
    let (base, _) = list(call, "base_values", "base_values_as_tensor")?;
    let classes = labels.len();
    let all = || forest.votes.iter().flatten();
    let only = |class: i64| all().all(|&(target, _)| target == class);
    let one = classes == 2 && (only(0) || only(1));
    let scores = forest.vote(call, dtype, classes, "SUM")?;
    if !one {
        if !base.is_empty() {
            check_count("base_values", base.len(), classes)?;
        }
        let scores = based(call, scores, &base)?;
        let given = transformed(call, scores, how)?;
        call.give(1, given);
        return labels.of_greatest(call, scores);
    }
    // All votes are for one of two classes: it is won by a score above one half, if scores are probabilities, else above 0.
    let sure = all().all(|&(_, weight)| weight >= 0.0);
    let limit = if sure { 0.5 } else { 0.0 };
    if only(1) {
        check_count("base_values, all votes being for the second class,", base.len(), 0)?;
        let scores = based(call, scores, &[])?;
        let given = transformed(call, scores, how)?;
        call.give(1, given);
        let score = super::column(call, scores, 1)?;
        return labels.above(call, score, limit);
    }
    if base.len() > 1 {
        check_count("base_values, all votes being for the first class,", base.len(), 1)?;
    }
    let score = super::column(call, scores, 0)?;
    let score = based(call, score, &base)?;
    let other = if sure { Other::Complement } else { Other::Opposite };
    let both = pair(call, score, how, other)?;
    call.give(1, both);
    labels.above(call, score, limit)
}

/// Aggregates by TreeEnsemble's numbers.
const AGGREGATES: [&str; 4] = ["AVERAGE", "SUM", "MIN", "MAX"];

fn ensemble(call: &mut Call<'_>) -> Result<Last, OpError> {
    call.ignore("nodes_hitrates");
    let how = Transform::of(call.int("post_transform", 0)?)?;
    let number = call.int("aggregate_function", 1)?;
    let aggregate = usize::try_from(number).ok().and_then(|at| AGGREGATES.get(at));
    let aggregate = aggregate
        .ok_or_else(|| OpError::new(format!("aggregate_function {number}, expected 0 to 3")))?;
    let targets = targets(call)?;
    let (forest, dtype) = newest(call)?;
    let x = call.input(0)?;
    let given = call.facts(x).dtype;
    let scores = forest.vote(call, dtype, targets, aggregate)?;
    let y = transformed(call, scores, how)?;
    call.finish_cast(y, given)
}

fn required(call: &mut Call<'_>, name: &'static str) -> Result<Tensor, OpError> {
    call.tensor(name)?.ok_or_else(|| OpError::new(format!("attribute {name:?} is missing")))
}

/// Trees as TreeEnsemble has them.
fn newest(call: &mut Call<'_>) -> Result<(Forest, DType), OpError> {
    let splits = required(call, "nodes_splits")?;
    let dtype = splits.dtype();
    let splits = numbers(&splits)?;
    let modes = required(call, "nodes_modes")?.to_i64s().unwrap_or_default();
    let features = call.required_ints("nodes_featureids")?;
    let (passed, passed_leaf) =
        (call.required_ints("nodes_truenodeids")?, call.required_ints("nodes_trueleafs")?);
    let (failed, failed_leaf) =
        (call.required_ints("nodes_falsenodeids")?, call.required_ints("nodes_falseleafs")?);
    let missing = call.ints("nodes_missing_value_tracks_true")?.unwrap_or_default();
    let count = features.len();
    for (name, found) in [
        ("nodes_splits", splits.len()),
        ("nodes_modes", modes.len()),
        ("nodes_truenodeids", passed.len()),
        ("nodes_trueleafs", passed_leaf.len()),
        ("nodes_falsenodeids", failed.len()),
        ("nodes_falseleafs", failed_leaf.len()),
    ] {
        check_count(name, found, count)?;
    }
    if !missing.is_empty() {
        check_count("nodes_missing_value_tracks_true", missing.len(), count)?;
    }
    let index =
        |at: i64| usize::try_from(at).map_err(|_| OpError::new(format!("a branch leads to {at}")));
    let next = |at: i64, leaf: i64| index(at).map(if leaf != 0 { Next::Leaf } else { Next::Node });
    let mut forest = Forest::default();
    let mut members = Vec::new();
    for i in 0..count {
        let tracks = missing.get(i).is_some_and(|&tracks| tracks != 0);
        let missing = if tracks { MISSING } else { 0 };
        let test = match modes[i] {
            MEMBER => {
                members.push(i);
                EQUAL
            }
            mode @ 0..6 => mode as i32,
            other => return Err(OpError::new(format!("nodes_modes has {other}, expected 0 to 6"))),
        };
        forest.nodes.push(Inner {
            feature: features[i],
            test: test + missing,
            split: splits[i],
            passed: next(passed[i], passed_leaf[i])?,
            failed: next(failed[i], failed_leaf[i])?,
        });
    }
    let sets = match call.tensor("membership_values")? {
        Some(values) => member_sets(&numbers(&values)?),
        None => Vec::new(),
    };
    check_count(
        "membership_values, counted by the NaN behind each set,",
        sets.len(),
        members.len(),
    )?;
    members.iter().zip(&sets).for_each(|(&node, set)| forest.spread_members(node, set));
    for &root in call.required_ints("tree_roots")? {
        forest.roots.push(Next::Node(index(root)?));
    }
    let weights = numbers(&required(call, "leaf_weights")?)?;
    let targets = call.required_ints("leaf_targetids")?;
    check_count("leaf_targetids", targets.len(), weights.len())?;
    forest.votes =
        targets.iter().zip(weights).map(|(&target, weight)| vec![(target, weight)]).collect();
    Ok((forest, dtype))
}

/// Sets that each end with a NaN; the last one's may be left out.
fn member_sets(values: &[f64]) -> Vec<Vec<f64>> {
    let mut sets: Vec<Vec<f64>> = values.split(|v| v.is_nan()).map(<[f64]>::to_vec).collect();
    if values.last().is_none_or(|last| last.is_nan()) {
        sets.pop();
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_members_end_with_nan() {
        let n = f64::NAN;
        assert_eq!(member_sets(&[1.0, 2.0, n, 3.0, n]), [vec![1.0, 2.0], vec![3.0]]);
        assert_eq!(member_sets(&[1.0, n, n, 3.0]), [vec![1.0], vec![], vec![3.0]]);
        assert!(member_sets(&[]).is_empty());
    }
}
