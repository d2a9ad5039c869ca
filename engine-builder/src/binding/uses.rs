//! Where a graph reads its constants.

use super::index::Index;
use super::{pair::by_name, path};
use crate::graph::{Graph, blocks_mut, for_each_use};
use crate::import::{Origin, Origins};
use engine_format::{Block, Node, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// One operand that reads a constant. Operands of equal [`Place`]s, the copies that import makes of one node, are one use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use {
    pub(super) place: Place,
    /// The module that the node belongs to, where its path says so.
    pub(super) module: Option<Vec<String>>,
    /// The name of what an `Identity` makes of it: exporters that merge equal parameters leave such nodes, whose results bear the
    /// parameters' names.
    pub(super) renamed: Option<String>,
    /// The operator and the operand that say what is used: those of the place, and behind an `Identity` those of its consumer.
    pub(super) role: (String, usize),
    /// Tensors of the checkpoint that the framework's operator reads, where the exporter says so.
    pub(super) reads: Option<BTreeSet<String>>,
    /// The framework's operator that gave what is used here, where the exporter says that it was one: `add`.
    pub(super) calculated: Option<String>,
    /// What is equal to the initializer and was merged with it, and is not what the initializer is called after.
    pub(super) other: Option<Other>,
}

/// What an exporter merges with a parameter that has the same contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Other {
    /// Something that it calculated, of parameters perhaps.
    Calculated,
    /// An operand of its own making, where the framework's operator has none.
    MadeUp,
}

/// A node of the model, the operator that import wrote for it, and the operand.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) node: String,
    pub(super) op: String,
    pub(super) operand: usize,
}

impl Use {
    fn of(place: Place, origins: &Origins, mangled: &Mangled<'_>) -> Self {
        let origin = origins.get(&place.node);
        let module = origin
            .map(|origin| origin.module.clone())
            .or_else(|| path::module_of_node(&place.node));
        let made_up = |origin: &Origin| {
            place.op == "InstanceNormalization" && origin.target.contains("group_norm")
        };
        Self {
            module,
            renamed: None,
            role: (place.op.clone(), place.operand),
            reads: origin.map(|origin| mangled.read_by(origin)),
            calculated: origin.and_then(|origin| calculated(origin, &place)),
            other: origin.filter(|origin| made_up(origin)).map(|_| Other::MadeUp),
            place,
        }
    }
}

/// The operator that gave an operand of a node that stands for a call of two values, as that call's argument is named after it: `add_4`.
fn calculated(origin: &Origin, place: &Place) -> Option<String> {
    let is_same = origin
        .target
        .strip_prefix("torch.ops.aten.")?
        .strip_suffix(".Tensor")?
        .eq_ignore_ascii_case(&place.op);
    let [_, _] = &*origin.arguments else { return None };
    let argument = origin.arguments.get(place.operand).filter(|_| is_same)?;
    if argument.starts_with("p_") || argument.starts_with("b_") || argument.starts_with("c_") {
        return None;
    }
    let name = argument.rsplit_once('_').filter(|(_, n)| n.bytes().all(|b| b.is_ascii_digit()));
    Some(name.map_or(argument.as_str(), |(name, _)| name).to_owned())
}

impl Place {
    fn of(node: &Node, operand: usize) -> Self {
        // Nodes that import adds are called `PATH#1`.
        let name = node.name.rsplit_once('#').map_or(node.name.as_str(), |(path, _)| path);
        Self { node: name.to_owned(), op: node.op.clone(), operand }
    }

    /// Where a constant is itself the result of the graph or of a block.
    fn result(of: &str, index: usize) -> Self {
        Self { node: of.to_owned(), op: "result".to_owned(), operand: index }
    }
}

/// The checkpoint's names as PyTorch's graphs write them: `layer1.0.bn1.weight` is `layer1_0_bn1_weight`.
struct Mangled<'a>(BTreeMap<String, &'a str>);

fn mangled(name: &str) -> String {
    let mangle = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    name.chars().map(mangle).collect()
}

impl<'a> Mangled<'a> {
    fn of(index: &'a Index<'_>) -> Self {
        let mut names = BTreeMap::new();
        let mut twice = BTreeSet::new();
        for name in index.names() {
            if names.insert(mangled(name), name).is_some() {
                twice.insert(mangled(name));
            }
        }
        names.retain(|name, _| !twice.contains(name));
        Self(names)
    }

