//! Graph → engine: values are renumbered, constants become the weight table and the literals.

use crate::binding::Bound;
use crate::classify::Sources;
use crate::error::BuildError;
use crate::graph::{Constant, ConstantClass, FRESH, Graph, empty_types, for_each_use};
use crate::import::attrs::element_number;
use crate::options::{BuildOptions, RefitMode};
use engine_format::{
    Alias, Attr, Attrs, Block, Bytes, Digest, Dim, Engine, EngineFlags, EngineParts, Form, Literal,
    Node, Port, SourceLiteral, Tensor, ValueId, Weight, WeightClass, WeightData,
};
use engine_onnx::{Model, ValueInfo};
use glob::Pattern;
use std::collections::{BTreeMap, BTreeSet};

/// Turns a finished graph into an engine.
///
/// Values are numbered inputs first, then literals, weights by name, and results in the order of the programs, so that
/// the same model and options always give the same engine.
pub(crate) fn assemble(
    model: &Model,
    graph: Graph,
    sources: &Sources,
    bound: &Bound,
    options: &BuildOptions,
    refit_only: &[Pattern],
) -> Result<Engine, BuildError> {
    let mut flags = match options.refit {
        RefitMode::All if refit_only.is_empty() => EngineFlags::REFIT,
        RefitMode::All => EngineFlags::REFIT_INDIVIDUAL,
        RefitMode::Identical => EngineFlags::REFIT_IDENTICAL,
        RefitMode::None => EngineFlags::empty(),
    };
    flags |= options.precision.flag();
    let mut numbers = Numbers::default();
    let inputs = graph.inputs.iter().map(|&id| port(&graph, graph.value(id).name.clone(), id));
    let mut inputs: Vec<Port> = inputs.collect();
    inputs.iter_mut().for_each(|port| port.value = numbers.define(port.value));
    let literals = literals(&graph, &mut numbers);
    let mut weights = weights(&graph, sources, bound, flags, &mut numbers);
    mark_refittable(&mut weights, flags, refit_only)?;
    flags.set(EngineFlags::EXCLUDE_WEIGHTS, options.strip);
    weights.iter_mut().for_each(|weight| store(weight, sources, flags));
    let prepare_outputs = prepared_values(&graph);
    let prepare = numbers.nodes(&graph, &graph.prepare);
    let execute = numbers.nodes(&graph, &graph.execute);
    let outputs = graph.outputs.iter().zip(&model.graph.outputs).map(|(output, declared)| {
        let Port { name, value, form, dtype, shape } =
            port(&graph, output.name.clone(), output.value);
        let shape = readable_shape(&name, shape, declared.shape.as_deref());
        let form = declared_form(form, declared);
        Port { name, value: numbers.of(value), form, dtype, shape }
    });
    let outputs: Vec<Port> = outputs.collect();
    let results = outputs.iter().map(|port| port.value).collect();
    let prepared = prepare_outputs.iter().map(|&id| numbers.of(id)).collect();
    let ignored = ignored(model, &weights, sources, bound);
    let parts = EngineParts {
        flags,
        metadata: model.metadata.clone(),
        inputs,
        outputs,
        values: numbers.count,
        literals,
        weights,
        prepare: Block { inputs: Vec::new(), nodes: prepare, outputs: prepared },
        execute: Block { inputs: Vec::new(), nodes: execute, outputs: results },
        source_literals: source_literals(sources),
        ignored,
    };
    Engine::new(parts).map_err(|error| BuildError::internal(error.to_string()))
}

/// Numbers of an engine's values by the graph's.
#[derive(Default)]
struct Numbers {
    of: BTreeMap<ValueId, ValueId>,
    count: u32,
}

impl Numbers {
    /// A number for a value that the graph does not have.
    fn fresh(&mut self) -> ValueId {
        self.count += 1;
        ValueId(self.count - 1)
    }

    fn define(&mut self, id: ValueId) -> ValueId {
        let number = self.fresh();
        self.of.insert(id, number);
        number
    }

    fn of(&self, id: ValueId) -> ValueId {
        *self.of.get(&id).expect("verified graphs define every value before its use")
    }

    fn nodes(&mut self, graph: &Graph, nodes: &[Node]) -> Vec<Node> {
        nodes.iter().map(|node| self.node(graph, node)).collect()
    }

