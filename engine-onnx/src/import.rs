//! From messages to a model.

use crate::external::Origin;
use crate::inline::{Functions, Scope};
use crate::names::Names;
use crate::order;
use crate::proto::{self, AttributeProto, GraphProto, ModelProto, NodeProto, attribute_type};
use crate::value_type;
use crate::{
    AttrValue, Graph, Initializer, Model, Node, OnnxError, OnnxErrorKind, TensorData, ValueInfo,
};
use engine_format::Tensor;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Versions of the file format that are read: the first with opset imports, and the newest.
const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=14;

/// Versions of the default operator set that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 1..=28;

/// Nodes, operands, attributes and elements that inlining may copy.
const MAX_ITEMS: usize = 2 << 20;

/// Nested graphs and calls.
const MAX_DEPTH: usize = 100;

/// Turns a decoded message into a model.
pub(crate) fn model(proto: &ModelProto, origin: Arc<Origin>) -> Result<Model, OnnxError> {
    let ir_version = ir_version(proto)?;
    let opsets = opsets(&proto.opset_import)?;
    let graph = proto.graph.as_ref().ok_or_else(|| OnnxError::invalid("model without a graph"))?;
    let mut values = Names::default();
    let functions = Functions::new(&proto.functions)?;
    if !functions.is_empty() {
        reserve_values(graph, &mut values);
    }
    let mut import = Import { origin, functions, values, items: 0, depth: 0 };
    let mut graph = import.graph(graph, &Scope::main(opsets.clone()), "")?;
    qualify(&mut graph, String::new(), &mut HashSet::new());
    order::sort(&mut graph)?;
    let metadata = entries(&proto.metadata_props);
    let producer = format!("{} {}", proto.producer_name, proto.producer_version);
    Ok(Model { ir_version, opsets, producer: producer.trim().to_owned(), metadata, graph })
}

fn entries(props: &[proto::StringStringEntryProto]) -> BTreeMap<String, String> {
    props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
}

fn ir_version(proto: &ModelProto) -> Result<i64, OnnxError> {
    let unsupported = || {
        OnnxError::new(OnnxErrorKind::UnsupportedVersion, "IR version of the file")
            .expected(format_args!("{} to {}", IR_VERSIONS.start(), IR_VERSIONS.end()))
    };
    match proto.ir_version {
        Some(version) if IR_VERSIONS.contains(&version) => Ok(version),
        Some(version) => Err(unsupported().found(version)),
        None => Err(OnnxError::new(
            OnnxErrorKind::Corrupt,
            "not an ONNX model: field ir_version is absent",
        )),
    }
}

/// Operator set versions by domain, `""` for the default one under either of its names.
pub(crate) fn opsets(
    imports: &[proto::OperatorSetIdProto],
) -> Result<BTreeMap<String, i64>, OnnxError> {
    let mut out = BTreeMap::new();
    for import in imports {
        let domain = default_domain(&import.domain);
        let version = import.version;
        if domain.is_empty() && !OPSETS.contains(&version) {
            return Err(OnnxError::new(OnnxErrorKind::UnsupportedVersion, "operator set")
                .expected(format_args!("{} to {}", OPSETS.start(), OPSETS.end()))
                .found(version));
        }
        if let Some(other) = out.insert(domain.to_owned(), version)
            && other != version
        {
            return Err(OnnxError::invalid(format!("operator set of domain {domain:?}"))
                .expected("one version")
                .found(format_args!("{other} and {version}")));
        }
    }
    Ok(out)
}

pub(crate) fn default_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// Takes note of every value name in `graph` and below.
fn reserve_values(graph: &GraphProto, values: &mut Names) {
    definitions(graph).for_each(|name| values.reserve(name));
    for node in &graph.node {
        for attr in &node.attribute {
            attr.g.iter().map(|g| &**g).chain(&attr.graphs).for_each(|g| reserve_values(g, values));
        }
    }
}

