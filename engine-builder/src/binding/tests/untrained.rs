//! Parameters as frameworks initialise them: zeros and ones, which prove nothing by themselves.

use super::calculated::{recomputes, trained};
use super::*;

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::from_slice(shape, &vec![0.0f32; shape.iter().product()])
}

fn ones(shape: &[usize]) -> Tensor {
    Tensor::from_slice(shape, &vec![1.0f32; shape.iter().product()])
}

/// What PyTorch's newer exporter says of the last node: the module, the operator and what it reads.
fn from(onnx: Onnx, module: &str, target: &str, reads: &[&str]) -> Onnx {
    let reads: Vec<String> = reads.iter().map(|read| format!("%p_{read}")).collect();
    let call = format!(
        "%v : call_function[target=torch.ops.aten.{target}](args = (%x, {}))",
        reads.join(", ")
    );
    onnx.says("pkg.torch.onnx.name_scopes", &format!("['', 'm', '{module}', 'v']"))
        .says("pkg.torch.onnx.fx_node", &call)
}

fn rewritten(onnx: Onnx, rules: &str) -> Onnx {
    onnx.says("pkg.onnxscript.rewriter.rule_name", rules)
}

#[test]
fn merged_biases_are_told_apart_by_what_the_framework_reads() {
    let checkpoint =
        vec![("a.bias", zeros(&[4])), ("b.bias", zeros(&[4])), ("b.scale", zeros(&[4]))];
    let export = |c: &Checkpoint| {
        let merged = |name: &'static str| match of(c, name) == of(c, "a.bias") {
            true => "m.a.bias",
            false => name,
        };
        let mut onnx =
            Onnx::new(18).input("x: f32[2, 4]").constant(value("m.a.bias", of(c, "a.bias")));
        for name in ["b.bias", "b.scale"] {
            if merged(name) == name {
                onnx = onnx.constant(value(name, of(c, name)));
            }
        }
        onnx = from(onnx.node("p = Add(x, m.a.bias)", vec![]), "m.a", "linear", &["m_a_bias"]);
        let second = format!("q = Add(p, {})", merged("b.bias"));
        onnx = from(onnx.node(&second, vec![]), "m.b", "linear", &["m_b_bias"]);
        let third = format!("y = Mul(q, {})", merged("b.scale"));
        from(onnx.node(&third, vec![]), "m.b", "mul", &["m_b_scale"]).output("y")
    };
    let report = recomputes(export, &checkpoint);
    assert_eq!(report.bound.len(), 3, "{report}");
}

#[test]
fn what_was_calculated_and_merged_is_not_the_parameter() {
    let checkpoint =
        vec![("in_bias", zeros(&[8])), ("out.bias", zeros(&[4])), ("out.weight", trained(&[4], 3))];
    let model = Onnx::new(17)
        .input("x: f32[2, 4]")
        .constant(value("out.bias", of(&checkpoint, "out.bias")))
        .constant(value("out.weight", of(&checkpoint, "out.weight")))
        .node("onnx::Add_7 = Identity(out.bias)", vec![])
        .node("p = Add(x, onnx::Add_7)", vec![])
        .named("/Add")
        .node("q = Mul(p, out.weight)", vec![])
        .named("/out/Mul")
        .node("y = Add(q, out.bias)", vec![])
        .named("/out/Add")
        .output("y");
    let message = refused(model, &checkpoint);
    assert!(message.contains("out.bias"), "{message}");
}

#[test]
fn a_traced_constant_that_is_equal_to_a_parameter_is_not_the_parameter() {
    let checkpoint = vec![("norm.weight", ones(&[4])), ("norm.bias", zeros(&[4]))];
    let report = recomputes(
        |c| {
            Onnx::new(17)
                .input("x: f32[1, 4, 3]")
                .node("/norm/Constant_output_0 = Constant()", vec![tensor("value", value("", &ones(&[4])))])
                .node("/norm/Constant_1_output_0 = Constant()", vec![tensor("value", value("", &zeros(&[4])))])
                .constant(value("norm.weight", &of(c, "norm.weight").reshaped(&[4, 1]).unwrap()))
                .constant(value("norm.bias", &of(c, "norm.bias").reshaped(&[4, 1]).unwrap()))
                .node(
                    "n = InstanceNormalization(x, /norm/Constant_output_0, /norm/Constant_1_output_0)",
                    vec![],
                )
                .named("/norm/InstanceNormalization")
                .node("s = Mul(n, norm.weight)", vec![])
                .named("/norm/Mul")
                .node("y = Add(s, norm.bias)", vec![])
                .named("/norm/Add")
                .output("y")
        },
        &checkpoint,
    );
    assert_eq!((report.bound.len(), report.kept.len()), (2, 2), "{report}");
}

