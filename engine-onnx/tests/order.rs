//! Nodes that the file does not sort, and constants whose places would give them one name.

mod common;

use common::*;
use engine_onnx::proto::*;
use engine_onnx::{AttrValue, Graph, Model, OnnxErrorKind};

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.name.as_str()).collect()
}

fn named(name: &str, node: NodeProto) -> NodeProto {
    NodeProto { name: name.into(), ..node }
}

fn inner<'a>(model: &'a Model, node: usize, attr: &str) -> &'a Graph {
    match &model.graph.nodes[node].attrs[attr] {
        AttrValue::Graph(graph) => graph,
        other => panic!("{other:?}"),
    }
}

fn main_graph(node: Vec<NodeProto>) -> GraphProto {
    GraphProto { input: vec![value("x")], output: vec![value("y")], ..nodes(node) }
}

#[test]
fn nodes_come_after_what_they_use_and_else_stay_in_the_order_of_the_file() {
    let graph = main_graph(vec![
        named("last", node("Add", &["b", "c"], &["y"])),
        named("b", node("Relu", &["a"], &["b"])),
        named("c", node("Neg", &["a"], &["c"])),
        named("a", node("Relu", &["x"], &["a"])),
        named("free", node("Relu", &["x"], &["unused"])),
    ]);
    let model = parse(&model_of(graph)).unwrap();
    assert_eq!(names(&model.graph), ["a", "b", "c", "last", "free"]);
}

#[test]
fn what_is_sorted_stays_as_it_is_even_where_names_are_defined_again() {
    let graph = main_graph(vec![
        named("a", node("Relu", &["x"], &["a"])),
        named("again", node("Neg", &["a"], &["a"])),
        named("last", node("Add", &["a", "a"], &["y"])),
    ]);
    let model = parse(&model_of(graph)).unwrap();
    assert_eq!(names(&model.graph), ["a", "again", "last"]);
}

#[test]
fn a_name_that_is_defined_twice_has_no_place_in_a_graph_that_must_be_sorted() {
    let graph = main_graph(vec![
        named("last", node("Add", &["a", "a"], &["y"])),
        named("a", node("Relu", &["x"], &["a"])),
        named("again", node("Neg", &["x"], &["a"])),
    ]);
    let error = parse(&model_of(graph)).unwrap_err();
    assert_eq!(error.kind(), OnnxErrorKind::Invalid);
    let text = error.to_string();
    assert!(text.contains("value \"a\"") && text.contains("\"a\" and \"again\""), "{text}");
}

/// What a branch takes from around it is a use of the node that has the branch, at whatever depth.
#[test]
fn what_a_nested_graph_takes_from_outside_comes_before_its_node() {
    let deepest = GraphProto {
        output: vec![value("d")],
        ..nodes(vec![named("d", node("Mul", &["late", "late"], &["d"]))])
    };
    let branch = || GraphProto {
        output: vec![value("o")],
        ..nodes(vec![
            named("o", node("Relu", &["i"], &["o"])),
            NodeProto {
                attribute: vec![
                    graph("then_branch", deepest.clone()),
                    graph("else_branch", deepest.clone()),
                ],
                ..named("i", node("If", &["condition"], &["i"]))
            },
        ])
    };
    let choice = NodeProto {
        attribute: vec![graph("then_branch", branch()), graph("else_branch", branch())],
        ..named("choice", node("If", &["condition"], &["y"]))
    };
    let graph = main_graph(vec![choice, named("late", node("Relu", &["x"], &["late"]))]);
    let model = parse(&model_of(graph)).unwrap();
    assert_eq!(names(&model.graph), ["late", "choice"]);
    for attr in ["then_branch", "else_branch"] {
        assert_eq!(names(inner(&model, 1, attr)), ["i", "o"]);
    }
}

/// A name that a nested graph gives again is its own once it is defined there, and that of the graph around it before.
#[test]
fn a_nested_graph_may_give_a_name_again() {
    let branch = GraphProto {
        output: vec![value("h")],
        ..nodes(vec![
            named("twice", node("Add", &["h", "h"], &["t"])),
            named("h", node("Relu", &["t"], &["h"])),
        ])
    };
    let choice = NodeProto {
        attribute: vec![graph("then_branch", branch.clone()), graph("else_branch", branch)],
        ..node("If", &["condition"], &["y"])
    };
    let graph = main_graph(vec![named("h", node("Relu", &["x"], &["h"])), choice]);
    let model = parse(&model_of(graph)).unwrap();
    assert_eq!(names(inner(&model, 1, "then_branch")), ["twice", "h"]);
}

