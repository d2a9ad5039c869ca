//! Graphs, names and versions.

mod common;

use common::*;
use engine_format::{DType, Dim, Form};
use engine_onnx::proto::*;
use engine_onnx::{AttrValue, Graph, OnnxErrorKind};

fn tensor_type(elem_type: i32, dims: Option<Vec<DimensionProto>>) -> TypeProto {
    let shape = dims.map(|dim| TensorShapeProto { dim });
    TypeProto { tensor_type: Some(TensorTypeProto { elem_type, shape }), ..Default::default() }
}

fn size(dim_value: i64) -> DimensionProto {
    DimensionProto { dim_value: Some(dim_value), dim_param: None }
}

fn symbol(name: &str) -> DimensionProto {
    DimensionProto { dim_value: None, dim_param: Some(name.to_owned()) }
}

#[test]
fn declared_types_become_symbolic_shapes() {
    let typed = |name: &str, r#type| ValueInfoProto { name: name.into(), r#type: Some(r#type) };
    let dims = vec![symbol("batch"), size(3), DimensionProto::default(), size(-1), symbol("7")];
    let element = |inner| Some(Box::new(ElementTypeProto { elem_type: Some(Box::new(inner)) }));
    let of_scalars = element(tensor_type(data_type::FLOAT, Some(vec![])));
    let sequence = TypeProto { sequence_type: of_scalars, ..Default::default() };
    let maybe = TypeProto { optional_type: element(sequence.clone()), ..Default::default() };
    let twice = TypeProto { sequence_type: element(sequence.clone()), ..Default::default() };
    let graph = GraphProto {
        input: vec![
            typed("x", tensor_type(data_type::FLOAT, Some(dims))),
            typed("scalar", tensor_type(data_type::INT64, Some(vec![]))),
            typed("any", tensor_type(data_type::BOOL, None)),
            typed("text", tensor_type(data_type::STRING, None)),
            typed("list", sequence),
            typed("maybe", maybe),
            typed("twice", twice),
            value("bare"),
        ],
        ..Default::default()
    };
    let inputs = parse(&model_of(graph)).unwrap().graph.inputs;
    let shape = inputs[0].shape.as_ref().unwrap();
    assert_eq!(shape[..2], [Dim::symbol("batch"), Dim::from(3)]);
    let rest: Vec<_> = shape[2..].iter().map(|d| d.as_symbol().unwrap()).collect();
    assert_eq!(rest, ["x.dim2", "x.dim3", "x.dim4"]);
    let types: Vec<_> = inputs.iter().map(|i| (i.form, i.dtype, i.type_name.as_str())).collect();
    assert_eq!(
        types,
        [
            (Form::Tensor, Some(DType::F32), "tensor(f32)"),
            (Form::Tensor, Some(DType::I64), "tensor(i64)"),
            (Form::Tensor, Some(DType::Bool), "tensor(bool)"),
            (Form::Tensor, Some(DType::String), "tensor(string)"),
            (Form::Sequence, Some(DType::F32), "sequence(tensor(f32))"),
            (Form::OptionalSequence, Some(DType::F32), "optional(sequence(tensor(f32)))"),
            (Form::Tensor, None, "sequence(sequence(tensor(f32)))"),
            (Form::Tensor, None, "undeclared"),
        ]
    );
    assert_eq!((&inputs[1].shape, &inputs[2].shape), (&Some(vec![]), &None));
    assert_eq!(inputs[4].shape, None, "what tools write for elements whose shapes differ");
}

#[test]
fn nodes_without_names_get_them_and_double_names_are_told_apart() {
    let named = NodeProto { name: "n".into(), ..node("Relu", &["b"], &["c"]) };
    let again = NodeProto { name: "n".into(), ..node("Relu", &["c"], &["d"]) };
    let optional = node("Clip", &["a", "", "max"], &["b"]);
    let model = parse(&model_of(nodes(vec![optional, named, again]))).unwrap();
    let names: Vec<_> = model.graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["Clip_0", "n", "n_2"]);
    assert_eq!(model.graph.nodes[0].inputs, ["a", "", "max"]);
}

#[test]
fn metadata_producer_and_initializers_that_are_inputs_are_kept() {
    let graph = GraphProto {
        input: vec![value("x"), value("w")],
        output: vec![value("y")],
        initializer: vec![floats("w", &[1], &[1.0])],
        ..Default::default()
    };
    let entry = StringStringEntryProto { key: "classes".into(), value: "a,b".into() };
    let mut proto = model_of(graph);
    proto.metadata_props = vec![entry];
    proto.producer_name = "exporter".into();
    let model = parse(&proto).unwrap();
    assert_eq!(model.metadata["classes"], "a,b");
    assert_eq!(model.producer, "exporter");
    assert_eq!(model.graph.inputs.len(), 2);
    assert!(model.graph.initializer("w").is_some());
}

fn branch(weight: f32) -> GraphProto {
    GraphProto {
        initializer: vec![floats("w", &[1], &[weight])],
        output: vec![value("out")],
        ..nodes(vec![
            NodeProto { attribute: vec![int("value_int", 1)], ..node("Constant", &[], &["c"]) },
            node("Mul", &["captured", "w"], &["out"]),
        ])
    }
}

