//! The graph between import and engine: the two programs of an engine with names and types on every value.

mod control;
mod infer;
#[cfg(test)]
pub(crate) mod parse;
mod print;
mod rewrite;
mod signature;
mod verify;

pub(crate) use control::{empty_types, join_typed, parameters, slice};
pub(crate) use infer::{FRESH, fresh_shape};
pub(crate) use rewrite::{blocks, blocks_mut, for_each_use};
pub(crate) use signature::check_operands;
pub use verify::VerifyError;

use engine_format::{Block, DType, Dim, Form, Node, Tensor, ValueId};
use engine_ops::infer::{Facts, Known};
use std::collections::{BTreeMap, BTreeSet};

/// What a value is called and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Name in the model, qualified by scope; or one made from the node that the value came from.
    pub name: String,
    /// Type, symbolic shape, contents where they are known and may be used. Those of the tensors of a sequence.
    pub facts: Facts,
    /// Whether it is a tensor, a sequence of such, and may be absent.
    pub form: Form,
    /// What the model states of it. Used only where inference has no answer.
    pub declared: Option<Declared>,
}

/// What is known of a value that need not be a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed {
    /// What it is made of.
    pub form: Form,
    /// What is known of its tensors.
    pub facts: Facts,
}

impl Typed {
    /// A tensor.
    pub fn tensor(facts: Facts) -> Self {
        Self { form: Form::Tensor, facts }
    }
}

/// The part of a model's `value_info` that is trusted where a rule cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Element type.
    pub dtype: DType,
    /// Number of axes, if stated. Sizes are not taken over: exporters write those of their example.
    pub rank: Option<usize>,
}

/// A constant of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Its contents.
    pub tensor: Tensor,
    /// Name in the model, by which a source may bring it; `None` for constants that import or a pass made.
    pub source: Option<String>,
    /// What it is.
    pub class: ConstantClass,
    /// Whether the model holds it as a `Constant` node and not as an initializer.
    pub is_node: bool,
}

/// What a constant is to the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum ConstantClass {
    /// Not decided yet: between import and classification.
    Unclassified,
    /// Part of the program.
    Literal,
    /// A weight or parameter of the weight table.
    Weight {
        /// Small enough to be a parameter.
        parameter: bool,
        /// Why only the value at build is accepted, if so.
        pinned: Option<String>,
    },
}

impl Constant {
    /// A constant without a name of its own: always a literal.
    pub fn literal(tensor: Tensor) -> Self {
        Self { tensor, source: None, class: ConstantClass::Literal, is_node: false }
    }

    /// Whether passes may read the contents: another value would be refused by every fill.
    pub fn is_readable(&self) -> bool {
        match &self.class {
            ConstantClass::Literal | ConstantClass::Unclassified => true,
            ConstantClass::Weight { pinned, .. } => pinned.is_some(),
        }
    }

    /// Facts that hold whatever values a refit brings.
    pub fn facts(&self) -> Facts {
        let facts = Facts::constant(self.tensor.clone());
        if self.is_readable() { facts } else { Facts { value: None, ..facts } }
    }
}

/// A named result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Name in the model.
    pub name: String,
    /// The value.
    pub value: ValueId,
}

/// Two programs over typed, named values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    values: Vec<Value>,
    names: BTreeSet<String>,
    /// Inputs in the model's order.
    pub inputs: Vec<ValueId>,
    /// Outputs in the model's order.
    pub outputs: Vec<Output>,
    /// Constants, by the value they define.
    pub constants: BTreeMap<ValueId, Constant>,
    /// Names of parameters whose value a pass read, and why: they stay in the weight table whether they are used or not,
    /// and another value is refused.
    pub pinned: BTreeMap<String, String>,
    /// Nodes that run at refit; their operands are constants and each other's results.
    pub prepare: Vec<Node>,
    /// Nodes that run per call.
    pub execute: Vec<Node>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value; something must define it. A name that is taken gets primes.
    pub fn add_value(&mut self, name: impl Into<String>, facts: Facts) -> ValueId {
        let id = u32::try_from(self.values.len()).expect("a model has fewer than 2^32 values");
        let mut name = name.into();
        while !self.names.insert(name.clone()) {
            name.push('\'');
        }
        self.values.push(Value { name, facts, form: Form::Tensor, declared: None });
        ValueId(id)
    }

    /// Adds an input.
    pub fn add_input(&mut self, name: impl Into<String>, facts: Facts) -> ValueId {
        let id = self.add_value(name, facts);
        self.inputs.push(id);
        id
    }

    /// Adds a constant under a name for texts.
    pub fn add_constant(&mut self, name: impl Into<String>, constant: Constant) -> ValueId {
        let id = self.add_value(name, constant.facts());
        self.constants.insert(id, constant);
        id
    }

    /// Pins a parameter whose value a pass read; a literal needs no pin. The first reason stays.
    pub fn pin(&mut self, id: ValueId, why: String) {
        let Some(Constant { source: Some(name), class, .. }) = self.constants.get_mut(&id) else {
            return;
        };
        if let ConstantClass::Weight { pinned: pinned @ None, .. } = class {
            *pinned = Some(why.clone());
            self.pinned.insert(name.clone(), why);
        }
    }

    /// Number of values made so far; ids are below it.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// A value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// A value, to be changed.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.index()]
    }

    /// What is known of a value.
    pub fn facts(&self, id: ValueId) -> &Facts {
        &self.value(id).facts
    }

    /// What is known of a value, its form included.
    pub fn typed(&self, id: ValueId) -> Typed {
        let value = self.value(id);
        Typed { form: value.form, facts: value.facts.clone() }
    }

    /// Notes what is known of a value.
    pub fn set_type(&mut self, id: ValueId, typed: Typed) {
        let value = self.value_mut(id);
        (value.form, value.facts) = (typed.form, typed.facts);
    }

    /// A value's contents, where they are known for every run and every refit.
    pub fn known_tensor(&self, id: ValueId) -> Option<Tensor> {
        let facts = self.facts(id);
        match facts.value.as_ref()? {
            Known::Tensor(tensor) => Some(tensor.clone()),
            // Rules follow symbolic contents as i64 only.
            Known::Dims(_) if facts.dtype != DType::I64 => None,
            Known::Dims(dims) => {
                let numbers: Option<Vec<i64>> = dims.iter().map(Dim::known).collect();
                Some(Tensor::from_slice(&facts.concrete()?, &numbers?))
            }
        }
    }

    /// `execute` as a block whose results are the outputs.
    pub fn execute_block(&self) -> Block {
        Block {
            inputs: Vec::new(),
            nodes: self.execute.clone(),
            outputs: self.outputs.iter().map(|o| o.value).collect(),
        }
    }
}