    fn node(&mut self, graph: &Graph, node: &Node) -> Node {
        let inputs = node.inputs.iter().map(|id| id.map(|id| self.of(id))).collect();
        let attrs = node.attrs.iter().map(|(name, attr)| {
            let attr = match attr {
                Attr::Block(block) => Attr::Block(self.block(graph, block)),
                attr => attr.clone(),
            };
            (name.clone(), attr)
        });
        let mut attrs: Attrs = attrs.collect();
        if let Some(types) = empty_types(graph, node, element_number) {
            attrs.insert("empty_types".to_owned(), Attr::Ints(types));
        }
        let outputs = node.outputs.iter().map(|id| id.map(|id| self.define(id))).collect();
        Node { inputs, outputs, attrs, ..node.clone() }
    }

    fn block(&mut self, graph: &Graph, block: &Block) -> Block {
        let inputs = block.inputs.iter().map(|&id| self.define(id)).collect();
        let nodes = self.nodes(graph, &block.nodes);
        let outputs = block.outputs.iter().map(|&id| self.of(id)).collect();
        Block { inputs, nodes, outputs }
    }
}

fn port(graph: &Graph, name: String, value: ValueId) -> Port {
    let (form, facts) = (graph.value(value).form, graph.facts(value));
    Port { name, value, form, dtype: facts.dtype, shape: facts.shape.clone() }
}

/// The form of an output that may be absent as far as inference knows, but not as the model has it: a loop over a value that is
/// absent at first gives one that is there.
fn declared_form(inferred: Form, declared: &ValueInfo) -> Form {
    let same_kind = declared.form.required() == inferred.required();
    if same_kind && declared.dtype.is_some() { declared.form } else { inferred }
}

/// The shape of an output with the model's own symbols where inference has only made-up ones. Sizes are those inferred:
/// exporters write down those of their example.
fn readable_shape(
    output: &str,
    inferred: Option<Vec<Dim>>,
    declared: Option<&[Dim]>,
) -> Option<Vec<Dim>> {
    let rank = inferred.as_ref().map(Vec::len).or(declared.map(<[Dim]>::len))?;
    let dim = |axis: usize| {
        let inferred = inferred.as_ref().map(|dims| &dims[axis]);
        if let Some(dim) = inferred.filter(|dim| !dim.to_string().contains(FRESH)) {
            return dim.clone();
        }
        let declared = declared.and_then(|dims| dims.get(axis));
        match declared.filter(|dim| dim.as_symbol().is_some()) {
            Some(symbol) => symbol.clone(),
            None => Dim::symbol(&format!("{output}[{axis}]")),
        }
    };
    Some((0..rank).map(dim).collect())
}

fn literals(graph: &Graph, numbers: &mut Numbers) -> Vec<Literal> {
    let literal = |(&id, constant): (&ValueId, &Constant)| match constant.class {
        ConstantClass::Literal => {
            Some(Literal { value: numbers.define(id), tensor: owned(&constant.tensor) })
        }
        _ => None,
    };
    graph.constants.iter().filter_map(literal).collect()
}

/// The weight table, sorted by name: weights that the programs use, parameters whose value a pass read, and under
/// `REFIT_IDENTICAL` those that passes made unnecessary too, so that a fill still checks them.
fn weights(
    graph: &Graph,
    sources: &Sources,
    bound: &Bound,
    flags: EngineFlags,
    numbers: &mut Numbers,
) -> Vec<Weight> {
    let in_graph: BTreeMap<&str, ValueId> = graph
        .constants
        .iter()
        .filter_map(|(&id, constant)| Some((constant.source.as_deref()?, id)))
        .collect();
    let mut table = Vec::new();
    for (name, constant) in sources {
        let ConstantClass::Weight { parameter, pinned } = &constant.class else { continue };
        let read = graph.pinned.get(name);
        let value = match in_graph.get(name.as_str()) {
            Some(&id) => numbers.define(id),
            None if flags.contains(EngineFlags::REFIT_IDENTICAL) || read.is_some() => {
                numbers.fresh()
            }
            None => continue,
        };
        table.push(Weight {
            name: name.clone(),
            aliases: bound.aliases.get(name).cloned().unwrap_or_default(),
            value,
            dtype: constant.tensor.dtype(),
            shape: constant.tensor.shape().to_vec(),
            class: if *parameter { WeightClass::Parameter } else { WeightClass::Weight },
            pinned: pinned.as_ref().or(read).cloned(),
            refittable: !flags.is_frozen(),
            digest: None,
            data: WeightData::Missing,
        });
    }
    table
}