/// The names that a graph defines at its own level.
pub(crate) fn definitions(graph: &GraphProto) -> impl Iterator<Item = &str> {
    (graph.input.iter().map(|v| v.name.as_str()))
        .chain(graph.initializer.iter().map(|t| t.name.as_str()))
        .chain(graph.sparse_initializer.iter().map(|t| t.values.as_ref().map_or("", |v| &v.name)))
        .chain(graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str)))
        .filter(|name| !name.is_empty())
}

/// Fills in the scopes, now that node names are final. Weights and literals are told apart by the names of constants, so a scope
/// in which one would have the name of another constant gets a number.
fn qualify(graph: &mut Graph, preferred: String, taken: &mut HashSet<String>) {
    let own: Vec<String> = constants(graph).map(str::to_owned).collect();
    let stem = preferred.trim_end_matches('/').to_owned();
    graph.scope = preferred;
    let mut number = 1;
    while own.iter().any(|name| taken.contains(&graph.qualify(name))) {
        number += 1;
        graph.scope = format!("{stem}_{number}/");
    }
    taken.extend(own.iter().map(|name| graph.qualify(name)));
    for initializer in &mut graph.initializers {
        initializer.qualified = format!("{}{}", graph.scope, initializer.name);
    }
    for node in &mut graph.nodes {
        for (attr, value) in &mut node.attrs {
            let single = matches!(value, AttrValue::Graph(_));
            for (i, inner) in value.graphs_mut().iter_mut().enumerate() {
                let index = if single { String::new() } else { format!("[{i}]") };
                qualify(inner, format!("{}{}/{attr}{index}/", graph.scope, node.name), taken);
            }
        }
    }
}

/// Names of the constants that a graph has at its own level.
fn constants(graph: &Graph) -> impl Iterator<Item = &str> {
    let nodes = graph.nodes.iter().filter(|node| node.is_constant());
    let outputs = nodes.flat_map(|node| &node.outputs).map(String::as_str);
    let initializers = graph.initializers.iter().map(|initializer| initializer.name.as_str());
    initializers.chain(outputs).filter(|name| !name.is_empty())
}

/// Leaves one of each two constants of a graph that have one name. They must be equal: each might be meant.
fn merge_constants(graph: &mut Graph, path: &str) -> Result<(), OnnxError> {
    let mut seen = HashSet::new();
    if constants(graph).all(|name| seen.insert(name)) {
        return Ok(());
    }
    let mut known = HashMap::<String, TensorData>::new();
    let mut is_first = |name: &str, data: &TensorData| match known.get(name) {
        Some(other) if other.tensor()? == data.tensor()? => Ok(false),
        Some(_) => Err(OnnxError::invalid("two constants of one name and different contents")
            .found(format!("{path}{name}"))),
        None => {
            known.insert(name.to_owned(), data.clone());
            Ok(true)
        }
    };
    let mut initializers = Vec::new();
    for initializer in std::mem::take(&mut graph.initializers) {
        if is_first(&initializer.name, &initializer.data)? {
            initializers.push(initializer);
        }
    }
    graph.initializers = initializers;
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut graph.nodes) {
        let stays = match (node.constant(), node.outputs.first()) {
            (Some(data), Some(name)) => is_first(name, data)?,
            _ => true,
        };
        if stays {
            nodes.push(node);
        }
    }
    graph.nodes = nodes;
    Ok(())
}

/// The state of an import.
pub(crate) struct Import {
    pub(crate) origin: Arc<Origin>,
    pub(crate) functions: Functions,
    /// Value names of the whole model.
    pub(crate) values: Names,
    items: usize,
    depth: usize,
}

/// The nodes of one graph, with their names.
#[derive(Default)]
pub(crate) struct NodeList {
    pub(crate) nodes: Vec<Node>,
    names: Names,
}

impl NodeList {
    pub(crate) fn fresh_name(&mut self, preferred: String) -> String {
        self.names.fresh(preferred)
    }
}

impl Import {
    /// Counts `items` towards the cap of what inlining may produce; what the file holds itself is bounded by its size.
    pub(crate) fn count(&mut self, items: usize) -> Result<(), OnnxError> {
        if !self.functions.is_inlining() {
            return Ok(());
        }
        self.items = self.items.saturating_add(items);
        if self.items > MAX_ITEMS {
            return Err(OnnxError::limit("size of the model with functions inlined", MAX_ITEMS));
        }
        Ok(())
    }

