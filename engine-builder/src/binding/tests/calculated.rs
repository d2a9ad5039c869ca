//! What exporters calculate of a checkpoint, refitted from another one; and what is no weight.

use super::*;

/// Numbers as training leaves them.
pub(super) fn trained(shape: &[usize], seed: usize) -> Tensor {
    let count = shape.iter().product::<usize>();
    let number = |i: usize| ((i * i + 3 * i) as f32 * 0.618_034 + seed as f32 * 1.234_5).sin();
    Tensor::from_slice(shape, &(0..count).map(number).collect::<Vec<_>>())
}

/// Every tensor of a checkpoint changed, as training would.
fn trained_on(checkpoint: &Checkpoint) -> Checkpoint {
    let other = |(i, (name, tensor)): (usize, &(&'static str, Tensor))| {
        let positive = name.ends_with("var");
        let tensor = trained(tensor.shape(), 50 + i);
        (*name, if positive { apply(&tensor, |x| x * x + 0.1) } else { tensor })
    };
    checkpoint.iter().enumerate().map(other).collect()
}

fn apply(tensor: &Tensor, function: impl Fn(f32) -> f32) -> Tensor {
    let values: Vec<f32> = tensor.as_slice::<f32>().unwrap().iter().map(|&x| function(x)).collect();
    Tensor::from_slice(tensor.shape(), &values)
}

/// Binds the export of `checkpoint`, of which the exporter calculated something, and holds a refit to the export of the other weights.
/// That export's own constants fill the engine with these very weights, or not at all.
pub(super) fn recomputes(
    export: impl Fn(&Checkpoint) -> Onnx,
    checkpoint: &Checkpoint,
) -> BindingReport {
    let weights = source(checkpoint);
    let options = BuildOptions::default();
    let model = export(checkpoint).model();
    let (engine, _, report) = build_bound(&model, &options, &Binding::to(&weights)).unwrap();
    close(&outputs(&engine), &outputs(&build(&model, &options).unwrap()));
    let other = trained_on(checkpoint);
    let (stripped, fresh) = (engine.strip().unwrap(), export(&other).model());
    let refitted = stripped.fill(&source(&other), FitPolicy::default()).unwrap();
    close(&outputs(&refitted), &outputs(&build(&fresh, &options).unwrap()));
    if let Ok(filled) = stripped.fill(&ModelFile::of(&fresh), FitPolicy::default()) {
        assert_eq!(filled.version(), refitted.version());
    }
    report
}

fn close(found: &[Tensor], expected: &[Tensor]) {
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.shape(), expected.shape());
        let pairs =
            found.as_slice::<f32>().unwrap().iter().zip(expected.as_slice::<f32>().unwrap());
        for (a, b) in pairs {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} and {b}");
        }
    }
}

#[test]
fn tensors_in_another_shape() {
    for (there, here) in [
        (vec![6], vec![1, 6, 1, 1]),
        (vec![1, 6], vec![6, 1]),
        (vec![6, 2, 2], vec![6, 4]),
        (vec![2, 3, 4], vec![6, 4]),
    ] {
        let checkpoint = vec![("scale", trained(&there, 1))];
        let x =
            if here[0] == 1 { "x: f32[1, 6, 2, 2]".to_owned() } else { format!("x: f32{here:?}") };
        let export = |c: &Checkpoint| {
            Onnx::new(17)
                .input(&x)
                .constant(value("onnx::Mul_3", &of(c, "scale").reshaped(&here).unwrap()))
                .node("y = Mul(x, onnx::Mul_3)", vec![])
                .output("y")
        };
        let weights = source(&checkpoint);
        let options = BuildOptions::default();
        let (engine, ..) =
            build_bound(&export(&checkpoint).model(), &options, &Binding::to(&weights)).unwrap();
        let other = trained_on(&checkpoint);
        let fresh = export(&other).model();
        let stripped = engine.strip().unwrap();
        let refitted = stripped.fill(&source(&other), FitPolicy::default()).unwrap();
        assert_eq!(
            outputs(&refitted),
            outputs(&build(&fresh, &options).unwrap()),
            "{there:?} as {here:?}"
        );
        let filled = stripped.fill(&ModelFile::of(&fresh), FitPolicy::default()).unwrap();
        assert_eq!(filled.version(), refitted.version(), "the model fills it too");
    }
}

