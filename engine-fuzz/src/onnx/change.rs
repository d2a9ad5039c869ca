//! Changes to a model that know what a model is.

use super::seeds;
use crate::choices::Choices;
use crate::damage::damage;
use engine_format::{Attr, DType};
use engine_onnx::proto::{
    AttributeProto, DimensionProto, ElementTypeProto, FunctionProto, GraphProto, ModelProto,
    NodeProto, TensorProto, TypeProto, ValueInfoProto,
};
use engine_ops::TABLE;
use std::sync::LazyLock;

/// Bytes that a tensor of a model may grow to.
const MOST: usize = 1 << 14;

/// Names of operators: domain, name.
static OPERATORS: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    let rows = TABLE.iter().flat_map(|def| def.onnx).map(|name| (name.domain, name.name));
    let composed = engine_builder::composed().map(|(domain, name, ..)| (domain, name));
    let mut all: Vec<_> = rows.chain(composed).chain([("", "Constant")]).collect();
    all.sort_unstable();
    all.dedup();
    all
});

/// Changes one thing.
pub fn change(model: &mut ModelProto, choices: &mut Choices<'_>) {
    let version = match choices.byte() % 24 {
        0 => model.opset_import.iter_mut().next(),
        1 => model.opset_import.iter_mut().last(),
        2 => {
            to_function(model, choices);
            return;
        }
        3 => {
            let (domain, _) = *choices.pick(&OPERATORS);
            let version = i64::from(choices.byte() % 30);
            let opset = engine_onnx::proto::OperatorSetIdProto { domain: domain.into(), version };
            model.opset_import.push(opset);
            return;
        }
        _ => None,
    };
    if let Some(opset) = version {
        opset.version = match choices.byte() % 4 {
            0 => choices.number(),
            _ => 1 + choices.below(28) as i64,
        };
        return;
    }
    let Some(graph) = &mut model.graph else { return };
    let which = choices.below(count(graph));
    if let Some(graph) = nth(graph, &mut { which }) {
        change_graph(graph, choices);
    }
}

/// Graphs in a graph, itself among them.
fn count(graph: &GraphProto) -> usize {
    let inner = graph.node.iter().flat_map(|node| &node.attribute);
    1 + inner.filter_map(|a| a.g.as_deref()).map(count).sum::<usize>()
}

fn nth<'a>(graph: &'a mut GraphProto, left: &mut usize) -> Option<&'a mut GraphProto> {
    if *left == 0 {
        return Some(graph);
    }
    *left -= 1;
    let inner = graph.node.iter_mut().flat_map(|node| &mut node.attribute);
    inner.filter_map(|a| a.g.as_deref_mut()).find_map(|graph| nth(graph, left))
}

fn change_graph(graph: &mut GraphProto, choices: &mut Choices<'_>) {
    let names = names(graph);
    let nodes = graph.node.len();
    match choices.byte() % 16 {
        0..=6 if nodes > 0 => {
            let node = choices.below(nodes);
            change_node(&mut graph.node[node], &names, choices);
        }
        7 if nodes > 0 => structure(graph, choices),
        8 => splice(graph, &names, choices),
        9 | 10 if !graph.input.is_empty() => {
            let at = choices.below(graph.input.len());
            change_type(&mut graph.input[at], choices);
        }
        11 if !graph.output.is_empty() => {
            let at = choices.below(graph.output.len());
            match choices.byte() % 4 {
                0 => change_type(&mut graph.output[at], choices),
                1 => drop(graph.output.remove(at)),
                2 => graph.output.push(graph.output[at].clone()),
                _ => graph.output[at].name = name(&names, choices),
            }
        }
        12 => move_constant(graph, choices),
        _ if !graph.initializer.is_empty() => {
            let at = choices.below(graph.initializer.len());
            change_tensor(&mut graph.initializer[at], choices);
        }
        _ => move_constant(graph, choices),
    }
}