#[test]
fn a_table_of_zeros_may_be_in_a_constant_of_another_size() {
    let checkpoint = vec![("attn.table", zeros(&[9, 2])), ("attn.weight", trained(&[4, 4], 1))];
    let model = Onnx::new(17)
        .input("x: f32[2, 4, 4]")
        .constant(value("onnx::Add_3", &zeros(&[2, 4, 4])))
        .constant(value("attn.weight", of(&checkpoint, "attn.weight")))
        .node("p = Add(x, onnx::Add_3)", vec![])
        .node("y = MatMul(p, attn.weight)", vec![])
        .output("y");
    let message = refused(model, &checkpoint);
    assert!(message.contains("onnx::Add_3") && message.contains("attn.table"), "{message}");
}

#[test]
fn a_bias_that_the_exporter_took_away_is_put_back() {
    let checkpoint = vec![("fc.weight", trained(&[3, 4], 1)), ("fc.bias", zeros(&[3]))];
    let export = |c: &Checkpoint| {
        let onnx =
            Onnx::new(18).input("x: f32[2, 4]").constant(value("m.fc.weight", of(c, "fc.weight")));
        let lost = *of(c, "fc.bias") == zeros(&[3]);
        let onnx = match lost {
            true => onnx.node("y = Gemm(x, m.fc.weight)", vec![int("transB", 1)]),
            false => onnx
                .constant(value("m.fc.bias", of(c, "fc.bias")))
                .node("y = Gemm(x, m.fc.weight, m.fc.bias)", vec![int("transB", 1)]),
        };
        let onnx = from(onnx, "m.fc", "linear", &["m_fc_weight", "m_fc_bias"]);
        if lost { rewritten(onnx, "RemoveOptionalBiasFromGemm") } else { onnx }.output("y")
    };
    let report = recomputes(export, &checkpoint);
    assert_eq!(report.bound.len(), 2, "{report}");
    // Where nothing says so, what is gone is named.
    let silent = Onnx::new(18)
        .input("x: f32[2, 4]")
        .constant(value("fc.weight", of(&checkpoint, "fc.weight")))
        .node("y = Gemm(x, fc.weight)", vec![int("transB", 1)])
        .output("y");
    let message = refused(silent, &checkpoint);
    assert!(message.contains("fc.bias") && message.contains("optimize=False"), "{message}");
    // A layer that never had one stays as it is.
    let without = vec![("fc.weight", trained(&[3, 4], 1))];
    let report = recomputes(
        |c| {
            let onnx = Onnx::new(18)
                .input("x: f32[2, 4]")
                .constant(value("m.fc.weight", of(c, "fc.weight")));
            let onnx = onnx.node("y = Gemm(x, m.fc.weight)", vec![int("transB", 1)]);
            rewritten(from(onnx, "m.fc", "linear", &["m_fc_weight"]), "RemoveOptionalBiasFromGemm")
                .output("y")
        },
        &without,
    );
    assert_eq!((report.bound.len(), report.kept.len()), (1, 0), "{report}");
}

/// Two convolutions with batch norms that an exporter folded, as torchvision's networks have them.
fn folded_norms(c: &Checkpoint, says_where: bool) -> Onnx {
    let mut onnx = Onnx::new(18).input("x: f32[1, 3, 5, 5]");
    for (i, (from_value, to)) in [("x", "p"), ("p", "y")].into_iter().enumerate() {
        let (conv, norm) = (format!("conv{i}.weight"), format!("bn{i}"));
        let read =
            |leaf: &str| of(c, &format!("{norm}.{leaf}")).as_slice::<f32>().unwrap().to_vec();
        let (gamma, beta) = (read("weight"), read("bias"));
        let (mean, variance) = (read("running_mean"), read("running_var"));
        let factor = |k: usize| gamma[k] / (variance[k] + 1e-5).sqrt();
        let filter = of(c, &conv);
        let inner = filter.len() / filter.shape()[0];
        let values = filter.as_slice::<f32>().unwrap().iter().enumerate();
        let scaled: Vec<f32> = values.map(|(k, x)| x * factor(k / inner)).collect();
        let shift: Vec<f32> = (0..gamma.len()).map(|k| beta[k] - mean[k] * factor(k)).collect();
        onnx = onnx
            .constant(value(&format!("m.{conv}"), &Tensor::from_slice(filter.shape(), &scaled)));
        let lost = says_where && shift.iter().all(|x| *x == 0.0);
        onnx = match lost {
            true => onnx.node(&format!("{to} = Conv({from_value}, m.{conv})"), vec![]),
            false => onnx
                .constant(value(&format!("shift{i}"), &Tensor::from_slice(&[gamma.len()], &shift)))
                .node(&format!("{to} = Conv({from_value}, m.{conv}, shift{i})"), vec![]),
        };
        if says_where {
            let reads = ["weight", "bias"].map(|leaf| format!("m_{norm}_{leaf}"));
            let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
            onnx = from(onnx, &format!("m.{norm}"), "_native_batch_norm", &reads);
            let rules = if lost {
                "FuseBatchNormIntoConv, RemoveOptionalBiasFromConv"
            } else {
                "FuseBatchNormIntoConv"
            };
            onnx = rewritten(onnx, rules);
        }
    }
    onnx.output("y")
}