#[test]
fn bodies_of_functions_are_sorted_where_they_are_called() {
    let function = FunctionProto {
        domain: "f".into(),
        name: "F".into(),
        input: strings(&["p"]),
        output: strings(&["r"]),
        opset_import: vec![opset("", 21)],
        node: vec![
            named("second", node("Relu", &["m"], &["r"])),
            named("first", node("Neg", &["p"], &["m"])),
        ],
        ..Default::default()
    };
    let call = NodeProto { domain: "f".into(), ..named("call", node("F", &["late"], &["y"])) };
    let graph = main_graph(vec![call, named("late", node("Relu", &["x"], &["late"]))]);
    let model = parse(&ModelProto { functions: vec![function], ..model_of(graph) }).unwrap();
    assert_eq!(names(&model.graph), ["late", "call/first", "call/second"]);
}

#[test]
fn a_cycle_is_an_error_that_names_its_nodes_and_no_others() {
    let graph = main_graph(vec![
        named("before", node("Relu", &["x"], &["a"])),
        named("one", node("Add", &["a", "r"], &["p"])),
        named("two", node("Relu", &["p"], &["q"])),
        named("three", node("Neg", &["q"], &["r"])),
        named("behind", node("Relu", &["r"], &["y"])),
    ]);
    let text = parse(&model_of(graph)).unwrap_err().to_string();
    for name in ["\"one\" (Add)", "\"two\" (Relu)", "\"three\" (Neg)"] {
        assert!(text.contains(name), "{text}");
    }
    assert!(!text.contains("before") && !text.contains("behind"), "{text}");
    let itself = main_graph(vec![named("self", node("Add", &["x", "y"], &["y"]))]);
    let text = parse(&model_of(itself)).unwrap_err().to_string();
    assert!(text.contains("\"self\" (Add) → \"self\" (Add)"), "{text}");
}

#[test]
fn a_cycle_in_a_nested_graph_is_an_error_that_says_which_graph() {
    let branch = GraphProto {
        output: vec![value("o")],
        ..nodes(vec![
            named("one", node("Relu", &["o"], &["m"])),
            named("two", node("Relu", &["m"], &["o"])),
        ])
    };
    let choice = NodeProto {
        attribute: vec![graph("then_branch", branch)],
        ..named("choice", node("If", &["condition"], &["y"]))
    };
    let error = parse(&model_of(main_graph(vec![choice]))).unwrap_err();
    assert_eq!(error.place(), Some("graph \"choice/then_branch/\""));
}

/// A chain in the order of its results, longer than any stack of calls.
#[test]
fn long_chains_are_sorted() {
    let link = |i: usize| node("Relu", &[&format!("v{i}")], &[&format!("v{}", i + 1)]);
    let chain: Vec<NodeProto> = (0..100_000).rev().map(link).collect();
    let graph = GraphProto { input: vec![value("v0")], ..nodes(chain) };
    let model = parse(&model_of(graph)).unwrap();
    assert_eq!(model.graph.nodes[0].inputs, ["v0"]);
    assert_eq!(model.graph.nodes[99_999].outputs, ["v100000"]);
}

/// The names of nodes may look like places, and those of constants too.
#[test]
fn constants_whose_places_read_alike_have_names_of_their_own() {
    let leaf = |weight: f32| GraphProto {
        initializer: vec![floats("w", &[1], &[weight])],
        output: vec![value("o")],
        ..nodes(vec![node("Relu", &["w"], &["o"])])
    };
    let choice = |name: &str, then: GraphProto| NodeProto {
        attribute: vec![graph("then_branch", then)],
        ..named(name, node("If", &["condition"], &[&format!("{name}.out")]))
    };
    let inside = GraphProto { output: vec![value("A.out")], ..nodes(vec![choice("A", leaf(1.0))]) };
    let graph = GraphProto {
        initializer: vec![floats("B/then_branch/w", &[1], &[0.0])],
        ..nodes(vec![
            choice("A", inside),
            choice("A/then_branch/A", leaf(2.0)),
            choice("B", leaf(3.0)),
        ])
    };
    let model = parse(&model_of(graph)).unwrap();
    let found: Vec<(String, f32)> = model
        .constants()
        .into_iter()
        .map(|c| (c.name, c.data.tensor().unwrap().as_slice::<f32>().unwrap()[0]))
        .collect();
    let expected = [
        ("B/then_branch/w", 0.0),
        ("A/then_branch/A/then_branch/w", 1.0),
        ("A/then_branch/A/then_branch_2/w", 2.0),
        ("B/then_branch_2/w", 3.0),
    ];
    assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
}
