//! A graph as text: what pass tests compare and what `Debug` readers want.

use super::{Constant, ConstantClass, Graph};
use engine_format::{Attr, Block, DType, Node, Tensor, ValueId};
use std::fmt::{self, Write};

/// Elements of a constant that are written out.
const SHOWN: usize = 8;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &id in &self.inputs {
            let value = self.value(id);
            writeln!(f, "input {}: {}", value.name, value.type_text())?;
        }
        for (&id, constant) in &self.constants {
            self.write_constant(f, id, constant)?;
        }
        let used = |name: &str| {
            self.constants.values().any(|constant| constant.source.as_deref() == Some(name))
        };
        for (name, why) in self.pinned.iter().filter(|(name, _)| !used(name)) {
            writeln!(f, "pinned {name}: {why}")?;
        }
        for (title, nodes) in [("prepare", &self.prepare), ("execute", &self.execute)] {
            if !nodes.is_empty() {
                writeln!(f, "{title}")?;
                nodes.iter().try_for_each(|node| self.write_node(f, node, 1))?;
            }
        }
        for output in &self.outputs {
            let value = &self.value(output.value).name;
            match *value == output.name {
                true => writeln!(f, "output {value}")?,
                false => writeln!(f, "output {} = {value}", output.name)?,
            }
        }
        Ok(())
    }
}

impl Graph {
    fn name(&self, id: Option<ValueId>) -> &str {
        id.map_or("_", |id| &self.value(id).name)
    }

    fn write_constant(
        &self,
        f: &mut fmt::Formatter<'_>,
        id: ValueId,
        constant: &Constant,
    ) -> fmt::Result {
        let kind = match &constant.class {
            ConstantClass::Unclassified => "constant",
            ConstantClass::Literal => "literal",
            ConstantClass::Weight { parameter: true, .. } => "parameter",
            ConstantClass::Weight { parameter: false, .. } => "weight",
        };
        let value = self.value(id);
        write!(f, "{kind} {}: {}", value.name, value.type_text())?;
        if !matches!(constant.class, ConstantClass::Weight { parameter: false, pinned: None }) {
            write!(f, " = {}", contents(&constant.tensor))?;
        }
        if let ConstantClass::Weight { pinned: Some(why), .. } = &constant.class {
            write!(f, " (pinned: {why})")?;
        }
        writeln!(f)
    }

    fn write_node(&self, f: &mut fmt::Formatter<'_>, node: &Node, depth: usize) -> fmt::Result {
        let results: Vec<String> = node
            .outputs
            .iter()
            .map(|&id| match id {
                None => "_".to_owned(),
                Some(id) => format!("{}: {}", self.name(Some(id)), self.value(id).type_text()),
            })
            .collect();
        let operands: Vec<&str> = node.inputs.iter().map(|&id| self.name(id)).collect();
        let indent = "  ".repeat(depth);
        write!(f, "{indent}{} = {}({})", results.join(", "), node.op, operands.join(", "))?;
        for (name, attr) in &node.attrs {
            if !matches!(attr, Attr::Block(_)) {
                write!(f, " {name}={}", attr_text(attr))?;
            }
        }
        writeln!(f)?;
        for (name, attr) in &node.attrs {
            if let Attr::Block(block) = attr {
                self.write_block(f, name, block, depth + 1)?;
            }
        }
        Ok(())
    }

    fn write_block(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        block: &Block,
        depth: usize,
    ) -> fmt::Result {
        let list = |ids: &[ValueId]| {
            ids.iter().map(|&id| self.name(Some(id))).collect::<Vec<_>>().join(", ")
        };
        let indent = "  ".repeat(depth);
        writeln!(f, "{indent}{name}({}) -> {}", list(&block.inputs), list(&block.outputs))?;
        block.nodes.iter().try_for_each(|node| self.write_node(f, node, depth + 1))
    }
}

fn attr_text(attr: &Attr) -> String {
    match attr {
        Attr::Int(v) => v.to_string(),
        Attr::Float(v) => format!("{v:?}"),
        Attr::Str(v) => format!("{v:?}"),
        Attr::Ints(v) => format!("{v:?}"),
        Attr::Floats(v) => format!("{v:?}"),
        Attr::Strs(v) => format!("{v:?}"),
        Attr::Block(_) => "{…}".to_owned(),
    }
}

/// The first elements of a tensor.
fn contents(tensor: &Tensor) -> String {
    let mut text = String::new();
    let more = if tensor.len() > SHOWN { ", …" } else { "" };
    match (tensor.to_i64s(), tensor.dtype()) {
        (Some(ints), _) => list(&mut text, ints.iter().take(SHOWN)),
        (None, DType::F32) => list(&mut text, floats::<f32>(tensor)),
        (None, DType::F64) => list(&mut text, floats::<f64>(tensor)),
        (None, _) => list(&mut text, tensor.bytes().iter().take(SHOWN)),
    }
    format!("[{text}{more}]")
}

fn floats<T: engine_format::Element>(tensor: &Tensor) -> impl Iterator<Item = &T> {
    tensor.as_slice().unwrap_or_default().iter().take(SHOWN)
}

fn list(text: &mut String, items: impl Iterator<Item = impl fmt::Display>) {
    for (i, item) in items.enumerate() {
        let separator = if i == 0 { "" } else { ", " };
        write!(text, "{separator}{item}").expect("writing to a String does not fail");
    }
}
