//! Whole builds.

use super::build;
use crate::testing::{Onnx, bools, classes, floats, graph, int, longs, value, words};
use crate::{BuildErrorKind, BuildOptions, RefitMode};
use engine_format::{Engine, EngineFlags, FitPolicy, MapSource, SerializeFlags, Tensor};

/// One constant of each kind.
fn kinds(start: f32) -> Onnx {
    Onnx::new(17)
        .input("x: f32[n, 4]")
        .constant(floats("weight", &[5, 4], start))
        .constant(floats("small", &[1, 4], 7.0 + start))
        .constant(floats("rate", &[], 7.0))
        .constant(longs("target", &[2], &[-1, 4]))
        .constant(longs("both", &[2], &[-1, 1]))
        .constant(floats("unused", &[100], 0.0))
        .node("a = Concat(x, weight, small)", vec![int("axis", 0)])
        .node("scaled = Mul(a, rate)", vec![])
        .node("b = Reshape(scaled, target)", vec![])
        .node("c = Reshape(b, both)", vec![])
        .output("c")
        .node("d = Identity(both)", vec![])
        .output("d")
}

#[test]
fn constants_are_classified_by_flow() {
    let engine = build(&kinds(0.0).model(), &BuildOptions::default()).unwrap();
    insta::assert_snapshot!(classes(&engine), @r"
    weights: small weight
    parameters: rate
    pinned weights: 
    pinned parameters: both
    literals: target
    ignored: unused
    ");
}

/// What a layer learns is a weight however small. What only scales and shifts a picture is a parameter, and so are scalars.
#[test]
fn small_constants_are_classified_by_role() {
    let engine = build(
        &Onnx::new(17)
            .input("x: f32[n, 3, 4, 4]")
            .constant(floats("mean", &[3, 1, 1], 0.5))
            .constant(floats("deviation", &[1, 3, 1, 1], 1.0))
            .constant(floats("filter", &[1, 3, 1, 1], 1.0))
            .constant(floats("shift", &[1, 1, 1], 1.0))
            .constant(floats("slope", &[1], 0.5))
            .constant(floats("norm.scale", &[1], 1.0))
            .constant(floats("norm.bias", &[1], 0.0))
            .constant(floats("norm.mean", &[1], 0.0))
            .constant(floats("norm.variance", &[1], 1.0))
            .constant(longs("flat", &[2], &[0, -1]))
            .constant(floats("head.weight", &[16, 1], 0.0))
            .constant(floats("head.bias", &[1], 0.0))
            .constant(floats("val_9", &[1], 0.5))
            .constant(floats("temperature", &[], 3.0))
            .constant(floats("position", &[1, 4, 4], 0.0))
            .node("centred = Sub(x, mean)", vec![])
            .node("picture = Div(centred, deviation)", vec![])
            .node("filtered = Conv(picture, filter)", vec![])
            .node("shifted = Add(filtered, shift)", vec![])
            .node("sloped = PRelu(shifted, slope)", vec![])
            .node(
                "normal = BatchNormalization(sloped, norm.scale, norm.bias, norm.mean, norm.variance)",
                vec![],
            )
            .node("row = Reshape(normal, flat)", vec![])
            .node("scaled = Mul(row, val_9)", vec![])
            .node("product = MatMul(scaled, head.weight)", vec![])
            .node("logit = Add(product, head.bias)", vec![])
            .node("y = Div(logit, temperature)", vec![])
            .output("y")
            .node("placed = Add(x, position)", vec![])
            .output("placed")
            .model(),
        &BuildOptions::default(),
    )
    .unwrap();
    insta::assert_snapshot!(classes(&engine), @r"
    weights: filter head.bias head.weight norm.bias norm.mean norm.scale norm.variance position shift slope
    parameters: deviation mean temperature val_9
    pinned weights: 
    pinned parameters: 
    literals: flat
    ignored: 
    ");
}

/// A scalar that scales what a layer gives, under a name of its own in a model that keeps those of a state dict, is a weight unless a
/// fusion read it. Where a checkpoint is
/// bound, that decides.
#[test]
fn a_trained_scalar_is_known_by_its_name() {
    let model = || {
        Onnx::new(17)
            .input("x: f32[n, 4]")
            .constant(floats("head.weight", &[4, 2], 0.0))
            .constant(floats("logit_scale", &[], 2.5))
            .constant(floats("onnx::Add_7", &[], 3.0))
            .constant(floats("val_8", &[], 4.0))
            .constant(floats("elsewhere", &[], 4.0))
            .constant(floats("root", &[], std::f32::consts::SQRT_2))
            .constant(floats("one", &[], 1.0))
            .constant(floats("half", &[], 0.5))
            .node("product = MatMul(x, head.weight)", vec![])
            .node("a = Div(product, root)", vec![])
            .node("b = Erf(a)", vec![])
            .node("c = Add(b, one)", vec![])
            .node("d = Mul(product, c)", vec![])
            .node("gelu = Mul(d, half)", vec![])
            .node("y = Mul(gelu, elsewhere)", vec![])
            .output("y")
            .node("factor = Exp(logit_scale)", vec![])
            .node("scaled = Mul(product, factor)", vec![])
            .output("scaled")
            .node("shifted = Add(product, onnx::Add_7)", vec![])
            .output("shifted")
            .node("z = Mul(product, val_8)", vec![])
            .output("z")
            .model()
    };
    let engine = build(&model(), &BuildOptions::default()).unwrap();
    insta::assert_snapshot!(classes(&engine), @r"
    weights: head.weight logit_scale
    parameters: elsewhere onnx::Add_7 val_8
    pinned weights: 
    pinned parameters: half one root
    literals: 
    ignored: 
    ");
    let tensor = |name: &str| engine.weight(name).unwrap().tensor().unwrap();
    let checkpoint = MapSource::from_iter([("head.weight".to_owned(), tensor("head.weight"))]);
    let error = engine.strip().unwrap().fill(&checkpoint, FitPolicy::default()).unwrap_err();
    assert!(error.to_string().contains("missing \"logit_scale\""), "{error}");
}

/// The scale and shift of a norm that an exporter wrote out are learned also where the norm is the first thing that sees an input.
#[test]
fn the_scale_of_a_norm_that_is_written_out_is_a_weight() {
    let engine = build(
        &Onnx::new(17)
            .input("x: f32[n, 4]")
            .constant(floats("gamma", &[4], 1.0))
            .constant(floats("beta", &[4], 0.0))
            .constant(floats("epsilon", &[], 1e-5))
            .constant(floats("prior", &[4], 0.0))
            .node("placed = Add(x, prior)", vec![])
            .node("mean = ReduceMean(placed)", vec![crate::testing::ints("axes", &[-1])])
            .node("centred = Sub(placed, mean)", vec![])
            .node("squares = Mul(centred, centred)", vec![])
            .node("variance = ReduceMean(squares)", vec![crate::testing::ints("axes", &[-1])])
            .node("safe = Add(variance, epsilon)", vec![])
            .node("deviation = Sqrt(safe)", vec![])
            .node("normal = Div(centred, deviation)", vec![])
            .node("scaled = Mul(normal, gamma)", vec![])
            .node("y = Add(scaled, beta)", vec![])
            .output("y")
            .model(),
        &BuildOptions { optimise: false, ..BuildOptions::default() },
    )
    .unwrap();
    insta::assert_snapshot!(classes(&engine), @r"
    weights: beta gamma
    parameters: epsilon prior
    pinned weights: 
    pinned parameters: 
    literals: 
    ignored: 
    ");
}

/// The integers of a quantised layer are weights, their scale and zero point too, also before a router; those of activations,
/// masks and bounds are parameters, however large.
#[test]
fn quantised_weights_are_weights() {
    let bytes = |name: &str, tensor: Tensor| value(name, &tensor);
    let mask: Vec<bool> = (0..200).map(|i| i % 3 == 0).collect();
    let engine = build(
        &Onnx::new(17)
            .input("x: f32[n, 2]")
            .input("z: f32[200]")
            .input("ids: i64[n]")
            .constant(floats("x_scale", &[], 0.5))
            .constant(bytes("x_zero", Tensor::from_slice(&[], &[3u8])))
            .constant(bytes("router", Tensor::from_slice(&[2, 3], &[1i8, 2, 3, 4, 5, 6])))
            .constant(floats("router_scale", &[], 0.5))
            .constant(bytes("router_zero", Tensor::from_slice(&[], &[0i8])))
            .constant(bytes("plain", Tensor::from_slice(&[2, 3], &[1i8, 2, 3, 4, 5, 6])))
            .constant(floats("plain_scale", &[3], 0.5))
            .constant(bytes("table", Tensor::from_slice(&[4, 2], &[1u8, 2, 3, 4, 5, 6, 7, 8])))
            .constant(floats("table_scale", &[], 0.5))
            .constant(longs("one", &[1], &[1]))
            .constant(bools("mask", &mask))
            .constant(floats("lowest", &[], -1e9))
            .node("q = QuantizeLinear(x, x_scale, x_zero)", vec![])
            .node("r = DequantizeLinear(q, x_scale, x_zero)", vec![])
            .node("w = DequantizeLinear(router, router_scale, router_zero)", vec![])
            .node("scores = MatMul(r, w)", vec![])
            .node("best, chosen = TopK(scores, one)", vec![])
            .output("chosen")
            .node("cast = Cast(plain)", vec![int("to", 1)])
            .node("real = Mul(cast, plain_scale)", vec![])
            .node("y = MatMul(r, real)", vec![])
            .output("y")
            .node("rows = Gather(table, ids)", vec![])
            .node("embedded = DequantizeLinear(rows, table_scale)", vec![])
            .output("embedded")
            .node("masked = Where(mask, z, lowest)", vec![])
            .output("masked")
            .model(),
        &BuildOptions::default(),
    )
    .unwrap();
    insta::assert_snapshot!(classes(&engine), @r"
    weights: plain plain_scale router router_scale router_zero table table_scale
    parameters: lowest mask x_scale x_zero
    pinned weights: 
    pinned parameters: 
    literals: one
    ignored: 
    ");
    let stripped = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap();
    let read = engine_format::Engine::read(stripped.into()).unwrap();
    assert!(read.weight("mask").unwrap().tensor().is_some(), "a parameter is never stripped");
}

/// Weights that decide a branch or the end of a loop through arithmetic can change, and so can the scalars that they meet there.
#[test]
fn a_learned_condition_can_be_refitted() {
    let branch = |op: &str| Onnx::default().node(&format!("r = {op}(x)"), vec![]).output("r");
    let body = Onnx::default()
        .input("i: i64[]")
        .input("go: bool[]")
        .input("v: f32[n, 20]")
        .node("w = Mul(v, halt)", vec![])
        .node("s = ReduceMax(w)", vec![int("keepdims", 0)])
        .node("more = Less(s, limit)", vec![])
        .output("more")
        .output("w");
    let engine = build(
        &Onnx::new(17)
            .input("x: f32[n, 20]")
            .constant(floats("gate", &[20], 0.0))
            .constant(floats("both", &[20], 0.0))
            .constant(floats("halt", &[20], 0.0))
            .constant(floats("limit", &[], 5.0))
            .constant(longs("trips", &[], &[9]))
            .constant(longs("yes", &[], &[1]))
            .node("shut = Mul(gate, both)", vec![])
            .node("score = ReduceSum(shut)", vec![int("keepdims", 0)])
            .node("c = Greater(score, limit)", vec![])
            .node(
                "y = If(c)",
                vec![graph("then_branch", branch("Exp")), graph("else_branch", branch("Relu"))],
            )
            .node("scaled = Mul(y, both)", vec![])
            .node("z = Loop(trips, yes, scaled)", vec![graph("body", body)])
            .output("z")
            .model(),
        &BuildOptions::default(),
    )
    .unwrap();
    insta::assert_snapshot!(classes(&engine), @r"
    weights: both gate halt
    parameters: limit
    pinned weights: 
    pinned parameters: 
    literals: trips yes
    ignored: 
    ");
}

/// What is computed from a float never fixes it: the score that picks elements, the number that makes a size.
#[test]
fn weights_that_decide_indices_and_sizes_can_be_refitted() {
    let engine = build(
        &Onnx::new(17)
            .input("x: f32[n, 20]")
            .input("rate: f32[]")
            .constant(floats("router", &[20, 18], 0.0))
            .constant(floats("router_bias", &[18], 0.0))
            .constant(floats("experts", &[18, 30], 0.0))
            .constant(floats("spread", &[18], 0.0))
            .constant(floats("fraction", &[], 0.5))
            .constant(longs("two", &[1], &[2]))
            .constant(longs("first", &[], &[0]))
            .constant(longs("step", &[], &[1]))
            .node("logits = MatMul(x, router)", vec![])
            .node("scores = Add(logits, router_bias)", vec![])
            .node("best, chosen = TopK(scores, two)", vec![])
            .node("y = Gather(experts, chosen)", vec![])
            .output("y")
            .node("sum = ReduceSum(spread)", vec![int("keepdims", 0)])
            .node("share = Mul(sum, fraction)", vec![])
            .node("scaled = Mul(share, rate)", vec![])
            .node("count = Cast(scaled)", vec![int("to", 7)])
            .node("z = Range(first, count, step)", vec![])
            .output("z")
            .node("kept = NonZero(spread)", vec![])
            .output("kept")
            .model(),
        &BuildOptions::default(),
    )
    .unwrap();
    insta::assert_snapshot!(classes(&engine), @r"
    weights: experts router router_bias spread
    parameters: fraction
    pinned weights: 
    pinned parameters: 
    literals: first step two
    ignored: 
    ");
    let prepared: Vec<&str> =
        engine.parts().prepare.nodes.iter().map(|node| node.op.as_str()).collect();
    assert_eq!(prepared, ["ReduceSum", "Mul"], "what has no fixed shape is left to the run");
}

/// The scales of a resize, and scalars that meet nothing but shapes, are part of the program, so that plans are known before a
/// run; one that meets an input or flows into results too stays in the weight table.
#[test]
fn scalars_of_shape_arithmetic_are_literals() {
    /// A resize of `x` to `of` times `scalar`.
    fn resized(model: Onnx, scalar: &str, of: &str, y: &str) -> Onnx {
        model
            .node(&format!("{y}.real = Cast({of})"), vec![int("to", 1)])
            .node(&format!("{y}.part = Mul({y}.real, {scalar})"), vec![])
            .node(&format!("{y}.whole = Floor({y}.part)"), vec![])
            .node(&format!("{y}.size = Cast({y}.whole)"), vec![int("to", 7)])
            .node(&format!("{y} = Resize(x, _, _, {y}.size)"), vec![])
            .output(y)
    }
    let mut model = Onnx::new(17)
        .input("x: f32[1, 3, h, w]")
        .input("size: i64[4]")
        .constant(floats("pure", &[], 0.5))
        .constant(floats("one_element", &[1], 0.5))
        .constant(floats("with_input", &[], 0.5))
        .constant(floats("both", &[], 2.0))
        .constant(floats("front", &[2], 1.0))
        .constant(floats("back", &[2], 2.0))
        .node("sizes = Shape(x)", vec![]);
    for (scalar, of, y) in [
        ("pure", "sizes", "a"),
        ("one_element", "sizes", "b"),
        ("with_input", "size", "c"),
        ("both", "sizes", "d"),
    ] {
        model = resized(model, scalar, of, y);
    }
    let model = model
        .node("e = Mul(x, both)", vec![])
        .output("e")
        .node("scales = Concat(front, back)", vec![int("axis", 0)])
        .node("f = Resize(x, _, scales)", vec![])
        .output("f")
        .model();
    let engine = build(&model, &BuildOptions::default()).unwrap();
    insta::assert_snapshot!(classes(&engine), @r"
    weights: 
    parameters: with_input
    pinned weights: 
    pinned parameters: both
    literals: back front one_element pure
    ignored: 
    ");
}

/// A branch that cannot run with the types that there are is an error where it is taken, and only there.
#[test]
fn a_branch_that_is_no_valid_graph_is_left_to_the_run() {
    let fits = Onnx::default().node("r = Relu(x)", vec![]).output("r");
    let wrong = Onnx::default().node("q = Concat(x, wide)", vec![int("axis", 0)]).output("q");
    let model = |other: Onnx| {
        Onnx::new(17)
            .input("x: f32[n, 4]")
            .input("c: bool[]")
            .constant(floats("wide", &[4, 5], 0.0))
            .node(
                "y = If(c)",
                vec![graph("then_branch", fits.clone()), graph("else_branch", other)],
            )
            .output("y")
            .model()
    };
    let engine = build(&model(wrong.clone()), &BuildOptions::default()).unwrap();
    let node = &engine.parts().execute.nodes[0];
    let engine_format::Attr::Block(block) = &node.attrs["else_branch"] else { panic!("{node:?}") };
    let [refusal] = block.nodes.as_slice() else { panic!("{block:?}") };
    let engine_format::Attr::Str(why) = &refusal.attrs["why"] else { panic!("{refusal:?}") };
    assert_eq!((refusal.op.as_str(), refusal.name.as_str()), ("Refuse", "n_y.else_branch"));
    for part in ["n_q", "Concat", "wide f32[4, 5]", "x f32[n, 4]"] {
        assert!(why.contains(part), "{why}");
    }
    // The other branch alone says what the results are.
    assert_eq!(engine.parts().outputs[0].shape.as_ref().unwrap().len(), 2);
    let both = Onnx::new(17)
        .input("x: f32[n, 4]")
        .input("c: bool[]")
        .constant(floats("wide", &[4, 5], 0.0))
        .node("y = If(c)", vec![graph("then_branch", wrong.clone()), graph("else_branch", wrong)])
        .output("y")
        .model();
    let error = build(&both, &BuildOptions::default()).unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::InvalidNode, "neither branch can run: {error}");
}

/// Of two branches of different types the one stays that the model says fits; failing that, the one that something can follow.
#[test]
fn branches_of_different_types_are_built_and_the_one_that_does_not_fit_refuses() {
    let gives = |node: &str, output: &str| Onnx::default().node(node, vec![]).output(output);
    let floats_out = || gives("r = Relu(x)", "r");
    let longs_out = || gives("s = Shape(x)", "s");
    let start = || Onnx::new(17).input("x: f32[n, 4]").input("c: bool[]");
    let choice = |then: Onnx, other: Onnx| {
        let attrs = vec![graph("then_branch", then), graph("else_branch", other)];
        start().node("v = If(c)", attrs)
    };
    let refused = |model: Onnx| {
        let engine = build(&model.model(), &BuildOptions { optimise: false, ..Default::default() });
        let engine = engine.unwrap();
        let node = engine.parts().execute.nodes.iter().find(|node| node.op == "If").unwrap();
        let refuses = |name: &str| {
            let engine_format::Attr::Block(block) = &node.attrs[name] else { panic!("{node:?}") };
            block.nodes.iter().any(|inner| inner.op == "Refuse")
        };
        ["then_branch", "else_branch"].map(refuses)
    };
    // What follows takes floats alone.
    let followed = |model: Onnx| model.node("y = Sigmoid(v)", vec![]).output("y");
    assert_eq!(refused(followed(choice(floats_out(), longs_out()))), [false, true]);
    assert_eq!(refused(followed(choice(longs_out(), floats_out()))), [true, false]);
    // The output has a type.
    let named = |model: Onnx, ty: &str| model.output(&format!("v: {ty}"));
    assert_eq!(refused(named(choice(floats_out(), longs_out()), "i64[k]")), [true, false]);
    assert_eq!(refused(named(choice(floats_out(), longs_out()), "f32[k, 4]")), [false, true]);
    // A branch says of itself what it does not give.
    let wrong = gives("s = Shape(x)", "s: f32[k]");
    assert_eq!(refused(choice(wrong, floats_out()).output("v")), [true, false]);
    // One that is sure to be taken is all that there is.
    let known = start().constant(bools("yes", &[true])).node(
        "v = If(yes)",
        vec![graph("then_branch", longs_out()), graph("else_branch", floats_out())],
    );
    let engine = build(&known.output("v").model(), &BuildOptions::default()).unwrap();
    assert!(engine.parts().execute.nodes.iter().all(|node| node.op != "If"));
    // Where nothing fits the error is that of what follows.
    let neither = choice(longs_out(), floats_out()).node("y = StringConcat(v, v)", vec![]);
    let error = build(&neither.output("y").model(), &BuildOptions::default()).unwrap_err();
    assert!(error.to_string().contains("n_y"), "{error}");
}

/// Selected boxes are indices, whatever boxes and scores are.
#[test]
fn a_branch_may_give_selected_boxes_and_the_other_none() {
    let some = Onnx::default()
        .node("b = NonMaxSuppression(boxes, scores)", vec![])
        .node("k = Gather(b, two)", vec![int("axis", 1)])
        .node("s = Squeeze(k, one)", vec![])
        .output("s");
    let none = Onnx::default().constant(longs("e", &[0], &[])).output("e");
    let model = Onnx::new(17)
        .input("c: bool[]")
        .input("boxes: f32[1, n, 4]")
        .input("scores: f32[1, 1, n]")
        .constant(longs("one", &[1], &[1]))
        .constant(longs("two", &[1], &[2]))
        .node("v = If(c)", vec![graph("then_branch", none), graph("else_branch", some)])
        .output("v");
    let engine = build(&model.model(), &BuildOptions::default()).unwrap();
    assert_eq!(engine.parts().outputs[0].dtype, engine_format::DType::I64);
}

/// An If without a condition is no valid node, whether anybody reads its results or not.
#[test]
fn an_if_without_a_condition_is_an_error_where_nobody_reads_it_too() {
    let branch = |op: &str| Onnx::default().node(&format!("r = {op}(x)"), vec![]).output("r");
    for call in ["dead = If()", "dead = If(_)"] {
        let attrs = vec![graph("then_branch", branch("Exp")), graph("else_branch", branch("Relu"))];
        let model = Onnx::new(17).input("x: f32[n]").node("y = Relu(x)", vec![]).output("y");
        let error = build(&model.node(call, attrs).model(), &BuildOptions::default()).unwrap_err();
        assert_eq!(error.kind(), BuildErrorKind::InvalidNode);
        assert!(error.to_string().contains("n_dead"), "{error}");
    }
}

#[test]
fn an_output_that_is_listed_twice_is_one_output() {
    let model =
        Onnx::new(17).input("x: f32[n]").node("y = Relu(x)", vec![]).output("y").output("y");
    let engine = build(&model.model(), &BuildOptions::default()).unwrap();
    assert_eq!(engine.parts().outputs.len(), 1);
}

#[test]
fn strings_are_part_of_the_program_and_another_source_has_to_agree() {
    use engine_format::{FitPolicy, MapSource, Tensor, check_fit};
    let model = Onnx::new(20)
        .input("x: string[n]")
        .constant(words("suffix", &["!", "?"]))
        .constant(floats("weight", &[5, 4], 0.0))
        .node("joined = StringConcat(x, suffix)", vec![])
        .node("both = StringConcat(suffix, suffix)", vec![])
        .node("y = StringConcat(joined, both)", vec![])
        .output("y")
        .node("z = Relu(weight)", vec![])
        .output("z")
        .model();
    let engine = build(&model, &BuildOptions::default()).unwrap();
    insta::assert_snapshot!(classes(&engine), @r"
    weights: weight
    parameters: 
    pinned weights: 
    pinned parameters: 
    literals: suffix
    ignored: 
    ");
    let strings = |node: &engine_format::Node| node.op == "StringConcat";
    assert!(!engine.parts().prepare.nodes.iter().any(strings), "strings are on the host only");
    let fit = |suffix: &[&str]| {
        let weight = engine.weight("weight").unwrap().tensor().unwrap();
        let suffix = Tensor::from_strings(&[2], suffix);
        let source =
            MapSource::from_iter([("weight".to_owned(), weight), ("suffix".to_owned(), suffix)]);
        check_fit(&engine, &source, FitPolicy::default()).unwrap().to_string()
    };
    assert_eq!(fit(&["!", "?"]), "");
    let expected = "another graph: the program's constant \"suffix\": \
                    expected string[2] [\"!\", \"?\"], found string[2] [\"!\", \"ß\"]";
    assert_eq!(fit(&["!", "ß"]), expected);
}

#[test]
fn builds_that_differ_in_weights_strip_to_the_same_bytes() {
    for refit in [RefitMode::All, RefitMode::Identical] {
        let options = BuildOptions { refit, ..BuildOptions::default() };
        let stripped = |start| {
            let engine = build(&kinds(start).model(), &options).unwrap();
            engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap()
        };
        let same = stripped(0.0) == stripped(100.0);
        assert_eq!(same, refit == RefitMode::All, "REFIT_IDENTICAL keeps digests of the values");
        assert_eq!(stripped(3.0), stripped(3.0));
    }
}

#[test]
fn refit_modes_become_flags_and_marks() {
    let flags = |refit| {
        let options = BuildOptions { refit, ..BuildOptions::default() };
        build(&kinds(0.0).model(), &options).unwrap().flags()
    };
    assert_eq!(flags(RefitMode::All), EngineFlags::REFIT);
    assert_eq!(flags(RefitMode::Identical), EngineFlags::REFIT_IDENTICAL);
    assert_eq!(flags(RefitMode::None), EngineFlags::empty());
}

#[test]
fn a_build_may_leave_the_bytes_of_weights_out() {
    let model = kinds(0.0).model();
    let some = BuildOptions { refit_only: vec!["w*".to_owned()], ..BuildOptions::default() };
    let identical = BuildOptions { refit: RefitMode::Identical, ..BuildOptions::default() };
    for options in [BuildOptions::default(), some, identical] {
        let whole = build(&model, &options).unwrap();
        let stripped = build(&model, &BuildOptions { strip: true, ..options }).unwrap();
        let expected = whole.strip().unwrap();
        assert!(!expected.missing().is_empty());
        assert_eq!(stripped.missing(), expected.missing());
        let bytes = |engine: &Engine| engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).unwrap();
        assert_eq!(bytes(&stripped), bytes(&expected));
    }
    let frozen = BuildOptions { refit: RefitMode::None, strip: true, ..BuildOptions::default() };
    let error = build(&model, &frozen).unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::Options);
}

#[test]
fn patterns_mark_weights_and_must_match_one() {
    let only = |pattern: &str| BuildOptions {
        refit_only: vec![pattern.to_owned()],
        ..BuildOptions::default()
    };
    let engine = build(&kinds(0.0).model(), &only("w*")).unwrap();
    assert_eq!(engine.flags(), EngineFlags::REFIT_INDIVIDUAL);
    let rows = &engine.parts().weights;
    let marked: Vec<&str> = rows.iter().filter(|w| w.refittable).map(|w| w.name.as_str()).collect();
    assert_eq!(marked, ["weight"]);
    // `both` is pinned and `rate` a parameter: neither is ever left out of a file.
    for pattern in ["nothing*", "both", "rate", "["] {
        let error = build(&kinds(0.0).model(), &only(pattern)).unwrap_err();
        assert_eq!(error.kind(), BuildErrorKind::Options, "{error}");
    }
    let contradiction = BuildOptions { refit: RefitMode::None, ..only("w*") };
    let error = build(&kinds(0.0).model(), &contradiction).unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::Options);
}

#[test]
fn an_initializer_that_is_an_input_too_is_a_weight_unless_kept() {
    let model = || {
        Onnx::new(17)
            .input("x: f32[n]")
            .input("w: f32[20]")
            .constant(floats("w", &[20], 0.0))
            .node("y = Concat(x, w)", vec![int("axis", 0)])
            .output("y")
    };
    let engine = build(&model().model(), &BuildOptions::default()).unwrap();
    assert_eq!(engine.parts().inputs.len(), 1);
    assert_eq!(engine.parts().weights[0].name, "w");
    let keep = BuildOptions { keep_inputs: vec!["w".into()], ..BuildOptions::default() };
    let engine = build(&model().model(), &keep).unwrap();
    assert_eq!(engine.parts().inputs.len(), 2);
    assert!(engine.parts().weights.is_empty());
    assert_eq!(engine.parts().ignored, ["w"]);
}

#[test]
fn a_weight_that_folding_made_unnecessary_stays_only_where_it_is_checked() {
    // Only the branch that is not taken uses `w`.
    let model = || {
        let then = Onnx::default().node("a = Relu(x)", vec![]).output("a");
        let other = Onnx::default().node("b = Concat(x, w)", vec![int("axis", 0)]).output("b");
        Onnx::new(17)
            .input("x: f32[n]")
            .constant(floats("w", &[20], 0.0))
            .constant(longs("yes", &[], &[1]))
            .node("c = Reshape(yes, scalar)", vec![])
            .constant(longs("scalar", &[0], &[]))
            .node("y = If(c)", vec![graph("then_branch", then), graph("else_branch", other)])
            .output("y")
    };
    let names = |refit| {
        let options = BuildOptions { refit, ..BuildOptions::default() };
        let engine = build(&model().model(), &options).unwrap();
        assert!(engine.parts().execute.nodes.iter().all(|node| node.op != "If"));
        let weights = engine.parts().weights.iter().map(|w| w.name.clone());
        (weights.collect::<Vec<_>>(), engine.parts().ignored.clone())
    };
    assert_eq!(names(RefitMode::Identical), (vec!["w".to_owned()], vec![]));
    assert_eq!(names(RefitMode::All), (vec![], vec!["w".to_owned()]));
}

#[test]
fn without_passes_everything_runs_per_call() {
    let options = BuildOptions { optimise: false, ..BuildOptions::default() };
    let model = Onnx::new(17)
        .input("x: f32[n, 4]")
        .constant(floats("w", &[4, 20], 0.0))
        .node("t = Transpose(w)", vec![])
        .node("y = Concat(x, t)", vec![int("axis", 0)])
        .output("y")
        .model();
    let plain = build(&model, &options).unwrap();
    assert_eq!((plain.parts().prepare.nodes.len(), plain.parts().execute.nodes.len()), (0, 2));
    let optimised = build(&model, &BuildOptions::default()).unwrap();
    let parts = optimised.parts();
    assert_eq!((parts.prepare.nodes.len(), parts.execute.nodes.len()), (1, 1));
    assert_eq!(parts.prepare.outputs.len(), 1);
}

#[test]
fn outputs_have_the_models_symbols_where_sizes_are_not_inferred() {
    let model = Onnx::new(17)
        .input("x: f32[n, 4]")
        .input("s: i64[2]")
        .node("y = Reshape(x, s)", vec![])
        .output("y: f32[rows, 2]")
        .node("z = Concat(x, x)", vec![int("axis", 0)])
        .output("z: f32[m, 5]")
        .model();
    let engine = build(&model, &BuildOptions::default()).unwrap();
    let shapes: Vec<String> =
        engine.parts().outputs.iter().map(|port| format!("{:?}", port.shape)).collect();
    // The 2 of `y` is only a claim, `m` and 5 are contradicted by the rule.
    assert_eq!(shapes, ["Some([rows, y[1]])", "Some([2*n, 4])"]);
}

#[test]
fn a_parameter_that_a_fusion_read_is_pinned_and_another_value_names_the_fusion() {
    let model = |half: f32| {
        let scalar = |name, value| floats(name, &[], value);
        Onnx::new(17)
            .input("x: f32[n, 4]")
            .constant(floats("w", &[4, 20], 0.0))
            .constant(scalar("root", std::f32::consts::SQRT_2))
            .constant(scalar("one", 1.0))
            .constant(scalar("half", half))
            .node("m = MatMul(x, w)", vec![])
            .node("a = Div(m, root)", vec![])
            .node("b = Erf(a)", vec![])
            .node("c = Add(b, one)", vec![])
            .node("d = Mul(m, c)", vec![])
            .node("y = Mul(d, half)", vec![])
            .output("y")
            .model()
    };
    let fused = build(&model(0.5), &BuildOptions::default()).unwrap();
    assert_eq!(fused.parts().execute.nodes.len(), 1, "Gelu is a stage of the product");
    insta::assert_snapshot!(classes(&fused), @r"
    weights: w
    parameters: 
    pinned weights: 
    pinned parameters: half one root
    literals: 
    ignored: 
    ");
    // Without the pattern nothing is read, and nothing pinned.
    let plain = build(&model(0.25), &BuildOptions::default()).unwrap();
    assert!(plain.parts().weights.iter().all(|weight| weight.pinned.is_none()));
    // The same model with another half is another function.
    let parts = plain.parts();
    let source: MapSource =
        parts.weights.iter().map(|w| (w.name.clone(), w.tensor().unwrap())).collect();
    let error = fused.fill(&source, FitPolicy::default()).unwrap_err().to_string();
    assert!(error.contains("half") && error.contains("fusion to Gelu at n_y"), "{error}");
}

#[test]
fn equal_weights_are_merged_only_where_they_cannot_change() {
    let model = Onnx::new(17)
        .input("x: f32[n, 4]")
        .constant(floats("a", &[4, 20], 0.0))
        .constant(floats("b", &[4, 20], 0.0))
        .node("l = MatMul(x, a)", vec![])
        .node("r = MatMul(x, b)", vec![])
        .node("y = Concat(l, r)", vec![int("axis", 0)])
        .output("y")
        .model();
    let products = |refit| {
        let options = BuildOptions { refit, ..BuildOptions::default() };
        let engine = build(&model, &options).unwrap();
        let products = engine.parts().execute.nodes.iter().filter(|node| node.op == "MatMul");
        (products.count(), engine.parts().weights.len())
    };
    assert_eq!(products(RefitMode::All), (2, 2));
    assert_eq!(products(RefitMode::None), (1, 1));
    // The merged one stays, so that a fill still checks it.
    assert_eq!(products(RefitMode::Identical), (1, 2));
}
