//! What adapters compute, over small tensors, with and without passes.

mod masks;
mod quantized;

use super::*;
use crate::testing::{Onnx, float, floats, graph, int, ints, longs, run, text, texts, value};
use crate::{BuildOptions, build};
use engine_format::Tensor;
use half::f16;

#[test]
fn every_row_covers_an_opset_that_the_table_does_not() {
    for row in rows() {
        // A row of the table that takes some types alone leaves the others to an adapter.
        let table = |opset| engine_ops::lookup_onnx(row.domain, row.op, opset);
        let covered = |opset| table(opset).is_some_and(|def| def.first_types().is_none());
        let all = (row.since..=row.until).all(covered);
        assert!(!all, "{} {}..={} is never used", row.op, row.since, row.until);
    }
}

#[test]
fn no_two_rows_cover_the_same_opset() {
    let rows: Vec<&Adapter> = rows().collect();
    for (i, a) in rows.iter().enumerate() {
        assert!(a.since <= a.until, "{}: {}..={}", a.op, a.since, a.until);
        for b in &rows[i + 1..] {
            let named = (a.domain, a.op) == (b.domain, b.op);
            let apart = !named || a.until < b.since || b.until < a.since;
            assert!(apart, "{} twice at opset {}", a.op, a.since.max(b.since));
        }
    }
}

fn f32s(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(shape, values)
}

/// Builds with and without passes, runs both over `x`, compares with what is expected within a few roundings.
fn check(model: Onnx, x: &Tensor, expected: &Tensor) {
    let model = model.output("y").model();
    for optimise in [true, false] {
        let options = BuildOptions { optimise, ..BuildOptions::default() };
        let engine = build(&model, &options).unwrap();
        let y = run(&engine, &[("x", x.clone())]).remove(0);
        assert_eq!((y.shape(), y.dtype()), (expected.shape(), expected.dtype()));
        let pairs = y.as_slice::<f32>().unwrap().iter().zip(expected.as_slice::<f32>().unwrap());
        for (found, expected) in pairs {
            let close = (found - expected).abs() <= 1e-6 + 1e-5 * expected.abs();
            assert!(close, "found {y:?} {found}, expected {expected} (passes: {optimise})");
        }
    }
}

#[test]
fn batch_normalization_before_opset_14_is_scale_and_shift() {
    let model = Onnx::new(9)
        .input("x: f32[n, 2, k]")
        .constant(floats("scale", &[2], 2.0))
        .constant(floats("shift", &[2], 0.5))
        .constant(floats("mean", &[2], 1.0))
        .constant(floats("var", &[2], 4.0))
        .node("y = BatchNormalization(x, scale, shift, mean, var)", vec![float("epsilon", 0.0)]);
    // Channel 0: (x − 1) / 2 · 2 + 0.5; channel 1: (x − 2) / √5 · 3 + 1.5.
    let x = f32s(&[1, 2, 2], &[1.0, 3.0, 2.0, 4.0]);
    let second = 2.0 / 5f32.sqrt() * 3.0 + 1.5;
    check(model, &x, &f32s(&[1, 2, 2], &[0.5, 2.5, 1.5, second]));
}

#[test]
fn group_normalization_before_opset_21_scales_groups() {
    let model = Onnx::new(18)
        .input("x: f32[n, 4, 1]")
        .constant(floats("scale", &[2], 1.0))
        .constant(floats("shift", &[2], 0.0))
        .node(
            "y = GroupNormalization(x, scale, shift)",
            vec![float("epsilon", 0.0), int("num_groups", 2)],
        );
    let x = f32s(&[1, 4, 1], &[1.0, 3.0, 10.0, 30.0]);
    check(model, &x, &f32s(&[1, 4, 1], &[-1.0, 1.0, -1.0, 3.0]));
}

