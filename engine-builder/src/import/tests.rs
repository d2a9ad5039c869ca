//! Models in, graphs out; the snapshots are the graphs.

use super::import;
use crate::options::BuildOptions;
use crate::testing::{Onnx, floats, graph, int, ints, longs};
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
