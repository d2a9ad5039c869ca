//! Types of a node's results, by the operator table's rules, with an answer where a rule has none.

use super::rewrite::blocks;
use super::{Graph, Typed, Value};
use engine_format::{DType, Dim, Form, Node, ValueId};
use engine_ops::infer::{Facts, InferCtx, InferError, Known};
use engine_ops::{Kind, OpDef, OpError, lookup};

/// Operands longer than this do not stand for a shape.
const LONGEST_SHAPE: usize = 64;

impl Graph {
    /// Types of the results that `node` asks for, in order; `None` where it asks for none. Those of values in nested blocks
    /// are taken as they are.
    pub fn infer(&self, node: &Node) -> Result<Vec<Option<Typed>>, OpError> {
        let def = lookup(&node.op, node.version).ok_or_else(|| {
            OpError::new(format!("operator {} v{} is not in the table", node.op, node.version))
        })?;
        let types = match def.kind {
            Kind::Control => self.infer_control(node)?,
            _ if node.op == "Identity" => {
                node.inputs.iter().flatten().map(|&id| self.typed(id)).collect()
            }
            _ => {
                self.check_tensors(node)?;
                self.infer_by_rule(node, def)?.into_iter().map(Typed::tensor).collect()
            }
        };
        if types.len() < node.outputs.len() {
            return Err(OpError::new(format!(
                "{} results are asked for, the operator gives {}",
                node.outputs.len(),
                types.len()
            )));
        }
        let asked = node.outputs.iter().zip(types);
        Ok(asked.map(|(output, typed)| output.map(|_| typed)).collect())
    }

    /// An error if an operand is not a tensor.
    fn check_tensors(&self, node: &Node) -> Result<(), OpError> {
        let other = |id: &Option<ValueId>| id.is_some_and(|id| self.value(id).form != Form::Tensor);
        match node.inputs.iter().position(other) {
            Some(i) => {
                let value =
                    node.inputs[i].map_or_else(String::new, |id| self.value(id).type_text());
                Err(OpError::new(format!("operand {i} is a {value}, expected a tensor")))
            }
            None => Ok(()),
        }
    }

    /// Infers the results of `node` and writes them down. Nested blocks come first.
    pub fn infer_and_set(&mut self, node: &Node) -> Result<(), (String, OpError)> {
        if !self.infer_repeated(node)? {
            for block in blocks(node) {
                block.nodes.iter().try_for_each(|inner| self.infer_and_set(inner))?;
            }
        }
        let types = self.infer(node).map_err(|error| (node.name.clone(), error))?;
        for (output, typed) in node.outputs.iter().zip(types) {
            if let (Some(output), Some(typed)) = (output, typed) {
                self.set_type(*output, typed);
            }
        }
        Ok(())
    }

    /// Infers everything anew from inputs and constants.
    pub fn infer_all(&mut self) -> Result<(), (String, OpError)> {
        for (id, constant) in std::mem::take(&mut self.constants) {
            self.value_mut(id).facts = constant.facts();
            self.constants.insert(id, constant);
        }
        let (prepare, execute) =
            (std::mem::take(&mut self.prepare), std::mem::take(&mut self.execute));
        let done = prepare.iter().chain(&execute).try_for_each(|node| self.infer_and_set(node));
        (self.prepare, self.execute) = (prepare, execute);
        done
    }

    fn infer_by_rule(&self, node: &Node, def: &OpDef) -> Result<Vec<Facts>, OpError> {
        let inputs: Vec<Option<Facts>> =
            node.inputs.iter().map(|input| input.map(|id| self.facts(id).clone())).collect();
        let first = node.outputs.iter().flatten().next();
        let name = first.map_or("", |&id| self.value(id).name.as_str());
        let found = Rule { node, def, name }.apply(inputs.clone(), 0)?;
        Ok(found.unwrap_or_else(|| self.fall_back(node, &inputs)))
    }

    /// Facts of the results of a node whose rule gave none: what the model declares, else the element type that the
    /// operator keeps.
    fn fall_back(&self, node: &Node, inputs: &[Option<Facts>]) -> Vec<Facts> {
        node.outputs
            .iter()
            .map(|output| {
                let declared = output.and_then(|id| self.value(id).declared);
                let dtype = declared.map(|d| d.dtype);
                let dtype = dtype.unwrap_or_else(|| kept_dtype(&node.op, inputs));
                match (output, declared.and_then(|d| d.rank)) {
                    (Some(id), Some(rank)) => {
                        Facts::new(dtype, fresh_shape(&self.value(*id).name, rank))
                    }
                    _ => Facts::unranked(dtype),
                }
            })
            .collect()
    }
}

/// What holds of a value that is one of two. Axes on which they differ get symbols named after `name`.
pub(super) fn join(a: &Facts, b: &Facts, name: &str) -> Result<Facts, OpError> {
    if a.dtype != b.dtype {
        return Err(OpError::new(format!("one is {}, the other {}", a.dtype, b.dtype)));
    }
    let shape = match (&a.shape, &b.shape) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            let fresh = fresh_shape(name, a.len());
            let dims = a.iter().zip(b).zip(fresh);
            Some(dims.map(|((a, b), fresh)| if a == b { a.clone() } else { fresh }).collect())
        }
        _ => None,
    };
    Ok(Facts { dtype: a.dtype, shape, value: None })
}