    /// Runs `inner` one level deeper.
    pub(crate) fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, OnnxError>,
    ) -> Result<T, OnnxError> {
        if self.depth >= MAX_DEPTH {
            return Err(OnnxError::limit("nesting of graphs and function calls", MAX_DEPTH));
        }
        self.depth += 1;
        let out = inner(self);
        self.depth -= 1;
        out
    }

    /// One graph; `path` is where it is, for messages.
    fn graph(&mut self, proto: &GraphProto, outer: &Scope, path: &str) -> Result<Graph, OnnxError> {
        let scope = &outer.enter(proto, &mut self.values);
        let mut initializers = Vec::new();
        for tensor in &proto.initializer {
            self.count(1)?;
            let name = scope.value(&tensor.name)?;
            let data = TensorData::from_proto(&format!("{path}{name}"), tensor, &self.origin)?;
            initializers.push(initializer(name, data)?);
        }
        for tensor in &proto.sparse_initializer {
            self.count(1)?;
            let name = scope.value(tensor.values.as_ref().map_or("", |v| &v.name))?;
            let data = TensorData::from_sparse(&format!("{path}{name}"), tensor, &self.origin)?;
            initializers.push(initializer(name, data)?);
        }
        let mut list = NodeList::default();
        for (index, node) in proto.node.iter().enumerate() {
            self.node(node, index, scope, path, &mut list)?;
        }
        let ports = |ports: &[proto::ValueInfoProto]| {
            ports.iter().map(|port| value_info(port, scope)).collect::<Result<Vec<_>, _>>()
        };
        let mut graph = Graph {
            name: proto.name.clone(),
            scope: String::new(),
            inputs: ports(&proto.input)?,
            outputs: ports(&proto.output)?,
            initializers,
            nodes: list.nodes,
            // A hint about a value that is nowhere defined is as good as no hint.
            value_info: proto.value_info.iter().filter_map(|v| value_info(v, scope).ok()).collect(),
        };
        merge_constants(&mut graph, path)?;
        Ok(graph)
    }

    /// Adds one node to `list`, or the nodes of the function it calls.
    pub(crate) fn node(
        &mut self,
        proto: &NodeProto,
        index: usize,
        scope: &Scope,
        path: &str,
        list: &mut NodeList,
    ) -> Result<(), OnnxError> {
        self.count(1 + proto.input.len() + proto.output.len() + proto.attribute.len())?;
        let local = match proto.name.as_str() {
            "" => format!("{}_{index}", proto.op_type),
            name => name.to_owned(),
        };
        let name = list.names.fresh(format!("{}{local}", scope.prefix));
        let node = self
            .convert(proto, name.clone(), scope, path)
            .map_err(|error| error.at(format_args!("node {:?}", format!("{path}{name}"))))?;
        match self.functions.find(&node.domain, &node.op_type, &proto.overload) {
            Some(function) => self
                .inline(&function, node, path, list)
                .map_err(|error| error.at(format_args!("node {:?}", format!("{path}{name}")))),
            None => {
                list.nodes.push(node);
                Ok(())
            }
        }
    }

    fn convert(
        &mut self,
        proto: &NodeProto,
        name: String,
        scope: &Scope,
        path: &str,
    ) -> Result<Node, OnnxError> {
        if proto.op_type.is_empty() {
            return Err(OnnxError::invalid("node without an operator"));
        }
        let domain = default_domain(&proto.domain).to_owned();
        let names = |names: &[String]| {
            names.iter().map(|name| scope.value(name)).collect::<Result<Vec<_>, _>>()
        };
        let (inputs, outputs) = (names(&proto.input)?, names(&proto.output)?);
        let mut attrs = BTreeMap::new();
        for attr in &proto.attribute {
            let Some(value) = self.attr(attr, scope, &format!("{path}{name}/{}", attr.name))?
            else {
                continue;
            };
            if attrs.insert(attr.name.clone(), value).is_some() {
                return Err(OnnxError::invalid(format!(
                    "attribute {:?} is given twice",
                    attr.name
                )));
            }
        }
        let opset = match scope.opsets.get(&domain) {
            Some(&version) => version,
            None if domain.is_empty() => {
                return Err(OnnxError::invalid("the default operator set is not imported"));
            }
            // Exporters forget to import their own domains, which have one version.
            None => 1,
        };
        let op_type = proto.op_type.clone();
        let metadata = entries(&proto.metadata_props);
        let mut node = Node { name, op_type, domain, opset, inputs, outputs, attrs, metadata };
        if node.is_constant() {
            let value = self.constant(&node, path)?;
            node.attrs = BTreeMap::from([("value".to_owned(), AttrValue::Tensor(value))]);
        }
        Ok(node)
    }

    /// The value of an attribute; `None` for a reference to an attribute that the call does not give.
    pub(crate) fn attr(
        &mut self,
        proto: &AttributeProto,
        scope: &Scope,
        path: &str,
    ) -> Result<Option<AttrValue>, OnnxError> {
        if !proto.ref_attr_name.is_empty() {
            let value = scope.referenced(&proto.ref_attr_name)?;
            self.count(value.as_ref().map_or(1, extent))?;
            return Ok(value);
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        self.count(elements(proto))?;
        let tensor = |t: &proto::TensorProto| TensorData::from_proto(path, t, &self.origin);
        let sparse = |t: &proto::SparseTensorProto| TensorData::from_sparse(path, t, &self.origin);
        let absent = || OnnxError::invalid(format!("attribute {:?} has no value", proto.name));
        const NOT_UTF8: AttrValue = AttrValue::Other("a string that is not UTF-8");
        Ok(Some(match kind_of(proto) {
            attribute_type::FLOAT => AttrValue::Float(proto.f.unwrap_or_default()),
            attribute_type::INT => AttrValue::Int(proto.i.unwrap_or_default()),
            attribute_type::STRING => {
                text(proto.s.as_deref().unwrap_or_default()).map_or(NOT_UTF8, AttrValue::Str)
            }
            attribute_type::TENSOR => {
                AttrValue::Tensor(tensor(proto.t.as_ref().ok_or_else(absent)?)?)
            }
            attribute_type::SPARSE_TENSOR => {
                AttrValue::Tensor(sparse(proto.sparse_tensor.as_ref().ok_or_else(absent)?)?)
            }
            attribute_type::FLOATS => AttrValue::Floats(proto.floats.clone()),
            attribute_type::INTS => AttrValue::Ints(proto.ints.clone()),
            attribute_type::STRINGS => proto
                .strings
                .iter()
                .map(|s| text(s))
                .collect::<Option<_>>()
                .map_or(NOT_UTF8, AttrValue::Strs),
            attribute_type::TENSORS => {
                AttrValue::Tensors(proto.tensors.iter().map(tensor).collect::<Result<_, _>>()?)
            }
            attribute_type::SPARSE_TENSORS => AttrValue::Tensors(
                proto.sparse_tensors.iter().map(sparse).collect::<Result<_, _>>()?,
            ),
            attribute_type::GRAPH => {
                let graph = proto.g.as_ref().ok_or_else(absent)?;
                AttrValue::Graph(self.nested(|s| s.graph(graph, scope, &format!("{path}/")))?)
            }
            attribute_type::GRAPHS => AttrValue::Graphs(
                (proto.graphs.iter().enumerate())
                    .map(|(i, g)| self.nested(|s| s.graph(g, scope, &format!("{path}[{i}]/"))))
                    .collect::<Result<_, _>>()?,
            ),
            attribute_type::TYPE_PROTO => {
                AttrValue::Type(value_type::read(path.to_owned(), proto.tp.as_deref()))
            }
            attribute_type::TYPE_PROTOS => AttrValue::Other("a list of types"),
            other => {
                return Err(OnnxError::invalid(format!("type of attribute {:?}", proto.name))
                    .expected("1 to 14")
                    .found(other));
            }
        }))
    }

    /// The value of a `Constant`, in whichever of its forms.
    fn constant(&self, node: &Node, path: &str) -> Result<TensorData, OnnxError> {
        let name = format!("{path}{}", node.outputs.first().map_or(node.name.as_str(), |o| o));
        let ready = |tensor| Ok(TensorData::ready(&name, tensor, &self.origin));
        let attrs: Vec<_> = node.attrs.iter().map(|(n, v)| (n.as_str(), v)).collect();
        match attrs.as_slice() {
            [("value" | "sparse_value", AttrValue::Tensor(data))] => Ok(data.clone()),
            [("value_int", AttrValue::Int(v))] => ready(Tensor::from_slice(&[], &[*v])),
            [("value_float", AttrValue::Float(v))] => ready(Tensor::from_slice(&[], &[*v])),
            [("value_ints", AttrValue::Ints(v))] => ready(Tensor::from_slice(&[v.len()], v)),
            [("value_floats", AttrValue::Floats(v))] => ready(Tensor::from_slice(&[v.len()], v)),
            [("value_string", AttrValue::Str(v))] => ready(Tensor::from_strings(&[], &[v])),
            [("value_strings", AttrValue::Strs(v))] => ready(Tensor::from_strings(&[v.len()], v)),
            other => Err(OnnxError::invalid("Constant")
                .expected("exactly one of value, sparse_value and value_*")
                .found(format_args!("{:?}", other.iter().map(|(n, _)| *n).collect::<Vec<_>>()))),
        }
    }
}