/// Every name of a value.
fn names(graph: &GraphProto) -> Vec<String> {
    let nodes = graph.node.iter().flat_map(|node| node.input.iter().chain(&node.output)).cloned();
    let inputs = graph.input.iter().map(|input| input.name.clone());
    let constants = graph.initializer.iter().map(|tensor| tensor.name.clone());
    nodes.chain(inputs).chain(constants).collect()
}

/// Mostly a name that is there.
fn name(names: &[String], choices: &mut Choices<'_>) -> String {
    match choices.byte() % 8 {
        0 => String::new(),
        1 => "elsewhere".into(),
        _ if names.is_empty() => String::new(),
        _ => choices.pick(names).clone(),
    }
}

fn change_node(node: &mut NodeProto, names: &[String], choices: &mut Choices<'_>) {
    match choices.byte() % 12 {
        0 => {
            let (domain, op) = *choices.pick(&OPERATORS);
            (node.domain, node.op_type) = (domain.into(), op.into());
        }
        1 | 2 => list(&mut node.input, choices, |choices| name(names, choices)),
        3 => list(&mut node.output, choices, |choices| name(names, choices)),
        4 => node.input.push(name(names, choices)),
        5 => node.output.push(format!("more{}", choices.byte())),
        6 => node.attribute.push(known_attribute(&node.op_type, choices)),
        _ if node.attribute.is_empty() => {
            node.attribute.push(known_attribute(&node.op_type, choices));
        }
        7 => {
            let at = choices.below(node.attribute.len());
            drop(node.attribute.remove(at));
        }
        _ => {
            let at = choices.below(node.attribute.len());
            change_attribute(&mut node.attribute[at], choices);
        }
    }
}

/// Drops, doubles, swaps or replaces an item.
fn list<T: Clone>(
    items: &mut Vec<T>,
    choices: &mut Choices<'_>,
    new: impl FnOnce(&mut Choices<'_>) -> T,
) {
    if items.is_empty() {
        return items.push(new(choices));
    }
    let at = choices.below(items.len());
    match choices.byte() % 5 {
        0 => drop(items.remove(at)),
        1 => {
            let item = items[at].clone();
            items.insert(at, item);
        }
        2 => {
            let other = choices.below(items.len());
            items.swap(at, other);
        }
        _ => items[at] = new(choices),
    }
}

/// An attribute that an operator of the table has, mostly this one.
fn known_attribute(op: &str, choices: &mut Choices<'_>) -> AttributeProto {
    let own = TABLE.iter().find(|def| def.onnx.iter().any(|name| name.name == op));
    let def = match own {
        Some(def) if !choices.once_in(8) => def,
        _ => choices.pick(TABLE),
    };
    let attribute = match def.attrs {
        [] => "axis",
        attrs => choices.pick(attrs).name,
    };
    let numbers = |choices: &mut Choices<'_>| {
        (0..choices.below(6)).map(|_| choices.number()).collect::<Vec<_>>()
    };
    let value = match choices.byte() % 8 {
        0 => Attr::Float(choices.float()),
        1 => Attr::Floats((0..choices.below(6)).map(|_| choices.float()).collect()),
        2 => Attr::Str(["NOTSET", "SAME_UPPER", "linear", "", "max"][choices.below(5)].into()),
        3 | 4 => Attr::Ints(numbers(choices)),
        5 => Attr::Strs(vec!["a".into(), String::new()]),
        _ => Attr::Int(choices.number()),
    };
    seeds::attribute(attribute, &value).unwrap_or_default()
}