#[test]
fn instance_normalization_before_opset_6_centres_and_scales_each_channel() {
    let model = Onnx::new(5)
        .input("x: f32[n, 2, k]")
        .constant(floats("scale", &[2], 1.0))
        .constant(floats("shift", &[2], 0.0))
        .node("y = InstanceNormalization(x, scale, shift)", vec![float("epsilon", 0.0)]);
    let x = f32s(&[1, 2, 2], &[1.0, 3.0, 10.0, 30.0]);
    check(model, &x, &f32s(&[1, 2, 2], &[-1.0, 1.0, -1.0, 3.0]));
}

#[test]
fn softmax_before_opset_13_takes_all_axes_from_one_on() {
    let model = || Onnx::new(9).input("x: f32[n, 2, 2]");
    let x = f32s(&[1, 2, 2], &[0.0; 4]);
    let quarters = f32s(&[1, 2, 2], &[0.25; 4]);
    check(model().node("y = Softmax(x)", vec![int("axis", 1)]), &x, &quarters);
    let halves = f32s(&[1, 2, 2], &[0.5; 4]);
    check(model().node("y = Softmax(x)", vec![int("axis", 2)]), &x, &halves);
}

/// The first query sees nothing, the second the second key alone, the third is not a number.
#[test]
fn a_query_that_sees_nothing_gets_zeros_and_what_is_no_number_stays() {
    let model = Onnx::new(23)
        .input("q: f32[1, 1, 3, 1]")
        .input("k: f32[1, 1, 2, 1]")
        .input("m: bool[3, 2]")
        .node("y = Attention(q, k, k, m)", vec![]);
    let mask = Tensor::from_bools(&[3, 2], &[false, false, false, true, true, true]);
    let q = f32s(&[1, 1, 3, 1], &[1.0, 1.0, f32::NAN]);
    let found = output(model, &[("q", q), ("k", f32s(&[1, 1, 2, 1], &[4.0, 7.0])), ("m", mask)]);
    let found = found.as_slice::<f32>().unwrap();
    assert!(found[..2] == [0.0, 7.0] && found[2].is_nan(), "{found:?}");
}

#[test]
fn reductions_with_attributes_for_axes() {
    let x = f32s(&[2, 2], &[3.0, -4.0, 1.0, 2.0]);
    let table: &[(&str, [f32; 2])] = &[
        ("ReduceSum", [-1.0, 3.0]),
        ("ReduceMean", [-0.5, 1.5]),
        ("ReduceMax", [3.0, 2.0]),
        ("ReduceL1", [7.0, 3.0]),
        ("ReduceL2", [5.0, 5f32.sqrt()]),
        ("ReduceSumSquare", [25.0, 5.0]),
    ];
    for (op, expected) in table {
        let attrs = vec![ints("axes", &[1]), int("keepdims", 0)];
        let model = Onnx::new(11).input("x: f32[n, 2]").node(&format!("y = {op}(x)"), attrs);
        check(model, &x, &f32s(&[2], expected));
    }
}

#[test]
fn before_opset_7_the_second_operand_was_stretched_at_an_axis() {
    let model = Onnx::new(6)
        .input("x: f32[n, 2, 2]")
        .constant(floats("b", &[2], 10.0))
        .node("y = Add(x, b)", vec![int("broadcast", 1), int("axis", 1)]);
    let x = f32s(&[1, 2, 2], &[0.0, 1.0, 2.0, 3.0]);
    check(model, &x, &f32s(&[1, 2, 2], &[10.0, 11.0, 13.0, 14.0]));
}

#[test]
fn clip_and_pad_bounds_that_were_attributes() {
    let x = f32s(&[3], &[-5.0, 0.5, 5.0]);
    let model = || Onnx::new(9).input("x: f32[3]");
    let clip = |attrs| model().node("y = Clip(x)", attrs);
    check(clip(vec![float("min", -1.0)]), &x, &f32s(&[3], &[-1.0, 0.5, 5.0]));
    check(clip(vec![float("max", 1.0)]), &x, &f32s(&[3], &[-5.0, 0.5, 1.0]));
    let attrs = vec![ints("pads", &[1, 0]), float("value", 9.0), text("mode", "constant")];
    let pad = model().node("y = Pad(x)", attrs);
    check(pad, &x, &f32s(&[4], &[9.0, -5.0, 0.5, 5.0]));
}

