//! Reading scalars that decide whether a pattern is one: a parameter that was read is pinned, so that a refit which brings
//! another value is an error that names the fusion.

use super::use_def::UseDef;
use crate::graph::{ConstantClass, Graph};
use crate::op;
use engine_format::{DType, Node, ValueId};
use engine_ops::OpName;
use half::f16;

/// How far a coefficient may lie from the one of a formula: exporters write them in f32 or f16.
const NEAR: f32 = 2e-4;

/// Whether a coefficient is the one of a formula.
pub(super) fn is_near(found: f32, formula: f32) -> bool {
    (found - formula).abs() <= NEAR * formula.abs()
}

/// The value of a scalar literal or parameter. Who uses it must [`pin`] it.
pub(super) fn peek(graph: &Graph, id: ValueId) -> Option<f32> {
    let constant = graph.constants.get(&id)?;
    let parameter = matches!(constant.class, ConstantClass::Weight { parameter: true, .. });
    if !parameter && !constant.is_readable() {
        return None;
    }
    let tensor = &constant.tensor;
    match tensor.dtype() {
        _ if tensor.len() != 1 => None,
        DType::F32 => tensor.as_slice::<f32>().ok().map(|v| v[0]),
        DType::F64 => tensor.as_slice::<f64>().ok().map(|v| v[0] as f32),
        DType::F16 => tensor.as_slice::<f16>().ok().map(|v| v[0].to_f32()),
        _ => None,
    }
}

/// Pins the parameters among `read`, which `fusion` at `node` had to read.
pub(super) fn pin(graph: &mut Graph, read: &[ValueId], fusion: OpName<'_>, node: &Node) {
    for &id in read {
        graph.pin(id, format!("the fusion to {fusion} at {} read its value", node.name));
    }
}

/// A product taken apart: `scalar · values[0] · values[1] · …`.
#[derive(Clone, Debug, Default)]
pub(super) struct Factors {
    pub(super) scalar: f32,
    pub(super) values: Vec<ValueId>,
    /// The scalars that were read.
    pub(super) read: Vec<ValueId>,
}

/// Factors that a pattern has at most; what has more is none.
const MOST_FACTORS: usize = 6;

impl Factors {
    /// The factors of `id`, through products, quotients by scalars, and squares and cubes that nothing else reads: the
    /// value that a function is of is read more than once, and so stays whole.
    pub(super) fn of(graph: &Graph, use_def: &UseDef<'_>, id: ValueId) -> Self {
        let mut factors = Self { scalar: 1.0, ..Self::default() };
        factors.take(graph, use_def, id);
        factors
    }

    /// The factors of what `root` gives, whoever reads it.
    pub(super) fn of_node(graph: &Graph, use_def: &UseDef<'_>, root: &Node) -> Self {
        let mut factors = Self { scalar: 1.0, ..Self::default() };
        factors.open(graph, use_def, root);
        factors
    }

    fn take(&mut self, graph: &Graph, use_def: &UseDef<'_>, id: ValueId) {
        if self.values.len() > MOST_FACTORS {
            return;
        }
        if let Some(value) = peek(graph, id) {
            self.scalar *= value;
            self.read.push(id);
            return;
        }
        match use_def.made_by(id, &[op::Mul, op::Div, op::Pow]) {
            Some(node) if use_def.only_reader(id).is_some() => self.open(graph, use_def, node),
            _ => self.values.push(id),
        }
    }

    fn open(&mut self, graph: &Graph, use_def: &UseDef<'_>, node: &Node) {
        let (Some(a), Some(b)) = (UseDef::operand(node, 0), UseDef::operand(node, 1)) else {
            return;
        };
        match (OpName::of(node), peek(graph, b)) {
            (op::Mul, _) => {
                self.take(graph, use_def, a);
                self.take(graph, use_def, b);
            }
            (op::Div, Some(divisor)) => {
                self.take(graph, use_def, a);
                self.scalar /= divisor;
                self.read.push(b);
            }
            (op::Pow, Some(power)) if power == 2.0 || power == 3.0 => {
                self.read.push(b);
                (0..power as usize).for_each(|_| self.take(graph, use_def, a));
            }
            _ => self.values.extend(node.outputs[0]),
        }
    }

    /// Adds what another product read.
    pub(super) fn also_read(&mut self, other: &Self) {
        self.read.extend(&other.read);
    }
}

/// The two operands of the node of operator `op` that gives `id`.
pub(super) fn operands(
    use_def: &UseDef<'_>,
    id: ValueId,
    op: OpName<'_>,
) -> Option<(ValueId, ValueId)> {
    let node = use_def.made_by(id, &[op])?;
    Some((UseDef::operand(node, 0)?, UseDef::operand(node, 1)?))
}

/// The one operand of the node of operator `op` that gives `id`.
pub(super) fn operand(use_def: &UseDef<'_>, id: ValueId, op: OpName<'_>) -> Option<ValueId> {
    UseDef::operand(use_def.made_by(id, &[op])?, 0)
}

/// A sum of a value and a scalar.
pub(super) fn plus_scalar(
    graph: &Graph,
    use_def: &UseDef<'_>,
    id: ValueId,
) -> Option<(ValueId, f32, ValueId)> {
    let (a, b) = operands(use_def, id, op::Add)?;
    match (peek(graph, a), peek(graph, b)) {
        (_, Some(scalar)) => Some((a, scalar, b)),
        (Some(scalar), _) => Some((b, scalar, a)),
        _ => None,
    }
}
