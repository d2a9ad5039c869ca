//! What a picture shows: boxes with lines of text, in groups, and arrows between them.

use super::PictureOptions;
use super::fold::{Item, Signature, fold};
use crate::graph::{blocks, each_node, reads};
use engine_format::{Attr, Block, EngineFlags, EngineParts, Node, ValueId, Weight};
use std::collections::{BTreeMap, BTreeSet};

/// All that is drawn of an engine.
#[derive(Debug)]
pub(super) struct Scene {
    /// `prepare` and `execute`, unless there is nothing to draw of one.
    pub(super) programs: Vec<Program>,
    /// Arrows from boxes of `prepare` to boxes of `execute`.
    pub(super) prepared: BTreeSet<(usize, usize)>,
}

/// One program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) boxes: Vec<Shape>,
    /// What is drawn, in program order, inputs first and outputs last.
    pub(super) items: Vec<Drawn>,
    pub(super) arrows: BTreeSet<Arrow>,
    /// Nodes that are drawn.
    pub(super) nodes: usize,
}

/// A box or a group of boxes.
#[derive(Debug)]
pub(super) enum Drawn {
    /// Number of a box.
    Box(usize),
    /// A block that is there so many times.
    Group(usize, Vec<Drawn>),
}

/// What a box stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Input,
    Output,
    Node,
}

/// A box.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    /// The operator, or the name of a port.
    pub(super) title: String,
    /// The node's path, or the port's type.
    pub(super) name: String,
    pub(super) chips: Vec<Chip>,
    pub(super) is_marked: bool,
}

/// An operand that is a weight, or made of weights by `prepare`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chip {
    pub(super) role: Role,
    /// Its name and type; where a box stands for several nodes, with stars for what differs.
    pub(super) text: String,
    /// Rows of the weight table.
    pub(super) weights: Vec<usize>,
}

/// Which values an operand takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Any,
    Same,
    None,
    Prepared,
}

impl Role {
    pub(super) const ALL: [Self; 4] = [Self::Any, Self::Same, Self::None, Self::Prepared];

    pub(super) fn of(weight: &Weight, flags: EngineFlags) -> Self {
        match (weight.refittable, weight.fixed(flags)) {
            (true, None) => Self::Any,
            (true, Some(_)) => Self::Same,
            (false, _) => Self::None,
        }
    }

    /// The name of its style.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Same => "same",
            Self::None => "none",
            Self::Prepared => "prepared",
        }
    }

    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Any => "a weight that takes any values",
            Self::Same => "a weight that takes the values it was built with",
            Self::None => "a weight that takes no values",
            Self::Prepared => "prepared from weights at refit",
        }
    }
}

/// An arrow from box to box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Whether it goes from one repetition of a block to the next.
    pub(super) is_carried: bool,
}

/// What values are, of a whole engine.
struct Values<'a> {
    parts: &'a EngineParts,
    /// The row of each weight.
    weights: BTreeMap<ValueId, usize>,
    /// The node of `prepare` that makes a value, and the weights it is made of.
    prepared: BTreeMap<ValueId, (usize, BTreeSet<usize>)>,
}

impl<'a> Values<'a> {
    fn new(parts: &'a EngineParts) -> Self {
        let weights: BTreeMap<ValueId, usize> =
            parts.weights.iter().enumerate().map(|(row, weight)| (weight.value, row)).collect();
        let mut prepared = BTreeMap::<ValueId, (usize, BTreeSet<usize>)>::new();
        for (index, node) in parts.prepare.nodes.iter().enumerate() {
            let mut of = BTreeSet::new();
            for value in reads(node) {
                of.extend(weights.get(&value));
                of.extend(prepared.get(&value).into_iter().flat_map(|(_, of)| of));
            }
            prepared.extend(node.outputs.iter().flatten().map(|&out| (out, (index, of.clone()))));
        }
        Self { parts, weights, prepared }
    }

