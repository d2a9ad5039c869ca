//! Types of what control flow and the operators on sequences and optional values give.

use super::infer::{FRESH, fresh_shape, join};
use super::rewrite::blocks;
use super::{Graph, Typed};
use engine_format::{Attr, Block, DType, Dim, Form, Node, ValueId};
use engine_ops::AttrsExt;
use engine_ops::control::{Arity, Ties};
use engine_ops::infer::{Facts, Known, axis};
use engine_ops::{OpError, onnx_dtype};

/// What holds of a value that is one of two: one that may be absent if either may.
pub(crate) fn join_typed(a: &Typed, b: &Typed, name: &str) -> Result<Typed, OpError> {
    if a.form.required() != b.form.required() {
        return Err(OpError::new(format!("one is a {:?}, the other a {:?}", a.form, b.form)));
    }
    let form = if a.form.is_optional() { a.form } else { b.form };
    Ok(Typed { form, facts: join(&a.facts, &b.facts, name)? })
}

/// Checks that the blocks of a control node fit its operands and results.
pub(super) fn check_blocks(node: &Node) -> Result<(), OpError> {
    match node.attrs.get("body") {
        Some(Attr::Block(body)) => {
            let (operands, results) = (node.inputs.len(), node.outputs.len());
            Ties::of(&node.op, &node.attrs, operands, results, Arity::from(body)).map(drop)
        }
        _ => match blocks(node).find(|block| block.outputs.len() != node.outputs.len()) {
            Some(block) => {
                let (asked, gives) = (node.outputs.len(), block.outputs.len());
                Err(OpError::new(format!("a block gives {gives} results, expected {asked}")))
            }
            None => Ok(()),
        },
    }
}

/// What a loop without iterations stacks, as the attribute `empty_types`: ONNX's number of the element type, rank and sizes
/// of each.
pub(crate) fn empty_types(
    graph: &Graph,
    node: &Node,
    number: fn(DType) -> i64,
) -> Option<Vec<i64>> {
    let (ties, body) = Ties::of_node(node)?;
    let mut numbers = Vec::new();
    for &id in &body.outputs[ties.first_result + ties.carried..] {
        let facts = graph.facts(id);
        let dims = facts.shape.as_deref().unwrap_or_default();
        numbers.extend([number(facts.dtype), dims.len() as i64]);
        numbers.extend(dims.iter().map(|dim| dim.known().unwrap_or(0)));
    }
    (!numbers.is_empty()).then_some(numbers)
}

impl Graph {
    /// Types of all results of a node that the planner handles.
    pub(super) fn infer_control(&self, node: &Node) -> Result<Vec<Typed>, OpError> {
        check_blocks(node)?;
        self.check_deciding(node)?;
        let mut types = match node.op.as_str() {
            "If" => self.join_branches(node)?,
            "Refuse" => refused(node)?,
            "Loop" | "Scan" => self.repeated_results(node)?,
            _ => vec![self.infer_structure(node)?],
        };
        // What the model declares helps where nothing else does.
        for (output, typed) in node.outputs.iter().zip(&mut types) {
            let declared = output.and_then(|id| self.value(id).declared);
            if let (None, Some(id), Some(rank)) =
                (&typed.facts.shape, output, declared.and_then(|declared| declared.rank))
            {
                typed.facts.shape = Some(fresh_shape(&self.value(*id).name, rank));
            }
        }
        Ok(types)
    }

    /// Whether what decides which block runs, and how often, is of the type for that.
    fn check_deciding(&self, node: &Node) -> Result<(), OpError> {
        let flag = ("cond", "bool or integer", true);
        let operands: &[(&str, &str, bool)] = match node.op.as_str() {
            "If" => &[flag],
            "Loop" => &[("M", "integer", false), flag],
            _ => &[],
        };
        for (&(name, expected, bools), id) in operands.iter().zip(&node.inputs) {
            let Some(value) = id.map(|id| self.value(id)) else { continue };
            let facts = &value.facts;
            // One element, of whatever rank.
            let one = facts.concrete().is_none_or(|shape| shape.iter().product::<usize>() == 1);
            let taken = facts.dtype.is_int() || (bools && facts.dtype == DType::Bool);
            if value.form != Form::Tensor || !taken || !one {
                let found = value.type_text();
                return Err(OpError::new(format!(
                    "operand {name} is {found}, expected one {expected}"
                )));
            }
        }
        Ok(())
    }

