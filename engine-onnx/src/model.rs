//! What a model file says, decoded: graphs, nodes, attributes.

use crate::TensorData;
use engine_format::{DType, Dim, Form};
use std::collections::BTreeMap;

/// A decoded ONNX model: functions inlined, names unique, tensors still undecoded.
#[derive(Clone, Debug)]
pub struct Model {
    /// Version of the file format.
    pub ir_version: i64,
    /// Operator set versions by domain; the default domain is `""`.
    pub opsets: BTreeMap<String, i64>,
    /// The program that wrote the file, with its version; may be empty.
    pub producer: String,
    /// `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// The main graph.
    pub graph: Graph,
}

/// A list of nodes with its constants: the main graph, or the value of an attribute (a branch, a loop body). A nested
/// graph uses values of the graphs around it by name.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Name in the file; may be empty.
    pub name: String,
    /// What names defined in this graph are prefixed with, so that those of constants are unique in the model: empty for the main
    /// graph, `NODE/ATTRIBUTE/` for a nested one, with a number where that would not do.
    pub scope: String,
    /// Inputs as listed, initializers that are listed among them included.
    pub inputs: Vec<ValueInfo>,
    /// Outputs.
    pub outputs: Vec<ValueInfo>,
    /// Constants, sparse ones included.
    pub initializers: Vec<Initializer>,
    /// Nodes, each after those whose results it uses; otherwise in the file's order.
    pub nodes: Vec<Node>,
    /// What the file says about the types of values between nodes; hints.
    pub value_info: Vec<ValueInfo>,
}

impl Graph {
    /// The model-wide name of a value defined in this graph.
    pub fn qualify(&self, name: &str) -> String {
        format!("{}{name}", self.scope)
    }

    /// The initializer called `name`.
    pub fn initializer(&self, name: &str) -> Option<&Initializer> {
        self.initializers.iter().find(|i| i.name == name)
    }
}

/// A value's declared type.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// The value.
    pub name: String,
    /// Whether it is a tensor, a sequence of tensors, and may be absent.
    pub form: Form,
    /// Element type of its tensors, if it is made of such and this stack has the type.
    pub dtype: Option<DType>,
    /// The declared type in words, for messages: `tensor(f32)`, `tensor(string)`, `sequence(tensor(f32))`.
    pub type_name: String,
    /// Symbolic shape of its tensors; `None` if not even the rank is declared.
    pub shape: Option<Vec<Dim>>,
}

/// A constant of a graph.
#[derive(Clone, Debug)]
pub struct Initializer {
    /// Name within its graph.
    pub name: String,
    /// Name within the model: `name` for the main graph, `NODE/ATTRIBUTE/name` for a nested one.
    pub qualified: String,
    /// Type and, on request, contents.
    pub data: TensorData,
}

/// One application of an operator.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name, unique within its graph and never empty: synthesised as `Conv_12` (operator and position) where the file
    /// has none. Nodes of an inlined function are called `CALL/NODE`.
    pub name: String,
    /// Operator.
    pub op_type: String,
    /// Domain of the operator; the default domain is `""`.
    pub domain: String,
    /// Version of the domain's operator set that gives the operator its meaning.
    pub opset: i64,
    /// Operands; `""` is an omitted optional one.
    pub inputs: Vec<String>,
    /// Results; `""` is one that nobody asked for.
    pub outputs: Vec<String>,
    /// Attributes. A `Constant` always has exactly one, `value`, whichever form the file uses.
    pub attrs: BTreeMap<String, AttrValue>,
    /// `metadata_props`: what the exporter says of the node beside what it does.
    pub metadata: BTreeMap<String, String>,
}

impl Node {
    /// Whether this is `Constant` of the default domain.
    pub fn is_constant(&self) -> bool {
        self.op_type == "Constant" && self.domain.is_empty()
    }

    /// The value, if this is a `Constant`.
    pub fn constant(&self) -> Option<&TensorData> {
        match self.attrs.get("value") {
            Some(AttrValue::Tensor(data)) if self.is_constant() => Some(data),
            _ => None,
        }
    }
}

/// The value of an attribute.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AttrValue {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f32),
    /// A string.
    Str(String),
    /// A tensor, dense or sparse in the file.
    Tensor(TensorData),
    /// A nested graph.
    Graph(Graph),
    /// Integers.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f32>),
    /// Strings.
    Strs(Vec<String>),
    /// Tensors.
    Tensors(Vec<TensorData>),
    /// Graphs.
    Graphs(Vec<Graph>),
    /// A type; its name is the attribute's path.
    Type(ValueInfo),
    /// Something that is not read, in words: an error only for an operator that needs it.
    Other(&'static str),
}

impl AttrValue {
    /// The graphs in this attribute.
    pub fn graphs(&self) -> &[Graph] {
        match self {
            AttrValue::Graph(graph) => std::slice::from_ref(graph),
            AttrValue::Graphs(graphs) => graphs,
            _ => &[],
        }
    }

    pub(crate) fn graphs_mut(&mut self) -> &mut [Graph] {
        match self {
            AttrValue::Graph(graph) => std::slice::from_mut(graph),
            AttrValue::Graphs(graphs) => graphs,
            _ => &mut [],
        }
    }
}

/// A named constant of a model, see [`Model::constants`].
#[derive(Clone, Debug)]
pub struct Constant {
    /// Name within the model.
    pub name: String,
    /// Type and, on request, contents.
    pub data: TensorData,
}

impl Model {
    /// Every constant of the model: initializers (sparse ones too) and the values of `Constant` nodes (named by their
    /// output), those in nested graphs included under their qualified names.
    pub fn constants(&self) -> Vec<Constant> {
        let mut out = Vec::new();
        collect(&self.graph, &mut out);
        out
    }
}

fn collect(graph: &Graph, out: &mut Vec<Constant>) {
    for Initializer { qualified, data, .. } in &graph.initializers {
        out.push(Constant { name: qualified.clone(), data: data.clone() });
    }
    for node in &graph.nodes {
        if let (Some(data), [output]) = (node.constant(), node.outputs.as_slice())
            && !output.is_empty()
        {
            out.push(Constant { name: graph.qualify(output), data: data.clone() });
        }
        node.attrs.values().flat_map(AttrValue::graphs).for_each(|inner| collect(inner, out));
    }
}