#[test]
fn upsample_repeats_elements() {
    let model = Onnx::new(9)
        .input("x: f32[1, 1, 2]")
        .constant(floats("scales", &[3], 1.0))
        .node("y = Upsample(x, scales)", vec![text("mode", "nearest")]);
    // Scales 1, 2, 3: every element six times.
    let x = f32s(&[1, 1, 2], &[7.0, 8.0]);
    let row = [7.0, 7.0, 7.0, 8.0, 8.0, 8.0];
    check(model, &x, &f32s(&[1, 2, 6], &[row, row].concat()));
}

/// The one output of a model without weights, built with passes.
fn output(model: Onnx, inputs: &[(&str, Tensor)]) -> Tensor {
    let engine = build(&model.output("y").model(), &BuildOptions::default()).unwrap();
    run(&engine, inputs).remove(0)
}

#[test]
fn a_multinomial_draws_each_class_as_often_as_it_is_probable() {
    let attrs = vec![int("sample_size", 4000), float("seed", 3.0)];
    let model = Onnx::new(15).input("x: f32[2, 3]").node("y = Multinomial(x)", attrs);
    let shares = [0.1f32, 0.6, 0.3, 0.0, 0.25, 0.75];
    let y = output(model, &[("x", f32s(&[2, 3], &shares.map(f32::ln)))]);
    assert_eq!((y.dtype(), y.shape()), (engine_format::DType::I32, &[2, 4000][..]));
    let classes = y.to_i64s().unwrap();
    for (row, shares) in classes.chunks(4000).zip(shares.chunks(3)) {
        for (class, share) in shares.iter().enumerate() {
            let found = row.iter().filter(|&&c| c == class as i64).count() as f32 / 4000.0;
            assert!((found - share).abs() < 0.03, "class {class}: {found}, expected {share}");
        }
    }
}

#[test]
fn a_bernoulli_draw_is_1_as_often_as_it_is_probable() {
    let attrs = vec![float("seed", 5.0), int("dtype", 9)];
    let model = Onnx::new(15).input("x: f32[n]").node("y = Bernoulli(x)", attrs);
    let y = output(model, &[("x", f32s(&[5000], &[0.3; 5000]))]);
    assert_eq!(y.dtype(), engine_format::DType::Bool);
    let hits = y.to_i64s().unwrap().iter().sum::<i64>() as f32 / 5000.0;
    assert!((hits - 0.3).abs() < 0.03, "{hits}");
}

#[test]
fn a_draw_like_an_operand_has_its_shape_and_keeps_its_bounds() {
    let attrs = vec![float("low", -3.0), float("high", -1.0)];
    let model = Onnx::new(15).input("x: f32[n, 2]").node("y = RandomUniformLike(x)", attrs);
    let y = output(model, &[("x", f32s(&[50, 2], &[0.0; 100]))]);
    let values = y.as_slice::<f32>().unwrap();
    assert_eq!(y.shape(), [50, 2]);
    assert!(values.iter().all(|v| (-3.0..-1.0).contains(v)), "{values:?}");
    assert!(values.iter().any(|v| *v != values[0]), "all are {}", values[0]);
}