    /// A branch's results are the node's: what both branches agree on is known. One that can only fail has no say.
    fn join_branches(&self, node: &Node) -> Result<Vec<Typed>, OpError> {
        let mut branches: Vec<&Block> = blocks(node).collect();
        let runs = |block: &Block| !block.nodes.iter().any(|inner| inner.op == "Refuse");
        if branches.iter().any(|block| runs(block)) {
            branches.retain(|block| runs(block));
        }
        let result = |(i, output): (usize, &Option<ValueId>)| {
            let name = output.map_or("", |id| self.value(id).name.as_str());
            let mut results = branches.iter().map(|block| self.typed(block.outputs[i]));
            let first = results.next().ok_or_else(|| OpError::new("there is no branch"))?;
            let first = Typed { facts: Facts { value: None, ..first.facts }, ..first };
            results.try_fold(first, |joined, typed| {
                join_typed(&joined, &typed, name)
                    .map_err(|why| OpError::new(format!("result {i} of the branches: {why}")))
            })
        };
        node.outputs.iter().enumerate().map(result).collect()
    }

    /// Infers the block of a Loop or Scan: with the types that its parameters have in the first iteration, then with what holds of
    /// that and of what the iteration gives, until nothing changes. `false` for other nodes.
    pub(super) fn infer_repeated(&mut self, node: &Node) -> Result<bool, (String, OpError)> {
        let Some((ties, body)) = Ties::of_node(node) else { return Ok(false) };
        let fail = |error: OpError| (node.name.clone(), error);
        let mut types = self.parameters(node, &ties).map_err(fail)?;
        loop {
            for (&id, typed) in body.inputs.iter().zip(&types) {
                self.set_type(id, typed.clone());
            }
            body.nodes.iter().try_for_each(|inner| self.infer_and_set(inner))?;
            let wider = self.widened(&ties, body, &types).map_err(fail)?;
            if wider == types {
                return Ok(true);
            }
            types = wider;
        }
    }

    /// Types of the parameters of a repeated block in its first iteration.
    fn parameters(&self, node: &Node, ties: &Ties) -> Result<Vec<Typed>, OpError> {
        let operand = |i: usize| {
            let id = node.inputs.get(i).copied().flatten();
            id.map(|id| self.typed(id))
                .ok_or_else(|| OpError::new(format!("operand {i} is missing")))
        };
        let carried = (0..ties.carried).map(|i| operand(ties.first_operand + i));
        let first = ties.first_operand + ties.carried;
        let slices = (0..ties.cut).map(|i| slice(node, i, &operand(first + i)?));
        parameters(ties, carried.collect::<Result<_, _>>()?, slices.collect::<Result<_, _>>()?)
    }

    /// What holds of the parameters of a repeated block before and after an iteration that began with `types`.
    pub(crate) fn widened(
        &self,
        ties: &Ties,
        body: &Block,
        types: &[Typed],
    ) -> Result<Vec<Typed>, OpError> {
        let mut wider = types.to_vec();
        for i in 0..ties.carried {
            let at = ties.first_parameter + i;
            let given = self.typed(body.outputs[ties.first_result + i]);
            let parameter = self.value(body.inputs[at]);
            let joined = join_typed(&types[at], &given, &parameter.name);
            let mut joined = joined.map_err(|why| {
                OpError::new(format!("carried value {i} before and after an iteration: {why}"))
            })?;
            if let (None, Some(rank)) =
                (&joined.facts.shape, parameter.declared.and_then(|declared| declared.rank))
            {
                joined.facts.shape = Some(fresh_shape(&parameter.name, rank));
            }
            wider[at] = joined;
        }
        Ok(wider)
    }

    /// What is carried is what it was or what the block gave; what is stacked has one more axis.
    fn repeated_results(&self, node: &Node) -> Result<Vec<Typed>, OpError> {
        let (ties, body) =
            Ties::of_node(node).ok_or_else(|| OpError::new("its block does not fit it"))?;
        let name = |i: usize| {
            let id = node.outputs.get(i).copied().flatten();
            id.map_or_else(|| format!("{}.{i}", node.name), |id| self.value(id).name.clone())
        };
        let mut types = Vec::new();
        for i in 0..ties.carried {
            let id = node.inputs[ties.first_operand + i];
            let before = id.ok_or_else(|| OpError::new("a carried value is omitted"))?;
            let parameter = self.typed(body.inputs[ties.first_parameter + i]);
            types.push(join_typed(&self.typed(before), &parameter, &name(i))?);
        }
        let trips = self.trips(node, &ties, body);
        for (i, &id) in body.outputs[ties.first_result + ties.carried..].iter().enumerate() {
            let result = ties.carried + i;
            let value = self.value(id);
            if value.form != Form::Tensor {
                let found = value.type_text();
                return Err(OpError::new(format!(
                    "result {result} is a {found}, expected a tensor"
                )));
            }
            let facts = self.facts(id);
            let Some(dims) = &facts.shape else {
                types.push(Typed::tensor(Facts::unranked(facts.dtype)));
                continue;
            };
            let mut shape = own_sizes(dims, &name(result));
            let along = list(node, "scan_output_axes", i);
            let count = Dim::symbol(&format!("{FRESH}{}[iterations]", name(result)));
            let count = trips.clone().unwrap_or(count);
            shape.insert(axis(along, dims.len() + 1)?, count);
            types.push(Typed::tensor(Facts::new(facts.dtype, shape)));
        }
        Ok(types)
    }

