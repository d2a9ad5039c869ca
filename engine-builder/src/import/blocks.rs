//! Nested graphs: branches, and blocks that are repeated.

use super::attrs::element_number;
use super::importer::{Importer, declared, undefined};
use crate::error::{BuildError, BuildErrorKind};
use crate::graph::{Declared, Graph, Typed, join_typed, parameters, slice};
use engine_format::{Attr, Attrs, Block, Form, Node, Tensor, ValueId};
use engine_onnx::{AttrValue, Graph as OnnxGraph, Node as OnnxNode};
use engine_ops::control::{Arity, Ties};
use engine_ops::infer::Facts;
use engine_ops::{Kind, OpDef, OpError};
use std::collections::BTreeSet;

/// Parameters of a block to be written.
pub(super) struct Parameter {
    /// Name of the value.
    pub(super) name: String,
    /// What the model says of it.
    pub(super) declared: Option<Declared>,
}

/// A state to go back to.
struct Mark {
    graph: Graph,
    decided: BTreeSet<ValueId>,
    learned: BTreeSet<ValueId>,
    scopes: usize,
    blocks: usize,
    nodes: usize,
}

impl Importer {
    fn mark(&self) -> Mark {
        Mark {
            graph: self.graph.clone(),
            decided: self.decided.clone(),
            learned: self.learned.clone(),
            scopes: self.scopes.len(),
            blocks: self.blocks.len(),
            nodes: self.blocks.last().map_or(0, Vec::len),
        }
    }

    /// Forgets what was written since `mark`.
    fn go_back(&mut self, mark: Mark) {
        (self.graph, self.decided, self.learned) = (mark.graph, mark.decided, mark.learned);
        self.scopes.truncate(mark.scopes);
        self.blocks.truncate(mark.blocks);
        if let Some(block) = self.blocks.last_mut() {
            block.truncate(mark.nodes);
        }
    }

