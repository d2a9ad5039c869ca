//! The graph starts from the checkpoint's tensors; what is done to them is ordinary nodes.

use super::index::Index;
use super::pair::{Decision, Stands};
use super::recipe::{Recipe, is_identity};
use super::uses::Place;
use super::{Initializer, uses};
use crate::classify::Sources;
use crate::error::BuildError;
use crate::graph::{Constant, ConstantClass, Graph};
use crate::import::element_number;
use engine_format::{Attr, Attrs, Node, Tensor, ValueId};
use engine_ops::infer::Facts;
use engine_ops::lookup;
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
    Constant { tensor, source: Some(name.to_owned()), class }
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
        recipes.map(|(at, recipe)| Ok((at.clone(), self.value(recipe, initializer)?))).collect()
    }

    /// The value that a recipe gives.
    fn value(&mut self, recipe: &Recipe, initializer: &Initializer) -> Result<ValueId, BuildError> {
        if let Some(tensor) = recipe.as_is() {
            return self.tensor(tensor, Some(&initializer.tensor));
        }
        let name = &initializer.name;
        let mut parts = Vec::with_capacity(recipe.parts.len());
        for part in &recipe.parts {
            let mut value = self.tensor(&part.tensor, None)?;
            if let Some((start, end)) = part.range {
                let bounds = [start, end, recipe.axis].map(|n| self.vector(name, n));
                value = self.node(name, "Slice", &[&[value], bounds.as_slice()].concat(), &[]);
            }
            parts.push(value);
        }
        let mut value = match parts.as_slice() {
            [only] => *only,
            several => {
                self.node(name, "Concat", several, &[("axis", Attr::Int(recipe.axis as i64))])
            }
        };
        if !is_identity(&recipe.perm) {
            let perm = recipe.perm.iter().map(|&axis| axis as i64).collect();
            value = self.node(name, "Transpose", &[value], &[("perm", Attr::Ints(perm))]);
        }
        if recipe.from.is_some() {
            let to = Attr::Int(element_number(initializer.tensor.dtype()));
            value = self.node(name, "Cast", &[value], &[("to", to)]);
        }
        Ok(value)
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

    fn vector(&mut self, of: &str, number: usize) -> ValueId {
        let tensor = Tensor::from_slice(&[1], &[number as i64]);
        self.graph.add_constant(format!("{of}.bound"), Constant::literal(tensor))
    }

    fn node(&mut self, of: &str, op: &str, inputs: &[ValueId], attrs: &[(&str, Attr)]) -> ValueId {
        let def = lookup(op, 1).expect("binding writes operators of the table");
        let attrs: Attrs =
            attrs.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone())).collect();
        let facts = Facts { value: None, ..self.graph.facts(inputs[0]).clone() };
        let name = format!("{of}.{}", op.to_lowercase());
        // Its type is inferred with all others, once everything is bound.
        let output = self.graph.add_value(name.clone(), facts);
        self.nodes.push(Node {
            op: op.to_owned(),
            version: def.version,
            name,
            inputs: inputs.iter().map(|&id| Some(id)).collect(),
            outputs: vec![Some(output)],
            attrs: def.normalise(attrs).expect("binding writes attributes that the table takes"),
        });
        output
    }
}