    /// The number of iterations, where it is known as a number or expression.
    fn trips(&self, node: &Node, ties: &Ties, body: &Block) -> Option<Dim> {
        let operand = |i: usize| node.inputs.get(i).copied().flatten();
        if ties.cut > 0 {
            let cut = self.facts(operand(ties.carried)?).shape.as_ref()?;
            let along = axis(list(node, "scan_input_axes", 0), cut.len()).ok()?;
            return Some(cut[along].clone());
        }
        let always = |id: ValueId| {
            let known = self.known_tensor(id).and_then(|t| t.to_i64s());
            known.is_some_and(|flags| flags == [1])
        };
        let unconditional = operand(1).is_none_or(always)
            && (body.outputs[0] == body.inputs[1] || always(body.outputs[0]));
        let trips = match (&self.facts(operand(0)?).value, unconditional) {
            (Some(Known::Dims(dims)), true) => dims.first()?.clone(),
            (Some(Known::Tensor(tensor)), true) => Dim::from(*tensor.to_i64s()?.first()?),
            _ => return None,
        };
        // A negative number of iterations is none.
        (trips.known().is_none_or(|n| n >= 0)).then_some(trips)
    }

    /// The result of an operator on sequences or optional values.
    fn infer_structure(&self, node: &Node) -> Result<Typed, OpError> {
        let name = node.outputs.first().copied().flatten();
        let name = name.map_or(node.name.as_str(), |id| self.value(id).name.as_str());
        let operand = |i: usize, form: Form| {
            let id = node.inputs.get(i).copied().flatten();
            let id = id.ok_or_else(|| OpError::new(format!("operand {i} is missing")))?;
            let value = self.value(id);
            if value.form == form {
                return Ok(&value.facts);
            }
            let found = value.type_text();
            let expected = if form == Form::Sequence { "a sequence" } else { "a tensor" };
            Err(OpError::new(format!("operand {i} is a {found}, expected {expected}")))
        };
        let sequence = |facts: Facts| {
            Ok(Typed { form: Form::Sequence, facts: Facts { value: None, ..facts } })
        };
        let scalar = |dtype| Ok(Typed::tensor(Facts::new(dtype, Vec::new())));
        match node.op.as_str() {
            "SequenceConstruct" => {
                let first = operand(0, Form::Tensor)?.clone();
                let rest = (1..node.inputs.len()).map(|i| operand(i, Form::Tensor));
                sequence(rest.into_iter().try_fold(first, |all, next| join(&all, next?, name))?)
            }
            "SequenceEmpty" => sequence(Facts::unranked(onnx_dtype(node.attrs.int("dtype"))?)),
            "SequenceInsert" => {
                let (all, new) = (operand(0, Form::Sequence)?, operand(1, Form::Tensor)?);
                sequence(join(all, new, name)?)
            }
            "SequenceErase" => sequence(operand(0, Form::Sequence)?.clone()),
            "SequenceAt" => {
                let element = operand(0, Form::Sequence)?;
                let shape = element.shape.as_ref().map(|dims| own_sizes(dims, name));
                Ok(Typed::tensor(Facts { dtype: element.dtype, shape, value: None }))
            }
            "SequenceLength" => operand(0, Form::Sequence).and_then(|_| scalar(DType::I64)),
            "ConcatFromSequence" => joined(node, operand(0, Form::Sequence)?, name),
            "SplitToSequence" => sequence(piece(node, operand(0, Form::Tensor)?, name)?),
            "Optional" | "OptionalHasElement" | "OptionalGetElement" => {
                let given = node.inputs.first().copied().flatten().map(|id| self.typed(id));
                optional(node, given)
            }
            op => Err(OpError::new(format!("nothing is known of what {op} gives"))),
        }
    }
}

/// What the results of nodes would be that stand in no valid branch.
fn refused(node: &Node) -> Result<Vec<Typed>, OpError> {
    let types = node.attrs.ints("types").unwrap_or_default();
    let typed = |&number: &i64| Ok(Typed::tensor(Facts::unranked(onnx_dtype(number)?)));
    types.iter().map(typed).collect()
}

