//! What a refit does to tensors of a checkpoint, as operators of the table.

use crate::error::BuildError;
use crate::import::element_number;
use engine_format::{Attr, Attrs, DType, Tensor};
use engine_ops::{OpDef, lookup};

/// A tensor of the checkpoint, a constant, or an operator on such.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    /// A tensor of the checkpoint.
    Tensor(String),
    /// Part of the program.
    Literal(Tensor),
    /// A row of the table with one result.
    Node { op: &'static str, attrs: Attrs, operands: Vec<Expression> },
}

/// The row of an operator that binding writes.
pub(super) fn definition(op: &str) -> &'static OpDef {
    lookup(op, 1).expect("binding writes operators of the table")
}

impl Expression {
    /// A tensor of the checkpoint.
    pub(super) fn tensor(name: &str) -> Self {
        Self::Tensor(name.to_owned())
    }

    /// One float.
    pub(super) fn scalar(value: f32) -> Self {
        Self::Literal(Tensor::from_slice(&[], &[value]))
    }

    /// A list of numbers.
    pub(super) fn numbers(values: &[usize]) -> Self {
        let numbers: Vec<i64> = values.iter().map(|&n| n as i64).collect();
        Self::Literal(Tensor::from_slice(&[values.len()], &numbers))
    }

    /// An operator without attributes.
    pub(super) fn node(op: &'static str, operands: Vec<Expression>) -> Self {
        Self::with_attrs(op, &[], operands)
    }

    /// An operator.
    pub(super) fn with_attrs(
        op: &'static str,
        attrs: &[(&str, Attr)],
        operands: Vec<Expression>,
    ) -> Self {
        let attrs = attrs.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone())).collect();
        let attrs = definition(op)
            .normalise(attrs)
            .expect("binding writes attributes that the table takes");
        Self::Node { op, attrs, operands }
    }

    /// The elements from `start` to `end` along `axis`.
    pub(super) fn range(self, axis: usize, start: usize, end: usize) -> Self {
        let bounds = [start, end, axis].map(|n| Self::numbers(&[n]));
        Self::node("Slice", [self].into_iter().chain(bounds).collect())
    }

    /// One after another along `axis`; at least one.
    pub(super) fn joined(mut parts: Vec<Expression>, axis: usize) -> Self {
        match parts.len() {
            1 => parts.remove(0),
            _ => Self::with_attrs("Concat", &[("axis", Attr::Int(axis as i64))], parts),
        }
    }

    /// The same elements in another shape.
    pub(super) fn reshaped(self, shape: &[usize]) -> Self {
        Self::node("Reshape", vec![self, Self::numbers(shape)])
    }

    /// Axis `i` of the result is axis `perm[i]`.
    pub(super) fn permuted(self, perm: &[usize]) -> Self {
        let perm = Attr::Ints(perm.iter().map(|&axis| axis as i64).collect());
        Self::with_attrs("Transpose", &[("perm", perm)], vec![self])
    }

    /// In another element type.
    pub(super) fn converted(self, dtype: DType) -> Self {
        let to = Attr::Int(element_number(dtype));
        Self::with_attrs("Cast", &[("to", to)], vec![self])
    }

    /// The rows `rows` of a table, along its first axis.
    pub(super) fn gathered(self, rows: Tensor) -> Self {
        Self::with_attrs("Gather", &[("axis", Attr::Int(0))], vec![self, Self::Literal(rows)])
    }

    /// The tensors it reads; one may be there twice.
    pub(super) fn tensors(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Expression::Tensor(name) => Box::new(std::iter::once(name.as_str())),
            Expression::Literal(_) => Box::new(std::iter::empty()),
            Expression::Node { operands, .. } => {
                Box::new(operands.iter().flat_map(Expression::tensors))
            }
        }
    }

    /// What it gives, by the kernels that run at refit; `None` where the tensors do not go together.
    pub(super) fn evaluate(
        &self,
        read: &mut dyn FnMut(&str) -> Result<Tensor, BuildError>,
    ) -> Result<Option<Tensor>, BuildError> {
        let (op, attrs, operands) = match self {
            Expression::Tensor(name) => return read(name).map(Some),
            Expression::Literal(tensor) => return Ok(Some(tensor.clone())),
            Expression::Node { op, attrs, operands } => (op, attrs, operands),
        };
        let mut inputs = Vec::with_capacity(operands.len());
        for operand in operands {
            match operand.evaluate(read)? {
                Some(tensor) => inputs.push(Some(tensor)),
                None => return Ok(None),
            }
        }
        let results = engine_ops::eval(definition(op), attrs, &inputs, 1);
        Ok(results.ok().and_then(|mut results| results.pop()))
    }
}
