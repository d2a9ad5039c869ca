//! Small ONNX models for tests, in a few words each.

use engine_format::{Attr, DType, Engine, Node, Tensor, ValueId};
use engine_onnx::Model;
use engine_onnx::proto::{
    AttributeProto, DimensionProto, ElementTypeProto, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto, attribute_type, data_type,
};
use engine_ops::AttrsExt;
use engine_ops::control::Ties;
use prost::Message;
use std::collections::BTreeMap;

/// A model or nested graph being written.
#[derive(Clone, Default)]
pub(crate) struct Onnx {
    opset: i64,
    graph: GraphProto,
}

/// `name: dtype[dims]` as protobuf; dimensions that are not numbers are symbols.
fn value_info(text: &str) -> ValueInfoProto {
    let (name, ty) = text.split_once(": ").unwrap_or((text, ""));
    ValueInfoProto { name: name.into(), r#type: (!ty.is_empty()).then(|| type_proto(ty)) }
}

fn type_proto(text: &str) -> TypeProto {
    let inner = |kind: &str| text.strip_prefix(kind)?.strip_suffix(')');
    let element =
        |inner| Box::new(ElementTypeProto { elem_type: Some(Box::new(type_proto(inner))) });
    if let Some(inner) = inner("seq(") {
        return TypeProto { sequence_type: Some(element(inner)), ..Default::default() };
    }
    if let Some(inner) = inner("optional(") {
        return TypeProto { optional_type: Some(element(inner)), ..Default::default() };
    }
    let (dtype, dims) = text.trim_end_matches(']').split_once('[').unwrap();
    let elem_type = match dtype {
        "f32" => data_type::FLOAT,
        "f16" => data_type::FLOAT16,
        "i32" => data_type::INT32,
        "i64" => data_type::INT64,
        "bool" => data_type::BOOL,
        "string" => data_type::STRING,
        other => panic!("no type {other}"),
    };
    let dim = |text: &str| match text.trim().parse() {
        Ok(number) => DimensionProto { dim_value: Some(number), ..Default::default() },
        Err(_) => DimensionProto { dim_param: Some(text.trim().to_owned()), ..Default::default() },
    };
    let dims = dims.split(',').filter(|d| !d.trim().is_empty()).map(dim).collect();
    let tensor_type = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim: dims }) };
    TypeProto { tensor_type: Some(tensor_type), ..Default::default() }
}

/// An integer attribute.
pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    let r#type = attribute_type::INT;
    AttributeProto { name: name.into(), i: Some(i), r#type, ..Default::default() }
}

/// A float attribute.
pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    let r#type = attribute_type::FLOAT;
    AttributeProto { name: name.into(), f: Some(f), r#type, ..Default::default() }
}