fn change_attribute(attribute: &mut AttributeProto, choices: &mut Choices<'_>) {
    match choices.byte() % 8 {
        0 => attribute.r#type = i32::from(choices.byte() % 16),
        1 => attribute.ref_attr_name = "axis".into(),
        2 => attribute.name = known_attribute("", choices).name,
        _ => {}
    }
    if let Some(i) = &mut attribute.i {
        *i = choices.near(*i);
    }
    if let Some(f) = &mut attribute.f {
        *f = choices.float();
    }
    if !attribute.ints.is_empty() {
        let old = attribute.ints[choices.below(attribute.ints.len())];
        list(&mut attribute.ints, choices, |choices| choices.near(old));
    }
    if !attribute.floats.is_empty() {
        list(&mut attribute.floats, choices, |choices| choices.float());
    }
    if let Some(s) = &mut attribute.s {
        let mut bytes = s.to_vec();
        damage(&mut bytes, choices, MOST);
        *s = bytes.into();
    }
    if !attribute.strings.is_empty() {
        list(&mut attribute.strings, choices, |choices| vec![choices.byte()].into());
    }
    if let Some(tensor) = &mut attribute.t {
        change_tensor(tensor, choices);
    }
}

/// Nodes doubled, dropped and in another order.
fn structure(graph: &mut GraphProto, choices: &mut Choices<'_>) {
    list(&mut graph.node, choices, |_| NodeProto::default());
}

