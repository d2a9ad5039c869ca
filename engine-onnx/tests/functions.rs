//! Functions are replaced by their bodies.

mod common;

use common::*;
use engine_format::Tensor;
use engine_onnx::proto::*;
use engine_onnx::{AttrValue, Model, OnnxErrorKind};

const DOMAIN: &str = "local";

fn function(name: &str, inputs: &[&str], outputs: &[&str], node: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: name.into(),
        domain: DOMAIN.into(),
        input: strings(inputs),
        output: strings(outputs),
        opset_import: vec![opset("", 18), opset(DOMAIN, 1)],
        node,
        ..Default::default()
    }
}

fn call(name: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { name: name.into(), domain: DOMAIN.into(), ..node(op, inputs, outputs) }
}

fn with(functions: Vec<FunctionProto>, main: Vec<NodeProto>) -> ModelProto {
    let mut proto = model_of(nodes(main));
    proto.functions = functions;
    proto
}

/// The nodes as `NAME: OUTPUTS = OP(INPUTS)`.
fn lines(model: &Model) -> Vec<String> {
    let line = |n: &engine_onnx::Node| {
        format!("{}: {} = {}({})", n.name, n.outputs.join(","), n.op_type, n.inputs.join(","))
    };
    model.graph.nodes.iter().map(line).collect()
}

#[test]
fn calls_become_the_body_under_the_calls_name() {
    let body = vec![node("Exp", &["a"], &["t"]), node("Add", &["t", "b"], &["r"])];
    let model = parse(&with(
        vec![function("f", &["a", "b"], &["r"], body)],
        vec![call("one", "f", &["x", "x"], &["y"]), call("two", "f", &["y"], &["z"])],
    ))
    .unwrap();
    assert_eq!(
        lines(&model),
        [
            "one/Exp_0: one/t = Exp(x)",
            "one/Add_1: y = Add(one/t,x)",
            "two/Exp_0: two/t = Exp(y)",
            "two/Add_1: z = Add(two/t,)",
        ]
    );
    assert!(model.graph.nodes.iter().all(|n| n.opset == 18), "the function's own operator set");
}

#[test]
fn inner_names_give_way_to_names_of_the_model() {
    let body = vec![node("Exp", &["a"], &["t"]), node("Neg", &["t"], &["r"])];
    let model = parse(&with(
        vec![function("f", &["a"], &["r"], body)],
        vec![node("Relu", &["x"], &["one/t"]), call("one", "f", &["one/t"], &["y"])],
    ))
    .unwrap();
    assert_eq!(
        lines(&model)[1..],
        ["one/Exp_0: one/t_2 = Exp(one/t)", "one/Neg_1: y = Neg(one/t_2)"]
    );
}

#[test]
fn functions_call_functions_and_pass_values_through() {
    let inner = function("inner", &["p"], &["q", "p"], vec![node("Neg", &["p"], &["q"])]);
    let outer = function(
        "outer",
        &["a"],
        &["r", "s"],
        vec![call("", "inner", &["a"], &["m", "s"]), node("Abs", &["m"], &["r"])],
    );
    let model =
        parse(&with(vec![outer, inner], vec![call("c", "outer", &["x"], &["y", "z"])])).unwrap();
    assert_eq!(
        lines(&model),
        [
            "c/inner_0/Neg_0: c/m = Neg(x)",
            "c/inner_0/Identity: z = Identity(x)",
            "c/Abs_1: y = Abs(c/m)",
        ]
    );
}

#[test]
fn attribute_references_take_the_calls_value_or_the_default_or_vanish() {
    let body = vec![
        NodeProto {
            attribute: vec![
                reference("axis", attribute_type::INT, "axis"),
                reference("mode", attribute_type::INT, "mode"),
                reference("extra", attribute_type::INT, "extra"),
            ],
            ..node("Op", &["a"], &["r"])
        },
        NodeProto {
            attribute: vec![reference("value_int", attribute_type::INT, "axis")],
            ..node("Constant", &[], &["k"])
        },
    ];
    let mut f = function("f", &["a"], &["r"], body);
    f.attribute = strings(&["axis", "extra"]);
    f.attribute_proto = vec![int("mode", 9)];
    let caller = NodeProto { attribute: vec![int("axis", 5)], ..call("c", "f", &["x"], &["y"]) };
    let model = parse(&with(vec![f.clone()], vec![caller])).unwrap();
    let attrs = &model.graph.nodes[0].attrs;
    assert!(matches!(attrs["axis"], AttrValue::Int(5)));
    assert!(matches!(attrs["mode"], AttrValue::Int(9)));
    assert!(!attrs.contains_key("extra"));
    let [constant] = &model.constants()[..] else { panic!() };
    assert_eq!(constant.name, "c/k");
    assert_eq!(constant.data.tensor().unwrap(), Tensor::from_slice(&[], &[5i64]));
    let unknown = NodeProto { attribute: vec![int("axes", 5)], ..call("c", "f", &["x"], &["y"]) };
    let error = parse(&with(vec![f], vec![unknown])).unwrap_err();
    assert!(error.to_string().contains("\"axes\""), "{error}");
}

