//! The graph starts from the checkpoint's tensors; what is done to them is ordinary nodes.

use super::expression::{Expression, definition};
use super::index::Index;
use super::pair::{Decision, Stands};
use super::recipe::Recipe;
use super::uses::Place;
use super::{Initializer, uses};
use crate::classify::Sources;
use crate::error::BuildError;
use crate::graph::{Constant, ConstantClass, Graph};
use engine_format::{Node, Tensor, ValueId};
use engine_ops::infer::Facts;
use std::collections::BTreeMap;

/// Replaces every bound initializer by what it stands for.
pub(super) fn rewrite(
    graph: &mut Graph,
    sources: &mut Sources,
    initializers: &[Initializer],
    decisions: &[Decision],
    index: &Index<'_>,
) -> Result<(), BuildError> {
    let bound = || {
        let pairs = initializers.iter().zip(decisions);
        pairs.filter_map(|(initializer, decision)| match decision {
            Decision::Stands(stands) => Some((initializer, stands)),
            Decision::Not(_) => None,
        })
    };
    // All names of the model go before the first of the checkpoint comes: one may be the other's.
    for (initializer, _) in bound() {
        graph.constants.remove(&initializer.id);
        sources.remove(&initializer.name);
    }
    let mut start = Start { graph, sources, index, weights: BTreeMap::new(), nodes: Vec::new() };
    for (initializer, stands) in bound() {
        let unchanged = stands.recipes.iter().any(|(_, r)| r.as_is() == Some(&*initializer.name));
        if unchanged {
            start.keep(initializer);
        }
    }
    let mut values = BTreeMap::<ValueId, Vec<(Option<Place>, ValueId)>>::new();
    for (initializer, stands) in bound() {
        values.insert(initializer.id, start.values(initializer, stands)?);
    }
    let nodes = start.nodes;
    graph.execute.splice(0..0, nodes);
    uses::replace(graph, &mut |place, id| {
        let Some(values) = values.get(&id) else { return id };
        let mut fitting = values.iter().filter(|(at, _)| at.as_ref().is_none_or(|at| *at == place));
        // Nodes of the rewrite itself read the weights, at places that no split has.
        fitting.next().map_or(id, |&(_, value)| value)
    });
    Ok(())
}

fn weight(tensor: Tensor, name: &str) -> Constant {
    let class = ConstantClass::Weight { parameter: false, pinned: None };
    Constant { tensor, source: Some(name.to_owned()), class, is_node: false }
}

/// Writes the nodes that make initializers.
struct Start<'a> {
    graph: &'a mut Graph,
    sources: &'a mut Sources,
    index: &'a Index<'a>,
    /// Tensors of the checkpoint that are weights of the graph.
    weights: BTreeMap<String, ValueId>,
    nodes: Vec<Node>,
}

impl Start<'_> {
    /// The initializer is the checkpoint's tensor of the same name.
    fn keep(&mut self, initializer: &Initializer) {
        let constant = weight(initializer.tensor.clone(), &initializer.name);
        self.sources.insert(initializer.name.clone(), constant.clone());
        self.graph.constants.insert(initializer.id, constant);
        self.weights.insert(initializer.name.clone(), initializer.id);
    }

    fn values(
        &mut self,
        initializer: &Initializer,
        stands: &Stands,
    ) -> Result<Vec<(Option<Place>, ValueId)>, BuildError> {
        let recipes = stands.recipes.iter();
        let values = recipes.map(|(at, recipe)| Ok((at.clone(), self.value(recipe, initializer)?)));
        let mut values = values.collect::<Result<Vec<_>, BuildError>>()?;
        if stands.constant_elsewhere {
            let constant = Constant::literal(initializer.tensor.clone());
            let name = format!("{}.literal", initializer.name);
            values.push((None, self.graph.add_constant(name, constant)));
        }
        Ok(values)
    }

    /// The value that a recipe gives.
    fn value(&mut self, recipe: &Recipe, initializer: &Initializer) -> Result<ValueId, BuildError> {
        if let Some(tensor) = recipe.as_is() {
            return self.tensor(tensor, Some(&initializer.tensor));
        }
        let dtype = initializer.tensor.dtype();
        match recipe {
            Recipe::Moved(moved) => self.write(&moved.expression(dtype), &initializer.name),
            Recipe::Computed(computed) => self.write(&computed.expression, &initializer.name),
        }
    }

    /// The value of an expression; its nodes are called after the initializer that they make.
    fn write(&mut self, expression: &Expression, of: &str) -> Result<ValueId, BuildError> {
        let (op, attrs, operands) = match expression {
            Expression::Tensor(name) => return self.tensor(name, None),
            Expression::Literal(tensor) => {
                let constant = Constant::literal(tensor.clone());
                return Ok(self.graph.add_constant(format!("{of}.literal"), constant));
            }
            Expression::Node { op, attrs, operands } => (*op, attrs, operands),
        };
        let mut inputs = Vec::with_capacity(operands.len());
        for operand in operands {
            inputs.push(Some(self.write(operand, of)?));
        }
        let first = inputs[0].expect("every operator of an expression has operands");
        let facts = Facts { value: None, ..self.graph.facts(first).clone() };
        let name = format!("{of}.{}", op.to_lowercase());
        // Its type is inferred with all others, once everything is bound.
        let output = self.graph.add_value(name.clone(), facts);
        self.nodes.push(Node {
            op: op.to_owned(),
            version: definition(op).version,
            name,
            inputs,
            outputs: vec![Some(output)],
            attrs: attrs.clone(),
        });
        Ok(output)
    }

    /// The weight that is the checkpoint's tensor. Equal contents that are known spare reading it.
    fn tensor(&mut self, name: &str, known: Option<&Tensor>) -> Result<ValueId, BuildError> {
        if let Some(&id) = self.weights.get(name) {
            return Ok(id);
        }
        let tensor = known.cloned().map_or_else(|| self.index.tensor(name), Ok)?;
        let constant = weight(tensor, name);
        self.sources.insert(name.to_owned(), constant.clone());
        let id = self.graph.add_constant(name, constant);
        self.weights.insert(name.to_owned(), id);
        Ok(id)
    }
}
