//! Reads the text form that `Display` writes, for tests. Types of results may be left out; they are inferred. A weight's
//! contents are made up.

use super::{Constant, ConstantClass, Graph};
use engine_format::{Attr, Attrs, Block, DType, Dim, Node, Tensor, ValueId};
use engine_ops::case::ramp;
use engine_ops::infer::Facts;
use std::collections::BTreeMap;

/// The graph that `text` describes.
pub(crate) fn parse(text: &str) -> Graph {
    let mut parser = Parser {
        graph: Graph::new(),
        names: BTreeMap::new(),
        lines: text.lines().filter(|l| !l.trim().is_empty()).collect(),
        at: 0,
    };
    parser.header();
    for section in ["prepare", "execute"] {
        if parser.peek() == Some(section) {
            parser.at += 1;
            let nodes = parser.nodes(1);
            match section {
                "prepare" => parser.graph.prepare = nodes,
                _ => parser.graph.execute = nodes,
            }
        }
    }
    while let Some(line) = parser.peek() {
        let rest = line.strip_prefix("output ").unwrap_or_else(|| panic!("not a graph: {line}"));
        let (name, value) = rest.split_once(" = ").unwrap_or((rest, rest));
        let value = parser.names[value];
        parser.graph.outputs.push(super::Output { name: name.to_owned(), value });
        parser.at += 1;
    }
    parser.graph.infer_all().unwrap();
    parser.graph
}