fn only_graph<'a>(node: &'a engine_onnx::Node, attr: &str) -> &'a Graph {
    match &node.attrs[attr] {
        AttrValue::Graph(graph) => graph,
        other => panic!("{other:?}"),
    }
}

#[test]
fn constants_of_nested_graphs_are_qualified_by_their_place() {
    let inner = nodes(vec![NodeProto {
        name: "inner".into(),
        attribute: vec![graph("body", branch(3.0))],
        ..node("Loop", &["captured"], &["r"])
    }]);
    let choice = NodeProto {
        attribute: vec![graph("then_branch", branch(1.0)), graph("else_branch", inner)],
        ..node("If", &["condition"], &["y"])
    };
    let graph = GraphProto { initializer: vec![floats("w", &[1], &[0.0])], ..nodes(vec![choice]) };
    let model = parse(&model_of(graph)).unwrap();
    let names: Vec<_> = model.constants().into_iter().map(|c| c.name).collect();
    assert_eq!(
        names,
        [
            "w",
            "If_0/else_branch/inner/body/w",
            "If_0/else_branch/inner/body/c",
            "If_0/then_branch/w",
            "If_0/then_branch/c",
        ]
    );
    let then = only_graph(&model.graph.nodes[0], "then_branch");
    assert_eq!(then.nodes[1].inputs, ["captured", "w"]);
    assert_eq!(then.qualify("w"), then.initializers[0].qualified);
}

#[test]
fn attributes_keep_their_kinds_declared_or_not() {
    let attribute = vec![
        AttributeProto { f: Some(0.5), ..attr("f") },
        AttributeProto { i: Some(-1), ..attr("i") },
        AttributeProto { s: Some("text".into()), ..attr("s") },
        AttributeProto { ints: vec![1, 2], ..attr("ints") },
        AttributeProto { strings: vec!["a".into()], ..attr("strings") },
        AttributeProto { r#type: attribute_type::FLOATS, ..attr("none") },
        AttributeProto { s: Some(vec![0xff].into()), ..attr("binary") },
        AttributeProto { r#type: attribute_type::TYPE_PROTO, ..attr("type") },
    ];
    let proto = NodeProto { attribute, ..node("Any", &[], &[]) };
    let model = parse(&model_of(nodes(vec![proto]))).unwrap();
    let attrs = &model.graph.nodes[0].attrs;
    assert!(matches!(attrs["f"], AttrValue::Float(0.5)));
    assert!(matches!(attrs["i"], AttrValue::Int(-1)));
    assert!(matches!(&attrs["s"], AttrValue::Str(s) if s == "text"));
    assert!(matches!(&attrs["ints"], AttrValue::Ints(v) if v == &[1, 2]));
    assert!(matches!(&attrs["strings"], AttrValue::Strs(v) if v == &["a"]));
    assert!(matches!(&attrs["none"], AttrValue::Floats(v) if v.is_empty()));
    assert!(matches!(&attrs["binary"], AttrValue::Other(_)));
    assert!(matches!(&attrs["type"], AttrValue::Type(info) if info.type_name == "undeclared"));
}

#[test]
fn versions_outside_the_range_are_errors_and_domains_have_one_spelling() {
    let with = |ir: Option<i64>, opset_import| ModelProto {
        ir_version: ir,
        opset_import,
        ..model_of(nodes(vec![NodeProto {
            domain: "ai.onnx".into(),
            ..node("Relu", &["x"], &["y"])
        }]))
    };
    for (ir, version) in [(3, 1), (14, 28)] {
        let model = parse(&with(Some(ir), vec![opset("ai.onnx", version)])).unwrap();
        let node = &model.graph.nodes[0];
        assert_eq!((node.domain.as_str(), node.opset), ("", version));
    }
    for (ir, version) in [(2, 1), (15, 21), (8, 0), (8, 29)] {
        let error = parse(&with(Some(ir), vec![opset("", version)])).unwrap_err();
        assert_eq!(error.kind(), OnnxErrorKind::UnsupportedVersion, "{ir} {version}");
    }
    let none = parse(&with(None, vec![opset("", 21)])).unwrap_err();
    assert_eq!(none.kind(), OnnxErrorKind::Corrupt);
    let no_import = parse(&with(Some(8), vec![])).unwrap_err();
    assert_eq!(no_import.place(), Some("node \"Relu_0\""));
    let two = parse(&with(Some(8), vec![opset("", 20), opset("ai.onnx", 21)])).unwrap_err();
    assert_eq!(two.kind(), OnnxErrorKind::Invalid);
}

#[test]
fn two_constants_of_one_name_are_one_if_they_are_equal_and_else_an_error() {
    let with = |first: f32, second: f32| {
        let constant = NodeProto {
            attribute: vec![tensor("value", floats("", &[1], &[second]))],
            ..node("Constant", &[], &["w"])
        };
        let initializer = vec![floats("w", &[1], &[first])];
        parse(&model_of(GraphProto { initializer, ..nodes(vec![constant]) }))
    };
    assert_eq!(with(1.0, 1.0).unwrap().constants().len(), 1);
    let error = with(0.0, 1.0).unwrap_err().to_string();
    assert!(error.contains("two constants of one name and different contents: found w"), "{error}");
}
