//! Which constants are weights: by the role in which they meet what runs compute, never by their size.
//!
//! A tensor is a weight; it is a parameter only if all it does is to scale or shift, as a vector, what nothing learned has seen yet
//! (mean and deviation of a picture). A scalar is a parameter, unless it stands where a layer learns (the bias of a layer with one
//! result). Integers are weights where a layer learns too: the tensors of a quantised model. Bools and 64-bit integers are never
//! learned.

use super::Program;
use crate::graph::{Constant, Graph, blocks};
use engine_format::{Block, DType, Node, Tensor, ValueId};
use engine_ops::demand::Demand;
use engine_ops::dependence::Dependence;
use engine_ops::{Kind, OpDef, lookup};
use std::collections::BTreeSet;

/// How a constant, or what is computed from constants alone, is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Uses {
    /// As an operand that layers learn.
    learned: bool,
    /// Such an operand is computed from it.
    computed: bool,
    /// As a table of which elements are read.
    table: bool,
    /// To scale or shift, or otherwise elementwise, what no weight has met.
    raw: bool,
    /// To scale or shift the result of a product with a weight.
    factor: bool,
    /// In another way.
    other: bool,
}

impl Uses {
    fn join(&mut self, other: Uses) {
        self.learned |= other.learned;
        self.computed |= other.computed;
        self.table |= other.table;
        self.raw |= other.raw;
        self.factor |= other.factor;
        self.other |= other.other;
    }
}

const NONE: Uses =
    Uses { learned: false, computed: false, table: false, raw: false, factor: false, other: false };
const LEARNED: Uses = Uses { learned: true, ..NONE };
const TABLE: Uses = Uses { table: true, ..NONE };
const RAW: Uses = Uses { raw: true, ..NONE };
const FACTOR: Uses = Uses { factor: true, ..NONE };
const OTHER: Uses = Uses { other: true, ..NONE };

/// What constants are by their roles.
#[derive(Default)]
pub(super) struct Roles {
    /// The weights.
    pub(super) weights: BTreeSet<ValueId>,
    /// Scalars that scale or shift the result of a product with a weight: a temperature, or a half.
    pub(super) factors: BTreeSet<ValueId>,
}

/// The roles of constants, given what every value decides. `marked` are those of which import knows it: the scales of
/// quantised weights.
pub(super) fn roles(program: &Program<'_>, demand: &[Demand], marked: &BTreeSet<ValueId>) -> Roles {
    let Program { graph, execute } = program;
    let mut weights = BTreeSet::new();
    loop {
        let known = program.dependences(&|id| weights.contains(&id));
        let mut walk = Walk::new(graph, &known);
        walk.products(execute);
        walk.visit(execute);
        let before = weights.len();
        weights.extend(graph.constants.iter().filter_map(|(&id, constant)| {
            let at = id.index();
            let weight = marked.contains(&id)
                || is_weight(&constant.tensor, walk.uses[at], demand[at].decides());
            weight.then_some(id)
        }));
        // A weight makes what it meets learned, and so others weights.
        if weights.len() == before {
            let factor = |(id, constant): (&ValueId, &Constant)| {
                let Constant { tensor, .. } = constant;
                let scalar = tensor.dtype().is_float() && tensor.len() == 1;
                (scalar && walk.uses[id.index()].factor && !weights.contains(id)).then_some(*id)
            };
            let factors = graph.constants.iter().filter_map(factor).collect();
            return Roles { weights, factors };
        }
    }
}

/// Whether a constant with these uses is a weight; `decides` says that it reaches what decides shapes, indices or branches.
fn is_weight(tensor: &Tensor, uses: Uses, decides: bool) -> bool {
    match tensor.dtype() {
        DType::String | DType::Bool | DType::I64 => false,
        dtype if !dtype.is_float() => uses.learned || uses.computed || (uses.table && !decides),
        _ if tensor.len() <= 1 => uses.learned || uses.table,
        _ => uses != RAW || !is_vector(tensor.shape()),
    }
}

fn is_vector(shape: &[usize]) -> bool {
    shape.iter().filter(|&&size| size != 1).count() <= 1
}

/// Nodes from the last to the first, with the uses found so far.
struct Walk<'a> {
    graph: &'a Graph,
    known: &'a [Dependence],
    uses: Vec<Uses>,
    /// Results of products with a weight, moved at most.
    products: BTreeSet<ValueId>,
}