#[test]
fn einsum_is_a_product_of_matrices_or_of_what_is_left_of_them() {
    let a = f32s(&[2, 3, 4], &std::array::from_fn::<f32, 24, _>(|i| i as f32 - 9.0));
    let b = f32s(&[4, 5, 2], &std::array::from_fn::<f32, 40, _>(|i| (i % 7) as f32));
    let at = |t: &Tensor, i: [usize; 3]| {
        let s = t.shape();
        t.as_slice::<f32>().unwrap()[(i[0] * s[1] + i[1]) * s[2] + i[2]]
    };
    let sum = |n: [usize; 5], of: &dyn Fn([usize; 5]) -> (usize, f32), size: usize| {
        let mut out = vec![0f32; size];
        for flat in 0..n.iter().product() {
            let mut rest = flat;
            let index = std::array::from_fn(|axis| {
                let i = rest % n[axis];
                rest /= n[axis];
                i
            });
            let (to, value) = of(index);
            out[to] += value;
        }
        out
    };
    // Axes in order: b, i, k, l, with one more that is not used.
    let sizes = [2, 3, 4, 5, 1];
    let product = |[n, i, k, l, _]: [usize; 5]| at(&a, [n, i, k]) * at(&b, [k, l, n]);
    let cases: [(&str, Vec<usize>, Vec<f32>); 4] = [
        (
            "nik,kln->nil",
            vec![2, 3, 5],
            sum(sizes, &|x| ((x[0] * 3 + x[1]) * 5 + x[3], product(x)), 30),
        ),
        ("nik,kln->li", vec![5, 3], sum(sizes, &|x| (x[3] * 3 + x[1], product(x)), 15)),
        ("nik,kln->", vec![], sum(sizes, &|x| (0, product(x)), 1)),
        (
            "nik,kln->knil",
            vec![4, 2, 3, 5],
            sum(sizes, &|x| (((x[2] * 2 + x[0]) * 3 + x[1]) * 5 + x[3], product(x)), 120),
        ),
    ];
    for (equation, shape, expected) in cases {
        let attrs = vec![text("equation", equation)];
        let model = Onnx::new(13).input("a: f32[n, 3, k]").input("b: f32[k, l, n]");
        let model = model.node("y = Einsum(a, b)", attrs).output("y").model();
        let engine = build(&model, &BuildOptions::default()).unwrap();
        assert!(engine.parts().execute.nodes.iter().all(|node| node.op != "Einsum"), "{equation}");
        let y = run(&engine, &[("a", a.clone()), ("b", b.clone())]).remove(0);
        assert_eq!(y.shape(), shape, "{equation}");
        assert_eq!(y.as_slice::<f32>().unwrap(), expected, "{equation}");
    }
}

#[test]
fn types_that_a_kernel_does_not_take_are_calculated_in_a_wider_one() {
    let half = |n: &str| int(n, 10);
    let model = Onnx::new(18)
        .input("x: f32[n]")
        .node("i = Cast(x)", vec![int("to", 6)])
        .node("s = Shrink(i)", vec![float("lambd", 1.5), float("bias", 1.0)])
        .node("y = Cast(s)", vec![int("to", 1)]);
    let x = f32s(&[5], &[-3.0, -1.0, 0.0, 1.0, 4.0]);
    check(model, &x, &f32s(&[5], &[-2.0, 0.0, 0.0, 0.0, 3.0]));
    // One gate of each kind, weights 0: h = (1 − ½) · tanh 0 + ½ · 0.5.
    let model = Onnx::new(18)
        .input("x: f32[1, 1, 1]")
        .constant(floats("w", &[1, 3, 1], 0.0))
        .constant(floats("r", &[1, 3, 1], 0.0))
        .constant(floats("h", &[1, 1, 1], 0.5))
        .node("xh = Cast(x)", vec![half("to")])
        .node("z = Sub(w, w)", vec![])
        .node("wh = Cast(z)", vec![half("to")])
        .node("hh = Cast(h)", vec![half("to")])
        .node("a, b = GRU(xh, wh, wh, _, _, hh)", vec![int("hidden_size", 1)])
        .node("y = Cast(b)", vec![int("to", 1)]);
    check(model, &f32s(&[1, 1, 1], &[2.0]), &f32s(&[1, 1, 1], &[0.25]));
}