/// Types of all parameters of a repeated block, given those of the carried values and slices.
pub(crate) fn parameters(
    ties: &Ties,
    carried: Vec<Typed>,
    slices: Vec<Typed>,
) -> Result<Vec<Typed>, OpError> {
    let scalar = |dtype| Typed::tensor(Facts::new(dtype, Vec::new()));
    let own = [DType::I64, DType::Bool].map(scalar).into_iter().take(ties.first_parameter);
    // What is known of the first iteration's contents need not hold in the next.
    let forget = |typed: Typed| Typed { facts: Facts { value: None, ..typed.facts }, ..typed };
    Ok(own.chain(carried.into_iter().chain(slices).map(forget)).collect())
}

/// Type of a slice of what operand `i` of those that a Scan cuts is.
pub(crate) fn slice(node: &Node, i: usize, whole: &Typed) -> Result<Typed, OpError> {
    if whole.form != Form::Tensor {
        return Err(OpError::new(format!("what it cuts is a {:?}, expected a tensor", whole.form)));
    }
    let Some(dims) = &whole.facts.shape else { return Ok(whole.clone()) };
    let mut shape = dims.clone();
    shape.remove(axis(list(node, "scan_input_axes", i), dims.len())?);
    Ok(Typed::tensor(Facts::new(whole.facts.dtype, shape)))
}

/// The sizes of one of several values that share a type. A made-up symbol stands for another size in each of them, so this one
/// gets symbols of its own.
fn own_sizes(dims: &[Dim], name: &str) -> Vec<Dim> {
    let own =
        |(dim, own): (&Dim, Dim)| if dim.to_string().contains(FRESH) { own } else { dim.clone() };
    dims.iter().zip(fresh_shape(name, dims.len())).map(own).collect()
}

/// An element of an attribute that lists integers, 0 where it does not.
fn list(node: &Node, name: &str, i: usize) -> i64 {
    node.attrs.ints(name).and_then(|list| list.get(i)).copied().unwrap_or(0)
}

fn joined(node: &Node, element: &Facts, name: &str) -> Result<Typed, OpError> {
    let Some(dims) = &element.shape else {
        return Ok(Typed::tensor(Facts::unranked(element.dtype)));
    };
    let new_axis = node.attrs.int("new_axis") != 0;
    let along = axis(node.attrs.int("axis"), dims.len() + usize::from(new_axis))?;
    let size = Dim::symbol(&format!("{FRESH}{name}[{along}]"));
    let mut shape = own_sizes(dims, name);
    match new_axis {
        true => shape.insert(along, size),
        false => shape[along] = size,
    }
    Ok(Typed::tensor(Facts::new(element.dtype, shape)))
}

fn piece(node: &Node, whole: &Facts, name: &str) -> Result<Facts, OpError> {
    let Some(dims) = &whole.shape else { return Ok(Facts::unranked(whole.dtype)) };
    let along = axis(node.attrs.int("axis"), dims.len())?;
    let mut shape = dims.clone();
    let split = node.inputs.get(1).is_some_and(Option::is_some);
    match (split, node.attrs.int("keepdims")) {
        (true, _) => shape[along] = Dim::symbol(&format!("{FRESH}{name}[{along}]")),
        (false, 0) => drop(shape.remove(along)),
        (false, _) => shape[along] = Dim::from(1),
    }
    Ok(Facts::new(whole.dtype, shape))
}

fn optional(node: &Node, given: Option<Typed>) -> Result<Typed, OpError> {
    let forget = |typed: Typed| Typed { facts: Facts { value: None, ..typed.facts }, ..typed };
    match (node.op.as_str(), given) {
        ("OptionalHasElement", _) => Ok(Typed::tensor(Facts::new(DType::Bool, Vec::new()))),
        ("OptionalGetElement", Some(typed)) => {
            Ok(Typed { form: typed.form.required(), ..forget(typed) })
        }
        ("Optional", Some(typed)) => Ok(Typed { form: typed.form.optional(), ..forget(typed) }),
        ("Optional", None) => {
            let number = node.attrs.opt_int("dtype");
            let number = number.ok_or_else(|| OpError::new("neither an operand nor a type"))?;
            let sequence = node.attrs.int("sequence") != 0;
            let form = if sequence { Form::OptionalSequence } else { Form::OptionalTensor };
            Ok(Typed { form, facts: Facts::unranked(onnx_dtype(number)?) })
        }
        _ => Err(OpError::new("operand 0 is missing")),
    }
}