fn initializer(name: String, data: TensorData) -> Result<Initializer, OnnxError> {
    if name.is_empty() {
        return Err(OnnxError::invalid("initializer without a name"));
    }
    Ok(Initializer { name, qualified: String::new(), data })
}

/// The declared type, or the one that follows from the field in use: old files do not declare it.
fn kind_of(proto: &AttributeProto) -> i32 {
    if proto.r#type != 0 {
        return proto.r#type;
    }
    let used = [
        (proto.f.is_some(), attribute_type::FLOAT),
        (proto.i.is_some(), attribute_type::INT),
        (proto.s.is_some(), attribute_type::STRING),
        (proto.t.is_some(), attribute_type::TENSOR),
        (proto.g.is_some(), attribute_type::GRAPH),
        (!proto.floats.is_empty(), attribute_type::FLOATS),
        (!proto.ints.is_empty(), attribute_type::INTS),
        (!proto.strings.is_empty(), attribute_type::STRINGS),
        (!proto.tensors.is_empty(), attribute_type::TENSORS),
        (!proto.graphs.is_empty(), attribute_type::GRAPHS),
        (proto.tp.is_some(), attribute_type::TYPE_PROTO),
    ];
    used.iter().find(|(used, _)| *used).map_or(0, |(_, kind)| *kind)
}