/// Gives a row of the table its bytes and their digest, as far as an engine of these flags has them.
fn store(weight: &mut Weight, sources: &Sources, flags: EngineFlags) {
    let tensor = &sources[&weight.name].tensor;
    if !flags.contains(EngineFlags::EXCLUDE_WEIGHTS) || !weight.is_strippable() {
        let own = owned(tensor);
        weight.digest = Some(Digest::of(own.bytes()));
        weight.data = WeightData::Stored(own.bytes().clone());
    } else if flags.contains(EngineFlags::REFIT_IDENTICAL) {
        weight.digest = Some(Digest::of(tensor.bytes()));
    }
}

/// A copy that outlives the model's files and does not change with them: what is digested is what is used.
fn owned(tensor: &Tensor) -> Tensor {
    Tensor::new(tensor.dtype(), tensor.shape(), Bytes::copy_from(tensor.bytes()))
        .expect("the same bytes under the same type")
}

/// Under `REFIT_INDIVIDUAL` the mark is what the patterns match.
fn mark_refittable(
    weights: &mut [Weight],
    flags: EngineFlags,
    patterns: &[Pattern],
) -> Result<(), BuildError> {
    if !flags.contains(EngineFlags::REFIT_INDIVIDUAL) {
        return Ok(());
    }
    for weight in &mut *weights {
        let matches = patterns.iter().any(|pattern| pattern.matches(&weight.name));
        weight.refittable = matches && weight.pinned.is_none();
    }
    if weights.iter().any(Weight::is_strippable) {
        return Ok(());
    }
    let patterns: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
    let large = |w: &&Weight| w.class == WeightClass::Weight && w.pinned.is_none();
    let names: Vec<&str> = weights.iter().filter(large).map(|w| w.name.as_str()).collect();
    Err(BuildError::options(format!(
        "no weight matches the patterns {patterns:?}; there are {} weights: {}",
        names.len(),
        names.iter().take(16).copied().collect::<Vec<_>>().join(", ")
    )))
}

/// Results of `prepare` that are read outside it, in the order in which they are made.
fn prepared_values(graph: &Graph) -> Vec<ValueId> {
    let mut used: BTreeSet<ValueId> = graph.outputs.iter().map(|output| output.value).collect();
    for node in &graph.execute {
        for_each_use(node, &mut |id| {
            used.insert(id);
        });
    }
    let made = graph.prepare.iter().flat_map(|node| node.outputs.iter().flatten());
    made.copied().filter(|id| used.contains(id)).collect()
}

fn source_literals(sources: &Sources) -> Vec<SourceLiteral> {
    let literal = |(name, constant): (&String, &Constant)| match constant.class {
        ConstantClass::Literal => {
            Some(SourceLiteral { name: name.clone(), tensor: owned(&constant.tensor) })
        }
        _ => None,
    };
    sources.iter().filter_map(literal).collect()
}

/// Constants of the model, and tensors of the checkpoint it was bound to, that the engine has no use for. A constant that is called as a
/// weight is, and is not that weight, is one of them.
fn ignored(model: &Model, weights: &[Weight], sources: &Sources, bound: &Bound) -> Vec<String> {
    let mut names: BTreeSet<String> =
        model.constants().into_iter().map(|constant| constant.name).collect();
    weights.iter().flat_map(|w| &w.aliases).flat_map(Alias::names).for_each(|name| {
        names.remove(name);
    });
    names.extend(bound.unused.iter().cloned());
    for weight in weights.iter().filter(|weight| !bound.renamed.contains(&weight.name)) {
        names.remove(&weight.name);
    }
    let literal = |constant: &Constant| constant.class == ConstantClass::Literal;
    for (name, _) in sources.iter().filter(|(_, constant)| literal(constant)) {
        names.remove(name);
    }
    names.into_iter().collect()
}