    /// Writes what `write` writes into a block of its own; gives its nodes and what `write` gives.
    fn in_block<T, E>(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<(Vec<Node>, T), E> {
        self.blocks.push(Vec::new());
        let done = write(self)?;
        let nodes = self.blocks.pop().expect("the block that was begun above");
        Ok((nodes, done))
    }

    /// What `write` gives; what it writes is forgotten.
    pub(super) fn try_out<T, E>(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let mark = self.mark();
        let found = self.in_block(write)?.1;
        self.go_back(mark);
        Ok(found)
    }

    /// The nodes of a nested graph as part of the block being written, its inputs being `operands`.
    pub(super) fn inline(
        &mut self,
        graph: &OnnxGraph,
        operands: &[ValueId],
    ) -> Result<Vec<ValueId>, BuildError> {
        if graph.inputs.len() != operands.len() {
            let (takes, given) = (graph.inputs.len(), operands.len());
            return Err(BuildError::model(format!(
                "the graph has {takes} inputs, {given} are given"
            )));
        }
        self.enter(graph);
        for (info, &operand) in graph.inputs.iter().zip(operands) {
            self.bind(&info.name, operand);
        }
        self.body(graph)?;
        let results = graph.outputs.iter().map(|output| {
            self.resolve(&output.name).ok_or_else(|| undefined(&graph.qualify(&output.name)))
        });
        let results = results.collect();
        self.scopes.pop();
        results
    }

    /// The branches of an If, as attributes. Where one is not a valid graph for the shapes that are, it becomes a refusal; if the
    /// condition is known too, the branch that is taken is written in the node's place; then `false`.
    pub(super) fn branches(
        &mut self,
        node: &OnnxNode,
        path: &str,
        inputs: &[Option<ValueId>],
        attrs: &mut Attrs,
    ) -> Result<bool, BuildError> {
        let condition = inputs.first().copied().flatten();
        let known = condition.and_then(|id| self.graph.known_tensor(id)?.to_i64s());
        let known = known.and_then(|flags| flags.first().map(|&flag| flag != 0));
        let mut refused: Option<(&str, BuildError)> = None;
        for (name, when) in [("else_branch", false), ("then_branch", true)] {
            let Some(AttrValue::Graph(graph)) = node.attrs.get(name) else { continue };
            let mark = self.mark();
            match self.in_block(|importer| importer.inline(graph, &[])) {
                Ok((nodes, outputs)) => {
                    let block = Block { inputs: Vec::new(), nodes, outputs };
                    attrs.insert(name.to_owned(), Attr::Block(block));
                }
                Err(error) if error.kind() != BuildErrorKind::InvalidNode => return Err(error),
                Err(error) => {
                    self.go_back(mark);
                    tracing::debug!(path, %error, "a branch of the If cannot run");
                    if known.is_some_and(|known| known != when) {
                        let taken = if when { "else_branch" } else { "then_branch" };
                        self.take_branch(node, path, inputs, taken)?;
                        return Ok(false);
                    }
                    // What is sure to be taken must run, and one of two must.
                    if known.is_some() || refused.is_some() {
                        return Err(refused.map_or(error, |(_, first)| first));
                    }
                    refused = Some((name, error));
                }
            }
        }
        if refused.is_none()
            && let Some(why) = self.disagreement(attrs)
        {
            if let Some(known) = known {
                let taken = if known { "then_branch" } else { "else_branch" };
                attrs.clear();
                self.take_branch(node, path, inputs, taken)?;
                return Ok(false);
            }
            let misfit = self.misfit(node, path, attrs);
            attrs.remove(misfit);
            refused = Some((misfit, self.node_error(node, path, inputs, &why)));
        }
        match refused {
            None => Ok(true),
            Some((name, error)) => {
                self.refuse(node, path, inputs, (name, error), attrs).map(|()| true)
            }
        }
    }

    /// Why the results of two branches cannot be those of one node, if they cannot.
    fn disagreement(&self, attrs: &Attrs) -> Option<OpError> {
        let (Some(Attr::Block(a)), Some(Attr::Block(b))) =
            (attrs.get("then_branch"), attrs.get("else_branch"))
        else {
            return None;
        };
        let pairs = a.outputs.iter().zip(&b.outputs).enumerate();
        pairs.into_iter().find_map(|(i, (&a, &b))| {
            let joined = join_typed(&self.graph.typed(a), &self.graph.typed(b), "");
            joined.err().map(|why| {
                OpError::new(format!("result {i} of then_branch and of else_branch: {why}"))
            })
        })
    }

    /// Of two branches whose results have different types the one that does not fit: it contradicts what it says of them itself, or
    /// what the model says of the node's. Where the model says nothing it is the second, unless nothing could follow then.
    fn misfit(&mut self, node: &OnnxNode, path: &str, attrs: &Attrs) -> &'static str {
        let of_node = |importer: &Self, i: usize| {
            importer.scopes.last()?.declared.get(node.outputs.get(i)?).copied()
        };
        let wrong = |importer: &Self, name: &str, own: bool| {
            let (Some(Attr::Block(block)), Some(AttrValue::Graph(graph))) =
                (attrs.get(name), node.attrs.get(name))
            else {
                return false;
            };
            block.outputs.iter().zip(&graph.outputs).enumerate().any(|(i, (&id, info))| {
                let said = if own { declared(info) } else { of_node(importer, i) };
                said.is_some_and(|said| said.dtype != importer.graph.facts(id).dtype)
            })
        };
        for own in [true, false] {
            match ["then_branch", "else_branch"].map(|name| wrong(self, name, own)) {
                [true, false] => return "then_branch",
                [false, true] => return "else_branch",
                _ => {}
            }
        }
        if !self.undecided.iter().any(|known| known == path) {
            self.undecided.push(path.to_owned());
        }
        if self.first_refused.contains(path) { "then_branch" } else { "else_branch" }
    }