fn norms(beta: &Tensor) -> Checkpoint {
    vec![
        ("conv0.weight", trained(&[3, 3, 1, 1], 1)),
        ("bn0.weight", ones(&[3])),
        ("bn0.bias", beta.clone()),
        ("bn0.running_mean", zeros(&[3])),
        ("bn0.running_var", ones(&[3])),
        ("conv1.weight", trained(&[3, 3, 1, 1], 2)),
        ("bn1.weight", ones(&[3])),
        ("bn1.bias", beta.clone()),
        ("bn1.running_mean", zeros(&[3])),
        ("bn1.running_var", ones(&[3])),
    ]
}

#[test]
fn a_folded_norm_of_an_untrained_network_is_told_by_the_module_of_the_node() {
    for beta in [zeros(&[3]), trained(&[3], 9)] {
        let report = recomputes(|c| folded_norms(c, true), &norms(&beta));
        assert_eq!(report.bound.len(), 4, "{report}");
    }
    let message = refused(folded_norms(&norms(&zeros(&[3])), false), &norms(&zeros(&[3])));
    assert!(message.contains("batch norms"), "{message}");
}

/// With a mean of zero the shift is equal to the bias of the norm, and is more than that.
#[test]
fn the_shift_of_a_folded_norm_is_not_its_bias_alone() {
    let mut checkpoint = norms(&trained(&[3], 9));
    checkpoint[1].1 = trained(&[3], 20);
    checkpoint[6].1 = trained(&[3], 21);
    checkpoint[7].1 = trained(&[3], 22);
    let report = recomputes(|c| folded_norms(c, false), &checkpoint);
    assert!(report.bound.iter().all(|bound| bound.computed), "{report}");
}

#[test]
fn one_number_is_not_made_of_a_layer_that_the_model_does_without() {
    let checkpoint = vec![
        ("fc.weight", trained(&[4, 4], 1)),
        ("head.out.weight", trained(&[1, 6], 2)),
        ("head.out.bias", trained(&[1], 3)),
    ];
    let export = |c: &Checkpoint| {
        Onnx::new(17)
            .input("x: f32[2, 4]")
            .constant(value("fc.weight", of(c, "fc.weight")))
            .constant(value("ratio", &Tensor::from_slice(&[], &[0.879_999_93f32])))
            .node("p = MatMul(x, fc.weight)", vec![])
            .node("y = Mul(p, ratio)", vec![])
            .output("y")
    };
    let report = recomputes(export, &checkpoint);
    assert_eq!((report.bound.len(), report.kept.len()), (1, 1), "{report}");
    // A number by itself may be in it: a temperature.
    let checkpoint = vec![("fc.weight", trained(&[4, 4], 1)), ("fc.temperature", trained(&[1], 3))];
    assert!(refused(export(&checkpoint), &checkpoint).contains("fc.temperature"));
}

/// A residual branch begins at nothing: its last norm has factors of zero.
#[test]
fn a_folded_norm_with_factors_of_zero_is_told_by_names() {
    let mut checkpoint = norms(&zeros(&[3]));
    checkpoint[6].1 = zeros(&[3]);
    let report = recomputes(|c| folded_norms(c, true), &checkpoint);
    assert_eq!(report.bound.len(), 4, "{report}");
}