/// `s = tanh(x·w) − x / w` with `w` broadcast along the rows: each part of the chain, and the sum over what was stretched.
#[test]
fn derivatives_follow_the_chain_and_sum_over_what_was_broadcast() {
    let model = |wanted: &str| {
        let derived = vec![texts("xs", &[wanted]), text("y", "s")];
        Onnx::new(17)
            .input("x: f32[2, 3]")
            .constant(floats("w", &[3], 1.0))
            .node("p = Mul(x, w)", vec![])
            .node("t = Tanh(p)", vec![])
            .node("q = Div(x, w)", vec![])
            .node("s = Sub(t, q)", vec![])
            .node(&format!("y = Gradient({wanted})"), derived)
            .in_domain("ai.onnx.preview.training")
    };
    let x = [0.1f32, -0.2, 0.3, 0.5, 0.25, -0.4];
    let slope = |x: f32, w: f32| 1.0 - (x * w).tanh().powi(2);
    let at = |i: usize| (x[i], [1.0f32, 2.0, 3.0][i % 3]);
    let by_x: Vec<f32> = (0..6).map(at).map(|(x, w)| w * slope(x, w) - 1.0 / w).collect();
    let by_w = |i: usize| {
        let (x, w) = at(i);
        x * slope(x, w) + x / (w * w)
    };
    let by_w: Vec<f32> = (0..3).map(|i| by_w(i) + by_w(i + 3)).collect();
    check(model("x"), &f32s(&[2, 3], &x), &f32s(&[2, 3], &by_x));
    check(model("w"), &f32s(&[2, 3], &x), &f32s(&[3], &by_w));
}

#[test]
fn a_derivative_that_is_not_known_is_named() {
    let model = Onnx::new(17)
        .input("x: f32[n]")
        .node("s = Floor(x)", vec![])
        .node("y = Gradient(x)", vec![texts("xs", &["x"]), text("y", "s")])
        .in_domain("ai.onnx.preview.training")
        .output("y");
    let error = build(&model.model(), &BuildOptions::default()).unwrap_err().to_string();
    assert!(error.contains("the derivative of Floor (node \"n_s\") is not known"), "{error}");
}

/// Orders of norms were floats in opset 1; one that is no integer is taken before the pool, in f32 for halves.
#[test]
fn norms_of_windows_and_of_all_that_is_there_have_any_order() {
    let x = f32s(&[1, 1, 2, 2], &[3.0, -4.0, 0.0, 1.0]);
    let model = |opset| Onnx::new(opset).input("x: f32[n, 1, h, w]");
    let power =
        |p: f64| [3.0f64, 4.0, 0.0, 1.0].map(|v| v.powf(p)).iter().sum::<f64>().powf(1.0 / p);
    let window = || vec![ints("kernel_shape", &[2, 2])];
    for p in [1.0f32, 2.0, 2.5, 3.0] {
        let expected = f32s(&[1, 1, 1, 1], &[power(p.into()) as f32]);
        let mut attrs = window();
        attrs.push(float("p", p));
        check(model(1).node("y = LpPool(x)", attrs), &x, &expected);
        check(model(1).node("y = GlobalLpPool(x)", vec![float("p", p)]), &x, &expected);
    }
    let two = f32s(&[1, 1, 1, 1], &[26f32.sqrt()]);
    check(model(1).node("y = LpPool(x)", window()), &x, &two);
    check(model(2).node("y = LpPool(x)", window()), &x, &two);
    for opset in [1, 2, 22] {
        check(model(opset).node("y = GlobalLpPool(x)", vec![]), &x, &two);
    }
    let halves = model(13)
        .node("xh = Cast(x)", vec![int("to", 10)])
        .node("yh = GlobalLpPool(xh)", vec![int("p", 3)])
        .node("y = Cast(yh)", vec![int("to", 1)]);
    let rounded = half::f16::from_f64(power(3.0)).to_f32();
    check(halves, &x, &f32s(&[1, 1, 1, 1], &[rounded]));
}

