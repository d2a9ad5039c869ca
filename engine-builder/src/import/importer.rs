//! Walks the model's graphs and writes nodes.

use super::origin::{Origin, Origins};
use super::{adapters, attrs, call::Call, inputs, unsupported};
use crate::error::{BuildError, BuildErrorKind};
use crate::graph::{Constant, ConstantClass, Declared, Graph, Output, check_operands};
use crate::options::BuildOptions;
use crate::report::Notes;
use engine_format::{Attr, Attrs, DType, Node, Tensor, ValueId};
use engine_onnx::{AttrValue, Graph as OnnxGraph, Model, Node as OnnxNode, TensorData, ValueInfo};
use engine_ops::infer::Facts;
use engine_ops::{OpDef, OpError};
use std::collections::{BTreeMap, BTreeSet};

/// A translated model.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The graph; its constants are not classified yet.
    pub(crate) graph: Graph,
    /// Values whose contents decided what import wrote, beside those that the operator table says decide shapes.
    pub(crate) decided: BTreeSet<ValueId>,
    /// What the engine gives in another form than the model says.
    pub(crate) notes: Notes,
    /// Constants that a layer learns, of operators that were taken apart: the scales of quantised weights.
    pub(crate) learned: BTreeSet<ValueId>,
    /// What the exporter says of where nodes come from, by their paths.
    pub(crate) origins: Origins,
}

/// How often a model is translated anew because of two branches the wrong one was taken for the one that fits.
const MOST_TRIES: usize = 16;

/// Translates a model. Constants are not classified yet.
pub(crate) fn import(model: &Model, options: &BuildOptions) -> Result<Imported, BuildError> {
    if let Some((report, nodes)) = unsupported::report(model) {
        return Err(BuildError::unsupported(report, nodes));
    }
    let mut importer = Importer::default();
    let error = match importer.model(model, options) {
        Err(error) if error.kind() == BuildErrorKind::InvalidNode => error,
        done => return done.map(|()| importer.finish()),
    };
    let alone = importer.undecided.iter().rev().map(|path| BTreeSet::from([path.clone()]));
    let all = importer.undecided.iter().cloned().collect();
    for first_refused in alone.chain([all]).take(MOST_TRIES).filter(|paths| !paths.is_empty()) {
        let mut importer = Importer { first_refused, ..Importer::default() };
        if importer.model(model, options).is_ok() {
            return Ok(importer.finish());
        }
    }
    Err(error)
}

pub(super) fn undefined(output: &str) -> BuildError {
    BuildError::model(format!("nothing defines output {output:?}"))
}

/// Names of one graph, and what the model declares of them.
#[derive(Default)]
pub(super) struct Scope {
    prefix: String,
    values: BTreeMap<String, ValueId>,
    pub(super) declared: BTreeMap<String, Declared>,
}

/// The state of an import: the graph, the block being written, the names in sight.
#[derive(Default)]
pub(super) struct Importer {
    pub(super) graph: Graph,
    /// Nodes of the blocks being written, the innermost last.
    pub(super) blocks: Vec<Vec<Node>>,
    /// Innermost last.
    pub(super) scopes: Vec<Scope>,
    /// Values whose contents decided what was written.
    pub(super) decided: BTreeSet<ValueId>,
    /// Ifs whose branches give different types, and the model does not say which.
    pub(super) undecided: Vec<String>,
    /// Those of them whose first branch is taken not to fit.
    pub(super) first_refused: BTreeSet<String>,
    /// What was written in another form than the model says.
    pub(super) notes: Notes,
    /// Constants that a layer learns, of operators that were taken apart.
    pub(super) learned: BTreeSet<ValueId>,
    /// What the exporter says of where nodes come from.
    origins: Origins,
}

impl Importer {
    /// Translates a whole model.
    fn model(&mut self, model: &Model, options: &BuildOptions) -> Result<(), BuildError> {
        self.notes.begin("import");
        self.blocks.push(Vec::new());
        self.enter(&model.graph);
        for (name, typed) in inputs::inputs(model, options)? {
            let id = self.graph.add_input(&name, typed.facts);
            self.graph.value_mut(id).form = typed.form;
            self.bind(&name, id);
        }
        self.body(&model.graph)?;
        let mut seen = BTreeSet::new();
        // An output that is listed again has the same value: one of a name is enough.
        for output in model.graph.outputs.iter().filter(|output| seen.insert(&output.name)) {
            let value = self.resolve(&output.name).ok_or_else(|| undefined(&output.name))?;
            self.graph.outputs.push(Output { name: output.name.clone(), value });
        }
        self.graph.execute = self.blocks.pop().expect("the main graph's block is still there");
        Ok(())
    }