/// Two norms of the same input with equal parameters are one node where the exporter computes equal things once.
#[test]
fn a_layer_that_was_merged_into_an_equal_one_is_named() {
    let checkpoint = vec![
        ("l.a.weight", ones(&[4])),
        ("l.a.bias", zeros(&[4])),
        ("l.b.weight", ones(&[4])),
        ("l.b.bias", zeros(&[4])),
    ];
    let onnx = Onnx::new(18)
        .input("x: f32[2, 4]")
        .constant(value("l.a.weight", &ones(&[4])))
        .constant(value("l.a.bias", &zeros(&[4])))
        .node("n = LayerNormalization(x, l.a.weight, l.a.bias)", vec![]);
    let onnx = from(onnx, "l.a", "layer_norm", &["l_a_weight", "l_a_bias"]);
    let message = refused(onnx.node("y = Add(n, n)", vec![]).output("y"), &checkpoint);
    assert!(message.contains("l.b.weight") && message.contains("optimize=False"), "{message}");
}

/// What is left over does not tell of which of equal tensors a function was taken.
#[test]
fn a_function_of_equal_tensors_is_open() {
    let mix = trained(&[4], 5);
    let checkpoint = vec![("mix_key", mix.clone()), ("mix_value", mix.clone())];
    let model = Onnx::new(18)
        .input("x: f32[2, 4]")
        .constant(value("mix_key", &mix))
        .constant(value(
            "sub",
            &Tensor::from_slice(
                &[4],
                &mix.as_slice::<f32>().unwrap().iter().map(|x| 1.0 - x).collect::<Vec<_>>(),
            ),
        ))
        .node("p = Mul(x, mix_key)", vec![])
        .node("y = Mul(p, sub)", vec![])
        .output("y");
    let message = refused(model, &checkpoint);
    assert!(message.contains("mix_key") && message.contains("mix_value"), "{message}");
}

/// A chain of norms that multiply by a function of their weights, which nobody trained; the exporter merged what is equal.
fn calculated_by(operator: &str, function: fn(f32) -> f32, c: &Checkpoint) -> Onnx {
    let made = |name: &str| {
        let values: Vec<f32> =
            of(c, name).as_slice::<f32>().unwrap().iter().map(|&x| function(x)).collect();
        Tensor::from_slice(&[4], &values)
    };
    let merged = made("n1.weight") == made("n2.weight");
    let second = if merged { "first" } else { "second" };
    let mut onnx = Onnx::new(18).input("x: f32[2, 4]").constant(value("first", &made("n1.weight")));
    if !merged {
        onnx = onnx.constant(value("second", &made("n2.weight")));
    }
    let says = |onnx: Onnx, module: &str, value: usize| {
        let call = format!(
            "%v : call_function[target=torch.ops.aten.mul.Tensor](args = (%w, %{operator}_{value}), kwargs = {{}})"
        );
        onnx.says("pkg.torch.onnx.name_scopes", &format!("['', 'm', '{module}', 'v']"))
            .says("pkg.torch.onnx.fx_node", &call)
    };
    let onnx = says(onnx.node("p = Mul(x, first)", vec![]), "m.n1", 4);
    let onnx = says(onnx.node(&format!("q = Mul(p, {second})"), vec![]), "m.n2", 9);
    onnx.constant(value("m.fc.bias", of(c, "fc.bias")))
        .node("y = Add(q, m.fc.bias)", vec![])
        .output("y")
}

#[test]
fn what_is_plain_is_the_function_that_the_exporter_names_of_the_one_tensor_of_the_module() {
    let checkpoint = |more: &[(&'static str, Tensor)]| {
        let mut all = vec![
            ("n1.weight", zeros(&[4])),
            ("n2.weight", zeros(&[4])),
            ("fc.bias", trained(&[4], 3)),
        ];
        all.extend_from_slice(more);
        all
    };
    type Case = (&'static str, fn(f32) -> f32, &'static str);
    let cases: [Case; 4] = [
        ("add", |x| 1.0 + x, "n1.weight | 1+"),
        ("exp", f32::exp, "n1.weight | exp"),
        ("rsub", |x| 1.0 - x, "n1.weight | 1-"),
        ("sigmoid", |x| 1.0 / (1.0 + (-x).exp()), "n1.weight | sigmoid"),
    ];
    for (operator, function, label) in cases {
        let report = recomputes(|c| calculated_by(operator, function, c), &checkpoint(&[]));
        assert!(report.bound.iter().any(|bound| bound.tensor == label), "{report}");
    }
    // An operator that is not known, one whose functions give something else, and a module of two tensors.
    for (operator, more) in
        [("clamp", vec![]), ("tanh", vec![]), ("add", vec![("n2.scale", zeros(&[4]))])]
    {
        let checkpoint = checkpoint(&more);
        let message = refused(calculated_by(operator, |x| 1.0 + x, &checkpoint), &checkpoint);
        assert!(message.contains("not bound first"), "{message}");
    }
}