    /// An operand of a node of `execute`, or with `inside` of `prepare`, as a chip, if it is one.
    fn chip(&self, value: ValueId, inside: bool) -> Option<Chip> {
        if let Some(&row) = self.weights.get(&value) {
            let weight = &self.parts.weights[row];
            let text = format!("{} {}{:?}", weight.name, weight.dtype, weight.shape);
            let role = Role::of(weight, self.parts.flags);
            return Some(Chip { role, text, weights: vec![row] });
        }
        let (_, of) = self.prepared.get(&value).filter(|_| !inside)?;
        let names = of.iter().map(|&row| self.parts.weights[row].name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        Some(Chip { role: Role::Prepared, text: names, weights: of.iter().copied().collect() })
    }
}

impl Scene {
    pub(super) fn new(parts: &EngineParts, options: &PictureOptions) -> Self {
        let values = Values::new(parts);
        let prepare = Sketch::new(&values, &parts.prepare, true, options);
        let execute = Sketch::new(&values, &parts.execute, false, options);
        let mut prepared = BTreeSet::new();
        for (index, node) in parts.execute.nodes.iter().enumerate() {
            for value in reads(node) {
                let made = values.prepared.get(&value);
                prepared.extend(made.map(|(by, _)| (prepare.drawn[*by], execute.drawn[index])));
            }
        }
        let programs = [("prepare", prepare), ("execute", execute)].into_iter();
        let programs = programs.filter(|(_, sketch)| !sketch.boxes.is_empty());
        Self { programs: programs.map(|(name, sketch)| sketch.program(name)).collect(), prepared }
    }
}

/// A program on the way to boxes.
struct Sketch {
    boxes: Vec<Shape>,
    items: Vec<Drawn>,
    arrows: BTreeSet<Arrow>,
    /// The box of each node.
    drawn: Vec<usize>,
    nodes: usize,
}

impl Sketch {
    fn new(values: &Values<'_>, block: &Block, is_prepare: bool, options: &PictureOptions) -> Self {
        let producers = producers(block);
        let signatures = signatures(values, block, &producers);
        let items = match options.unfolded {
            true => (0..block.nodes.len()).map(Item::Node).collect(),
            false => fold(&signatures, 0..block.nodes.len()),
        };
        let mut stands_for: Vec<usize> = (0..block.nodes.len()).collect();
        represent(&items, &mut stands_for);
        let mut sketch = Self {
            boxes: Vec::new(),
            items: Vec::new(),
            arrows: BTreeSet::new(),
            drawn: vec![usize::MAX; block.nodes.len()],
            nodes: 0,
        };
        if !is_prepare {
            sketch.ports(&values.parts.inputs, Kind::Input);
        }
        let same = stood_for(&stands_for);
        let items = sketch.items_of(&items, &mut |index| {
            let nodes: Vec<&Node> = same[&index].iter().map(|&i| &block.nodes[i]).collect();
            shape(values, &nodes, is_prepare, options)
        });
        sketch.items.extend(items);
        for (index, &first) in stands_for.iter().enumerate() {
            sketch.drawn[index] = sketch.drawn[first];
        }
        sketch.connect(values, block, &producers, &stands_for);
        if !is_prepare {
            let first = sketch.boxes.len();
            sketch.ports(&values.parts.outputs, Kind::Output);
            for (offset, port) in values.parts.outputs.iter().enumerate() {
                let from = producers.get(&port.value).map(|&node| sketch.drawn[node]);
                let from = from.or_else(|| {
                    values.parts.inputs.iter().position(|input| input.value == port.value)
                });
                let to = first + offset;
                sketch.arrows.extend(from.map(|from| Arrow { from, to, is_carried: false }));
            }
        }
        sketch
    }

    fn ports(&mut self, ports: &[engine_format::Port], kind: Kind) {
        for port in ports {
            let dims = port.shape.as_ref().map(|dims| {
                let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
                dims.join(", ")
            });
            let tensor = format!("{}[{}]", port.dtype, dims.unwrap_or_else(|| "?".to_owned()));
            self.items.push(Drawn::Box(self.boxes.len()));
            self.boxes.push(Shape {
                kind,
                title: port.name.clone(),
                name: port.form.describe(&tensor),
                chips: Vec::new(),
                is_marked: false,
            });
        }
    }