/// A string attribute.
pub(crate) fn text(name: &str, s: &str) -> AttributeProto {
    let r#type = attribute_type::STRING;
    let s = Some(s.as_bytes().to_vec().into());
    AttributeProto { name: name.into(), s, r#type, ..Default::default() }
}

/// A list of strings.
pub(crate) fn texts(name: &str, texts: &[&str]) -> AttributeProto {
    let strings = texts.iter().map(|text| text.as_bytes().to_vec().into()).collect();
    AttributeProto {
        name: name.into(),
        strings,
        r#type: attribute_type::STRINGS,
        ..Default::default()
    }
}

/// A list of integers.
pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let r#type = attribute_type::INTS;
    AttributeProto { name: name.into(), ints: ints.to_vec(), r#type, ..Default::default() }
}

/// A tensor.
pub(crate) fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    let r#type = attribute_type::TENSOR;
    AttributeProto { name: name.into(), t: Some(Box::new(value)), r#type, ..Default::default() }
}

/// A nested graph.
pub(crate) fn graph(name: &str, inner: Onnx) -> AttributeProto {
    let (r#type, g) = (attribute_type::GRAPH, Some(Box::new(inner.graph)));
    AttributeProto { name: name.into(), g, r#type, ..Default::default() }
}

/// A type.
pub(crate) fn of_type(name: &str, text: &str) -> AttributeProto {
    let (r#type, tp) = (attribute_type::TYPE_PROTO, Some(Box::new(type_proto(text))));
    AttributeProto { name: name.into(), tp, r#type, ..Default::default() }
}

/// A tensor of `f32` filled with `start`, `start + 1`, ….
pub(crate) fn floats(name: &str, dims: &[i64], start: f32) -> TensorProto {
    let count = dims.iter().product::<i64>();
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: data_type::FLOAT,
        float_data: (0..count).map(|i| start + i as f32).collect(),
        ..Default::default()
    }
}

/// A vector of strings.
pub(crate) fn words(name: &str, words: &[&str]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: vec![words.len() as i64],
        data_type: data_type::STRING,
        string_data: words.iter().map(|word| word.as_bytes().to_vec().into()).collect(),
        ..TensorProto::default()
    }
}

/// A tensor of `i64`; no dimensions for a scalar.
pub(crate) fn longs(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: data_type::INT64,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

/// A vector of bools; one of them is a scalar.
pub(crate) fn bools(name: &str, values: &[bool]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: if values.len() == 1 { Vec::new() } else { vec![values.len() as i64] },
        data_type: data_type::BOOL,
        int32_data: values.iter().map(|&value| value.into()).collect(),
        ..Default::default()
    }
}

/// A tensor with these contents.
pub(crate) fn value(name: &str, value: &Tensor) -> TensorProto {
    let data_type = match value.dtype() {
        DType::F32 => data_type::FLOAT,
        DType::F16 => data_type::FLOAT16,
        DType::I64 => data_type::INT64,
        DType::I8 => data_type::INT8,
        DType::U8 => data_type::UINT8,
        other => panic!("no number for {other}"),
    };
    TensorProto {
        name: name.into(),
        dims: value.shape().iter().map(|&n| n as i64).collect(),
        data_type,
        raw_data: Some(value.bytes().to_vec().into()),
        ..Default::default()
    }
}

impl Onnx {
    /// An empty model.
    pub(crate) fn new(opset: i64) -> Self {
        Self { opset, ..Self::default() }
    }

    /// `x: f32[n, 3]`
    pub(crate) fn input(mut self, text: &str) -> Self {
        self.graph.input.push(value_info(text));
        self
    }

    /// `y`, or with a type.
    pub(crate) fn output(mut self, text: &str) -> Self {
        self.graph.output.push(value_info(text));
        self
    }

    /// An initializer.
    pub(crate) fn constant(mut self, tensor: TensorProto) -> Self {
        self.graph.initializer.push(tensor);
        self
    }

    /// `y = Add(x, w)`; an operand `_` is omitted. The node's name is its first result's with `n_` before it.
    pub(crate) fn node(mut self, call: &str, attrs: Vec<AttributeProto>) -> Self {
        let (results, rest) = call.split_once(" = ").unwrap();
        let (op, operands) = rest.trim_end_matches(')').split_once('(').unwrap();
        let names = |text: &str| -> Vec<String> {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            names.map(|name| if name == "_" { "" } else { name }.to_owned()).collect()
        };
        let output = names(results);
        self.graph.node.push(NodeProto {
            name: format!("n_{}", output[0]),
            op_type: op.into(),
            input: names(operands),
            output,
            attribute: attrs,
            ..Default::default()
        });
        self
    }

    /// An entry of the last node's metadata.
    pub(crate) fn says(mut self, key: &str, value: &str) -> Self {
        let entry = StringStringEntryProto { key: key.into(), value: value.into() };
        self.graph.node.last_mut().unwrap().metadata_props.push(entry);
        self
    }

    /// Another name for the node that was added last.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.graph.node.last_mut().unwrap().name = name.into();
        self
    }

    /// Puts the last node into a domain.
    pub(crate) fn in_domain(mut self, domain: &str) -> Self {
        self.graph.node.last_mut().unwrap().domain = domain.into();
        self
    }

    /// The decoded model.
    pub(crate) fn model(self) -> Model {
        let version = OperatorSetIdProto { domain: String::new(), version: self.opset };
        let file = ModelProto {
            ir_version: Some(8),
            opset_import: vec![version],
            graph: Some(self.graph),
            ..Default::default()
        };
        Model::parse(file.encode_to_vec().into(), None).unwrap()
    }
}

/// The names of an engine's weights of each kind: weights, parameters, pinned ones, literals, ignored.
pub(crate) fn classes(engine: &Engine) -> String {
    use engine_format::WeightClass::{Parameter, Weight};
    let parts = engine.parts();
    let of = |class, pinned| {
        let rows = parts.weights.iter();
        let rows = rows.filter(move |w| w.class == class && w.pinned.is_some() == pinned);
        rows.map(|w| w.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let literals: Vec<&str> = parts.source_literals.iter().map(|l| l.name.as_str()).collect();
    format!(
        "weights: {}\nparameters: {}\npinned weights: {}\npinned parameters: {}\nliterals: {}\nignored: {}",
        of(Weight, false),
        of(Parameter, false),
        of(Weight, true),
        of(Parameter, true),
        literals.join(" "),
        parts.ignored.join(" ")
    )
}

/// Runs an engine node by node with the table's kernels: `prepare`, then `execute`. Outputs in port order.
pub(crate) fn run(engine: &Engine, inputs: &[(&str, Tensor)]) -> Vec<Tensor> {
    let parts = engine.parts();
    let mut values = BTreeMap::new();
    for literal in &parts.literals {
        values.insert(literal.value, literal.tensor.clone());
    }
    for weight in &parts.weights {
        values.insert(weight.value, weight.tensor().unwrap());
    }
    run_nodes(&parts.prepare.nodes, &mut values).unwrap();
    for port in &parts.inputs {
        let (_, tensor) = inputs.iter().find(|(name, _)| *name == port.name).unwrap();
        values.insert(port.value, tensor.clone());
    }
    run_nodes(&parts.execute.nodes, &mut values).unwrap();
    parts.outputs.iter().map(|port| values[&port.value].clone()).collect()
}

/// Runs nodes one by one with the table's kernels, given what they read.
pub(crate) fn run_nodes(
    nodes: &[Node],
    values: &mut BTreeMap<ValueId, Tensor>,
) -> Result<(), String> {
    let mut sequences: BTreeMap<ValueId, Vec<Tensor>> = BTreeMap::new();
    for node in nodes {
        if node.op == "SequenceAt" {
            let pieces = &sequences[&node.inputs[0].unwrap()];
            let at = values[&node.inputs[1].unwrap()].to_i64s().unwrap()[0];
            let at = engine_ops::infer::axis(at, pieces.len()).unwrap();
            values.insert(node.outputs[0].unwrap(), pieces[at].clone());
            continue;
        }
        let inputs: Vec<Option<Tensor>> =
            node.inputs.iter().map(|id| id.map(|id| values[&id].clone())).collect();
        if node.op == "SplitToSequence" {
            sequences.insert(node.outputs[0].unwrap(), pieces(node, &inputs)?);
            continue;
        }
        let results = if node.op == "If" {
            let taken = inputs[0].as_ref().unwrap().bytes()[0] != 0;
            let name = if taken { "then_branch" } else { "else_branch" };
            let Some(Attr::Block(block)) = node.attrs.get(name) else { panic!("no {name}") };
            run_nodes(&block.nodes, values)?;
            block.outputs.iter().map(|id| values[id].clone()).collect()
        } else if node.op == "Loop" {
            run_loop(node, &inputs, values)?
        } else {
            let def = engine_ops::lookup(&node.op, node.version).unwrap();
            engine_ops::eval(def, &node.attrs, &inputs, node.outputs.len())
                .map_err(|error| format!("{}: {error}", node.name))?
        };
        for (id, tensor) in node.outputs.iter().zip::<Vec<Tensor>>(results) {
            id.map(|id| values.insert(id, tensor));
        }
    }
    Ok(())
}

/// The pieces of a tensor that is split into a sequence.
fn pieces(node: &Node, inputs: &[Option<Tensor>]) -> Result<Vec<Tensor>, String> {
    let (x, given) = (inputs[0].as_ref().unwrap(), inputs[1].as_ref().unwrap());
    let axis = engine_ops::infer::axis(node.attrs.int("axis"), x.shape().len()).unwrap();
    let numbers = given.to_i64s().unwrap();
    let size = x.shape()[axis] as i64;
    let lengths: Vec<i64> = match given.shape() {
        [] => (0..size).step_by(numbers[0] as usize).map(|at| numbers[0].min(size - at)).collect(),
        _ => numbers,
    };
    let split = engine_ops::lookup("Split", 1).unwrap();
    let attrs = [("axis".to_owned(), Attr::Int(axis as i64))].into();
    let operands = [Some(x.clone()), Some(Tensor::from_slice(&[lengths.len()], &lengths))];
    let attrs = split.normalise(attrs).unwrap();
    engine_ops::eval(split, &attrs, &operands, lengths.len()).map_err(|error| error.to_string())
}

/// Iterations of a loop one by one; what they give is stacked in the end.
fn run_loop(
    node: &Node,
    inputs: &[Option<Tensor>],
    values: &mut BTreeMap<ValueId, Tensor>,
) -> Result<Vec<Tensor>, String> {
    let (ties, body) = Ties::of_node(node).unwrap();
    let one = |t: &Tensor| t.to_i64s().unwrap()[0];
    let trips = inputs[0].as_ref().map_or(i64::MAX, one);
    let mut go = inputs[1].as_ref().is_none_or(|t| one(t) != 0);
    let mut carried: Vec<Tensor> = inputs[2..].iter().flatten().cloned().collect();
    let mut stacked = vec![Vec::new(); ties.stacked];
    for number in 0..trips {
        if !go {
            break;
        }
        let own = [Tensor::from_slice(&[], &[number]), Tensor::from_bools(&[], &[true])];
        values.extend(body.inputs.iter().copied().zip(own.into_iter().chain(carried)));
        run_nodes(&body.nodes, values)?;
        let mut results = body.outputs.iter().map(|id| values[id].clone());
        go = one(&results.next().unwrap()) != 0;
        carried = results.by_ref().take(ties.carried).collect();
        stacked.iter_mut().zip(results).for_each(|(list, tensor)| list.push(tensor));
    }
    let stack = |list: Vec<Tensor>| {
        let first: &Tensor = list.first().expect("tests stack what some iteration gave");
        let shape: Vec<usize> = [list.len()].iter().chain(first.shape()).copied().collect();
        let bytes: Vec<u8> = list.iter().flat_map(|t| t.bytes().to_vec()).collect();
        Tensor::new(first.dtype(), &shape, bytes.into()).unwrap()
    };
    Ok(carried.into_iter().chain(stacked.into_iter().map(stack)).collect())
}
