//! The check after every pass.

use super::{Graph, rewrite::blocks};
use engine_format::{Node, ValueId};
use engine_ops::infer::Facts;
use engine_ops::lookup;
use std::collections::BTreeMap;

/// A graph broke one of its rules: a bug in import or in the pass that ran last.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct VerifyError {
    /// Node path or value name.
    pub place: String,
    /// The rule that is broken.
    pub what: String,
}

impl VerifyError {
    fn new(place: &str, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), what: what.into() }
    }
}

impl Graph {
    /// Checks that every value is defined once and before its use, that `prepare` stands on constants alone, that
    /// names are unique, that nodes say what the operator table asks for, and that recorded types do not contradict the
    /// table's rules.
    pub fn verify(&self) -> Result<(), VerifyError> {
        let mut check = Check { graph: self, defined: vec![false; self.value_count()] };
        self.check_names()?;
        for &id in self.constants.keys() {
            check.define(id)?;
        }
        self.prepare.iter().try_for_each(|node| check.node(node))?;
        for &id in &self.inputs {
            check.define(id)?;
        }
        self.execute.iter().try_for_each(|node| check.node(node))?;
        for output in &self.outputs {
            check.used(output.value, &output.name)?;
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), VerifyError> {
        let mut seen = BTreeMap::new();
        for (index, value) in self.values.iter().enumerate() {
            if let Some(first) = seen.insert(value.name.as_str(), index) {
                let what = format!("values {first} and {index} have the same name");
                return Err(VerifyError::new(&value.name, what));
            }
        }
        let mut sources = BTreeMap::new();
        for (id, constant) in &self.constants {
            let Some(source) = &constant.source else { continue };
            if let Some(first) = sources.insert(source.as_str(), id) {
                let what = format!("constants {} and {} have the same name", first.0, id.0);
                return Err(VerifyError::new(source, what));
            }
        }
        Ok(())
    }
}

struct Check<'a> {
    graph: &'a Graph,
    defined: Vec<bool>,
}

impl Check<'_> {
    fn define(&mut self, id: ValueId) -> Result<(), VerifyError> {
        match self.defined.get_mut(id.index()) {
            None => Err(VerifyError::new(&format!("value {}", id.0), "no such value")),
            Some(true) => Err(VerifyError::new(&self.graph.value(id).name, "defined twice")),
            Some(slot) => {
                *slot = true;
                Ok(())
            }
        }
    }

    fn used(&self, id: ValueId, place: &str) -> Result<(), VerifyError> {
        match self.defined.get(id.index()) {
            Some(true) => Ok(()),
            Some(false) => {
                let name = &self.graph.value(id).name;
                Err(VerifyError::new(place, format!("{name} is used before it is defined")))
            }
            None => Err(VerifyError::new(place, format!("value {} does not exist", id.0))),
        }
    }

    fn node(&mut self, node: &Node) -> Result<(), VerifyError> {
        for &id in node.inputs.iter().flatten() {
            self.used(id, &node.name)?;
        }
        for block in blocks(node) {
            // What a block defines ends with it.
            let outside = self.defined.clone();
            for &id in &block.inputs {
                self.define(id)?;
            }
            block.nodes.iter().try_for_each(|inner| self.node(inner))?;
            for &id in &block.outputs {
                self.used(id, &node.name)?;
            }
            self.defined = outside;
        }
        check_signature(node)?;
        self.check_types(node)?;
        for &id in node.outputs.iter().flatten() {
            self.define(id)?;
        }
        Ok(())
    }

    fn check_types(&self, node: &Node) -> Result<(), VerifyError> {
        let inferred = self.graph.infer(node);
        let inferred = inferred.map_err(|error| VerifyError::new(&node.name, error.to_string()))?;
        for (output, typed) in node.outputs.iter().zip(inferred) {
            let (Some(id), Some(typed)) = (output, typed) else { continue };
            let value = self.graph.value(*id);
            if value.form != typed.form || contradict(&value.facts, &typed.facts) {
                let rule = typed.form.describe(&typed.facts.to_string());
                let recorded = value.type_text();
                let what = format!("{} is recorded as {recorded}, inferred {rule}", value.name);
                return Err(VerifyError::new(&node.name, what));
            }
        }
        Ok(())
    }
}

/// Whether two facts cannot both hold. Different expressions can: passes may make one of them more precise.
fn contradict(a: &Facts, b: &Facts) -> bool {
    if a.dtype != b.dtype {
        return true;
    }
    let (Some(a), Some(b)) = (&a.shape, &b.shape) else { return false };
    let differ = |(a, b): (&engine_format::Dim, &engine_format::Dim)| matches!((a.known(), b.known()), (Some(a), Some(b)) if a != b);
    a.len() != b.len() || a.iter().zip(b).any(differ)
}

/// The node against its row of the operator table.
fn check_signature(node: &Node) -> Result<(), VerifyError> {
    let fail = |what: String| Err(VerifyError::new(&node.name, what));
    let Some(def) = lookup(&node.op, node.version) else {
        return fail(format!("operator {} v{} is not in the table", node.op, node.version));
    };
    match def.normalise(node.attrs.clone()) {
        Err(error) => return fail(error.to_string()),
        Ok(attrs) if attrs != node.attrs => return fail("attributes lack their defaults".into()),
        Ok(_) => {}
    }
    if let Err(error) = super::check_operands(def, &node.inputs) {
        return fail(error.to_string());
    }
    if node.outputs.len() > def.outputs.len() && !def.variadic_output {
        let (found, max) = (node.outputs.len(), def.outputs.len());
        return fail(format!("{found} results, {} gives at most {max}", def.name));
    }
    if let Err(error) = super::control::check_blocks(node) {
        return fail(error.to_string());
    }
    if node.inputs.last() == Some(&None) {
        return fail("the last operand is stored although it is omitted".into());
    }
    Ok(())
}
