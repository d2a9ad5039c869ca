//! Holding the nodes of a block to the operator table, and to what this runtime runs.

use super::flow;
use super::program::{Body, Op};
use engine_format::{Attr, Attrs, Block, Node};
use engine_ops::cpu::Cpu;
use engine_ops::{Kind, OpDef, TABLE, lookup};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Body {
    /// Checks every node of `block` and of the blocks in it; `problems` collects all that is wrong.
    pub fn check(block: &Block, problems: &mut Vec<String>) -> Arc<Self> {
        let nodes = block.nodes.iter().filter_map(|node| Op::check(node, problems));
        let nodes: Vec<Arc<Op>> = nodes.map(Arc::new).collect();
        let (inputs, outputs) = (block.inputs.clone(), block.outputs.clone());
        let mut body = Self { inputs, nodes, outputs, captures: BTreeSet::new() };
        let mut captures = BTreeSet::new();
        body.reads_from(0, &mut |v| {
            captures.insert(v);
        });
        let made = body.nodes.iter().flat_map(|op| op.outputs.iter().flatten());
        for own in body.inputs.iter().chain(made) {
            captures.remove(own);
        }
        body.captures = captures;
        Arc::new(body)
    }
}

impl Op {
    fn check(node: &Node, problems: &mut Vec<String>) -> Option<Self> {
        let place = format!("{} ({} v{})", node.name, node.op, node.version);
        let Some(def) = lookup(&node.op, node.version) else {
            problems.push(unknown(node));
            return None;
        };
        let before = problems.len();
        let mut problem = |what: String| problems.push(format!("{place}: {what}"));
        match def.normalise(node.attrs.clone()) {
            Ok(attrs) if attrs == node.attrs => {}
            Ok(_) => problem("attributes lack defaults that the operator table gives".into()),
            Err(why) => problem(why.to_string()),
        }
        check_operands(def, node).into_iter().for_each(&mut problem);
        if let Some(what) = not_runnable(def, node) {
            problem(what);
        }
        let mut bodies = BTreeMap::new();
        let mut attrs = Attrs::new();
        for (name, attr) in &node.attrs {
            match attr {
                Attr::Block(block) => {
                    bodies.insert(name.clone(), Body::check(block, problems));
                }
                other => {
                    attrs.insert(name.clone(), other.clone());
                }
            }
        }
        (problems.len() == before).then(|| Self {
            def,
            attrs: Arc::new(attrs),
            path: node.name.as_str().into(),
            inputs: node.inputs.clone(),
            outputs: node.outputs.clone(),
            bodies,
        })
    }
}

fn unknown(node: &Node) -> String {
    let versions: Vec<String> = TABLE
        .iter()
        .filter(|def| def.name == node.op)
        .map(|def| format!("v{}", def.version))
        .collect();
    let known = if versions.is_empty() {
        "no such operator here".to_owned()
    } else {
        format!("this runtime has {}", versions.join(", "))
    };
    format!("{} ({} v{}): {known}", node.name, node.op, node.version)
}

fn check_operands(def: &OpDef, node: &Node) -> Vec<String> {
    let mut wrong = Vec::new();
    if node.inputs.len() > def.inputs.len() && !def.variadic_input {
        wrong.push(format!("{} operands, takes {}", node.inputs.len(), def.inputs.len()));
    }
    for (i, operand) in def.inputs.iter().enumerate() {
        let given = node.inputs.get(i).copied().flatten().is_some();
        if !given && !operand.optional {
            wrong.push(format!("operand {} ({i}) is missing", operand.name));
        }
    }
    if node.outputs.len() > def.outputs.len() && !def.variadic_output {
        wrong.push(format!("{} results, gives {}", node.outputs.len(), def.outputs.len()));
    }
    wrong
}

/// Why this runtime cannot run a node whose operands and attributes are right.
fn not_runnable(def: &OpDef, node: &Node) -> Option<String> {
    match (def.kind, &def.cpu) {
        (Kind::Control, _) => flow::problem(node),
        (Kind::Compute | Kind::Move, Cpu::None) => {
            Some("the operator has no CPU kernel".to_owned())
        }
        _ => None,
    }
}