    fn items_of(&mut self, items: &[Item], shape: &mut dyn FnMut(usize) -> Shape) -> Vec<Drawn> {
        let mut drawn = Vec::new();
        for item in items {
            drawn.push(match item {
                Item::Node(index) => {
                    self.drawn[*index] = self.boxes.len();
                    self.boxes.push(shape(*index));
                    self.nodes += 1;
                    Drawn::Box(self.drawn[*index])
                }
                Item::Repeat { times, body, .. } => {
                    Drawn::Group(*times, self.items_of(body, shape))
                }
            });
        }
        drawn
    }

    fn connect(
        &mut self,
        values: &Values<'_>,
        block: &Block,
        producers: &BTreeMap<ValueId, usize>,
        stands_for: &[usize],
    ) {
        let inputs: BTreeMap<ValueId, usize> =
            values.parts.inputs.iter().enumerate().map(|(i, port)| (port.value, i)).collect();
        for (index, node) in block.nodes.iter().enumerate() {
            let to = self.drawn[index];
            for value in reads(node) {
                let from = match producers.get(&value) {
                    Some(&producer) => self.drawn[producer],
                    None => match inputs.get(&value) {
                        Some(&input) => input,
                        None => continue,
                    },
                };
                // Boxes are in program order, so what goes back goes on to the next repetition.
                let is_carried = from >= to;
                let is_first = stands_for[index] == index;
                if is_first || is_carried {
                    self.arrows.insert(Arrow { from, to, is_carried });
                }
            }
        }
    }