    /// A refusal in the place of a branch, with results of the types that the other one gives. Such a type is that of a tensor, or
    /// the branch's own error is what the build ends with.
    fn refuse(
        &mut self,
        node: &OnnxNode,
        path: &str,
        inputs: &[Option<ValueId>],
        (name, error): (&str, BuildError),
        attrs: &mut Attrs,
    ) -> Result<(), BuildError> {
        let other = attrs.values().find_map(|attr| match attr {
            Attr::Block(block) => Some(block.outputs.clone()),
            _ => None,
        });
        let mut types = Vec::new();
        for id in other.unwrap_or_default() {
            let Typed { form: Form::Tensor, facts } = self.graph.typed(id) else {
                return Err(error);
            };
            types.push(element_number(facts.dtype));
        }
        let path_of_branch = format!("{path}.{name}");
        let results = (0..types.len()).map(|i| self.new_value(format!("{path_of_branch}[{i}]")));
        let outputs: Vec<ValueId> = results.collect();
        let def = engine_ops::lookup("Refuse", 1).expect("Refuse is in the table");
        let own = Attrs::from([
            ("why".to_owned(), Attr::Str(error.to_string())),
            ("types".to_owned(), Attr::Ints(types)),
        ]);
        let named = outputs.iter().copied().map(Some).collect();
        let written =
            self.in_block(|importer| importer.push(def, path_of_branch, Vec::new(), own, named));
        let (nodes, ()) = written.map_err(|error| self.node_error(node, path, inputs, &error))?;
        let block = Block { inputs: Vec::new(), nodes, outputs };
        attrs.insert(name.to_owned(), Attr::Block(block));
        Ok(())
    }

    /// Writes the nodes of a branch in the place of the If.
    fn take_branch(
        &mut self,
        node: &OnnxNode,
        path: &str,
        inputs: &[Option<ValueId>],
        taken: &str,
    ) -> Result<(), BuildError> {
        let Some(AttrValue::Graph(graph)) = node.attrs.get(taken) else {
            let error = OpError::new(format!("attribute {taken:?} is missing"));
            return Err(self.node_error(node, path, inputs, &error));
        };
        let constants: Vec<ValueId> =
            inputs.iter().flatten().flat_map(|&id| self.constants_behind(id)).collect();
        self.decided.extend(constants);
        let results = self.inline(graph, &[])?;
        if results.len() < node.outputs.len() {
            let (gives, asked) = (results.len(), node.outputs.len());
            let error = OpError::new(format!("{taken} gives {gives} results, expected {asked}"));
            return Err(self.node_error(node, path, inputs, &error));
        }
        for (name, value) in node.outputs.iter().zip(results) {
            if !name.is_empty() {
                self.bind(name, value);
            }
        }
        Ok(())
    }

    /// The constant of whose elements a value consists, moved at most.
    pub(super) fn moved_constant(&self, mut id: ValueId) -> Option<ValueId> {
        for node in self.blocks.iter().rev().flat_map(|block| block.iter().rev()) {
            let moves = || {
                let def = engine_ops::lookup(&node.op, node.version);
                def.is_some_and(|def| matches!(def.kind, Kind::Move | Kind::View))
            };
            if node.outputs.contains(&Some(id)) && moves() {
                id = (*node.inputs.first()?)?;
            }
        }
        self.graph.constants.contains_key(&id).then_some(id)
    }

    /// The constants from which a value is computed.
    fn constants_behind(&self, id: ValueId) -> BTreeSet<ValueId> {
        let mut found = BTreeSet::from([id]);
        for node in self.blocks.iter().rev().flat_map(|block| block.iter().rev()) {
            if node.outputs.iter().flatten().any(|id| found.contains(id)) {
                found.extend(engine_ops::dependence::contents(node));
            }
        }
        found.retain(|id| self.graph.constants.contains_key(id));
        found
    }

    /// The body of a Loop or Scan as a block.
    pub(super) fn repeated(
        &mut self,
        def: &'static OpDef,
        node: &OnnxNode,
        path: &str,
        inputs: &[Option<ValueId>],
        graph: &OnnxGraph,
    ) -> Result<Block, BuildError> {
        let cut = match node.attrs.get("num_scan_inputs") {
            Some(AttrValue::Int(n)) => Attrs::from([("num_scan_inputs".to_owned(), Attr::Int(*n))]),
            _ => Attrs::new(),
        };
        let mut attrs = cut;
        if let Some(AttrValue::Ints(axes)) = node.attrs.get("scan_input_axes") {
            attrs.insert("scan_input_axes".to_owned(), Attr::Ints(axes.clone()));
        }
        let (op, version) = (def.name.to_owned(), def.version);
        let (name, outputs) = (path.to_owned(), Vec::new());
        let template = Node { op, version, name, inputs: inputs.to_vec(), outputs, attrs };
        let parameter = |info: &engine_onnx::ValueInfo| Parameter {
            name: graph.qualify(&info.name),
            declared: declared(info),
        };
        let names: Vec<Parameter> = graph.inputs.iter().map(parameter).collect();
        let arity = Arity { parameters: names.len(), results: graph.outputs.len() };
        let block = self.repeat(&template, arity, &names, |importer, formal| match def.name {
            "Loop" => importer.body_of_loop(graph, path, formal),
            _ => importer.inline(graph, formal),
        })?;
        block.map_err(|error| self.node_error(node, path, inputs, &error))
    }