    fn finish(self) -> Imported {
        let Self { graph, decided, learned, notes, origins, .. } = self;
        Imported { graph, decided, learned, notes, origins }
    }

    pub(super) fn enter(&mut self, graph: &OnnxGraph) {
        let infos = graph.value_info.iter().chain(&graph.outputs);
        let declared = infos.filter_map(|info| Some((info.name.clone(), declared(info)?)));
        self.scopes.push(Scope {
            prefix: graph.scope.clone(),
            values: BTreeMap::new(),
            declared: declared.collect(),
        });
    }

    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("a graph is being imported")
    }

    pub(super) fn qualify(&mut self, name: &str) -> String {
        format!("{}{name}", self.scope().prefix)
    }

    pub(super) fn bind(&mut self, name: &str, id: ValueId) {
        self.scope().values.insert(name.to_owned(), id);
    }

    pub(super) fn resolve(&self, name: &str) -> Option<ValueId> {
        self.scopes.iter().rev().find_map(|scope| scope.values.get(name)).copied()
    }

    /// Constants and nodes of a graph whose inputs are bound.
    pub(super) fn body(&mut self, graph: &OnnxGraph) -> Result<(), BuildError> {
        for initializer in &graph.initializers {
            // One that is an input too was bound as the input if the caller keeps it.
            if !self.scope().values.contains_key(&initializer.name) {
                self.constant(&initializer.name, &initializer.data, false)?;
            }
        }
        graph.nodes.iter().try_for_each(|node| self.node(node))
    }

    /// A constant with a name of the model.
    fn constant(&mut self, name: &str, data: &TensorData, is_node: bool) -> Result<(), BuildError> {
        let qualified = self.qualify(name);
        let constant = Constant {
            tensor: data.tensor()?,
            source: Some(qualified.clone()),
            class: ConstantClass::Unclassified,
            is_node,
        };
        let id = self.graph.add_constant(qualified, constant);
        self.bind(name, id);
        Ok(())
    }

    fn node(&mut self, node: &OnnxNode) -> Result<(), BuildError> {
        if node.is_constant() {
            return match (node.constant(), node.outputs.as_slice()) {
                (Some(data), [output]) => self.constant(output, data, true),
                _ => Err(BuildError::model(format!("Constant {:?} has no value", node.name))),
            };
        }
        let path = self.qualify(&node.name);
        if let Some(origin) = Origin::of(&node.metadata) {
            self.origins.insert(path.clone(), origin);
        }
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for name in &node.inputs {
            inputs.push(match name.as_str() {
                "" => None,
                name => Some(self.resolve(name).ok_or_else(|| {
                    BuildError::model(format!(
                        "node {path:?} ({}) uses {name:?}, which nothing before it defines",
                        node.op_type
                    ))
                })?),
            });
        }
        match engine_ops::lookup_onnx(&node.domain, &node.op_type, node.opset) {
            Some(def) if self.takes(def, &inputs) || !adapters::has(node) => {
                let Some(attrs) = self.attrs(def, node, &path, &inputs)? else { return Ok(()) };
                self.write(def, node, &path, inputs, attrs, &BTreeMap::new())
            }
            _ => self.adapt(node, &path, inputs),
        }
    }

    /// Whether the first operand has an element type that the row takes.
    fn takes(&self, def: &OpDef, inputs: &[Option<ValueId>]) -> bool {
        let first = inputs.first().copied().flatten();
        first.is_none_or(|id| def.takes(self.graph.facts(id).dtype))
    }

    /// Writes the node that gives an ONNX node's results, with their names and declared types, but for those that are `given`
    /// by other nodes.
    pub(super) fn write(
        &mut self,
        def: &'static OpDef,
        node: &OnnxNode,
        path: &str,
        inputs: Vec<Option<ValueId>>,
        attrs: Attrs,
        given: &BTreeMap<usize, ValueId>,
    ) -> Result<(), BuildError> {
        let described = inputs.clone();
        for (&i, &value) in given {
            if let Some(name) = node.outputs.get(i).filter(|name| !name.is_empty()) {
                self.bind(name, value);
            }
        }
        let own = |&i: &usize| !node.outputs[i].is_empty() && !given.contains_key(&i);
        let asked = match def.variadic_output {
            // An operator that counts its results keeps them all.
            true => node.outputs.len().max(1),
            false => (0..node.outputs.len()).rev().find(own).map_or(1, |i| i + 1),
        };
        let mut outputs = Vec::with_capacity(asked);
        for (i, name) in node.outputs.iter().take(asked).enumerate() {
            // The first result always has a value: kernels write it whether it is read or not.
            outputs.push(match name.as_str() {
                _ if given.contains_key(&i) => None,
                "" if i > 0 => None,
                "" => Some(self.new_value(format!("{path}.0"))),
                name => {
                    let value = self.qualify(name);
                    let id = self.new_value(value);
                    let declared = self.scope().declared.get(name).copied();
                    self.graph.value_mut(id).declared = declared;
                    self.bind(name, id);
                    Some(id)
                }
            });
        }
        self.push(def, path.to_owned(), inputs, attrs, outputs)
            .map_err(|error| self.node_error(node, path, &described, &error))
    }

    fn adapt(
        &mut self,
        node: &OnnxNode,
        path: &str,
        inputs: Vec<Option<ValueId>>,
    ) -> Result<(), BuildError> {
        let adapter = adapters::find(&node.domain, &node.op_type, node.opset)
            .expect("import begins with a report of operators that neither table has");
        let mut call = Call::new(self, node, path, inputs.clone());
        let result = (adapter.run)(&mut call).and_then(|last| {
            call.reject_unread_attrs()?;
            Ok(last)
        });
        let fail =
            |importer: &Self, error: &OpError| importer.node_error(node, path, &inputs, error);
        let given = call.given();
        let last = result.map_err(|error| fail(self, &error))?;
        let attrs = last.def.normalise(last.attrs).map_err(|error| fail(self, &error))?;
        self.write(last.def, node, path, last.inputs, attrs, &given)
    }

    /// Attributes as the table's row takes them, nested graphs imported. `None` if the node was written in another way.
    fn attrs(
        &mut self,
        def: &'static OpDef,
        node: &OnnxNode,
        path: &str,
        inputs: &[Option<ValueId>],
    ) -> Result<Option<Attrs>, BuildError> {
        let mut out = Attrs::new();
        if def.name == "If" && !self.branches(node, path, inputs, &mut out)? {
            return Ok(None);
        }
        for (name, value) in &node.attrs {
            let attr = match value {
                AttrValue::Graph(_) if out.contains_key(name) => continue,
                AttrValue::Graph(graph) => {
                    Ok(Attr::Block(self.repeated(def, node, path, inputs, graph)?))
                }
                value => attrs::plain(name, value).map(|attr| attrs::fit(def, name, attr)),
            };
            let attr = attr.map_err(|error| self.node_error(node, path, inputs, &error))?;
            out.insert(name.clone(), attr);
        }
        let attrs = def.normalise(out);
        attrs.map(Some).map_err(|error| self.node_error(node, path, inputs, &error))
    }

    /// A value whose type is inferred when the node that gives it is written.
    pub(super) fn new_value(&mut self, name: String) -> ValueId {
        self.graph.add_value(name, Facts::unranked(DType::F32))
    }

    /// A literal that import makes.
    pub(super) fn literal(&mut self, name: String, tensor: Tensor) -> ValueId {
        self.graph.add_constant(name, Constant::literal(tensor))
    }

    /// Adds a node to the block being written and infers its results. Attributes are normalised.
    pub(super) fn push(
        &mut self,
        def: &'static OpDef,
        name: String,
        mut inputs: Vec<Option<ValueId>>,
        attrs: Attrs,
        outputs: Vec<Option<ValueId>>,
    ) -> Result<(), OpError> {
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        check_operands(def, &inputs)?;
        if outputs.len() > def.outputs.len() && !def.variadic_output {
            let (asked, max) = (outputs.len(), def.outputs.len());
            return Err(OpError::new(format!(
                "{asked} results are asked for, {} gives at most {max}",
                def.name
            )));
        }
        let (op, version) = (def.name.to_owned(), def.version);
        let node = Node { op, version, name, inputs, outputs, attrs };
        for (id, typed) in node.outputs.iter().zip(self.graph.infer(&node)?) {
            if let (Some(id), Some(typed)) = (id, typed) {
                self.graph.set_type(*id, typed);
            }
        }
        self.blocks.last_mut().expect("a block is being written").push(node);
        Ok(())
    }

    /// An error that says which node, over which operands.
    pub(super) fn node_error(
        &self,
        node: &OnnxNode,
        path: &str,
        inputs: &[Option<ValueId>],
        error: &OpError,
    ) -> BuildError {
        let operands = self.graph.operand_types(inputs).join(", ");
        let OnnxNode { op_type, opset, .. } = node;
        BuildError::new(
            BuildErrorKind::InvalidNode,
            format!("node {path:?} ({op_type}, opset {opset}): {error}; operands: {operands}"),
        )
    }
}

pub(super) fn declared(info: &ValueInfo) -> Option<Declared> {
    Some(Declared { dtype: info.dtype?, rank: info.shape.as_ref().map(Vec::len) })
}
