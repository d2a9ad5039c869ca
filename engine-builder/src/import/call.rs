//! What an adapter sees of the ONNX node that it rewrites.

use super::attrs;
use super::blocks::Parameter;
use super::importer::Importer;
use crate::graph::Typed;
use engine_format::{Attr, Attrs, DType, Element, Node, Tensor, ValueId};
use engine_onnx::{AttrValue, Graph as OnnxGraph, Node as OnnxNode, ValueInfo};
use engine_ops::control::Arity;
use engine_ops::infer::Facts;
use engine_ops::{OpDef, OpError, TABLE};
use half::{bf16, f16};
use std::collections::{BTreeMap, BTreeSet};

/// The node that gives the results of the ONNX node: what an adapter ends with.
pub(super) struct Last {
    pub(super) def: &'static OpDef,
    pub(super) inputs: Vec<Option<ValueId>>,
    pub(super) attrs: Attrs,
}

/// One ONNX node on its way into newest forms. Attributes that an adapter neither reads nor drops are an error.
pub(super) struct Call<'a> {
    importer: &'a mut Importer,
    node: &'a OnnxNode,
    path: &'a str,
    inputs: Vec<Option<ValueId>>,
    read: BTreeSet<&'static str>,
    made: usize,
    given: BTreeMap<usize, ValueId>,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        importer: &'a mut Importer,
        node: &'a OnnxNode,
        path: &'a str,
        inputs: Vec<Option<ValueId>>,
    ) -> Self {
        Self {
            importer,
            node,
            path,
            inputs,
            read: BTreeSet::new(),
            made: 0,
            given: BTreeMap::new(),
        }
    }

    /// The ONNX operator's name.
    pub(super) fn op(&self) -> &'a str {
        &self.node.op_type
    }

    /// The version of the operator set that gives the node its meaning.
    pub(super) fn opset(&self) -> i64 {
        self.node.opset
    }

    /// All operands.
    pub(super) fn inputs(&self) -> Vec<Option<ValueId>> {
        self.inputs.clone()
    }

    /// A required operand.
    pub(super) fn input(&self, i: usize) -> Result<ValueId, OpError> {
        self.opt(i).ok_or_else(|| OpError::new(format!("operand {i} is missing")))
    }

    /// An optional operand.
    pub(super) fn opt(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// Whether the model uses result `i`.
    pub(super) fn asks_for(&self, i: usize) -> bool {
        self.node.outputs.get(i).is_some_and(|name| !name.is_empty())
    }

    /// Says that result `i`, which must not be the first, is a value that was written already.
    pub(super) fn give(&mut self, i: usize, value: ValueId) {
        self.given.insert(i, value);
    }

    /// Results beside the first that were written already.
    pub(super) fn given(self) -> BTreeMap<usize, ValueId> {
        self.given
    }

    /// What is known of a value.
    pub(super) fn facts(&self, id: ValueId) -> &Facts {
        self.importer.graph.facts(id)
    }

    /// The value that a name in sight stands for.
    pub(super) fn named(&self, name: &str) -> Result<ValueId, OpError> {
        let value = self.importer.resolve(name);
        value.ok_or_else(|| OpError::new(format!("nothing before it defines {name:?}")))
    }

    /// The nodes of the block being written.
    pub(super) fn written(&self) -> &[Node] {
        self.importer.blocks.last().map_or(&[], Vec::as_slice)
    }

    /// Whether a value is a sequence.
    pub(super) fn is_sequence(&self, id: ValueId) -> bool {
        self.importer.graph.value(id).form.is_sequence()
    }

    /// A value's contents, if they are known for every run, to decide what is written. A constant that is read becomes
    /// part of the program: its value must not change any more.
    pub(super) fn decide(&mut self, id: ValueId) -> Option<Tensor> {
        let tensor = self.importer.graph.known_tensor(id)?;
        self.importer.decided.insert(id);
        Some(tensor)
    }

    /// Says that `scale`, and `zero` if there is one, are those of `x`: where that is a weight, they are learned as it is.
    pub(super) fn scales(&mut self, x: ValueId, scale: ValueId, zero: Option<ValueId>) {
        let Some(weight) = self.importer.moved_constant(x) else { return };
        // A single number is a constant of arithmetic, whatever it is kept as.
        if self.facts(weight).shape.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        let learned = [Some(weight), Some(scale), zero];
        self.importer.learned.extend(learned.into_iter().flatten());
    }

    /// Number of axes of a value, which this decomposition needs.
    pub(super) fn rank(&self, id: ValueId) -> Result<usize, OpError> {
        self.facts(id).shape.as_ref().map(Vec::len).ok_or_else(|| {
            let name = &self.importer.graph.value(id).name;
            OpError::new(format!("the rank of {name:?} is needed and not known"))
        })
    }

    fn attr(&mut self, name: &'static str) -> Option<&'a AttrValue> {
        self.read.insert(name);
        self.node.attrs.get(name)
    }

    /// Whether the node has an attribute.
    pub(super) fn has(&self, name: &str) -> bool {
        self.node.attrs.contains_key(name)
    }

    /// An attribute that is ONNX's number of an element type; absent or 0 for none.
    pub(super) fn element_type(&mut self, name: &'static str) -> Result<Option<DType>, OpError> {
        match self.int(name, 0)? {
            0 => Ok(None),
            number => attrs::element_type(number).map(Some),
        }
    }

    /// An integer attribute.
    pub(super) fn int(&mut self, name: &'static str, default: i64) -> Result<i64, OpError> {
        match self.attr(name) {
            None => Ok(default),
            Some(AttrValue::Int(v)) => Ok(*v),
            Some(_) => Err(OpError::new(format!("attribute {name:?} is not an integer"))),
        }
    }

    /// A float attribute.
    pub(super) fn float(&mut self, name: &'static str, default: f32) -> Result<f32, OpError> {
        match self.attr(name) {
            None => Ok(default),
            Some(AttrValue::Float(v)) => Ok(*v),
            Some(_) => Err(OpError::new(format!("attribute {name:?} is not a float"))),
        }
    }

    /// A string attribute.
    pub(super) fn str(
        &mut self,
        name: &'static str,
        default: &'static str,
    ) -> Result<&'a str, OpError> {
        match self.attr(name) {
            None => Ok(default),
            Some(AttrValue::Str(v)) => Ok(v),
            Some(_) => Err(OpError::new(format!("attribute {name:?} is not a string"))),
        }
    }

    /// A list of integers, if present.
    pub(super) fn ints(&mut self, name: &'static str) -> Result<Option<&'a [i64]>, OpError> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Ints(v)) => Ok(Some(v)),
            Some(_) => Err(OpError::new(format!("attribute {name:?} is not a list of integers"))),
        }
    }

    /// A list of integers that must be present.
    pub(super) fn required_ints(&mut self, name: &'static str) -> Result<&'a [i64], OpError> {
        self.ints(name)?.ok_or_else(|| OpError::new(format!("attribute {name:?} is missing")))
    }

    /// A list of floats that must be present.
    pub(super) fn required_floats(&mut self, name: &'static str) -> Result<&'a [f32], OpError> {
        match self.attr(name) {
            Some(AttrValue::Floats(v)) => Ok(v),
            _ => Err(OpError::new(format!("attribute {name:?} is not a list of floats"))),
        }
    }

    /// A list of floats, if present.
    pub(super) fn floats(&mut self, name: &'static str) -> Result<Option<&'a [f32]>, OpError> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Floats(v)) => Ok(Some(v)),
            // A list without elements has no type in some files.
            Some(AttrValue::Ints(v)) if v.is_empty() => Ok(Some(&[])),
            Some(_) => Err(OpError::new(format!("attribute {name:?} is not a list of floats"))),
        }
    }

    /// A list of strings, if present.
    pub(super) fn strs(&mut self, name: &'static str) -> Result<Option<&'a [String]>, OpError> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Strs(v)) => Ok(Some(v)),
            Some(AttrValue::Ints(v)) if v.is_empty() => Ok(Some(&[])),
            Some(_) => Err(OpError::new(format!("attribute {name:?} is not a list of strings"))),
        }
    }

    /// A tensor attribute, if present.
    pub(super) fn tensor(&mut self, name: &'static str) -> Result<Option<Tensor>, OpError> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Tensor(data)) => {
                data.tensor().map(Some).map_err(|error| OpError::new(error.to_string()))
            }
            Some(_) => Err(OpError::new(format!("attribute {name:?} is not a tensor"))),
        }
    }

    /// Writes the nodes of a graph attribute, over `operands` as the graph's inputs; gives its results. `None` if the node does
    /// not have the attribute.
    pub(super) fn inline(
        &mut self,
        name: &'static str,
        operands: &[ValueId],
    ) -> Result<Option<Vec<ValueId>>, OpError> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Graph(graph)) => {
                let results = self.importer.inline(graph, operands);
                results.map(Some).map_err(|error| OpError::new(format!("in {name}: {error}")))
            }
            Some(_) => Err(OpError::new(format!("attribute {name:?} is not a graph"))),
        }
    }

    /// A graph attribute that must be present.
    pub(super) fn graph(&mut self, name: &'static str) -> Result<&'a OnnxGraph, OpError> {
        match self.attr(name) {
            Some(AttrValue::Graph(graph)) => Ok(graph),
            _ => Err(OpError::new(format!("attribute {name:?} is not a graph"))),
        }
    }

    /// A type attribute, if present.
    pub(super) fn type_of(&mut self, name: &'static str) -> Result<Option<&'a ValueInfo>, OpError> {
        match self.attr(name) {
            None => Ok(None),
            Some(AttrValue::Type(info)) => Ok(Some(info)),
            Some(_) => Err(OpError::new(format!("attribute {name:?} is not a type"))),
        }
    }

    /// Types of what `write` gives; what it writes is forgotten.
    pub(super) fn try_out(
        &mut self,
        write: impl FnOnce(&mut Call<'_>) -> Result<Vec<ValueId>, OpError>,
    ) -> Result<Vec<Typed>, OpError> {
        let (node, path, inputs) = (self.node, self.path, self.inputs.clone());
        self.importer.try_out(|importer| {
            let results = write(&mut Call::new(importer, node, path, inputs))?;
            Ok(results.into_iter().map(|id| importer.graph.typed(id)).collect())
        })
    }

    /// The node of operator `op` that repeats what `write` writes over the parameters of a block, of which it gives the results.
    pub(super) fn repeat(
        &mut self,
        op: &'static str,
        operands: Vec<Option<ValueId>>,
        mut attrs: Vec<(&'static str, Attr)>,
        arity: Arity,
        mut write: impl FnMut(&mut Call<'_>, &[ValueId]) -> Result<Vec<ValueId>, OpError>,
    ) -> Result<Last, OpError> {
        let def = newest(op)?;
        let own = attrs.iter().map(|(name, attr)| ((*name).to_owned(), attr.clone()));
        let template = Node {
            op: def.name.to_owned(),
            version: def.version,
            name: self.path.to_owned(),
            inputs: operands.clone(),
            outputs: Vec::new(),
            attrs: own.collect(),
        };
        let parameter = |_| Parameter { name: self.next_name(), declared: None };
        let parameters: Vec<Parameter> = (0..arity.parameters).map(parameter).collect();
        let (node, path, inputs) = (self.node, self.path, &self.inputs);
        let (made, read) = (&mut self.made, &mut self.read);
        let block =
            self.importer.repeat(&template, arity, &parameters, |importer, formal| {
                let mut call = Call::new(importer, node, path, inputs.clone());
                call.made = *made;
                let results = write(&mut call, formal);
                *made = call.made;
                read.extend(call.read);
                results
            })??;
        attrs.push(("body", Attr::Block(block)));
        self.last(op, operands, attrs)
    }

    /// Tells the user that the node's results have another form than in the model.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.importer.notes.done(self.path, text);
    }

    /// Says that an attribute means nothing here.
    pub(super) fn ignore(&mut self, name: &'static str) {
        self.read.insert(name);
    }

    /// An error unless every attribute was read or ignored.
    pub(super) fn reject_unread_attrs(&self) -> Result<(), OpError> {
        let unread = |name: &&String| !self.read.contains(name.as_str());
        match self.node.attrs.keys().find(unread) {
            Some(name) => Err(OpError::new(format!("unknown attribute {name:?}"))),
            None => Ok(()),
        }
    }

    /// A literal.
    pub(super) fn literal(&mut self, tensor: Tensor) -> ValueId {
        let name = self.next_name();
        self.importer.literal(name, tensor)
    }

    /// A vector of `i64`.
    pub(super) fn vector(&mut self, values: &[i64]) -> ValueId {
        self.literal(Tensor::from_slice(&[values.len()], values))
    }

    /// A scalar of the element type of `like`.
    pub(super) fn scalar_like(&mut self, like: ValueId, value: f64) -> Result<ValueId, OpError> {
        let tensor = scalar(self.facts(like).dtype, value)?;
        Ok(self.literal(tensor))
    }

    /// A scalar of an element type.
    pub(super) fn scalar_of(&mut self, dtype: DType, value: f64) -> Result<ValueId, OpError> {
        let tensor = scalar(dtype, value)?;
        Ok(self.literal(tensor))
    }

    /// Sizes of the axes `from..to` of a value, as a vector.
    pub(super) fn sizes(&mut self, x: ValueId, from: i64, to: i64) -> Result<ValueId, OpError> {
        self.emit("Shape", [x], vec![("start", Attr::Int(from)), ("end", Attr::Int(to))])
    }

    fn next_name(&mut self) -> String {
        self.made += 1;
        format!("{}#{}", self.path, self.made)
    }

    /// Writes a node with one result.
    pub(super) fn emit<const N: usize>(
        &mut self,
        op: &'static str,
        inputs: [ValueId; N],
        attrs: Vec<(&'static str, Attr)>,
    ) -> Result<ValueId, OpError> {
        let node = self.last(op, inputs.map(Some).to_vec(), attrs)?;
        self.emit_last(node)
    }

    /// Writes what was meant as the last node, with one result, as one in between.
    pub(super) fn emit_last(&mut self, node: Last) -> Result<ValueId, OpError> {
        Ok(self.emit_all(node, 1)?[0])
    }

    /// Writes what was meant as the last node, with so many results, as one in between.
    pub(super) fn emit_all(&mut self, node: Last, count: usize) -> Result<Vec<ValueId>, OpError> {
        let Last { def, inputs, attrs } = node;
        let name = self.next_name();
        let mut outputs = vec![self.importer.new_value(name.clone())];
        for _ in 1..count {
            let name = self.next_name();
            outputs.push(self.importer.new_value(name));
        }
        let attrs = def.normalise(attrs)?;
        let asked = outputs.iter().copied().map(Some).collect();
        self.importer.push(def, name, inputs, attrs, asked)?;
        Ok(outputs)
    }

    /// `value` in another element type.
    pub(super) fn cast(&mut self, value: ValueId, dtype: DType) -> Result<ValueId, OpError> {
        if self.facts(value).dtype == dtype {
            return Ok(value);
        }
        self.emit("Cast", [value], vec![("to", Attr::Int(attrs::element_number(dtype)))])
    }

    /// A float of 16 bits as `f32`, in which sums, norms and softmaxes are calculated; everything else as it is.
    pub(super) fn widened(&mut self, value: ValueId) -> Result<ValueId, OpError> {
        match self.facts(value).dtype {
            DType::F16 | DType::BF16 => self.cast(value, DType::F32),
            _ => Ok(value),
        }
    }

    /// What `node` gives, calculated from [`Self::widened`] operands, in the operands' own type.
    pub(super) fn narrowed(&mut self, node: Last, dtype: DType) -> Result<Last, OpError> {
        match dtype {
            DType::F16 | DType::BF16 => {
                let wide = self.emit_last(node)?;
                self.finish_cast(wide, dtype)
            }
            _ => Ok(node),
        }
    }

    /// The node that gives the results.
    pub(super) fn last(
        &self,
        op: &str,
        inputs: Vec<Option<ValueId>>,
        attrs: Vec<(&'static str, Attr)>,
    ) -> Result<Last, OpError> {
        let def = newest(op)?;
        let attrs = attrs.into_iter().map(|(name, attr)| (name.to_owned(), attr)).collect();
        Ok(Last { def, inputs, attrs })
    }

    /// The node that gives the results, over operands that are all there.
    pub(super) fn finish<const N: usize>(
        &self,
        op: &str,
        inputs: [ValueId; N],
        attrs: Vec<(&'static str, Attr)>,
    ) -> Result<Last, OpError> {
        self.last(op, inputs.map(Some).to_vec(), attrs)
    }

    /// A conversion that gives the results.
    pub(super) fn finish_cast(&self, value: ValueId, dtype: DType) -> Result<Last, OpError> {
        let to = attrs::element_number(dtype);
        self.finish("Cast", [value], vec![("to", Attr::Int(to))])
    }

    /// The newest form of the same operator, with `inputs` and all attributes that were not read.
    pub(super) fn same(&mut self, inputs: Vec<Option<ValueId>>) -> Result<Last, OpError> {
        self.same_as(self.op(), inputs)
    }

    /// Operator `op` with `inputs` and all attributes that were not read.
    pub(super) fn same_as(
        &mut self,
        op: &str,
        inputs: Vec<Option<ValueId>>,
    ) -> Result<Last, OpError> {
        let def = newest(op)?;
        let mut attrs = Attrs::new();
        for (name, value) in &self.node.attrs {
            if self.read.contains(name.as_str()) {
                continue;
            }
            let attr = attrs::fit(def, name, attrs::plain(name, value)?);
            attrs.insert(name.clone(), attr);
            if let Some(row) = def.attrs.iter().find(|row| row.name == name) {
                self.read.insert(row.name);
            }
        }
        Ok(Last { def, inputs, attrs })
    }
}

/// The newest version of an operator of the table.
fn newest(op: &str) -> Result<&'static OpDef, OpError> {
    let rows = TABLE.iter().copied().filter(|def| def.name == op);
    rows.max_by_key(|def| def.version)
        .ok_or_else(|| OpError::new(format!("operator {op} is not in the table")))
}

/// A scalar tensor.
pub(super) fn scalar(dtype: DType, value: f64) -> Result<Tensor, OpError> {
    fn of<T: Element>(value: T) -> Tensor {
        Tensor::from_slice(&[], &[value])
    }
    Ok(match dtype {
        DType::F32 => of(value as f32),
        DType::F64 => of(value),
        DType::F16 => of(f16::from_f64(value)),
        DType::BF16 => of(bf16::from_f64(value)),
        DType::I8 => of(value as i8),
        DType::I16 => of(value as i16),
        DType::I32 => of(value as i32),
        DType::I64 => of(value as i64),
        DType::U8 => of(value as u8),
        DType::U16 => of(value as u16),
        DType::U32 => of(value as u32),
        DType::U64 => of(value as u64),
        DType::Bool => Tensor::from_bools(&[], &[value != 0.0]),
        other => return Err(OpError::new(format!("no constant of {other}, a type for storage"))),
    })
}