#[test]
fn functions_that_exporters_fold() {
    type Case = (&'static str, fn(f32) -> f32);
    let cases: [Case; 8] = [
        ("exp", f32::exp),
        ("-exp", |x| -x.exp()),
        ("1+", |x| 1.0 + x),
        ("1-", |x| 1.0 - x),
        ("sigmoid", |x| 1.0 / (1.0 + (-x).exp())),
        ("softplus", |x| x.exp().ln_1p()),
        ("-softplus", |x| -x.exp().ln_1p()),
        ("tanh", f32::tanh),
    ];
    for (name, function) in cases {
        for shape in [vec![], vec![5]] {
            let checkpoint = vec![("fc.weight", trained(&[5], 1)), ("gate", trained(&shape, 2))];
            let report = recomputes(
                |c| {
                    Onnx::new(17)
                        .input("x: f32[3, 5]")
                        .constant(value("fc.weight", of(c, "fc.weight")))
                        .constant(value("folded", &apply(of(c, "gate"), function)))
                        .node("a = Mul(x, fc.weight)", vec![])
                        .node("y = Mul(a, folded)", vec![])
                        .output("y")
                },
                &checkpoint,
            );
            let bound = report.bound.iter().find(|bound| bound.initializer == "folded").unwrap();
            assert_eq!(bound.tensor, format!("gate | {name}"));
        }
    }
}

/// Exporters may leave a tensor's name to what they made of it, or give it to something else.
#[test]
fn what_is_called_as_a_tensor_and_was_calculated_is_not_taken_for_it() {
    let squared = |table: &Tensor| {
        let rows = table.as_slice::<f32>().unwrap().chunks(5);
        let sums: Vec<f32> = rows.map(|row| row.iter().map(|x| x * x).sum()).collect();
        Tensor::from_slice(&[table.len() / 5], &sums)
    };
    let doubled = |t: &Tensor| apply(t, |x| 1.0 + x);
    let reversed = |t: &Tensor| {
        let rows: Vec<Tensor> = (0..5).map(|i| t.range(0, 4 - i..5 - i)).collect();
        Tensor::joined(0, &rows)
    };
    let transposed = |t: &Tensor| t.permuted(&[1, 0]);
    type Made<'a> = &'a dyn Fn(&Tensor) -> Tensor;
    // Whether the model can fill it, and what is called `fc.weight` in the model.
    let cases: [(&str, bool, Made<'_>); 4] = [
        ("a function", false, &doubled),
        ("rows in another order", false, &reversed),
        ("squares that were summed", false, &squared),
        ("other order of axes", true, &transposed),
    ];
    for (what, fills, made) in cases {
        for partial in [false, true] {
            let checkpoint = vec![("fc.weight", trained(&[5, 5], 1)), ("b", trained(&[5], 2))];
            let export = |c: &Checkpoint| {
                Onnx::new(17)
                    .input("x: f32[5, 5]")
                    .constant(value("b", of(c, "b")))
                    .constant(value("fc.weight", &made(of(c, "fc.weight"))))
                    .node("a = Mul(x, fc.weight)", vec![])
                    .node("y = Add(a, b)", vec![])
                    .output("y")
            };
            recomputes(export, &checkpoint);
            let weights = source(&checkpoint);
            let (engine, ..) = build_bound(
                &export(&checkpoint).model(),
                &BuildOptions::default(),
                &Binding::to(&weights),
            )
            .unwrap();
            let other = trained_on(&checkpoint);
            let model = ModelFile::of(&export(&other).model());
            let policy = FitPolicy { partial, allow_extra: true };
            match engine.fill(&model, policy) {
                Ok(filled) => {
                    assert!(fills, "{what}");
                    let weight = filled.weight("fc.weight").unwrap().tensor().unwrap();
                    assert_eq!(weight, *of(&other, "fc.weight"), "{what}");
                }
                Err(error) => {
                    assert!(!fills, "{what}: {error}");
                    assert!(error.to_string().contains("the exporter made of it"), "{error}");
                }
            }
        }
    }
}

#[test]
fn a_batch_norm_that_was_folded_is_folded_again_at_refit() {
    for (bias, epsilon, filter) in [
        (false, 1e-5f32, "onnx::Conv_1"),
        (true, 1e-5, "onnx::Conv_1"),
        (true, 1e-3, "conv.weight"),
    ] {
        let mut checkpoint = vec![
            ("conv.weight", trained(&[4, 3, 3, 3], 1)),
            ("bn.weight", trained(&[4], 2)),
            ("bn.bias", trained(&[4], 3)),
            ("bn.running_mean", trained(&[4], 4)),
            ("bn.running_var", apply(&trained(&[4], 5), |x| x * x + 0.2)),
        ];
        if bias {
            checkpoint.push(("conv.bias", trained(&[4], 6)));
        }
        let report = recomputes(
            |c| {
                let get = |name: &str| of(c, name).as_slice::<f32>().unwrap().to_vec();
                let (gamma, beta, mean, variance) = (
                    get("bn.weight"),
                    get("bn.bias"),
                    get("bn.running_mean"),
                    get("bn.running_var"),
                );
                let factor: Vec<f32> =
                    (0..4).map(|i| gamma[i] / (variance[i] + epsilon).sqrt()).collect();
                let b = if bias { get("conv.bias") } else { vec![0.0; 4] };
                let shift: Vec<f32> =
                    (0..4).map(|i| (b[i] - mean[i]) * factor[i] + beta[i]).collect();
                let scaled: Vec<f32> = get("conv.weight")
                    .iter()
                    .enumerate()
                    .map(|(i, w)| w * factor[i / 27])
                    .collect();
                Onnx::new(17)
                    .input("x: f32[1, 3, 5, 5]")
                    .constant(value(filter, &Tensor::from_slice(&[4, 3, 3, 3], &scaled)))
                    .constant(value("onnx::Conv_2", &Tensor::from_slice(&[4], &shift)))
                    .node(
                        &format!("y = Conv(x, {filter}, onnx::Conv_2)"),
                        vec![ints("kernel_shape", &[3, 3])],
                    )
                    .output("y")
            },
            &checkpoint,
        );
        assert!(report.unused.is_empty(), "{report}");
    }
}

/// Untrained magnitudes are the norms of their directions, and the folded filter is the direction, bit for bit: it is no less
/// calculated.
#[test]
fn weight_norm_that_was_folded_is_folded_again_at_refit() {
    let norm =
        |v: &[f32], row: usize| v[row * 15..][..15].iter().map(|x| x * x).sum::<f32>().sqrt();
    let direction = trained(&[4, 3, 5], 2);
    let rows = direction.as_slice::<f32>().unwrap();
    let norms: Vec<f32> = (0..4).map(|row| norm(rows, row)).collect();
    let untrained = Tensor::from_slice(&[4, 1, 1], &norms);
    for (g, v) in [
        ("conv.weight_g", "conv.weight_v"),
        ("conv.parametrizations.weight.original0", "conv.parametrizations.weight.original1"),
    ] {
        for magnitudes in [trained(&[4, 1, 1], 1), untrained.clone()] {
            let report = recomputes(
                |c| {
                    let (g, v) = (of(c, g).as_slice::<f32>().unwrap(), of(c, v));
                    let v = v.as_slice::<f32>().unwrap();
                    let filter: Vec<f32> = v
                        .iter()
                        .enumerate()
                        .map(|(i, x)| x * (g[i / 15] / norm(v, i / 15)))
                        .collect();
                    Onnx::new(17)
                        .input("x: f32[1, 3, 9]")
                        .constant(value("onnx::Conv_1", &Tensor::from_slice(&[4, 3, 5], &filter)))
                        .node("y = Conv(x, onnx::Conv_1)", vec![ints("kernel_shape", &[5])])
                        .output("y")
                },
                &vec![(g, magnitudes), (v, direction.clone())],
            );
            assert!(report.unused.is_empty(), "{report}");
        }
    }
}

#[test]
fn rows_gathered_stacked_and_in_another_order() {
    // A table read at constant indices, its axes exchanged.
    let checkpoint = vec![("table", trained(&[9, 2], 1)), ("fc.weight", trained(&[3], 2))];
    let indices: Vec<usize> = (0..9).map(|i| (i * 5 + 2) % 9).collect();
    let report = recomputes(
        |c| {
            let table = of(c, "table");
            let rows: Vec<Tensor> = indices.iter().map(|&i| table.range(0, i..i + 1)).collect();
            let gathered =
                Tensor::joined(0, &rows).reshaped(&[3, 3, 2]).unwrap().permuted(&[2, 0, 1]);
            Onnx::new(17)
                .input("x: f32[2, 3, 3]")
                .constant(value("onnx::Add_1", &gathered))
                .constant(value("fc.weight", of(c, "fc.weight")))
                .node("a = Mul(x, fc.weight)", vec![])
                .node("y = Add(a, onnx::Add_1)", vec![])
                .output("y")
        },
        &checkpoint,
    );
    assert!(report.bound.iter().any(|bound| bound.tensor.contains("constant indices")), "{report}");
    // Experts stacked along a new axis, and a join with zeros between.
    let checkpoint = vec![
        ("experts.0.w", trained(&[4, 3], 1)),
        ("experts.1.w", trained(&[4, 3], 2)),
        ("q_bias", trained(&[2], 3)),
        ("v_bias", trained(&[2], 4)),
    ];
    let report = recomputes(
        |c| {
            let experts = [of(c, "experts.0.w"), of(c, "experts.1.w")]
                .map(|t| t.reshaped(&[1, 4, 3]).unwrap());
            let zeros = Tensor::from_slice(&[2], &[0.0f32; 2]);
            let bias =
                Tensor::joined(0, &[of(c, "q_bias").clone(), zeros, of(c, "v_bias").clone()]);
            Onnx::new(17)
                .input("x: f32[2, 6, 4]")
                .constant(value("experts", &Tensor::joined(0, &experts)))
                .constant(value("bias", &bias.reshaped(&[6, 1]).unwrap()))
                .node("p = MatMul(x, experts)", vec![])
                .node("y = Add(p, bias)", vec![])
                .output("y")
        },
        &checkpoint,
    );
    assert!(report.unused.is_empty(), "{report}");
    // The gates of an LSTM, reordered as exporters do.
    let checkpoint = vec![
        ("l.weight_ih_l0", trained(&[8, 3], 1)),
        ("l.weight_hh_l0", trained(&[8, 2], 2)),
        ("l.bias_ih_l0", trained(&[8], 3)),
        ("l.bias_hh_l0", trained(&[8], 4)),
    ];
    recomputes(
        |c| {
            let gates = |name: &str| {
                let tensor = of(c, name);
                let gate = |i: usize| tensor.range(0, 2 * i..2 * i + 2);
                Tensor::joined(0, &[gate(0), gate(3), gate(1), gate(2)])
            };
            let direction = |tensor: Tensor| {
                let shape = [&[1], tensor.shape()].concat();
                tensor.reshaped(&shape).unwrap()
            };
            let bias = Tensor::joined(0, &[gates("l.bias_ih_l0"), gates("l.bias_hh_l0")]);
            Onnx::new(17)
                .input("x: f32[5, 1, 3]")
                .constant(value("w", &direction(gates("l.weight_ih_l0"))))
                .constant(value("r", &direction(gates("l.weight_hh_l0"))))
                .constant(value("b", &direction(bias)))
                .node("y = LSTM(x, w, r, b)", vec![int("hidden_size", 2)])
                .output("y")
        },
        &checkpoint,
    );
}

#[test]
fn a_codebook_whose_squares_were_summed() {
    let checkpoint = vec![("embed.weight", trained(&[6, 5], 1))];
    recomputes(
        |c| {
            let table = of(c, "embed.weight");
            let rows = table.as_slice::<f32>().unwrap().chunks(5);
            let sums: Vec<f32> = rows.map(|row| row.iter().map(|x| x * x).sum()).collect();
            Onnx::new(17)
                .input("x: f32[2, 5]")
                .constant(value("embed.weight", &table.permuted(&[1, 0])))
                .constant(value("sums", &Tensor::from_slice(&[6], &sums)))
                .node("p = MatMul(x, embed.weight)", vec![])
                .node("y = Sub(p, sums)", vec![])
                .output("y")
        },
        &checkpoint,
    );
}

#[test]
fn a_second_export_tells_constants_from_what_was_made_of_weights() {
    // The table could be made of the tensor that nothing is bound to; the second export shows whether it was.
    let checkpoint = vec![("fc.weight", trained(&[5], 1)), ("log_scale", trained(&[5], 2))];
    let other = trained_on(&checkpoint);
    let export = |c: &Checkpoint, made: bool| {
        let table =
            if made { apply(of(c, "log_scale"), |x| x.cos() * 3.1) } else { trained(&[5], 9) };
        Onnx::new(17)
            .input("x: f32[3, 5]")
            .constant(value("fc.weight", of(c, "fc.weight")))
            .constant(value("onnx::Mul_1", &table))
            .node("a = Mul(x, fc.weight)", vec![])
            .node("y = Mul(a, onnx::Mul_1)", vec![])
            .output("y")
            .model()
    };
    let weights = source(&checkpoint);
    for (made, second) in [(true, true), (false, false)] {
        let model = export(&checkpoint, made);
        build_bound(&model, &BuildOptions::default(), &Binding::to(&weights)).unwrap_err();
        let second = ModelFile::of(&export(&other, second));
        let binding = Binding { other: Some(&second), ..Binding::to(&weights) };
        let built = build_bound(&model, &BuildOptions::default(), &binding);
        match made {
            true => assert!(built.unwrap_err().to_string().contains("onnx::Mul_1")),
            false => assert_eq!(built.unwrap().2.kept[0].reason, Reason::EqualInOther),
        }
    }
    // The same weights again prove nothing.
    let model = export(&checkpoint, false);
    let same = ModelFile::of(&model);
    let binding = Binding { other: Some(&same), ..Binding::to(&weights) };
    let error = build_bound(&model, &BuildOptions::default(), &binding).unwrap_err();
    assert!(error.to_string().contains("proves nothing"), "{error}");
}
