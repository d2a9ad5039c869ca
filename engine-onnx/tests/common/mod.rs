//! Short ways to write models down.

#![allow(dead_code, reason = "each test file uses its own part")]

use engine_onnx::proto::*;
use engine_onnx::{Model, OnnxError};
use prost::Message;

pub fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&s| s.to_owned()).collect()
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        input: strings(inputs),
        output: strings(outputs),
        ..Default::default()
    }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: data_type::FLOAT,
        float_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn int64s(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: data_type::INT64,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn raw(name: &str, data_type: i32, dims: &[i64], bytes: &[u8]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type,
        raw_data: Some(bytes.to_vec().into()),
        ..Default::default()
    }
}

pub fn attr(name: &str) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ..Default::default() }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { r#type: attribute_type::INT, i: Some(value), ..attr(name) }
}

pub fn tensor(name: &str, value: TensorProto) -> AttributeProto {
    AttributeProto { r#type: attribute_type::TENSOR, t: Some(Box::new(value)), ..attr(name) }
}

pub fn graph(name: &str, value: GraphProto) -> AttributeProto {
    AttributeProto { r#type: attribute_type::GRAPH, g: Some(Box::new(value)), ..attr(name) }
}

pub fn reference(name: &str, r#type: i32, to: &str) -> AttributeProto {
    AttributeProto { r#type, ref_attr_name: to.to_owned(), ..attr(name) }
}

pub fn value(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), r#type: None }
}

pub fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.to_owned(), version }
}

pub fn model_of(graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![opset("", 21)],
        graph: Some(graph),
        ..Default::default()
    }
}

pub fn nodes(node: Vec<NodeProto>) -> GraphProto {
    GraphProto { node, ..Default::default() }
}

pub fn parse(proto: &ModelProto) -> Result<Model, OnnxError> {
    Model::parse(proto.encode_to_vec().into(), None)
}