#[test]
fn hardmax_before_opset_13_takes_all_axes_from_one_on() {
    let model = |attrs| Onnx::new(9).input("x: f32[n, 2, 2]").node("y = Hardmax(x)", attrs);
    let x = f32s(&[2, 2, 2], &[1.0, 5.0, 7.0, 7.0, -1.0, -2.0, -1.0, 0.0]);
    let all = f32s(&[2, 2, 2], &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    check(model(vec![]), &x, &all);
    let last = f32s(&[2, 2, 2], &[0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    check(model(vec![int("axis", 2)]), &x, &last);
    let whole = f32s(&[2, 2, 2], &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    check(model(vec![int("axis", 0)]), &x, &whole);
}

/// ONNX Runtime's form takes rows and scales of two types, and gives that of the scale.
#[test]
fn rows_are_normalised_in_the_type_of_the_scale_before_the_standard_had_the_operator() {
    let x = f32s(&[1, 2], &[1.0, 3.0]);
    for (op, expected) in
        [("LayerNormalization", [-1.0f32, 2.0]), ("SimplifiedLayerNormalization", [0.4472, 2.6833])]
    {
        let model = Onnx::new(12)
            .input("x: f32[n, 2]")
            .constant(floats("scale", &[2], 1.0))
            .node("xh = Cast(x)", vec![int("to", 10)])
            .node(&format!("y = {op}(xh, scale)"), vec![float("epsilon", 0.0)]);
        let y = output(model, &[("x", x.clone())]);
        assert_eq!(y.dtype(), engine_format::DType::F32);
        for (found, expected) in y.as_slice::<f32>().unwrap().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-3, "{op}: {found}, expected {expected}");
        }
    }
}

/// The scale of a row's length that lies across the rows is stretched along them.
#[test]
fn a_scale_that_has_as_many_elements_as_a_row_need_not_lie_along_it() {
    let model = |dims: &[i64]| {
        Onnx::new(17)
            .input("x: f32[2, 2]")
            .constant(floats("scale", dims, 1.0))
            .node("y = LayerNormalization(x, scale)", vec![float("epsilon", 0.0)])
    };
    let x = f32s(&[2, 2], &[1.0, 3.0, 10.0, 30.0]);
    check(model(&[2]), &x, &f32s(&[2, 2], &[-1.0, 2.0, -1.0, 2.0]));
    check(model(&[1, 2]), &x, &f32s(&[2, 2], &[-1.0, 2.0, -1.0, 2.0]));
    check(model(&[2, 1]), &x, &f32s(&[2, 2], &[-1.0, 1.0, -2.0, 2.0]));
    check(model(&[]), &x, &f32s(&[2, 2], &[-1.0, 1.0, -1.0, 1.0]));
    // Where the size of a row is not known, that of the scale is.
    let unknown = Onnx::new(17)
        .input("x: f32[n, h]")
        .constant(floats("scale", &[2], 1.0))
        .node("y = LayerNormalization(x, scale)", vec![float("epsilon", 0.0)])
        .output("y")
        .model();
    let engine = build(&unknown, &BuildOptions::default()).unwrap();
    let ops: Vec<&str> = engine.parts().execute.nodes.iter().map(|n| n.op.as_str()).collect();
    assert_eq!(ops, ["LayerNormalization"]);
}

#[test]
fn a_gated_swish_multiplies_what_the_gate_lets_through() {
    let model = |attrs| {
        let model = Onnx::new(28).input("x: f32[n, 2]").constant(floats("b", &[1, 2], 2.0));
        model.node("y = SwiGLU(x, b)", attrs)
    };
    let swish = |x: f32, alpha: f32| x / (1.0 + (-alpha * x).exp());
    let x = f32s(&[1, 2], &[0.5, -1.5]);
    check(model(vec![]), &x, &f32s(&[1, 2], &[2.0 * swish(0.5, 1.0), 3.0 * swish(-1.5, 1.0)]));
    let two = f32s(&[1, 2], &[2.0 * swish(0.5, 2.0), 3.0 * swish(-1.5, 2.0)]);
    check(model(vec![float("alpha", 2.0)]), &x, &two);
}

/// Maps have no form in engines: the matrix is the result, and the report says so with the labels.
#[test]
fn scores_by_label_are_the_matrix_of_the_scores() {
    let model = |attrs| {
        Onnx::new(15)
            .input("x: f32[n, 2]")
            .node("y = ZipMap(x)", attrs)
            .in_domain("ai.onnx.ml")
            .output("y")
    };
    let x = f32s(&[1, 2], &[0.25, 0.75]);
    let labels =
        [texts("classlabels_strings", &["cat", "dog"]), ints("classlabels_int64s", &[7, 9])];
    for (labels, said) in labels.into_iter().zip(["\"cat\", \"dog\"", "7, 9"]) {
        let model = model(vec![labels]);
        let (engine, report) =
            crate::build_with_report(&model.clone().model(), &BuildOptions::default()).unwrap();
        let y = run(&engine, &[("x", x.clone())]).remove(0);
        assert_eq!(y.as_slice::<f32>().unwrap(), x.as_slice::<f32>().unwrap());
        let note = report.notes.iter().find(|note| note.pass == "import").unwrap();
        assert!(note.node == "n_y" && note.text.contains(said), "{note:?}");
    }
    let three = model(vec![ints("classlabels_int64s", &[1, 2, 3])]).model();
    let error = build(&three, &BuildOptions::default()).unwrap_err().to_string();
    assert!(error.contains("3 labels for 2 columns"), "{error}");
}

#[test]
fn what_shrinks_before_opset_11_takes_the_element_behind() {
    // Along the first axis 1/0.6 and 2/0.6 are rounded up, along the second 1/1.5 is rounded down.
    let model = Onnx::new(10)
        .input("x: f32[5, 2]")
        .constant(value("scales", &f32s(&[2], &[0.6, 1.5])))
        .node("y = Resize(x, scales)", vec![text("mode", "nearest")]);
    let x = f32s(&[5, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
    check(model, &x, &f32s(&[3, 3], &[1.0, 1.0, 2.0, 5.0, 5.0, 6.0, 9.0, 9.0, 10.0]));
}

#[test]
fn no_axes_to_squeeze_are_all() {
    let x = f32s(&[1, 2, 1], &[3.0, 4.0]);
    let squeezed = f32s(&[2], &[3.0, 4.0]);
    let old =
        Onnx::new(11).input("x: f32[1, 2, 1]").node("y = Squeeze(x)", vec![ints("axes", &[])]);
    check(old, &x, &squeezed);
    let new = Onnx::new(13)
        .input("x: f32[1, 2, 1]")
        .constant(longs("axes", &[0], &[]))
        .node("y = Squeeze(x, axes)", vec![]);
    check(new, &x, &squeezed);
}

/// The last piece is read by nobody, but counts.
#[test]
fn pieces_that_nobody_names_are_cut_off_too() {
    for opset in [2, 11, 13] {
        let model = Onnx::new(opset).input("x: f32[6]").node("y, z, _ = Split(x)", vec![]);
        let found = output(model, &[("x", f32s(&[6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))]);
        assert_eq!(found.as_slice::<f32>().unwrap(), [1.0, 2.0], "opset {opset}");
    }
}

/// A body to which iteration number and condition are vectors of one element: what it stacks has that axis.
#[test]
fn the_number_of_an_iteration_has_the_rank_that_the_body_declares() {
    for (declared, stacked) in [("[]", vec![3]), ("[1]", vec![3, 1])] {
        let body = Onnx::default()
            .input(&format!("i: i64{declared}"))
            .input(&format!("go: bool{declared}"))
            .input("sum: i64[]")
            .output("go")
            .output("next")
            .output("i_out")
            .node("next = Add(sum, one)", vec![])
            .node("i_out = Add(i, i)", vec![])
            .constant(longs("one", &[], &[5]));
        let model = Onnx::new(17)
            .input("x: i64[]")
            .constant(longs("trips", &[], &[3]))
            .node("last, y = Loop(trips, _, x)", vec![graph("body", body)]);
        let found = output(model, &[("x", Tensor::from_slice(&[], &[100i64]))]);
        assert_eq!((found.shape(), found.to_i64s().unwrap()), (&stacked[..], vec![0, 2, 4]));
    }
}

/// Sums that halves do not hold, or hold only roughly, are made in `f32`.
#[test]
fn norms_and_attentions_of_halves_sum_in_f32() {
    let halves = |shape: &[usize], values: &[f32]| {
        let values: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        Tensor::from_slice(shape, &values)
    };
    let close = |label: &str, found: Tensor, expected: &[f32]| {
        let found = found.as_slice::<f16>().unwrap();
        let pairs = found.iter().zip(expected);
        let near = pairs.into_iter().all(|(a, b)| (a.to_f32() - b).abs() <= 2e-3);
        assert!(near && found.len() == expected.len(), "{label}: {found:?}, expected {expected:?}");
    };
    let one = |model: Onnx, shape: &[usize], x: &[f32]| output(model, &[("x", halves(shape, x))]);

    // 2049 is no half; the sums are 2049, 2047 and 2048.
    let unit = value("s", &halves(&[3], &[1.0; 3]));
    let skip = value("k", &halves(&[1, 1, 3], &[1.0, -1.0, 0.0]));
    for (op, expected) in [
        ("SkipLayerNormalization", [1.224_7, -1.224_7, 0.0]),
        ("SkipSimplifiedLayerNormalization", [1.000_5, 0.999_5, 1.0]),
    ] {
        let model = Onnx::new(17)
            .input("x: f16[1, 1, 3]")
            .constant(unit.clone())
            .constant(skip.clone())
            .node(&format!("y = {op}(x, k, s)"), vec![])
            .in_domain("com.microsoft");
        close(op, one(model, &[1, 1, 3], &[2048.0; 3]), &expected);
    }

    // Squares and scores beyond the largest half.
    let pair = || Onnx::new(18).input("x: f16[1, 1, 1, 2]");
    let norm = pair().node("y = LpNormalization(x)", vec![int("axis", -1)]);
    close("LpNormalization", one(norm, &[1, 1, 1, 2], &[300.0, -400.0]), &[0.6, -0.8]);
    let norm = pair().node("y = MeanVarianceNormalization(x)", vec![]);
    close("MeanVarianceNormalization", one(norm, &[1, 1, 1, 2], &[-300.0, 300.0]), &[-1.0, 1.0]);
    let keys = [600.0, 0.0, 0.0, 600.0];
    let values = [1.0, 2.0, 3.0, 4.0];
    let attention = Onnx::new(23)
        .input("x: f16[1, 1, 1, 2]")
        .constant(value("k", &halves(&[1, 1, 2, 2], &keys)))
        .constant(value("v", &halves(&[1, 1, 2, 2], &values)))
        .node("y = Attention(x, k, v)", vec![]);
    close("Attention", one(attention, &[1, 1, 1, 2], &[600.0, 0.0]), &[1.0, 2.0]);
    let attention = Onnx::new(17)
        .input("x: f16[1, 1, 2]")
        .constant(value("k", &halves(&[1, 2, 2], &keys)))
        .constant(value("v", &halves(&[1, 2, 2], &values)))
        .node("y = MultiHeadAttention(x, k, v)", vec![int("num_heads", 1)])
        .in_domain("com.microsoft");
    close("MultiHeadAttention", one(attention, &[1, 1, 2], &[600.0, 0.0]), &[1.0, 2.0]);
}