/// Elements that a copy of the attribute holds itself; those in `raw_data` are shared.
fn elements(proto: &AttributeProto) -> usize {
    let tensor = |t: &proto::TensorProto| {
        t.float_data.len()
            + t.int32_data.len()
            + t.int64_data.len()
            + t.double_data.len()
            + t.uint64_data.len()
    };
    let tensors = proto.t.iter().map(|t| &**t).chain(&proto.tensors).map(tensor).sum::<usize>();
    tensors + proto.ints.len() + proto.floats.len() + proto.strings.len()
}

/// What a copy of an attribute adds to the model.
fn extent(value: &AttrValue) -> usize {
    let graph = |g: &Graph| -> usize {
        let node = |n: &Node| {
            1 + n.inputs.len() + n.outputs.len() + n.attrs.values().map(extent).sum::<usize>()
        };
        g.initializers.len() + g.nodes.iter().map(node).sum::<usize>()
    };
    match value {
        AttrValue::Ints(v) => v.len(),
        AttrValue::Floats(v) => v.len(),
        AttrValue::Strs(v) => v.len(),
        AttrValue::Tensors(v) => v.len(),
        other => 1 + other.graphs().iter().map(graph).sum::<usize>(),
    }
}

fn value_info(proto: &proto::ValueInfoProto, scope: &Scope) -> Result<ValueInfo, OnnxError> {
    Ok(value_type::read(scope.value(&proto.name)?, proto.r#type.as_ref()))
}
