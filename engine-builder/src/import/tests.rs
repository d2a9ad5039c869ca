//! Models in, graphs out; the snapshots are the graphs.

use super::import;
use crate::options::BuildOptions;
use crate::testing::{Onnx, floats, graph, int, ints, longs, of_type, text};
use crate::{BuildErrorKind, classify};

/// The graph after import and classification, verified, as text.
fn imported(model: Onnx) -> String {
    let mut imported = import(&model.model(), &BuildOptions::default()).unwrap();
    classify::classify(&mut imported).unwrap();
    imported.graph.verify().unwrap();
    imported.graph.to_string()
}

/// The message of a model that cannot be imported, and its kind.
fn refused(model: Onnx, options: &BuildOptions) -> String {
    let error = import(&model.model(), options).unwrap_err();
    format!("{:?}: {error}", error.kind())
}

#[test]
fn operators_of_the_table_are_taken_over_with_their_defaults() {
    insta::assert_snapshot!(imported(
        Onnx::new(17)
            .input("x: f32[n, 3]")
            .constant(floats("w", &[4, 3], 0.0))
            .node("t = Transpose(w)", vec![ints("perm", &[0, 1])])
            .node("c = Concat(x, t)", vec![int("axis", 0)])
            .node("y = Relu(c)", vec![])
            .output("y: f32[m, 3]")
    ));
}

#[test]
fn axes_and_bounds_that_were_attributes_become_operands() {
    insta::assert_snapshot!(imported(
        Onnx::new(9)
            .input("x: f32[n, 1, 6]")
            .node("a = Squeeze(x)", vec![ints("axes", &[1])])
            .node("b = Unsqueeze(a)", vec![ints("axes", &[0, 3])])
            .node(
                "c = Slice(b)",
                vec![ints("starts", &[1]), ints("ends", &[5]), ints("axes", &[2])]
            )
            .node("d, e = Split(c)", vec![ints("split", &[1, 3]), int("axis", 2)])
            .node("f = Dropout(e)", vec![])
            .output("d")
            .output("f")
    ));
}

#[test]
fn a_constant_of_shape_is_one_element_stretched() {
    insta::assert_snapshot!(imported(
        Onnx::new(15)
            .input("x: f32[n, 3]")
            .node("s = Shape(x)", vec![])
            .node(
                "y = ConstantOfShape(s)",
                vec![crate::testing::tensor("value", longs("", &[1], &[7]))]
            )
            .output("y")
    ));
}

#[test]
fn branches_capture_and_their_constants_have_scoped_names() {
    let then = Onnx::default()
        .constant(floats("w", &[20], 0.0))
        .node("a = Concat(x, w)", vec![int("axis", 0)])
        .output("a");
    let other = Onnx::default()
        .node("k = Constant()", vec![crate::testing::tensor("value", floats("", &[2], 5.0))])
        .node("b = Concat(x, w, k)", vec![int("axis", 0)])
        .output("b");
    insta::assert_snapshot!(imported(
        Onnx::new(16)
            .input("x: f32[n]")
            .input("c: bool[]")
            .constant(floats("w", &[20], 1.0))
            .node("y = If(c)", vec![graph("then_branch", then), graph("else_branch", other)])
            .output("y")
    ));
}

/// What is carried and keeps its size has it known, what grows does not; what comes from outside is captured.
#[test]
fn what_a_loop_carries_has_the_type_that_holds_in_every_iteration() {
    let body = Onnx::default()
        .input("i: i64[]")
        .input("go: bool[]")
        .input("h: f32[a]")
        .input("all: f32[b]")
        .constant(floats("w", &[20], 0.0))
        .node("next = Add(h, w)", vec![])
        .node("more = Concat(all, next)", vec![int("axis", 0)])
        .node("part = Slice(x, zero, one)", vec![])
        .output("go")
        .output("next")
        .output("more")
        .output("part")
        .output("more");
    insta::assert_snapshot!(imported(
        Onnx::new(16)
            .input("x: f32[20]")
            .input("n: i64[]")
            .constant(longs("zero", &[1], &[0]))
            .constant(longs("one", &[1], &[1]))
            .node("h, all, parts, sums = Loop(n, _, x, x)", vec![graph("body", body)])
            .output("h")
            .output("all")
            .output("parts")
            .output("sums")
    ));
}

#[test]
fn a_scan_of_batches_is_a_loop_over_scans() {
    let body = Onnx::default()
        .input("h: f32[2]")
        .input("s: f32[2]")
        .node("sum = Add(h, s)", vec![])
        .output("sum")
        .output("sum");
    insta::assert_snapshot!(imported(
        Onnx::new(8)
            .input("lengths: i64[batch]")
            .input("h: f32[batch, 2]")
            .input("x: f32[batch, seq, 2]")
            .node(
                "y, z = Scan(lengths, h, x)",
                vec![graph("body", body), int("num_scan_inputs", 1), ints("directions", &[1])]
            )
            .output("y")
            .output("z")
    ));
}