    /// The body of a Loop, to which the number of the iteration and the condition are scalars or, where it declares them so,
    /// vectors of one element.
    fn body_of_loop(
        &mut self,
        graph: &OnnxGraph,
        path: &str,
        formal: &[ValueId],
    ) -> Result<Vec<ValueId>, BuildError> {
        let mut operands = formal.to_vec();
        for (operand, info) in operands.iter_mut().zip(&graph.inputs).take(2) {
            if info.shape.as_ref().is_some_and(|dims| dims.len() == 1) {
                let vector = self.as_vector(*operand, graph.qualify(&info.name));
                let failed = |error| BuildError::model(format!("node {path:?} (Loop): {error}"));
                *operand = vector.map_err(failed)?;
            }
        }
        let mut results = self.inline(graph, &operands)?;
        // A condition that goes through goes through as it came.
        if let (Some(result), Some(condition)) = (results.first_mut(), operands.get(1))
            && result == condition
        {
            *result = formal[1];
        }
        Ok(results)
    }

    /// A scalar as a vector of one element.
    fn as_vector(&mut self, scalar: ValueId, name: String) -> Result<ValueId, OpError> {
        let def = engine_ops::lookup("Unsqueeze", 1).expect("Unsqueeze is in the table");
        let front = self.literal(format!("{name}.axis"), Tensor::from_slice(&[1], &[0i64]));
        let vector = self.new_value(format!("{name}.vector"));
        let operands = vec![Some(scalar), Some(front)];
        self.push(def, name, operands, def.normalise(Attrs::new())?, vec![Some(vector)])?;
        Ok(vector)
    }

    /// A block that is repeated by a node like `template`, which lacks the block. What `write` writes depends on types, and those of
    /// carried values may change from one iteration to the next; so it is written with the types of the first iteration, and
    /// again with what holds of all as long as that is less.
    ///
    /// The inner error says that the block does not fit the node.
    pub(super) fn repeat<E>(
        &mut self,
        template: &Node,
        arity: Arity,
        parameters: &[Parameter],
        mut write: impl FnMut(&mut Self, &[ValueId]) -> Result<Vec<ValueId>, E>,
    ) -> Result<Result<Block, OpError>, E> {
        let (ties, mut types) = match self.first_types(template, arity) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            let mark = self.mark();
            let formal = |(parameter, typed): (&Parameter, &Typed)| {
                let unknown = Facts::unranked(typed.facts.dtype);
                let id = self.graph.add_value(&parameter.name, unknown);
                self.graph.set_type(id, typed.clone());
                self.graph.value_mut(id).declared = parameter.declared;
                id
            };
            let inputs: Vec<ValueId> = parameters.iter().zip(&types).map(formal).collect();
            let (nodes, outputs) = self.in_block(|importer| write(importer, &inputs))?;
            let block = Block { inputs, nodes, outputs };
            match self.graph.widened(&ties, &block, &types) {
                Ok(wider) if wider == types => return Ok(Ok(block)),
                Ok(wider) => types = wider,
                Err(error) => return Ok(Err(error)),
            }
            self.go_back(mark);
        }
    }

    /// The ties of a node to its block, and the types of the block's parameters in the first iteration.
    fn first_types(&self, template: &Node, arity: Arity) -> Result<(Ties, Vec<Typed>), OpError> {
        let Node { op, attrs, inputs, .. } = template;
        let operands = inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let ties = Ties::of(op, attrs, operands, 0, arity)?;
        let operand = |i: usize| {
            let id = inputs[ties.first_operand + i];
            id.map(|id| self.graph.typed(id))
                .ok_or_else(|| OpError::new("a carried value is omitted"))
        };
        let carried = (0..ties.carried).map(operand).collect::<Result<_, _>>()?;
        let slices = (0..ties.cut).map(|i| slice(template, i, &operand(ties.carried + i)?));
        let types = parameters(&ties, carried, slices.collect::<Result<_, _>>()?)?;
        Ok((ties, types))
    }
}