struct Parser<'a> {
    graph: Graph,
    names: BTreeMap<String, ValueId>,
    lines: Vec<&'a str>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.lines.get(self.at).copied()
    }

    fn header(&mut self) {
        while let Some(line) = self.peek() {
            let Some((kind, rest)) = line.split_once(' ') else { return };
            if line.starts_with(' ') || kind == "output" {
                return;
            }
            let (rest, pinned) = match rest.split_once(" (pinned: ") {
                Some((rest, why)) => (rest, Some(why.trim_end_matches(')').to_owned())),
                None => (rest, None),
            };
            let (declaration, contents) = rest.split_once(" = ").unwrap_or((rest, ""));
            let (name, ty) = declaration.split_once(": ").unwrap();
            let facts = facts(ty);
            let weight = |parameter| ConstantClass::Weight { parameter, pinned };
            let class = match kind {
                "input" => None,
                "literal" => Some(ConstantClass::Literal),
                "constant" => Some(ConstantClass::Unclassified),
                "parameter" => Some(weight(true)),
                "weight" => Some(weight(false)),
                other => panic!("not a declaration: {other}"),
            };
            let id = match class {
                None => self.graph.add_input(name, facts),
                Some(class) => {
                    let tensor = tensor(&facts, contents);
                    let source = (class != ConstantClass::Literal).then(|| name.to_owned());
                    self.graph
                        .add_constant(name, Constant { tensor, source, class, is_node: false })
                }
            };
            self.names.insert(name.to_owned(), id);
            self.at += 1;
        }
    }

    fn nodes(&mut self, depth: usize) -> Vec<Node> {
        let mut nodes = Vec::new();
        let indent = "  ".repeat(depth);
        while let Some(line) = self.peek() {
            let Some(rest) = line.strip_prefix(&indent) else { break };
            if rest.starts_with(' ') {
                break;
            }
            self.at += 1;
            nodes.push(self.node(rest, depth));
        }
        nodes
    }

    fn node(&mut self, line: &str, depth: usize) -> Node {
        let (results, call) = line.split_once(" = ").unwrap();
        let (op, rest) = call.split_once('(').unwrap();
        let (operands, rest) = rest.split_once(')').unwrap();
        let mut attrs = attrs(rest);
        let inputs = list(operands).map(|n| (n != "_").then(|| self.lookup(n))).collect();
        while let Some(line) = self.peek() {
            let Some(header) = line.strip_prefix(&"  ".repeat(depth + 1)) else { break };
            self.at += 1;
            let (name, rest) = header.split_once('(').unwrap();
            let (formal, results) = rest.split_once(") -> ").unwrap();
            let inputs = list(formal).map(|n| self.define(n)).collect();
            let nodes = self.nodes(depth + 2);
            let outputs = list(results).map(|n| self.lookup(n)).collect();
            attrs.insert(name.to_owned(), Attr::Block(Block { inputs, nodes, outputs }));
        }
        let def = engine_ops::TABLE.iter().find(|def| def.name == op);
        let def = def.unwrap_or_else(|| panic!("no operator {op}"));
        // Commas inside a type are not between results.
        let names = results.split(['[', ']']).step_by(2).collect::<String>();
        let outputs = list(&names).map(|result| {
            let name = result.split(':').next().unwrap();
            (name != "_").then(|| self.define(name))
        });
        Node {
            op: op.to_owned(),
            version: def.version,
            outputs: outputs.collect(),
            name: names.split([':', ',']).next().unwrap().to_owned(),
            inputs,
            attrs: def.normalise(attrs).unwrap(),
        }
    }

    fn define(&mut self, name: &str) -> ValueId {
        let id = self.graph.add_value(name, Facts::unranked(DType::F32));
        self.names.insert(name.to_owned(), id);
        id
    }

    fn lookup(&self, name: &str) -> ValueId {
        *self.names.get(name).unwrap_or_else(|| panic!("{name} is not defined"))
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// `f32[batch, 3]`
fn facts(text: &str) -> Facts {
    let (dtype, dims) = text.trim_end_matches(']').split_once('[').unwrap();
    let dtype = DType::ALL.into_iter().find(|d| d.name() == dtype).unwrap();
    match dims {
        "?" => Facts::unranked(dtype),
        _ => Facts::new(dtype, list(dims).map(|d| d.parse::<Dim>().unwrap()).collect()),
    }
}

/// `[1, 2]`, or a ramp where nothing is written down.
fn tensor(facts: &Facts, contents: &str) -> Tensor {
    let shape = facts.concrete().unwrap();
    if contents.is_empty() {
        assert_eq!(facts.dtype, DType::F32, "contents of weights are made up for f32 only");
        return ramp(&shape);
    }
    let items: Vec<&str> = list(contents.trim_matches(['[', ']'])).collect();
    match facts.dtype {
        DType::F32 => Tensor::from_slice::<f32>(&shape, &parsed(&items)),
        DType::I64 => Tensor::from_slice::<i64>(&shape, &parsed(&items)),
        DType::I32 => Tensor::from_slice::<i32>(&shape, &parsed(&items)),
        DType::Bool => {
            let bools: Vec<bool> = parsed::<u8>(&items).iter().map(|&b| b != 0).collect();
            Tensor::from_bools(&shape, &bools)
        }
        other => panic!("contents of {other} are not read"),
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(items: &[&str]) -> Vec<T> {
    items.iter().map(|item| item.parse().unwrap()).collect()
}

/// ` axis=1 perm=[0, 2, 1]`
fn attrs(text: &str) -> Attrs {
    let mut attrs = Attrs::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let end = match after.as_bytes()[0] {
            b'[' => after.find(']').unwrap() + 1,
            b'"' => after[1..].find('"').unwrap() + 2,
            _ => after.find(' ').unwrap_or(after.len()),
        };
        attrs.insert(name.to_owned(), attr(&after[..end]));
        rest = after[end..].trim();
    }
    attrs
}

fn attr(text: &str) -> Attr {
    if let Some(items) = text.strip_prefix('[') {
        let items: Vec<&str> = list(items.trim_end_matches(']')).collect();
        if items.iter().any(|item| item.starts_with('"')) {
            return Attr::Strs(
                items.iter().map(|item| item.trim_matches('"').to_owned()).collect(),
            );
        }
        return match items.iter().any(|item| item.contains('.')) {
            true => Attr::Floats(parsed(&items)),
            false => Attr::Ints(parsed(&items)),
        };
    }
    match text.parse() {
        _ if text.starts_with('"') => Attr::Str(text.trim_matches('"').to_owned()),
        Ok(int) => Attr::Int(int),
        Err(_) => Attr::Float(text.parse().unwrap()),
    }
}