impl<'a> Walk<'a> {
    fn new(graph: &'a Graph, known: &'a [Dependence]) -> Self {
        let uses = vec![NONE; graph.value_count()];
        Self { graph, known, uses, products: BTreeSet::new() }
    }

    fn is_constant(&self, id: ValueId) -> bool {
        self.known[id.index()].is_constant()
    }

    /// Collects the results of products in the order in which they are made.
    fn products(&mut self, block: &Block) {
        for node in &block.nodes {
            blocks(node).for_each(|inner| self.products(inner));
            let Some(def) = lookup(&node.op, node.version) else { continue };
            let learns = |(i, input): (usize, &Option<ValueId>)| {
                input.is_some_and(|id| self.is_constant(id)) && learned(def, i)
            };
            let moved =
                is_move(def) && node.inputs.iter().flatten().any(|id| self.products.contains(id));
            if moved || (def.kind == Kind::Compute && node.inputs.iter().enumerate().any(learns)) {
                self.products.extend(node.outputs.iter().flatten());
            }
        }
    }

    fn visit(&mut self, block: &Block) {
        block.outputs.iter().for_each(|id| self.uses[id.index()].join(OTHER));
        for node in block.nodes.iter().rev() {
            blocks(node).for_each(|inner| self.visit(inner));
            self.node(node);
        }
    }

    fn node(&mut self, node: &Node) {
        let def = lookup(&node.op, node.version);
        let constant = node.outputs.iter().flatten().all(|&id| self.is_constant(id));
        let mut behind = NONE;
        node.outputs.iter().flatten().for_each(|id| behind.join(self.uses[id.index()]));
        for (i, input) in node.inputs.iter().enumerate() {
            let Some(id) = input.filter(|&id| self.is_constant(id)) else { continue };
            let uses = match def {
                Some(def) if learned(def, i) && def.kind == Kind::Move => TABLE,
                Some(def) if learned(def, i) && self.has_axes(id) => LEARNED,
                Some(def) if constant => through(def, behind),
                Some(def) if def.elementwise => self.elementwise(node, id),
                _ => OTHER,
            };
            self.uses[id.index()].join(uses);
        }
    }

    /// The use of a constant in an elementwise function of something that is none.
    fn elementwise(&self, node: &Node, constant: ValueId) -> Uses {
        let others = node.inputs.iter().flatten().filter(|&&id| !self.is_constant(id));
        if others.clone().all(|id| self.known[id.index()].is_raw()) {
            return RAW;
        }
        let products: Vec<ValueId> =
            others.copied().filter(|id| self.products.contains(id)).collect();
        if products.iter().any(|&id| self.is_channel(constant, id)) {
            LEARNED
        } else if products.is_empty() {
            OTHER
        } else {
            FACTOR
        }
    }

    /// Whether a constant lies along an axis of a product's result, other than the first, on which that has one element too: the
    /// bias of a layer with one result, which looks like a scalar.
    fn is_channel(&self, constant: ValueId, result: ValueId) -> bool {
        let (Some(own), Some(whole)) =
            (self.graph.facts(constant).concrete(), &self.graph.facts(result).shape)
        else {
            return false;
        };
        let axes = whole.iter().skip(1).rev().zip(own.iter().rev());
        axes.into_iter().any(|(dim, &size)| size == 1 && dim.known() == Some(1))
    }

    /// Nothing that a layer learns is a single number without an axis.
    fn has_axes(&self, id: ValueId) -> bool {
        self.graph.facts(id).shape.as_ref().is_none_or(|shape| !shape.is_empty())
    }
}

/// The uses of an operand of a node over constants alone, by those of its results.
fn through(def: &OpDef, behind: Uses) -> Uses {
    if is_move(def) {
        return behind;
    }
    let combined = behind.raw && !def.elementwise;
    Uses {
        learned: false,
        computed: behind.learned || behind.computed,
        table: behind.table,
        raw: behind.raw && !combined,
        factor: behind.factor,
        other: behind.other || combined,
    }
}

/// Whether the results are the operands' elements, moved or in another type.
fn is_move(def: &OpDef) -> bool {
    matches!(def.kind, Kind::Move | Kind::View) || matches!(def.name, "Cast" | "CastLike")
}

fn learned(def: &OpDef, i: usize) -> bool {
    def.operand(i).is_some_and(|operand| operand.learned)
}
