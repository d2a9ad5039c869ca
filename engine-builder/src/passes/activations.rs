//! Recognises activation functions that exporters write out: Gelu in both forms, Swish (SiLU), HardSwish, HardSigmoid, Mish.
//!
//! Each is a product, whose factors come in any order and grouping; the scalars among them are read and so pinned.

use super::scalars::{Factors, is_near, operand, peek, pin, plus_scalar};
use super::use_def::{Rewriter, UseDef, rewrite};
use crate::error::BuildError;
use crate::graph::Graph;
use crate::op;
use crate::report::Notes;
use engine_format::{Attr, Attrs, DType, Node, ValueId};
use engine_ops::{AttrsExt, OpName};

pub(super) fn run(graph: &mut Graph, notes: &mut Notes) -> Result<bool, BuildError> {
    rewrite(graph, notes, rule)
}

/// A recognised function of one value.
struct Found {
    op: OpName<'static>,
    attrs: Vec<(&'static str, Attr)>,
    x: ValueId,
    /// Scalars that were read beside the factors.
    read: Vec<ValueId>,
}

impl Found {
    fn new(op: OpName<'static>, x: ValueId) -> Self {
        Self { op, attrs: Vec::new(), x, read: Vec::new() }
    }

    fn attr(mut self, name: &'static str, value: Attr) -> Self {
        self.attrs.push((name, value));
        self
    }