/// A node of another seed, over values of this graph.
fn splice(graph: &mut GraphProto, names: &[String], choices: &mut Choices<'_>) {
    let other = choices.pick(seeds::all());
    let Some(other) = other.graph.as_ref().filter(|graph| !graph.node.is_empty()) else { return };
    let mut node = choices.pick(&other.node).clone();
    let made = graph.node.len();
    for input in &mut node.input {
        let constant = other.initializer.iter().find(|tensor| tensor.name == *input);
        match constant.filter(|_| !choices.once_in(4)) {
            Some(tensor) => {
                let mut tensor = tensor.clone();
                tensor.name = format!("spliced{made}.{input}");
                input.clone_from(&tensor.name);
                graph.initializer.push(tensor);
            }
            None => *input = name(names, choices),
        }
    }
    for (i, output) in node.output.iter_mut().enumerate() {
        *output = format!("spliced{made}:{i}");
        graph.output.push(ValueInfoProto { name: output.clone(), r#type: None });
    }
    graph.node.push(node);
}

/// Makes an input a constant, or a constant an input.
fn move_constant(graph: &mut GraphProto, choices: &mut Choices<'_>) {
    if choices.once_in(2) && !graph.initializer.is_empty() {
        let tensor = graph.initializer.remove(choices.below(graph.initializer.len()));
        let dtype = engine_onnx::dtype_of(tensor.data_type).unwrap_or(DType::F32);
        let shape: Vec<usize> = tensor.dims.iter().map(|&d| d.clamp(0, 64) as usize).collect();
        graph.input.push(seeds::value(&tensor.name, dtype, &shape));
        return;
    }
    if graph.input.is_empty() {
        return;
    }
    let input = graph.input.remove(choices.below(graph.input.len()));
    let tensor_type = input.r#type.and_then(|t| t.tensor_type).unwrap_or_default();
    let size = |dim: &DimensionProto| dim.dim_value.unwrap_or(2).clamp(0, 8);
    let dims: Vec<i64> = tensor_type.shape.iter().flat_map(|shape| &shape.dim).map(size).collect();
    let dtype = engine_onnx::dtype_of(tensor_type.elem_type).unwrap_or(DType::F32);
    let bytes = dims.iter().product::<i64>() as usize * dtype.size().unwrap_or(1);
    let raw: Vec<u8> = (0..bytes.min(MOST)).map(|i| (i % 5) as u8).collect();
    graph.initializer.push(TensorProto {
        name: input.name,
        dims,
        data_type: tensor_type.elem_type,
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    });
}

/// An element type, mostly one that there is.
fn element(choices: &mut Choices<'_>) -> i32 {
    match choices.byte() % 8 {
        0 => choices.number() as i32,
        _ => seeds::data_type(*choices.pick(&DType::ALL)).unwrap_or(0),
    }
}

fn change_type(info: &mut ValueInfoProto, choices: &mut Choices<'_>) {
    let Some(r#type) = &mut info.r#type else {
        info.r#type = Some(TypeProto::default());
        return;
    };
    match (choices.byte() % 12, &mut r#type.tensor_type) {
        (0, _) => info.r#type = None,
        (1, _) => {
            let inner = ElementTypeProto { elem_type: Some(Box::new(r#type.clone())) };
            *r#type = TypeProto { sequence_type: Some(Box::new(inner)), ..TypeProto::default() };
        }
        (2, _) => {
            let inner = ElementTypeProto { elem_type: Some(Box::new(r#type.clone())) };
            *r#type = TypeProto { optional_type: Some(Box::new(inner)), ..TypeProto::default() };
        }
        (3 | 4, Some(tensor)) => tensor.elem_type = element(choices),
        (5, Some(tensor)) => tensor.shape = None,
        (_, Some(tensor)) => {
            let Some(shape) = &mut tensor.shape else { return };
            list(&mut shape.dim, choices, |choices| match choices.byte() % 4 {
                0 => DimensionProto { dim_value: None, dim_param: Some("n".into()) },
                1 => DimensionProto { dim_value: None, dim_param: None },
                _ => DimensionProto { dim_value: Some(choices.number()), dim_param: None },
            });
        }
        (_, None) => {}
    }
}

fn change_tensor(tensor: &mut TensorProto, choices: &mut Choices<'_>) {
    match choices.byte() % 10 {
        0 => tensor.data_type = element(choices),
        1 | 2 => list(&mut tensor.dims, choices, |choices| choices.number()),
        3 => tensor.raw_data = None,
        4 => tensor.data_location = choices.number() as i32,
        5 => {
            // The same number of elements along other axes.
            let count = tensor.dims.iter().fold(1i64, |n, &d| n.wrapping_mul(d));
            tensor.dims =
                [vec![count], vec![1, count], vec![count, 1], vec![0]][choices.below(4)].clone();
        }
        _ => change_elements(tensor, choices),
    }
}

fn change_elements(tensor: &mut TensorProto, choices: &mut Choices<'_>) {
    if let Some(raw) = &mut tensor.raw_data {
        let mut bytes = raw.to_vec();
        let width = engine_onnx::dtype_of(tensor.data_type).and_then(DType::size).unwrap_or(1);
        let at = choices.below(bytes.len() / width.max(1)) * width;
        let float = matches!(tensor.data_type, 1);
        let word = match float {
            true => u64::from(choices.float().to_bits()),
            false => choices.number() as u64,
        };
        let element = &word.to_le_bytes()[..width.min(8)];
        match choices.once_in(8) {
            true => damage(&mut bytes, choices, MOST),
            false => bytes.iter_mut().skip(at).zip(element).for_each(|(slot, byte)| *slot = *byte),
        }
        *raw = bytes.into();
        return;
    }
    match choices.byte() % 4 {
        0 => list(&mut tensor.int64_data, choices, |choices| choices.number()),
        1 => list(&mut tensor.int32_data, choices, |choices| choices.number() as i32),
        2 => list(&mut tensor.string_data, choices, |choices| vec![choices.byte()].into()),
        _ => list(&mut tensor.float_data, choices, |choices| choices.float()),
    }
}

/// Puts the first node into a function, which calls itself in one case of eight.
fn to_function(model: &mut ModelProto, choices: &mut Choices<'_>) {
    let opsets = model.opset_import.clone();
    let Some(node) = model.graph.as_mut().and_then(|graph| graph.node.first_mut()) else { return };
    let mut function = FunctionProto {
        name: "Inner".into(),
        domain: "made".into(),
        input: node.input.iter().filter(|name| !name.is_empty()).cloned().collect(),
        output: node.output.clone(),
        node: vec![node.clone()],
        opset_import: opsets,
        ..FunctionProto::default()
    };
    let call = NodeProto {
        op_type: "Inner".into(),
        domain: "made".into(),
        input: function.input.clone(),
        output: node.output.clone(),
        ..NodeProto::default()
    };
    if choices.once_in(8) {
        function.node.push(call.clone());
    }
    *node = call;
    model.functions.push(function);
    model
        .opset_import
        .push(engine_onnx::proto::OperatorSetIdProto { domain: "made".into(), version: 1 });
}
