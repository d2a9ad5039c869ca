//! Programs: lists of nodes over numbered values.

use crate::Tensor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A value of an engine. Ids are shared by both programs and all nested blocks: a
/// block captures an outer value simply by using its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The id as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An attribute of a node: decided at build time, never a weight.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// An integer, or a bool as 0 / 1.
    Int(i64),
    /// A float.
    Float(f32),
    /// A string.
    Str(String),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A list of floats.
    Floats(Vec<f32>),
    /// A list of strings.
    Strs(Vec<String>),
    /// A nested program: a branch or a loop body.
    Block(Block),
}

/// Attributes by name, sorted.
pub type Attrs = BTreeMap<String, Attr>;

/// One application of an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Operator name in the operator table.
    pub op: String,
    /// Version of the operator's meaning, from the table.
    pub version: u16,
    /// Path of the node in the model it came from; used in errors only.
    pub name: String,
    /// Operands; `None` is an omitted optional one. Trailing `None`s are not stored.
    pub inputs: Vec<Option<ValueId>>,
    /// Results; `None` is one that nobody asked for.
    pub outputs: Vec<Option<ValueId>>,
    /// Attributes.
    pub attrs: Attrs,
}

/// A list of nodes in an order in which every operand is defined before its use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// Formal parameters (a loop body's carried values); empty for branches and for `prepare`.
    pub inputs: Vec<ValueId>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What the block gives back. For `prepare`: the prepared values `execute` uses.
    pub outputs: Vec<ValueId>,
}

/// A constant that is part of the program.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// The value it defines.
    pub value: ValueId,
    /// Its contents.
    pub tensor: Tensor,
}