    fn reading(mut self, read: &[ValueId]) -> Self {
        self.read.extend(read);
        self
    }
}

/// Recognises a function by the factors of a product.
type Recognise = fn(&Graph, &UseDef<'_>, &Factors) -> Option<Found>;

static FUNCTIONS: &[Recognise] =
    &[gelu_by_erf, gelu_by_tanh, swish, hard_swish, hard_sigmoid, mish];

fn rule(
    graph: &mut Graph,
    use_def: &UseDef<'_>,
    root: &Node,
    notes: &mut Notes,
) -> Option<Vec<Node>> {
    if !matches!(OpName::of(root), op::Mul | op::Div) {
        return None;
    }
    let result = root.outputs[0].filter(|&id| graph.facts(id).dtype.is_float())?;
    let factors = Factors::of_node(graph, use_def, root);
    let found = FUNCTIONS.iter().find_map(|recognise| recognise(graph, use_def, &factors))?;
    if graph.facts(found.x).shape != graph.facts(result).shape {
        notes.kept(
            &root.name,
            format!("{} of a value that a scalar of higher rank stretches", found.op),
        );
        return None;
    }
    let read: Vec<ValueId> = factors.read.iter().chain(&found.read).copied().collect();
    pin(graph, &read, found.op, root);
    notes.done(&root.name, format!("is {}", found.op));
    let attrs: Attrs = found.attrs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Some(Rewriter::at(graph, root).last(found.op, vec![Some(found.x)], attrs, root))
}

/// The two factors of a product that has no more, either first.
fn pairs(factors: &Factors) -> impl Iterator<Item = (ValueId, ValueId)> {
    let both = match factors.values[..] {
        [a, b] => vec![(a, b), (b, a)],
        _ => Vec::new(),
    };
    both.into_iter()
}

/// `u` of a factor `1 + op(u)`.
fn one_plus(
    graph: &Graph,
    use_def: &UseDef<'_>,
    id: ValueId,
    op: OpName<'_>,
) -> Option<(ValueId, ValueId)> {
    let (value, one, read) = plus_scalar(graph, use_def, id)?;
    (one == 1.0).then_some(())?;
    Some((operand(use_def, value, op)?, read))
}

/// `x/2 · (1 + erf(x / √2))`
fn gelu_by_erf(graph: &Graph, use_def: &UseDef<'_>, factors: &Factors) -> Option<Found> {
    pairs(factors).find_map(|(x, sum)| {
        let (u, one) = one_plus(graph, use_def, sum, op::Erf)?;
        let inner = Factors::of(graph, use_def, u);
        let fits = is_near(factors.scalar, 0.5)
            && inner.values == [x]
            && is_near(inner.scalar, std::f32::consts::FRAC_1_SQRT_2);
        fits.then(|| Found::new(op::Gelu, x).reading(&inner.read).reading(&[one]))
    })
}

/// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`, also with `x` taken out of the inner sum.
fn gelu_by_tanh(graph: &Graph, use_def: &UseDef<'_>, factors: &Factors) -> Option<Found> {
    pairs(factors).find_map(|(x, sum)| {
        let (u, one) = one_plus(graph, use_def, sum, op::Tanh)?;
        let mut inner = Factors::of(graph, use_def, u);
        if !is_near(factors.scalar, 0.5) || !is_near(inner.scalar, 0.797_884_6) {
            return None;
        }
        let cubic = match inner.values[..] {
            [sum] => {
                let (a, b) = super::scalars::operands(use_def, sum, op::Add)?;
                let term = if a == x { b } else { a };
                let cubic = Factors::of(graph, use_def, term);
                ((a == x || b == x) && cubic.values == [x; 3]).then_some(cubic)
            }
            [a, b] => {
                let (term, one, read) = plus_scalar(graph, use_def, if a == x { b } else { a })?;
                let mut cubic = Factors::of(graph, use_def, term);
                cubic.read.push(read);
                ((a == x || b == x) && one == 1.0 && cubic.values == [x; 2]).then_some(cubic)
            }
            _ => None,
        }?;
        inner.also_read(&cubic);
        let found = || {
            let tanh = Attr::Str("tanh".to_owned());
            Found::new(op::Gelu, x).attr("approximate", tanh).reading(&inner.read).reading(&[one])
        };
        is_near(cubic.scalar, 0.044_715).then(found)
    })
}

/// `x · sigmoid(alpha · x)`
fn swish(graph: &Graph, use_def: &UseDef<'_>, factors: &Factors) -> Option<Found> {
    pairs(factors).find_map(|(x, gate)| {
        let inner = Factors::of(graph, use_def, operand(use_def, gate, op::Sigmoid)?);
        let fits = factors.scalar == 1.0 && inner.values == [x];
        let alpha = Attr::Float(inner.scalar);
        fits.then(|| Found::new(op::Swish, x).attr("alpha", alpha).reading(&inner.read))
    })
}

/// `x` of `x + 3` held between 0 and 6.
fn held(graph: &Graph, use_def: &UseDef<'_>, id: ValueId) -> Option<(ValueId, Vec<ValueId>)> {
    let clip = use_def.made_by(id, &[op::Clip])?;
    let [sum, low, high] = [0, 1, 2].map(|i| UseDef::operand(clip, i));
    let (low, high) = (low?, high?);
    let (x, three, read) = plus_scalar(graph, use_def, sum?)?;
    let fits = three == 3.0 && peek(graph, low)? == 0.0 && peek(graph, high)? == 6.0;
    fits.then(|| (x, vec![low, high, read]))
}

/// `x` times `x / 6 + 1/2` held between 0 and 1.
fn hard_swish(graph: &Graph, use_def: &UseDef<'_>, factors: &Factors) -> Option<Found> {
    pairs(factors).find_map(|(x, gate)| {
        if let Some((own, read)) = held(graph, use_def, gate) {
            let fits = own == x && is_near(factors.scalar, 1.0 / 6.0);
            return fits.then(|| Found::new(op::HardSwish, x).reading(&read));
        }
        let gate = use_def.made_by(gate, &[op::HardSigmoid])?;
        let (alpha, beta) = (gate.attrs.float("alpha"), gate.attrs.float("beta"));
        let fits = factors.scalar == 1.0
            && UseDef::operand(gate, 0) == Some(x)
            && is_near(alpha, 1.0 / 6.0)
            && is_near(beta, 0.5);
        fits.then(|| Found::new(op::HardSwish, x))
    })
}

/// `x / 6 + 1/2` held between 0 and 1.
fn hard_sigmoid(graph: &Graph, use_def: &UseDef<'_>, factors: &Factors) -> Option<Found> {
    let &[gate] = factors.values.as_slice() else { return None };
    let (x, read) = held(graph, use_def, gate)?;
    is_near(factors.scalar, 1.0 / 6.0).then(|| {
        let alpha = Attr::Float(1.0 / 6.0);
        Found::new(op::HardSigmoid, x)
            .attr("alpha", alpha)
            .attr("beta", Attr::Float(0.5))
            .reading(&read)
    })
}

/// `x · tanh(ln(1 + e^x))`
fn mish(graph: &Graph, use_def: &UseDef<'_>, factors: &Factors) -> Option<Found> {
    let f32s = |id: ValueId| graph.facts(id).dtype == DType::F32;
    pairs(factors).find_map(|(x, gate)| {
        let inner = operand(use_def, operand(use_def, gate, op::Tanh)?, op::Softplus)?;
        (factors.scalar == 1.0 && inner == x && f32s(x)).then(|| Found::new(op::Mish, x))
    })
}