#[test]
fn nested_graphs_of_a_function_see_its_values_and_hide_none_of_the_callers() {
    // `x` is local to the branch, and also what the caller passes in as `a`.
    let branch = GraphProto {
        output: vec![value("o")],
        ..nodes(vec![node("Neg", &["a"], &["x"]), node("Add", &["x", "t"], &["o"])])
    };
    let body = vec![
        node("Exp", &["a"], &["t"]),
        NodeProto { attribute: vec![graph("then_branch", branch)], ..node("If", &["t"], &["r"]) },
    ];
    let model = parse(&with(
        vec![function("f", &["a"], &["r"], body)],
        vec![call("c", "f", &["x"], &["y"])],
    ))
    .unwrap();
    let [then] = model.graph.nodes[1].attrs["then_branch"].graphs() else { panic!() };
    assert_eq!(then.scope, "c/If_1/then_branch/");
    let [neg, add] = &then.nodes[..] else { panic!() };
    assert_eq!(neg.inputs, ["x"], "the caller's value");
    assert_ne!(neg.outputs[0], "x", "the branch's own value has another name");
    assert_eq!(add.inputs, [neg.outputs[0].as_str(), "c/t"]);
    assert_eq!(then.outputs[0].name, "o");
}

#[test]
fn recursion_and_loose_ends_are_errors() {
    let recursive = vec![
        function("f", &["a"], &["r"], vec![call("", "g", &["a"], &["r"])]),
        function("g", &["a"], &["r"], vec![call("", "f", &["a"], &["r"])]),
    ];
    let main = || vec![call("c", "f", &["x"], &["y"])];
    let error = parse(&with(recursive, main())).unwrap_err();
    assert!(error.to_string().contains("calls itself"), "{error}");

    let loose = function("f", &["a"], &["r"], vec![node("Add", &["a", "x"], &["r"])]);
    let error = parse(&with(vec![loose.clone()], main())).unwrap_err();
    assert!(error.to_string().contains("does not define"), "{error}");

    let error = parse(&with(vec![loose.clone(), loose.clone()], main())).unwrap_err();
    assert!(error.to_string().contains("defined twice"), "{error}");

    let many = parse(&with(vec![loose], vec![call("c", "f", &["x", "x"], &["y"])])).unwrap_err();
    assert!(many.to_string().contains("number of inputs"), "{many}");
}

#[test]
fn inlining_that_explodes_is_stopped() {
    // Each function calls the next one ten times: ten to the ninth nodes.
    let level = |i: usize| {
        let body = (0..10).map(|_| call("", &format!("f{}", i + 1), &["a"], &["r"])).collect();
        function(&format!("f{i}"), &["a"], &["r"], body)
    };
    let mut functions: Vec<_> = (0..9).map(level).collect();
    functions.push(function("f9", &["a"], &["r"], vec![node("Neg", &["a"], &["r"])]));
    let error = parse(&with(functions, vec![call("c", "f0", &["x"], &["y"])])).unwrap_err();
    assert_eq!(error.kind(), OnnxErrorKind::LimitExceeded, "{error}");
}

#[test]
fn chains_of_calls_are_capped_before_the_stack_is() {
    let chain = |length: usize| {
        let level = |i: usize| {
            let next = call("", &format!("f{}", i + 1), &["a"], &["r"]);
            function(&format!("f{i}"), &["a"], &["r"], vec![next])
        };
        let mut functions: Vec<_> = (0..length - 1).map(level).collect();
        let last = vec![node("Neg", &["a"], &["r"])];
        functions.push(function(&format!("f{}", length - 1), &["a"], &["r"], last));
        parse(&with(functions, vec![call("c", "f0", &["x"], &["y"])]))
    };
    assert_eq!(chain(100).unwrap().graph.nodes.len(), 1);
    assert_eq!(chain(101).unwrap_err().kind(), OnnxErrorKind::LimitExceeded);
}
