//! Functions: a call is replaced by the nodes of the function's body.

use crate::import::{Import, NodeList, default_domain, definitions, opsets};
use crate::names::Names;
use crate::proto::{FunctionProto, GraphProto};
use crate::{AttrValue, Node, OnnxError};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Domain, name, overload.
type Key = (String, String, String);

/// The functions of a model.
#[derive(Default)]
pub(crate) struct Functions {
    by_key: HashMap<Key, Arc<Function>>,
    /// The calls being inlined, outermost first.
    active: Vec<Key>,
}

/// A function of a model.
pub(crate) struct Function {
    proto: FunctionProto,
    key: Key,
    opsets: BTreeMap<String, i64>,
}

impl Functions {
    pub(crate) fn new(protos: &[FunctionProto]) -> Result<Self, OnnxError> {
        let mut by_key = HashMap::new();
        for proto in protos {
            let domain = default_domain(&proto.domain).to_owned();
            let key = (domain, proto.name.clone(), proto.overload.clone());
            let place = format!("function {}:{}", key.0, key.1);
            let opsets = opsets(&proto.opset_import).map_err(|error| error.at(&place))?;
            let function = Function { proto: proto.clone(), key: key.clone(), opsets };
            if by_key.insert(key, Arc::new(function)).is_some() {
                return Err(OnnxError::invalid("function is defined twice").at(place));
            }
        }
        Ok(Self { by_key, active: Vec::new() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Whether the body of a function is being copied.
    pub(crate) fn is_inlining(&self) -> bool {
        !self.active.is_empty()
    }

    pub(crate) fn find(&self, domain: &str, name: &str, overload: &str) -> Option<Arc<Function>> {
        if self.by_key.is_empty() {
            return None;
        }
        let key = (domain.to_owned(), name.to_owned(), overload.to_owned());
        self.by_key.get(&key).cloned()
    }
}

/// What names mean at one place: everything means itself in the main graph and its nested graphs; in a function's body
/// the call decides.
pub(crate) struct Scope {
    /// What node names start with.
    pub(crate) prefix: String,
    pub(crate) opsets: BTreeMap<String, i64>,
    call: Option<Call>,
}

/// The meaning of names in a function's body.
struct Call {
    values: HashMap<String, String>,
    /// Every attribute of the function; `None` is one that the call leaves out and that has no default.
    attrs: HashMap<String, Option<AttrValue>>,
}

impl Scope {
    pub(crate) fn main(opsets: BTreeMap<String, i64>) -> Self {
        Self { prefix: String::new(), opsets, call: None }
    }

    /// The scope inside the nested graph `graph`. In a function's body the names it defines are kept unless they would
    /// hide a value of the caller.
    pub(crate) fn enter(&self, graph: &GraphProto, model: &mut Names) -> Self {
        let call = self.call.as_ref().map(|call| {
            let mut values = call.values.clone();
            let outer: HashSet<&String> = call.values.values().collect();
            for name in definitions(graph) {
                let hides = model.contains(name) || outer.contains(&name.to_owned());
                let inner = if hides {
                    model.reserve(name);
                    model.fresh(name.to_owned())
                } else {
                    name.to_owned()
                };
                values.insert(name.to_owned(), inner);
            }
            Call { values, attrs: call.attrs.clone() }
        });
        // The prefix made node names unique in the list around this graph; inside, the list is a new one.
        Self { prefix: String::new(), opsets: self.opsets.clone(), call }
    }

    /// What the value `name` is called in the model.
    pub(crate) fn value(&self, name: &str) -> Result<String, OnnxError> {
        match &self.call {
            None => Ok(name.to_owned()),
            Some(_) if name.is_empty() => Ok(String::new()),
            Some(call) => call.values.get(name).cloned().ok_or_else(|| {
                OnnxError::invalid("function uses a value that it does not define")
                    .found(format_args!("{name:?}"))
            }),
        }
    }

    /// The value of the function's attribute `name`.
    pub(crate) fn referenced(&self, name: &str) -> Result<Option<AttrValue>, OnnxError> {
        let value = self.call.as_ref().and_then(|call| call.attrs.get(name));
        value.cloned().ok_or_else(|| {
            OnnxError::invalid("reference to an attribute")
                .expected("one of the function around the node")
                .found(format_args!("{name:?}"))
        })
    }
}

impl Import {
    /// Adds the nodes of `function`, called by `call`, to `list`.
    pub(crate) fn inline(
        &mut self,
        function: &Function,
        call: Node,
        path: &str,
        list: &mut NodeList,
    ) -> Result<(), OnnxError> {
        if self.functions.active.contains(&function.key) {
            return Err(OnnxError::invalid("function calls itself").found(&function.proto.name));
        }
        self.functions.active.push(function.key.clone());
        let result = self.nested(|import| import.body(function, call, path, list));
        self.functions.active.pop();
        result
    }

    fn body(
        &mut self,
        function: &Function,
        call: Node,
        path: &str,
        list: &mut NodeList,
    ) -> Result<(), OnnxError> {
        let proto = &function.proto;
        check_arity("inputs", call.inputs.len(), proto.input.len())?;
        check_arity("outputs", call.outputs.len(), proto.output.len())?;
        let (values, copies) = self.bind(proto, &call);
        let attrs = self.bind_attrs(function, &call)?;
        let scope = Scope {
            prefix: format!("{}/", call.name),
            opsets: function.opsets.clone(),
            call: Some(Call { values, attrs }),
        };
        for (index, node) in proto.node.iter().enumerate() {
            self.node(node, index, &scope, path, list)?;
        }
        for (from, to) in copies {
            let identity = list.fresh_name(format!("{}/Identity", call.name));
            list.nodes.push(Node {
                name: identity,
                op_type: "Identity".to_owned(),
                domain: String::new(),
                opset: 1,
                inputs: vec![from],
                outputs: vec![to],
                attrs: BTreeMap::new(),
                metadata: BTreeMap::new(),
            });
        }
        Ok(())
    }

    /// The model's name of every value of the body, and the outputs that have to be copied because the function passes
    /// an input on or gives one value back twice.
    fn bind(
        &mut self,
        proto: &FunctionProto,
        call: &Node,
    ) -> (HashMap<String, String>, Vec<(String, String)>) {
        let actual = |names: &[String], at: usize| names.get(at).cloned().unwrap_or_default();
        let mut values = HashMap::new();
        for (at, formal) in proto.input.iter().enumerate() {
            values.insert(formal.clone(), actual(&call.inputs, at));
        }
        let mut copies = Vec::new();
        for (at, formal) in proto.output.iter().enumerate() {
            let wanted = actual(&call.outputs, at);
            match values.get(formal) {
                _ if wanted.is_empty() => {}
                Some(same) => copies.push((same.clone(), wanted)),
                None => {
                    values.insert(formal.clone(), wanted);
                }
            }
        }
        for output in proto.node.iter().flat_map(|node| &node.output).filter(|o| !o.is_empty()) {
            if !values.contains_key(output) {
                let name = self.values.fresh(format!("{}/{output}", call.name));
                values.insert(output.clone(), name);
            }
        }
        (values, copies)
    }

    fn bind_attrs(
        &mut self,
        function: &Function,
        call: &Node,
    ) -> Result<HashMap<String, Option<AttrValue>>, OnnxError> {
        let proto = &function.proto;
        let mut attrs: HashMap<String, Option<AttrValue>> =
            proto.attribute.iter().map(|name| (name.clone(), None)).collect();
        let defaults = Scope::main(function.opsets.clone());
        for default in &proto.attribute_proto {
            let path = format!("{}/{}", call.name, default.name);
            let value = self.attr(default, &defaults, &path)?;
            if value.as_ref().is_some_and(|value| !value.graphs().is_empty()) {
                return Err(OnnxError::invalid("default of a function's attribute")
                    .expected("anything but a graph, whose names would have no meaning")
                    .found(format_args!("{:?}", default.name)));
            }
            attrs.insert(default.name.clone(), value);
        }
        for (name, value) in &call.attrs {
            let Some(slot) = attrs.get_mut(name) else {
                return Err(OnnxError::invalid("attribute of a function call")
                    .expected("one that the function declares")
                    .found(format_args!("{name:?}")));
            };
            *slot = Some(value.clone());
        }
        Ok(attrs)
    }
}

fn check_arity(what: &str, given: usize, declared: usize) -> Result<(), OnnxError> {
    if given <= declared {
        return Ok(());
    }
    Err(OnnxError::invalid(format!("number of {what} of a function call"))
        .expected(format_args!("at most {declared}"))
        .found(given))
}