#[test]
fn a_body_over_the_elements_of_sequences_is_a_loop() {
    let body = Onnx::default()
        .input("a: f32[p]")
        .input("b: f32[q]")
        .node("sum = Add(a, b)", vec![])
        .node("size = Shape(sum)", vec![])
        .output("sum")
        .output("size");
    insta::assert_snapshot!(imported(
        Onnx::new(17)
            .input("x: seq(f32[n])")
            .input("bias: f32[1]")
            .node("y, sizes = SequenceMap(x, bias)", vec![graph("body", body)])
            .node("first = SequenceAt(y, zero)", vec![])
            .constant(longs("zero", &[], &[0]))
            .output("y")
            .output("sizes")
            .output("first")
    ));
}

#[test]
fn absent_values_have_types_too() {
    let then =
        Onnx::default().node("a = Optional()", vec![of_type("type", "seq(f32[3])")]).output("a");
    let other = Onnx::default()
        .node("list = SequenceConstruct(x, x)", vec![])
        .node("b = Optional(list)", vec![])
        .output("b");
    insta::assert_snapshot!(imported(
        Onnx::new(18)
            .input("x: f32[3]")
            .input("c: bool[]")
            .input("given: optional(f32[n])")
            .node("y = If(c)", vec![graph("then_branch", then), graph("else_branch", other)])
            .node("there = OptionalHasElement(given)", vec![])
            .node("z = OptionalGetElement(given)", vec![])
            .output("y")
            .output("there")
            .output("z")
    ));
}

/// The branch that is not taken may be no valid graph for the shapes that are.
#[test]
fn only_the_branch_that_is_taken_must_fit_the_shapes() {
    let model = |taken: &str, other: &str, size: i64| {
        let fits = Onnx::default().node("a = Reshape(x, two)", vec![]).output("a");
        let fails = Onnx::default().node("b = Reshape(x, five)", vec![]).output("b");
        Onnx::new(16)
            .input("x: f32[4]")
            .constant(longs("two", &[2], &[2, 2]))
            .constant(longs("five", &[1], &[5]))
            .constant(longs("four", &[], &[size]))
            .node("size = Size(x)", vec![])
            .node("c = Equal(size, four)", vec![])
            .node("y = If(c)", vec![graph(taken, fits), graph(other, fails)])
            .output("y")
    };
    for (text, size) in [
        (imported(model("then_branch", "else_branch", 4)), 4),
        (imported(model("else_branch", "then_branch", 3)), 3),
    ] {
        assert!(text.contains("f32[2, 2] = Reshape(x, two)"), "{size}: {text}");
        assert!(!text.contains("If"), "{size}: {text}");
    }
    let wrong = refused(model("else_branch", "then_branch", 4), &BuildOptions::default());
    assert!(wrong.starts_with("InvalidNode") && wrong.contains("Reshape"), "{wrong}");
}