    fn program(self, name: &'static str) -> Program {
        let Self { boxes, items, arrows, nodes, .. } = self;
        Program { name, boxes, items, arrows, nodes }
    }
}

/// The node that makes each value of a block.
fn producers(block: &Block) -> BTreeMap<ValueId, usize> {
    let nodes = block.nodes.iter().enumerate();
    nodes.flat_map(|(i, node)| node.outputs.iter().flatten().map(move |&out| (out, i))).collect()
}

/// What is compared of each node, with equal doings under equal numbers.
fn signatures(
    values: &Values<'_>,
    block: &Block,
    producers: &BTreeMap<ValueId, usize>,
) -> Vec<Signature> {
    let inputs = &values.parts.inputs;
    let place = |value: &ValueId| match producers.get(value) {
        Some(&node) => Some(node as i64),
        None => {
            let input = inputs.iter().position(|port| port.value == *value)?;
            Some(input as i64 - inputs.len() as i64)
        }
    };
    let mut kinds = BTreeMap::<String, usize>::new();
    let mut signature = |node: &Node| {
        let operand = |value: &ValueId| match values.weights.get(value) {
            Some(&row) => {
                let weight = &values.parts.weights[row];
                let role = Role::of(weight, values.parts.flags);
                format!(" {}{:?} {role:?}", weight.dtype, weight.shape)
            }
            None => match values.prepared.get(value).filter(|_| !producers.contains_key(value)) {
                Some((_, of)) => format!(" prepared of {}", of.len()),
                None => " value".to_owned(),
            },
        };
        let reads = reads(node);
        let attrs = node.attrs.iter().map(|(name, attr)| format!(" {name}={}", doing(attr)));
        let operands: String = reads.iter().map(operand).collect();
        let kind = format!("{} {}{}{operands}", node.op, node.version, attrs.collect::<String>());
        let next = kinds.len();
        Signature {
            kind: *kinds.entry(kind).or_insert(next),
            producers: reads.iter().map(place).collect(),
            path: node.name.clone(),
        }
    };
    block.nodes.iter().map(&mut signature).collect()
}

/// An attribute as text; of a block its operators, since its values have other numbers in every other block.
fn doing(attr: &Attr) -> String {
    let Attr::Block(block) = attr else { return format!("{attr:?}") };
    let mut ops = Vec::new();
    each_node(block, &mut |node| ops.push(node.op.as_str()));
    ops.join(" ")
}

/// Lets the nodes of the first of several blocks stand for those of the others.
fn represent(items: &[Item], stands_for: &mut [usize]) {
    fn first(items: &[Item]) -> usize {
        match &items[0] {
            Item::Node(index) => *index,
            Item::Repeat { body, .. } => first(body),
        }
    }
    for item in items {
        let Item::Repeat { times, period, body } = item else { continue };
        let start = first(body);
        represent(body, stands_for);
        for offset in 0..(times - 1) * period {
            let index = start + period + offset;
            stands_for[index] = stands_for[index - period];
        }
    }
}

/// The nodes that each one stands for, itself included.
fn stood_for(stands_for: &[usize]) -> BTreeMap<usize, Vec<usize>> {
    let mut same = BTreeMap::<usize, Vec<usize>>::new();
    for (index, &first) in stands_for.iter().enumerate() {
        same.entry(first).or_default().push(index);
    }
    same
}

/// The box of nodes that do the same.
fn shape(
    values: &Values<'_>,
    nodes: &[&Node],
    is_prepare: bool,
    options: &PictureOptions,
) -> Shape {
    let first = nodes[0];
    let inner: usize = blocks(first)
        .map(|block| {
            let mut count = 0;
            each_node(block, &mut |_| count += 1);
            count
        })
        .sum();
    let title = match inner {
        0 => first.op.clone(),
        inner => format!("{} with {inner} nodes inside", first.op),
    };
    let operands: Vec<Vec<ValueId>> = nodes.iter().map(|node| reads(node)).collect();
    let mut chips = Vec::<Chip>::new();
    for place in 0..operands[0].len() {
        let of = operands.iter().filter_map(|values| values.get(place));
        let each: Vec<Chip> = of.filter_map(|&value| values.chip(value, is_prepare)).collect();
        let Some(one) = each.first() else { continue };
        let texts: Vec<&str> = each.iter().map(|chip| chip.text.as_str()).collect();
        let rows: BTreeSet<usize> = each.iter().flat_map(|chip| chip.weights.clone()).collect();
        let (role, text, weights) = (one.role, starred(&texts), rows.into_iter().collect());
        let chip = Chip { role, text, weights };
        if !chips.contains(&chip) {
            chips.push(chip);
        }
    }
    let is_marked = chips
        .iter()
        .flat_map(|chip| &chip.weights)
        .any(|&row| options.marked.contains(&values.parts.weights[row].name))
        || nodes.iter().any(|node| options.marked_nodes.contains(&node.name));
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    Shape { kind: Kind::Node, title, name: starred(&names), chips, is_marked }
}

/// What texts have in common at both ends, with a star for what is between.
fn starred(texts: &[&str]) -> String {
    let first = texts[0];
    if texts.iter().all(|text| *text == first) {
        return first.to_owned();
    }
    let (mut head, mut tail) = (first.len(), first.len());
    for text in &texts[1..] {
        let same = |(a, b): &(char, char)| a == b;
        let front = first.chars().zip(text.chars()).take_while(same);
        head = head.min(front.map(|(c, _)| c.len_utf8()).sum());
        let back = first.chars().rev().zip(text.chars().rev()).take_while(same);
        tail = tail.min(back.map(|(c, _)| c.len_utf8()).sum());
    }
    let shortest = texts.iter().map(|text| text.len()).min().unwrap_or(0);
    let tail = tail.min(shortest.saturating_sub(head));
    // The end may be in the middle of a character only if the beginning took a part of it, which is then common too.
    let end = first.get(first.len() - tail..).unwrap_or_default();
    format!("{}*{end}", &first[..head])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_a_star() {
        for (texts, expected) in [
            (&["a.0.w", "a.1.w", "a.11.w"][..], "a.*.w"),
            (&["same", "same"], "same"),
            (&["abc"], "abc"),
            (&["aa", "aaa"], "aa*"),
            (&["é1", "é2"], "é*"),
            (&["1é", "2é"], "*é"),
        ] {
            assert_eq!(starred(texts), expected, "{texts:?}");
        }
    }
}