    /// The tensor of the longest name with which `read` ends: what is exported may be wrapped.
    fn tensor(&self, read: &str) -> Option<&'a str> {
        let read = mangled(read);
        let starts = read.match_indices('_').map(|(at, _)| at + 1);
        let mut ends = std::iter::once(0).chain(starts).map(|start| &read[start..]);
        ends.find_map(|end| self.0.get(end)).copied()
    }

    /// The tensors that an operator of the framework reads.
    fn read_by(&self, origin: &Origin) -> BTreeSet<String> {
        let tensors = origin.reads.iter().filter_map(|read| self.tensor(read));
        tensors.map(str::to_owned).collect()
    }
}

/// The nodes that read a value, with the operand; a nested block counts as an operand that no operator has.
type Consumers<'a> = BTreeMap<ValueId, Vec<(&'a Node, usize)>>;

fn consumers(nodes: &[Node]) -> Consumers<'_> {
    let mut all = Consumers::new();
    for node in nodes {
        for (operand, id) in node.inputs.iter().enumerate() {
            if let Some(id) = id {
                all.entry(*id).or_default().push((node, operand));
            }
        }
        // What a nested block reads is read once more, by no operand.
        for block in crate::graph::blocks(node) {
            block.nodes.iter().for_each(|inner| {
                for_each_use(inner, &mut |id| all.entry(id).or_default().push((node, usize::MAX)));
            });
        }
    }
    all
}

/// Every use of every value, each once, in the order of the program.
pub(super) fn uses(
    graph: &Graph,
    origins: &Origins,
    index: &Index<'_>,
) -> BTreeMap<ValueId, Vec<Use>> {
    let mut all = BTreeMap::<ValueId, Vec<Use>>::new();
    let mut copy = graph.clone();
    let mangled = Mangled::of(index);
    let consumers = consumers(&graph.execute);
    let identities = graph.execute.iter().filter(|node| node.op == "Identity");
    let mut renames = BTreeMap::<&str, Vec<ValueId>>::new();
    for node in identities {
        renames.entry(&node.name).or_default().extend(node.outputs.iter().flatten());
    }
    let is_parameter = |name: &str| index.names().any(|tensor| by_name(name, tensor).is_some());
    replace(&mut copy, &mut |place, id| {
        let mut found = Use::of(place, origins, &mangled);
        if let ("Identity", Some([result])) =
            (found.place.op.as_str(), renames.get(found.place.node.as_str()).map(Vec::as_slice))
        {
            let name = &graph.value(*result).name;
            let read_by = consumers.get(result).map_or(&[][..], Vec::as_slice);
            match read_by {
                _ if is_parameter(name) => found.renamed = Some(name.clone()),
                [(node, operand)] if *operand != usize::MAX => {
                    let place = std::mem::replace(&mut found.place, Place::of(node, *operand));
                    found = Use::of(found.place, origins, &mangled);
                    found.place = place;
                    found.other = found.other.or(Some(Other::Calculated));
                }
                _ => found.other = Some(Other::Calculated),
            }
        }
        let uses = all.entry(id).or_default();
        if !uses.contains(&found) {
            uses.push(found);
        }
        id
    });
    all
}

/// Calls `choose` for every operand and result and puts what it gives in its place.
pub(super) fn replace(graph: &mut Graph, choose: &mut dyn FnMut(Place, ValueId) -> ValueId) {
    in_nodes(&mut graph.execute, choose);
    for (i, output) in graph.outputs.iter_mut().enumerate() {
        output.value = choose(Place::result(&output.name, i), output.value);
    }
}

fn in_nodes(nodes: &mut [Node], choose: &mut dyn FnMut(Place, ValueId) -> ValueId) {
    for node in nodes {
        for operand in 0..node.inputs.len() {
            if let Some(id) = node.inputs[operand] {
                node.inputs[operand] = Some(choose(Place::of(node, operand), id));
            }
        }
        let name = node.name.clone();
        blocks_mut(node).for_each(|block| in_block(block, &name, choose));
    }
}

fn in_block(block: &mut Block, name: &str, choose: &mut dyn FnMut(Place, ValueId) -> ValueId) {
    in_nodes(&mut block.nodes, choose);
    for (i, output) in block.outputs.iter_mut().enumerate() {
        *output = choose(Place::result(name, i), *output);
    }
}