/// One use of an operator's rule.
struct Rule<'a> {
    node: &'a Node,
    def: &'a OpDef,
    /// Name of the first result, which symbols that are made up carry.
    name: &'a str,
}

impl Rule<'_> {
    /// What the rule says, with what it lacks made up where that helps: symbolic contents for an operand of which it needs
    /// the contents, every rank in turn for one of which it needs the rank. `None` if it lacks something else.
    fn apply(
        &self,
        mut inputs: Vec<Option<Facts>>,
        guessed_ranks: usize,
    ) -> Result<Option<Vec<Facts>>, OpError> {
        let mut guessed = guessed_ranks > 0;
        loop {
            let (attrs, outputs) = (&self.node.attrs, self.node.outputs.len());
            match self.def.results(&InferCtx { attrs, inputs: &inputs, outputs }) {
                Ok(mut facts) => {
                    if guessed {
                        facts.iter_mut().for_each(|f| f.value = None);
                    }
                    return Ok(Some(facts));
                }
                Err(InferError::Invalid(error)) => return Err(error),
                Err(InferError::NeedsValue(i)) if stand_in(&mut inputs, i, self.name) => {
                    guessed = true;
                }
                Err(InferError::NeedsRank(i)) if guessed_ranks < MOST_GUESSED_RANKS => {
                    return Ok(self.try_ranks(&inputs, i, guessed_ranks + 1));
                }
                Err(_) => return Ok(None),
            }
        }
    }

    /// What the results have in common over all ranks of operand `i` that the operator takes.
    fn try_ranks(
        &self,
        inputs: &[Option<Facts>],
        i: usize,
        guessed_ranks: usize,
    ) -> Option<Vec<Facts>> {
        let unknown = inputs.get(i)?.as_ref().filter(|facts| facts.shape.is_none())?;
        let mut common: Option<Vec<Facts>> = None;
        for rank in 0..=HIGHEST_RANK {
            let mut inputs = inputs.to_vec();
            let shape = fresh_shape(&format!("{}.{i}", self.name), rank);
            inputs[i] = Some(Facts::new(unknown.dtype, shape));
            let Ok(found) = self.apply(inputs, guessed_ranks) else { continue };
            let found = found?;
            common = Some(match common {
                None => found,
                Some(before) => {
                    let pairs = before.iter().zip(&found);
                    pairs.map(|(a, b)| join(a, b, self.name)).collect::<Result<_, _>>().ok()?
                }
            });
        }
        common
    }
}

/// Ranks that are tried where one is not known.
const HIGHEST_RANK: usize = 8;

/// Operands of one node whose ranks are tried; their combinations multiply.
const MOST_GUESSED_RANKS: usize = 2;

/// Gives operand `i` made-up symbolic contents if it is a short integer vector or scalar: a rule that only needs
/// to know how many there are then gives a rank. `false` if it cannot help.
fn stand_in(inputs: &mut [Option<Facts>], i: usize, stem: &str) -> bool {
    let Some(Some(facts)) = inputs.get_mut(i) else { return false };
    let Some(shape) = facts.concrete() else { return false };
    let len = shape.iter().product::<usize>();
    if facts.value.is_some() || !facts.dtype.is_int() || shape.len() > 1 || len > LONGEST_SHAPE {
        return false;
    }
    let symbol = |k| Dim::symbol(&format!("{FRESH}{stem}.{i}[{k}]"));
    facts.value = Some(Known::Dims((0..len).map(symbol).collect()));
    true
}

/// What fresh symbols begin with; a model's own symbols never do (import sees to it).
pub(crate) const FRESH: char = '?';

/// Symbols for the axes of a value of which only the rank is known. They depend on the value's name alone, so that
/// inferring again gives the same ones.
pub(crate) fn fresh_shape(name: &str, rank: usize) -> Vec<Dim> {
    (0..rank).map(|axis| Dim::symbol(&format!("{FRESH}{name}[{axis}]"))).collect()
}

/// The element type of a result whose rule needs more than is known: the operand's that the operator keeps.
fn kept_dtype(op: &str, inputs: &[Option<Facts>]) -> DType {
    let keeps = match op {
        "NonZero" | "NonMaxSuppression" | "Shape" | "Size" | "ArgMax" | "ArgMin" => {
            return DType::I64;
        }
        "Where" => 1,
        "OneHot" => 2,
        _ => 0,
    };
    inputs.get(keeps).and_then(Option::as_ref).map_or(DType::F32, |facts| facts.dtype)
}

impl Value {
    /// `f32[batch, 3]`, or `f32[?]` where the rank is not known, or `sequence(f32[?])`.
    pub fn type_text(&self) -> String {
        self.form.describe(&self.facts.to_string())
    }
}

impl Graph {
    /// Types of a node's operands, for messages.
    pub(crate) fn operand_types(&self, inputs: &[Option<ValueId>]) -> Vec<String> {
        let text = |input: &Option<ValueId>| match input {
            None => "(omitted)".to_owned(),
            Some(id) => format!("{} {}", self.value(*id).name, self.value(*id).type_text()),
        };
        inputs.iter().map(text).collect()
    }
}
