//! The JSON that Netron opens as it is: the messages from its own workers, which begin with a signature. Both programs, whole.

use engine_format::{Attr, Block, Dim, EngineParts, Port, ValueId};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) fn model(parts: &EngineParts, title: &str) -> String {
    let graphs = match parts.prepare.nodes.is_empty() {
        true => vec![graph(parts, &parts.execute, "execute")],
        false => {
            vec![graph(parts, &parts.execute, "execute"), graph(parts, &parts.prepare, "prepare")]
        }
    };
    let metadata = parts.metadata.iter();
    let metadata: Vec<Value> =
        metadata.map(|(name, value)| json!({ "name": name, "value": value })).collect();
    let rest = json!({
        "format": "refit",
        "producer": format!("refit {}", env!("CARGO_PKG_VERSION")),
        "description": title,
        "metadata": metadata,
        "graphs": graphs,
    });
    // Netron looks for the signature at the beginning of the file.
    let rest = rest.to_string();
    format!("{{\"signature\":\"netron:refit\",{}\n", &rest[1..])
}

/// Values of a graph by number, in the order in which they are met.
struct Values<'a> {
    parts: &'a EngineParts,
    numbers: BTreeMap<ValueId, usize>,
    list: Vec<Value>,
}

impl Values<'_> {
    fn number(&mut self, value: ValueId) -> usize {
        if let Some(&number) = self.numbers.get(&value) {
            return number;
        }
        let found = self.describe(value);
        self.numbers.insert(value, self.list.len());
        self.list.push(found);
        self.list.len() - 1
    }

    fn describe(&self, value: ValueId) -> Value {
        let EngineParts { inputs, outputs, weights, literals, .. } = self.parts;
        if let Some(weight) = weights.iter().find(|weight| weight.value == value) {
            let of = json!({ "dataType": weight.dtype.to_string(), "shape": { "dimensions": weight.shape } });
            return json!({ "name": weight.name, "initializer": { "type": of } });
        }
        if let Some(literal) = literals.iter().find(|literal| literal.value == value) {
            let tensor = &literal.tensor;
            let of = json!({ "dataType": tensor.dtype().to_string(), "shape": { "dimensions": tensor.shape() } });
            return json!({ "name": format!("literal {}", value.0), "initializer": { "type": of } });
        }
        match inputs.iter().chain(outputs).find(|port| port.value == value) {
            Some(port) => json!({ "name": port.name, "type": port_type(port) }),
            None => json!({ "name": value.0.to_string() }),
        }
    }
}

fn port_type(port: &Port) -> Value {
    let dims = port.shape.iter().flatten();
    let dims: Vec<String> = dims.map(Dim::to_string).collect();
    json!({ "dataType": port.dtype.to_string(), "shape": { "dimensions": dims } })
}

fn graph(parts: &EngineParts, block: &Block, name: &str) -> Value {
    let mut values = Values { parts, numbers: BTreeMap::new(), list: Vec::new() };
    let mut port =
        |name: &str, value: ValueId| json!({ "name": name, "value": [values.number(value)] });
    let (inputs, outputs): (Vec<Value>, Vec<Value>) = match name {
        "execute" => (
            parts.inputs.iter().map(|p| port(&p.name, p.value)).collect(),
            parts.outputs.iter().map(|p| port(&p.name, p.value)).collect(),
        ),
        _ => {
            let prepared = block.outputs.iter();
            (
                Vec::new(),
                prepared.map(|&value| port(&format!("prepared {}", value.0), value)).collect(),
            )
        }
    };
    let mut nodes = Vec::new();
    for node in &block.nodes {
        let mut operands = |ids: &[Option<ValueId>]| -> Vec<Value> {
            let some = ids.iter().enumerate().filter_map(|(place, id)| Some((place, (*id)?)));
            some.map(
                |(place, id)| json!({ "name": place.to_string(), "value": [values.number(id)] }),
            )
            .collect()
        };
        let (inputs, outputs) = (operands(&node.inputs), operands(&node.outputs));
        let attributes = node
            .attrs
            .iter()
            .map(|(name, attr)| json!({ "name": name, "value": text(attr), "type": "string" }));
        nodes.push(json!({
            "name": node.name,
            "type": { "name": node.op, "category": "" },
            "inputs": inputs,
            "outputs": outputs,
            "attributes": attributes.collect::<Vec<_>>(),
        }));
    }
    json!({ "name": name, "inputs": inputs, "outputs": outputs, "nodes": nodes, "values": values.list })
}

fn text(attr: &Attr) -> String {
    match attr {
        Attr::Int(value) => value.to_string(),
        Attr::Float(value) => value.to_string(),
        Attr::Str(value) => value.clone(),
        Attr::Ints(values) => format!("{values:?}"),
        Attr::Floats(values) => format!("{values:?}"),
        Attr::Strs(values) => format!("{values:?}"),
        Attr::Block(block) => format!("{} nodes", block.nodes.len()),
    }
}