/// Each of these was once built, or refused in words that left out what is taken.
#[test]
fn what_a_node_does_not_take_is_refused_with_what_it_takes() {
    let start = || {
        Onnx::new(23)
            .input("x: f32[4, 1, 6]")
            .input("on: f32[]")
            .constant(floats("w", &[1, 12, 5], 0.0))
            .constant(floats("w3", &[1, 12, 6], 0.0))
            .constant(floats("r", &[1, 12, 3], 0.0))
            .constant(floats("b", &[1, 9], 0.0))
            .constant(floats("scales", &[3], 1.0))
            .constant(floats("scores", &[4, 2, 1], 0.0))
            .constant(longs("far", &[1], &[7]))
            .constant(longs("trips", &[], &[3]))
    };
    let branch = || Onnx::default().node("a = Relu(x)", vec![]).output("a");
    let body = Onnx::default()
        .input("i: i64[]")
        .input("go: bool[]")
        .node("next = Identity(go)", vec![])
        .output("next")
        .node("each = Relu(x)", vec![])
        .output("each");
    let branches = vec![graph("then_branch", branch()), graph("else_branch", branch())];
    let refusals = [
        start().node("y = LSTM(x, w, r)", vec![]),
        start().node("y = LSTM(x, w3, r, b)", vec![]),
        start().node("y = Gather(x, far)", vec![]),
        start().node("y = MatMulInteger(x, x)", vec![]),
        start().node("y = NonMaxSuppression(x, scores)", vec![]),
        start().node("y = Resize(x, _, scales)", vec![text("mode", "area")]),
        start().node("y = Attention(x, x, x)", vec![int("q_num_heads", 4), int("kv_num_heads", 4)]),
        start().node("y = If(on)", branches),
        start().node("y = Loop(trips, on)", vec![graph("body", body)]),
        start().node("y = Clip(x, scales)", vec![]),
    ];
    let all = refusals.map(|model| refused(model.output("y"), &BuildOptions::default()));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn operands_of_the_wrong_form_are_refused() {
    let error = |call: &str| {
        let model = Onnx::new(17).input("x: seq(f32[n])").input("t: f32[n]").node(call, vec![]);
        refused(model.output("y"), &BuildOptions::default())
    };
    insta::assert_snapshot!(
        ["y = Relu(x)", "y = SequenceAt(t, t)", "y = SequenceInsert(x, x)"].map(error).join("\n")
    );
}

#[test]
fn a_shape_that_only_a_run_knows_still_has_a_rank() {
    insta::assert_snapshot!(imported(
        Onnx::new(17)
            .input("x: f32[n]")
            .input("s: i64[3]")
            .node("y = Reshape(x, s)", vec![])
            .node("z = Relu(y)", vec![])
            .output("z")
    ));
}

#[test]
fn where_not_even_the_rank_is_known_the_types_still_are() {
    let then = Onnx::default().node("a = Relu(x)", vec![]).output("a");
    let other = Onnx::default().node("b = Reshape(x, flat)", vec![]).output("b");
    insta::assert_snapshot!(imported(
        Onnx::new(17)
            .input("x: f32[n, 3]")
            .input("c: bool[]")
            .constant(longs("flat", &[1], &[-1]))
            .constant(longs("four", &[], &[4]))
            .node("y = If(c)", vec![graph("then_branch", then), graph("else_branch", other)])
            .node("size = Size(y)", vec![])
            .node("small = Less(size, four)", vec![])
            .node("shape = Shape(y)", vec![])
            .node("z = Add(y, y)", vec![])
            .output("small")
            .output("shape")
            .output("z")
    ));
}

#[test]
fn every_unsupported_operator_is_listed_with_its_nodes() {
    let inner =
        || Onnx::default().node("a = Mystery(x)", vec![]).node("b = Other(a)", vec![]).output("b");
    let model = Onnx::new(17)
        .input("x: f32[n]")
        .input("c: bool[]")
        .node("p = Mystery(x)", vec![])
        .node("y = If(c)", vec![graph("then_branch", inner()), graph("else_branch", inner())])
        .output("y");
    insta::assert_snapshot!(refused(model, &BuildOptions::default()), @r"
    Unsupported: 2 unsupported operators in 5 nodes:
      ai.onnx Mystery (opset 17): n_p, n_y/else_branch/n_a, n_y/then_branch/n_a
      ai.onnx Other (opset 17): n_y/else_branch/n_b, n_y/then_branch/n_b
    ");
}

#[test]
fn a_misused_node_is_reported_with_its_operands() {
    let model = Onnx::new(17)
        .input("x: f32[n, 3]")
        .input("z: f32[n, 4]")
        .node("y = Concat(x, z)", vec![int("axis", 0)])
        .output("y");
    insta::assert_snapshot!(refused(model, &BuildOptions::default()));
    let model =
        Onnx::new(17).input("x: f32[n, 3]").node("y = Relu(x)", vec![int("slope", 1)]).output("y");
    insta::assert_snapshot!(refused(model, &BuildOptions::default()));
}

#[test]
fn names_that_nothing_defines_are_errors() {
    let model = Onnx::new(17).input("x: f32[n]").node("y = Relu(z)", vec![]).output("y");
    let error = import(&model.model(), &BuildOptions::default()).unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::InvalidModel);
    assert!(error.to_string().contains("\"n_y\""), "{error}");
    let model = Onnx::new(17).input("x: f32[n]").node("y = Relu(x)", vec![]).output("w");
    let error = import(&model.model(), &BuildOptions::default()).unwrap_err();
    assert!(error.to_string().contains("output \"w\""), "{error}");
}

#[test]
fn a_fixed_shape_binds_its_symbols_everywhere() {
    let model = || {
        Onnx::new(17)
            .input("x: f32[n, 3]")
            .input("z: f32[n, 4]")
            .node("y = Concat(x, z)", vec![int("axis", 1)])
            .output("y")
    };
    let with = |shapes: &[(&str, &[usize])]| BuildOptions {
        shapes: shapes.iter().map(|(n, s)| ((*n).to_owned(), s.to_vec())).collect(),
        ..BuildOptions::default()
    };
    let graph = import(&model().model(), &with(&[("x", &[2, 3])])).unwrap().graph;
    assert_eq!(graph.value(graph.outputs[0].value).type_text(), "f32[2, 7]");
    for shapes in [
        &[("x", &[2, 5][..])][..],
        &[("x", &[2, 3, 1])],
        &[("x", &[2, 3]), ("z", &[3, 4])],
        &[("w", &[2])],
    ] {
        let error = import(&model().model(), &with(shapes)).unwrap_err();
        assert_eq!(error.kind(), BuildErrorKind::Options, "{error}");
    }
}
