//! Derivatives: the nodes between what is varied and what is derived, taken backward (reverse accumulation; Griewank and
//! Walther, *Evaluating Derivatives*, chapter 3).

use super::Adapter;
use crate::graph::for_each_use;
use crate::import::call::{Call, Last};
use engine_format::{Attr, Node, ValueId};
use engine_ops::OpError;
use std::collections::{BTreeMap, BTreeSet};

pub(super) static ROWS: &[Adapter] = &[Adapter {
    domain: "ai.onnx.preview.training",
    op: "Gradient",
    since: 1,
    until: 1,
    run: gradient,
}];

/// What operand `i` of a node adds to the derivative, given the derivative by the node's result.
type Rule = fn(&mut Call<'_>, &Node, usize, ValueId) -> Result<ValueId, OpError>;

/// Operators of one result that derivatives are taken through.
static RULES: &[(&str, Rule)] = &[
    ("Identity", |_, _, _, up| Ok(up)),
    ("Add", |_, _, _, up| Ok(up)),
    ("Sub", |call, _, i, up| if i == 0 { Ok(up) } else { call.emit("Neg", [up], vec![]) }),
    ("Neg", |call, _, _, up| call.emit("Neg", [up], vec![])),
    ("Mul", |call, node, i, up| {
        let other = operand(node, 1 - i)?;
        call.emit("Mul", [up, other], vec![])
    }),
    ("Div", |call, node, i, up| {
        let by_divisor = call.emit("Div", [up, operand(node, 1)?], vec![])?;
        if i == 0 {
            return Ok(by_divisor);
        }
        let scaled = call.emit("Mul", [by_divisor, result(node)?], vec![])?;
        call.emit("Neg", [scaled], vec![])
    }),
    ("Exp", |call, node, _, up| call.emit("Mul", [up, result(node)?], vec![])),
    ("Log", |call, node, _, up| call.emit("Div", [up, operand(node, 0)?], vec![])),
    ("Tanh", |call, node, _, up| {
        // 1 − tanh²
        let y = result(node)?;
        let (one, square) = (call.scalar_like(y, 1.0)?, call.emit("Mul", [y, y], vec![])?);
        let slope = call.emit("Sub", [one, square], vec![])?;
        call.emit("Mul", [up, slope], vec![])
    }),
];

fn operand(node: &Node, i: usize) -> Result<ValueId, OpError> {
    let found = node.inputs.get(i).copied().flatten();
    found.ok_or_else(|| OpError::new(format!("operand {i} of {:?} is missing", node.name)))
}

fn result(node: &Node) -> Result<ValueId, OpError> {
    let found = node.outputs.first().copied().flatten();
    found.ok_or_else(|| OpError::new(format!("{:?} has no result", node.name)))
}

/// The derivatives of `y` by each of `xs`; `zs` are what else it depends on.
fn gradient(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (xs, zs) = (call.strs("xs")?.unwrap_or_default(), call.strs("zs")?.unwrap_or_default());
    let y = call.str("y", "")?;
    let y = call.named(y)?;
    let mut varied = Vec::new();
    for (i, name) in xs.iter().chain(zs).enumerate() {
        let value = call.named(name)?;
        if call.input(i)? != value {
            return Err(OpError::new(format!(
                "operand {i} is another value than {name:?}; derivatives are taken where the graph itself is"
            )));
        }
        varied.push(value);
    }
    varied.truncate(xs.len());
    let nodes = between(call, &varied);
    let mut known = BTreeMap::from([(y, filled_like(call, y, 1.0)?)]);
    for node in nodes.iter().rev() {
        if node.outputs.iter().flatten().any(|id| known.contains_key(id)) {
            backward(call, node, &varied, &nodes, &mut known)?;
        }
    }
    let mut derivatives = Vec::with_capacity(varied.len());
    for &x in &varied {
        derivatives.push(match known.get(&x) {
            Some(&found) => found,
            None => filled_like(call, x, 0.0)?,
        });
    }
    for (i, &derivative) in derivatives.iter().enumerate().skip(1) {
        call.give(i, derivative);
    }
    let first = derivatives.first().ok_or_else(|| OpError::new("attribute \"xs\" is empty"))?;
    call.finish("Identity", [*first], vec![])
}

/// The nodes written so far whose results depend on `varied`, in order.
fn between(call: &Call<'_>, varied: &[ValueId]) -> Vec<Node> {
    let mut reached: BTreeSet<ValueId> = varied.iter().copied().collect();
    let mut nodes = call.written().to_vec();
    nodes.retain(|node| {
        let mut depends = false;
        for_each_use(node, &mut |id| depends |= reached.contains(&id));
        if depends {
            reached.extend(node.outputs.iter().flatten());
        }
        depends
    });
    nodes
}

/// Adds what a node passes on to the derivatives by its operands.
fn backward(
    call: &mut Call<'_>,
    node: &Node,
    varied: &[ValueId],
    nodes: &[Node],
    known: &mut BTreeMap<ValueId, ValueId>,
) -> Result<(), OpError> {
    let rule = RULES.iter().find(|(op, _)| *op == node.op).map(|(_, rule)| *rule);
    let rule = rule.ok_or_else(|| {
        OpError::new(format!("the derivative of {} (node {:?}) is not known", node.op, node.name))
    })?;
    // Operators with a rule have one result.
    let up = known[&result(node)?];
    for (i, id) in node.inputs.iter().enumerate() {
        let Some(id) = *id else { continue };
        let made = || nodes.iter().any(|node| node.outputs.contains(&Some(id)));
        if !varied.contains(&id) && !made() {
            continue;
        }
        let part = rule(call, node, i, up)?;
        let part = summed_like(call, part, id)?;
        let sum = match known.get(&id) {
            Some(&before) => call.emit("Add", [before, part], vec![])?,
            None => part,
        };
        known.insert(id, sum);
    }
    Ok(())
}

/// A tensor like `x` whose elements are all `value`.
fn filled_like(call: &mut Call<'_>, x: ValueId, value: f64) -> Result<ValueId, OpError> {
    let (value, shape) = (call.scalar_like(x, value)?, call.emit("Shape", [x], vec![])?);
    call.emit("Expand", [value, shape], vec![])
}

/// The derivative by a value that was broadcast is the sum over where it went.
fn summed_like(call: &mut Call<'_>, part: ValueId, x: ValueId) -> Result<ValueId, OpError> {
    let (wide, own) = (call.facts(part).shape.clone(), call.facts(x).shape.clone());
    if wide.is_some() && wide == own {
        return Ok(part);
    }
    let (Some(wide), Some(own)) = (wide, own) else {
        return Err(OpError::new("ranks between what is varied and what is derived must be known"));
    };
    let new = wide.len() - own.len();
    let axes = (0..wide.len()).filter(|&axis| axis < new || wide[axis] != own[axis - new]);
    let axes: Vec<i64> = axes.map(|axis| axis as i64).collect();
    let stretched = axes.iter().skip_while(|&&axis| (axis as usize) < new);
    if let Some(&axis) =
        stretched.into_iter().find(|&&axis| own[axis as usize - new].known() != Some(1))
    {
        let (from, to) = (&own[axis as usize - new], &wide[axis as usize]);
        return Err(OpError::new(format!("whether size {from} is stretched to {to} is not known")));
    }
    let axes = call.vector(&axes);
    let sum = call.emit("ReduceSum", [part, axes], vec![("keepdims", Attr::Int(1))])?;
    let shape = call.emit("Shape", [x], vec![])?;
    call.emit("Reshape", [sum, shape], vec![])
}
