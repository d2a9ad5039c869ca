//! Small models of a checkpoint, each bound to it, refitted from another one and filled from a model of that.

use super::{BindMap, Binding, BindingReport, Reason};
use crate::testing::{Onnx, int, ints, run, tensor, value};
use crate::{BuildErrorKind, BuildOptions, build, build_bound};
use engine_format::{
    Attr, DType, Engine, FitPolicy, MapSource, Naming, Node, SerializeFlags, SourceError, Tensor,
    TensorInfo, WeightSource,
};
use engine_onnx::Model;

mod calculated;
mod partial;
mod tied;
mod untrained;

/// Named tensors of a checkpoint.
type Checkpoint = Vec<(&'static str, Tensor)>;

/// What an exporter makes of a checkpoint.
type Exporter = fn(&Checkpoint) -> Onnx;

/// Numbers without a pattern, quarters so that halves and bf16 have them, others for another `seed`.
fn random(shape: &[usize], seed: usize) -> Tensor {
    let count = shape.iter().product::<usize>();
    let number = |i: usize| {
        let mixed = (i + 1).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503_077));
        ((mixed >> 7) % 251) as f32 / 4.0 - 31.0
    };
    Tensor::from_slice(shape, &(0..count).map(number).collect::<Vec<_>>())
}

fn of<'a>(checkpoint: &'a Checkpoint, name: &str) -> &'a Tensor {
    &checkpoint.iter().find(|(n, _)| *n == name).unwrap().1
}

fn source(checkpoint: &Checkpoint) -> MapSource {
    checkpoint.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect()
}

/// Every tensor of a type changed.
fn tuned(checkpoint: &Checkpoint) -> Checkpoint {
    let other = |i: usize, tensor: &Tensor| {
        random(tensor.shape(), 1000 + i).converted_exactly(tensor.dtype()).unwrap()
    };
    checkpoint.iter().enumerate().map(|(i, (name, tensor))| (*name, other(i, tensor))).collect()
}

/// The constants of a model file.
struct ModelFile(MapSource);

impl ModelFile {
    fn of(model: &Model) -> Self {
        let constants = model.constants().into_iter();
        Self(constants.map(|c| (c.name, c.data.tensor().unwrap())).collect())
    }
}

impl WeightSource for ModelFile {
    fn origin(&self) -> String {
        "model".to_owned()
    }
    fn names(&self) -> Vec<String> {
        self.0.names()
    }
    fn naming(&self, _name: &str) -> Naming {
        Naming::Model
    }
    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.0.info(name)
    }
    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        self.0.read(name)
    }
}

fn outputs(engine: &Engine) -> Vec<Tensor> {
    let port = &engine.parts().inputs[0];
    let shape: Vec<usize> =
        port.shape.iter().flatten().map(|dim| dim.known().unwrap() as usize).collect();
    run(engine, &[(&*port.name, random(&shape, 7))])
}

/// Binds the export of `checkpoint` and holds it to everything that binding promises.
fn holds(export: Exporter, checkpoint: &Checkpoint) -> (Engine, BindingReport) {
    holds_with(export, checkpoint, BindMap::default())
}

fn holds_with(export: Exporter, checkpoint: &Checkpoint, map: BindMap) -> (Engine, BindingReport) {
    let model = export(checkpoint).model();
    let weights = source(checkpoint);
    let binding = Binding { map, ..Binding::to(&weights) };
    let options = BuildOptions::default();
    let (engine, _, report) = build_bound(&model, &options, &binding).unwrap();
    let plain = BuildOptions { optimise: false, ..options.clone() };
    let (unoptimised, ..) = build_bound(&model, &plain, &binding).unwrap();
    let expected = outputs(&build(&model, &options).unwrap());
    assert_eq!(outputs(&engine), expected, "bound and not bound");
    assert_eq!(outputs(&unoptimised), expected, "without passes");

    let policy = FitPolicy::default();
    let other = tuned(checkpoint);
    let fresh = export(&other).model();
    let stripped = engine.strip().unwrap();
    let left_out = BuildOptions { strip: true, ..options.clone() };
    let (left_out, ..) = build_bound(&model, &left_out, &binding).unwrap();
    let saved = SerializeFlags::EXCLUDE_WEIGHTS;
    assert_eq!(left_out.serialize(saved).unwrap(), stripped.serialize(saved).unwrap());
    let refitted = stripped.fill(&source(&other), policy).unwrap();
    assert_eq!(outputs(&refitted), outputs(&build(&fresh, &options).unwrap()), "refitted");
    let (again, ..) =
        build_bound(&fresh, &options, &Binding { checkpoint: &source(&other), ..binding }).unwrap();
    assert_eq!(again.version(), refitted.version(), "a fresh build has the same weights");
    assert_eq!(again.serialize(saved).unwrap(), stripped.serialize(saved).unwrap());
    let filled = stripped.fill(&ModelFile::of(&fresh), policy).unwrap();
    assert_eq!(filled.version(), refitted.version(), "the model fills it too");
    let again = bound_again(&engine, &model).fill(&source(&other), policy).unwrap();
    assert_eq!(outputs(&again), outputs(&refitted), "bound again by its aliases");
    (engine, report)
}

/// The model bound without passes by what the engine itself knows: its weights and its aliases.
fn bound_again(engine: &Engine, model: &Model) -> Engine {
    let weights = engine.parts().weights.iter();
    let weights: MapSource = weights.map(|w| (w.name.clone(), w.tensor().unwrap())).collect();
    let plain = BuildOptions { optimise: false, ..BuildOptions::default() };
    let binding = Binding { map: BindMap::of(engine), ..Binding::to(&weights) };
    build_bound(model, &plain, &binding).unwrap().0
}

/// The message of a model that does not bind.
fn refused(model: Onnx, checkpoint: &Checkpoint) -> String {
    let weights = source(checkpoint);
    let options = BuildOptions::default();
    let error = build_bound(&model.model(), &options, &Binding::to(&weights)).unwrap_err();
    assert_eq!(error.kind(), BuildErrorKind::Unbound, "{error}");
    error.to_string()
}

fn names(engine: &Engine) -> Vec<String> {
    engine.parts().weights.iter().map(|weight| weight.name.clone()).collect()
}

fn aliases(engine: &Engine, weight: &str) -> Vec<String> {
    engine.weight(weight).unwrap().aliases.iter().map(ToString::to_string).collect()
}

#[test]
fn a_renamed_and_a_transposed_tensor() {
    let checkpoint = vec![("fc.weight", random(&[6, 5], 1)), ("fc.bias", random(&[6], 2))];
    let (engine, report) = holds(
        |c| {
            Onnx::new(17)
                .input("x: f32[2, 5]")
                .constant(value("onnx::MatMul_3", &of(c, "fc.weight").permuted(&[1, 0])))
                .constant(value("inner.fc.bias", of(c, "fc.bias")))
                .node("a = MatMul(x, onnx::MatMul_3)", vec![])
                .node("y = Add(a, inner.fc.bias)", vec![])
                .output("y")
        },
        &checkpoint,
    );
    assert_eq!(names(&engine), ["fc.bias", "fc.weight"]);
    assert_eq!(aliases(&engine, "fc.bias"), ["inner.fc.bias"]);
    assert_eq!(aliases(&engine, "fc.weight"), ["onnx::MatMul_3 permuted [1, 0]"]);
    let reads = |node: &Node| node.attrs.get("transB") == Some(&Attr::Int(1));
    assert!(engine.parts().execute.nodes.iter().any(reads), "the product turns it");
    assert_eq!(report.bound.iter().filter(|bound| bound.transformed).count(), 1);
    assert!(report.unbound.is_empty() && report.unused.is_empty());
}

#[test]
fn every_order_of_four_axes() {
    let checkpoint = vec![("kernel", random(&[2, 3, 4, 5], 1))];
    for perm in super::search::orders(&[2, 3, 4, 5]) {
        let shape = perm.iter().map(|&axis| [2, 3, 4, 5][axis]).collect::<Vec<_>>();
        let model = |c: &Checkpoint| {
            Onnx::new(17)
                .input(&format!("x: f32{shape:?}"))
                .constant(value("k", &of(c, "kernel").permuted(&perm)))
                .node("y = Mul(x, k)", vec![])
                .output("y")
                .model()
        };
        let weights = source(&checkpoint);
        let options = BuildOptions::default();
        let (engine, ..) =
            build_bound(&model(&checkpoint), &options, &Binding::to(&weights)).unwrap();
        let other = tuned(&checkpoint);
        let refitted = engine.fill(&source(&other), FitPolicy::default()).unwrap();
        assert_eq!(
            outputs(&refitted),
            outputs(&build(&model(&other), &options).unwrap()),
            "{perm:?}"
        );
    }
}

/// Queries, keys and values of `packed`, transposed as exporters leave them.
fn split(c: &Checkpoint) -> Onnx {
    let part = |i: usize| of(c, "attn.in_proj_weight").range(0, 4 * i..4 * i + 4).permuted(&[1, 0]);
    Onnx::new(17)
        .input("x: f32[3, 6]")
        .constant(value("q", &part(0)))
        .constant(value("k", &part(1)))
        .constant(value("v", &part(2)))
        .node("a = MatMul(x, q)", vec![])
        .node("b = MatMul(x, k)", vec![])
        .node("c = MatMul(x, v)", vec![])
        .node("y = Concat(a, b, c)", vec![int("axis", 1)])
        .output("y")
}

#[test]
fn parts_of_a_packed_tensor() {
    let checkpoint = vec![("attn.in_proj_weight", random(&[12, 6], 3))];
    let (engine, _) = holds(split, &checkpoint);
    assert_eq!(names(&engine), ["attn.in_proj_weight"]);
    let expected = "joined along 0 of q permuted [1, 0], k permuted [1, 0], v permuted [1, 0]";
    assert_eq!(aliases(&engine, "attn.in_proj_weight"), [expected]);
    // A model that holds only a part of a tensor cannot fill it, and nothing pretends that it could.
    let longer = vec![("attn.in_proj_weight", random(&[13, 6], 3))];
    let model = split(&longer).model();
    let weights = source(&longer);
    let (engine, ..) =
        build_bound(&model, &BuildOptions::default(), &Binding::to(&weights)).unwrap();
    assert!(aliases(&engine, "attn.in_proj_weight").is_empty());
    let error = engine.fill(&ModelFile::of(&model), FitPolicy::default()).unwrap_err();
    assert_eq!(
        error.to_string().lines().last(),
        Some("missing \"attn.in_proj_weight\": expected f32[13, 6]")
    );
}

#[test]
fn several_tensors_joined() {
    let checkpoint = vec![
        ("q.weight", random(&[4, 6], 1)),
        ("k.weight", random(&[2, 6], 2)),
        ("v.weight", random(&[2, 6], 3)),
    ];
    let (engine, report) = holds(
        |c| {
            let parts = ["q.weight", "k.weight", "v.weight"].map(|name| of(c, name).clone());
            Onnx::new(17)
                .input("x: f32[3, 6]")
                .constant(value("qkv", &Tensor::joined(0, &parts).permuted(&[1, 0])))
                .node("y = MatMul(x, qkv)", vec![])
                .output("y")
        },
        &checkpoint,
    );
    assert_eq!(names(&engine), ["k.weight", "q.weight", "v.weight"]);
    assert_eq!(aliases(&engine, "k.weight"), ["qkv permuted [1, 0] from 4 to 6 along 0"]);
    assert_eq!(
        report.bound[0].tensor,
        "q.weight, k.weight, v.weight joined along 0, permuted [1, 0]"
    );
}

#[test]
fn types_that_have_the_same_values() {
    let small = |seed, dtype| random(&[5, 6], seed).converted_exactly(dtype).unwrap();
    let checkpoint = vec![("a", small(4, DType::F16)), ("b", small(5, DType::BF16))];
    let (engine, _) = holds(
        |c| {
            let wide = |name| of(c, name).converted_exactly(DType::F32).unwrap();
            Onnx::new(17)
                .input("x: f32[5, 6]")
                .constant(value("m::a", &wide("a")))
                .constant(value("m::b", &wide("b").permuted(&[1, 0])))
                .node("t = MatMul(x, m::b)", vec![])
                .node("y = MatMul(t, m::a)", vec![])
                .output("y")
        },
        &checkpoint,
    );
    assert_eq!(engine.weight("a").unwrap().dtype, DType::F16);
    assert_eq!(engine.weight("b").unwrap().dtype, DType::BF16);
    // A model with values that the checkpoint's type does not have cannot fill it.
    let third = Tensor::from_slice(&[5, 6], &[1.0f32 / 3.0; 30]);
    let inexact = MapSource::from_iter([
        ("m::a".to_owned(), third.clone()),
        ("m::b".to_owned(), third.permuted(&[1, 0])),
    ]);
    let error = engine.fill(&ModelFile(inexact), FitPolicy::default()).unwrap_err().to_string();
    assert!(error.contains("which f16 does not have"), "{error}");
}

fn norms(c: &Checkpoint) -> Onnx {
    let mut model = Onnx::new(17).input("x: f32[1, 20, 2, 2]");
    // Exporters merge equal tensors; all others keep their names.
    let mut written: Vec<(&str, &Tensor)> = Vec::new();
    let mut operand = |name: &'static str, model: Onnx| {
        let tensor = of(c, name);
        match written.iter().find(|(_, other)| *other == tensor) {
            Some((first, _)) => (*first, model),
            None => {
                written.push((name, tensor));
                (name, model.constant(value(name, tensor)))
            }
        }
    };
    const NORMS: [[&str; 4]; 2] = [
        ["bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"],
        ["bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var"],
    ];
    let mut x = "x";
    for (i, names) in NORMS.into_iter().enumerate() {
        let mut operands = Vec::new();
        for name in names {
            let operand = operand(name, model);
            operands.push(operand.0);
            model = operand.1;
        }
        let (y, path) = [("a", "/bn1/BatchNormalization"), ("y", "/bn2/BatchNormalization")][i];
        let call = format!("{y} = BatchNormalization({x}, {})", operands.join(", "));
        model = model.node(&call, vec![]).named(path);
        x = y;
    }
    model.output("y")
}

#[test]
fn merged_tensors_are_told_apart_by_module_and_operand() {
    let fill = |value: f32| Tensor::from_slice(&[20], &[value; 20]);
    let checkpoint = vec![
        ("bn1.weight", fill(1.0)),
        ("bn1.bias", fill(0.0)),
        ("bn1.running_mean", fill(0.0)),
        ("bn1.running_var", fill(1.0)),
        ("bn1.num_batches_tracked", Tensor::from_slice(&[], &[0.0f32])),
        ("bn2.weight", fill(1.0)),
        ("bn2.bias", fill(0.0)),
        ("bn2.running_mean", fill(0.0)),
        ("bn2.running_var", fill(1.0)),
    ];
    let model = norms(&checkpoint).model();
    assert_eq!(model.constants().len(), 2, "all are merged");
    let weights = source(&checkpoint);
    let options = BuildOptions::default();
    let (engine, _, report) = build_bound(&model, &options, &Binding::to(&weights)).unwrap();
    assert_eq!(engine.parts().weights.len(), 8);
    assert_eq!(report.bound.len(), 8);
    assert_eq!(report.unused, ["bn1.num_batches_tracked"]);
    // Trained, they differ: each goes where it belongs.
    let other: Checkpoint = (checkpoint.iter().enumerate())
        .map(|(i, (name, tensor))| {
            let count = tensor.len();
            let values: Vec<f32> = (0..count).map(|j| 1.0 + (i * 7 + j) as f32 / 16.0).collect();
            (*name, Tensor::from_slice(tensor.shape(), &values))
        })
        .collect();
    let refitted = engine.fill(&source(&other), FitPolicy::default()).unwrap();
    let fresh = build(&norms(&other).model(), &options).unwrap();
    assert_eq!(outputs(&refitted), outputs(&fresh));
    // The engine does not hold what the graph does not use.
    let policy = FitPolicy { allow_extra: true, ..FitPolicy::default() };
    let again = bound_again(&engine, &model).fill(&source(&other), policy).unwrap();
    assert_eq!(again.version(), refitted.version(), "the same weights under the same names");
    // The model fills all eight from its two, and a checkpoint that lacks one is not filled from another's name.
    let filled =
        engine.strip().unwrap().fill(&ModelFile::of(&model), FitPolicy::default()).unwrap();
    assert_eq!(filled.version(), engine.version());
    let mut lacking = source(&other);
    lacking.remove("bn2.weight");
    let error = engine.fill(&lacking, FitPolicy::default()).unwrap_err().to_string();
    assert!(error.ends_with("missing \"bn2.weight\": expected f32[20]"), "{error}");
}

#[test]
fn one_tensor_in_two_places() {
    let checkpoint = vec![("wte.weight", random(&[9, 4], 1))];
    let (engine, _) = holds(
        |c| {
            let table = of(c, "wte.weight");
            Onnx::new(17)
                .input("x: f32[2, 9]")
                .constant(value("wte.weight", table))
                .constant(value("onnx::MatMul_9", &table.permuted(&[1, 0])))
                .node("a = MatMul(x, wte.weight)", vec![])
                .node("y = MatMul(a, onnx::MatMul_9)", vec![])
                .output("y")
        },
        &checkpoint,
    );
    assert_eq!(names(&engine), ["wte.weight"]);
    assert_eq!(aliases(&engine, "wte.weight").len(), 1);
}

/// `y = (x + a) · b` with two constants that are equal in the checkpoint, named by nobody.
fn anonymous(c: &Checkpoint) -> Onnx {
    Onnx::new(17)
        .input("x: f32[20]")
        .constant(value("val_0", of(c, "shift")))
        .constant(value("val_1", of(c, "scale")))
        .node("a = Sub(x, val_0)", vec![])
        .node("y = Div(a, val_1)", vec![])
        .output("y")
}

#[test]
fn what_nothing_tells_apart_takes_a_map() {
    let checkpoint = vec![("shift", random(&[20], 1)), ("scale", random(&[20], 1))];
    let error = refused(anonymous(&checkpoint), &checkpoint);
    assert!(error.contains("not bound val_0 f32[20]: it may be scale, shift"), "{error}");
    assert!(error.contains("--bind"), "{error}");
    let map = BindMap::parse("val_0 = 'shift'\nval_1 = 'scale'").unwrap();
    let (engine, _) = holds_with(anonymous, &checkpoint, map);
    assert_eq!(aliases(&engine, "scale"), ["val_1"]);
}

#[test]
fn contents_that_prove_nothing_are_not_taken_for_a_tensor() {
    let zeros = Tensor::zeros(DType::F32, &[20]);
    let checkpoint = vec![("shift", zeros.clone()), ("scale", random(&[20], 1))];
    let error = refused(anonymous(&checkpoint), &checkpoint);
    assert!(error.contains("not bound val_0 f32[20]: it may be shift"), "{error}");
    // One that says so by its name is.
    let named = |c: &Checkpoint| {
        Onnx::new(17)
            .input("x: f32[20]")
            .constant(value("m.shift", of(c, "shift")))
            .node("y = Sub(x, m.shift)", vec![])
            .output("y")
    };
    let weights = source(&vec![("shift", zeros)]);
    let model = named(&vec![("shift", weights.read("shift").unwrap().unwrap())]).model();
    build_bound(&model, &BuildOptions::default(), &Binding::to(&weights)).unwrap();
}

#[test]
fn a_square_that_equals_its_transpose_could_lie_either_way() {
    let mut numbers = vec![0.0f32; 25];
    (0..25).for_each(|i| numbers[i] = ((i / 5) * (i % 5)) as f32);
    let checkpoint = vec![("fc.weight", Tensor::from_slice(&[5, 5], &numbers))];
    let export = |c: &Checkpoint| {
        Onnx::new(17)
            .input("x: f32[2, 5]")
            .constant(value("onnx::MatMul_1", of(c, "fc.weight")))
            .node("y = MatMul(x, onnx::MatMul_1)", vec![])
            .output("y")
    };
    let error = refused(export(&checkpoint), &checkpoint);
    assert!(error.contains("it may be fc.weight"), "{error}");
    let map = r#""onnx::MatMul_1" = { tensor = "fc.weight", permute = [1, 0] }"#;
    let weights = source(&checkpoint);
    let binding = Binding { map: BindMap::parse(map).unwrap(), ..Binding::to(&weights) };
    let model = export(&checkpoint).model();
    let (engine, ..) = build_bound(&model, &BuildOptions::default(), &binding).unwrap();
    assert_eq!(aliases(&engine, "fc.weight"), ["onnx::MatMul_1 permuted [1, 0]"]);
}

/// A convolution with batch norm folded into it, under the name that the convolution's weight had.
fn folded(weight: &Tensor) -> Onnx {
    Onnx::new(17)
        .input("x: f32[1, 3, 4, 4]")
        .constant(value("conv1.weight", weight))
        .node("y = Conv(x, conv1.weight)", vec![ints("kernel_shape", &[3, 3])])
        .output("y")
}

#[test]
fn what_an_exporter_folded_is_reported_with_the_way_out() {
    let checkpoint = vec![
        ("conv1.weight", random(&[4, 3, 3, 3], 1)),
        ("bn1.running_mean", random(&[4], 2)),
        ("bn1.running_var", random(&[4], 3)),
    ];
    let model = folded(&random(&[4, 3, 3, 3], 9));
    let error = refused(model.clone(), &checkpoint);
    assert!(error.contains("conv1.weight of the checkpoint has other contents"), "{error}");
    assert!(error.contains("(bn1)") && error.contains("do_constant_folding=False"), "{error}");
    assert!(error.contains("TrainingMode.PRESERVE") && error.contains("optimize=False"), "{error}");
    // The caller's word does not make it a constant.
    let weights = source(&checkpoint);
    let binding = Binding { pin_unbound: true, ..Binding::to(&weights) };
    build_bound(&model.model(), &BuildOptions::default(), &binding).unwrap_err();
}

#[test]
fn a_table_is_a_constant_only_where_nothing_of_the_checkpoint_can_be_in_it() {
    let export = |c: &Checkpoint| {
        Onnx::new(17)
            .input("x: f32[6, 5]")
            .constant(value("fc.weight", of(c, "fc.weight")))
            .constant(value("table", &random(&[6, 5], 8)))
            .node("a = Mul(x, table)", vec![])
            .node("y = Add(a, fc.weight)", vec![])
            .output("y")
    };
    // With the sizes of what is bound it may have been made of that, a second time.
    let whole = vec![("fc.weight", random(&[6, 5], 1))];
    let error = refused(export(&whole), &whole);
    assert!(error.contains("not bound table f32[6, 5]"), "{error}");
    let other_sizes = vec![("fc.weight", random(&[5], 1))];
    let (engine, report) = holds(export, &other_sizes);
    assert_eq!(report.kept.first().map(|kept| kept.reason), Some(Reason::NothingLeft), "{report}");
    assert!(engine.weight("table").is_none(), "it is part of the program");

    let left = vec![("fc.weight", random(&[5], 1)), ("extra", random(&[3], 2))];
    let error = refused(export(&left), &left);
    assert!(error.contains("not bound table f32[6, 5]: nothing in the checkpoint"), "{error}");
    assert!(error.contains("made of extra"), "{error}");
    let weights = source(&left);
    let model = export(&left).model();
    for map in ["table = 'constant'", "table = false", "extra = 'none'"] {
        let map = BindMap::parse(map).unwrap();
        let binding = Binding { map, ..Binding::to(&weights) };
        let (engine, ..) = build_bound(&model, &BuildOptions::default(), &binding).unwrap();
        assert!(engine.weight("table").is_none());
        assert_eq!(engine.parts().ignored, ["extra"]);
        let other = source(&tuned(&left));
        engine.strip().unwrap().fill(&other, FitPolicy::default()).unwrap();
    }
    // A module of which the model shows nothing may have been folded whole.
    let beside = vec![("fc.weight", random(&[6, 5], 1)), ("pooler.dense.bias", random(&[5], 2))];
    let error = refused(export(&beside), &beside);
    assert!(error.contains("made of pooler.dense.bias"), "{error}");
    // What follows a formula was not made of what such a module holds.
    let weights = source(&beside);
    let formula: Vec<f32> = (0..30).map(|i| 10_000f32.powf(-(i as f32) / 30.0)).collect();
    let model = Onnx::new(17)
        .input("x: f32[6, 5]")
        .constant(value("fc.weight", of(&beside, "fc.weight")))
        .constant(value("inv_freq", &Tensor::from_slice(&[6, 5], &formula)))
        .node("a = Mul(x, inv_freq)", vec![])
        .node("y = Add(a, fc.weight)", vec![])
        .output("y")
        .model();
    let (engine, _, report) =
        build_bound(&model, &BuildOptions::default(), &Binding::to(&weights)).unwrap();
    engine.strip().unwrap().fill(&source(&tuned(&beside)), FitPolicy::default()).unwrap();
    assert_eq!(report.kept[0].reason, Reason::Formula);
    assert_eq!(report.unused, ["pooler.dense.bias"]);
}

#[test]
fn maps_are_held_against_names_and_contents() {
    let checkpoint = vec![("shift", random(&[20], 1)), ("scale", random(&[20], 2))];
    let weights = source(&checkpoint);
    let model = anonymous(&checkpoint).model();
    let cases = [
        ("val_9 = 'shift'", "the model has no weight or parameter of that name"),
        ("val_0 = 'shaft'", "memory has no tensor \"shaft\""),
        ("val_0 = 'scale'", "no order of axes of \"scale\" gives its contents"),
        ("val_0 = true", "expected false or a tensor"),
        ("val_0 = { tensor = 'scale' }", "scale has other contents"),
        ("val_0 = { tensor = 'shift', permute = [1] }", "not those of permute"),
        ("val_0 = { axis = 0 }", "expected tensor, with range or without, or join"),
        ("val_0 = { tensor = 'shift', range = [0, 30] }", "the tensors do not go together"),
        ("val_0 = { join = ['shift', 'shift'] }", "has other contents"),
        ("val_0 = { uses = { n_b = 'shift' } }", "no use \"n_b\"; it is used by n_a:1"),
    ];
    for (map, message) in cases {
        let binding = Binding { map: BindMap::parse(map).unwrap(), ..Binding::to(&weights) };
        let error = build_bound(&model, &BuildOptions::default(), &binding).unwrap_err();
        assert_eq!(error.kind(), BuildErrorKind::Options, "{map}: {error}");
        assert!(error.to_string().contains(message), "{map}: {error}");
    }
    for text in ["val_0", "val_0 = 3", "val_0 = { tensr = 'shift' }"] {
        assert_eq!(BindMap::parse(text).unwrap_err().kind(), BuildErrorKind::Options, "{text}");
    }
}

#[test]
fn names_that_change_places() {
    // The model calls `b` what the checkpoint calls `a`, and the other way round.
    let checkpoint = vec![("a", random(&[20], 1)), ("b", random(&[20], 2))];
    let (engine, _) = holds(
        |c| {
            Onnx::new(17)
                .input("x: f32[20]")
                .constant(value("b", of(c, "a")))
                .constant(value("a", of(c, "b")))
                .node("s = Sub(x, b)", vec![])
                .node("y = Div(s, a)", vec![])
                .output("y")
        },
        &checkpoint,
    );
    assert_eq!(aliases(&engine, "a"), ["b"]);
    let refitted = engine.fill(&source(&checkpoint), FitPolicy::default()).unwrap();
    assert_eq!(refitted.version(), engine.version());
}

#[test]
fn halves_of_a_checkpoint_of_f32() {
    let checkpoint = vec![("table", random(&[20, 2], 1))];
    let (engine, _) = holds(
        |c| {
            let half = of(c, "table").converted_exactly(DType::F16).unwrap();
            Onnx::new(17)
                .input("x: f32[20, 2]")
                .constant(value("m::table", &half))
                .node("w = Cast(m::table)", vec![int("to", 1)])
                .node("y = Mul(x, w)", vec![])
                .output("y")
        },
        &checkpoint,
    );
    assert_eq!(engine.weight("table").unwrap().dtype, DType::F32);
}

/// Parameters as PyTorch initialises them: an exporter keeps one of equal tensors, and its `Identity` bears the other's name.
#[test]
fn untrained_parameters_are_told_apart_by_the_names_of_identities() {
    let ones = Tensor::from_slice(&[20], &[1.0f32; 20]);
    let checkpoint = vec![
        ("norm.weight", ones.clone()),
        ("layer.norm.weight", ones.clone()),
        ("out.scale", ones),
    ];
    let export = |c: &Checkpoint| {
        Onnx::new(17)
            .input("x: f32[20]")
            .constant(value("norm.weight", of(c, "norm.weight")))
            .node("layer.norm.weight = Identity(norm.weight)", vec![])
            .node("wrapped.out.scale = Identity(norm.weight)", vec![])
            .node("a = Mul(x, norm.weight)", vec![])
            .node("b = Add(a, layer.norm.weight)", vec![])
            .node("y = Mul(b, wrapped.out.scale)", vec![])
            .output("y")
    };
    let weights = source(&checkpoint);
    let options = BuildOptions::default();
    let (engine, ..) =
        build_bound(&export(&checkpoint).model(), &options, &Binding::to(&weights)).unwrap();
    let x = random(&[20], 7);
    let other = tuned(&checkpoint);
    let refitted = engine.strip().unwrap().fill(&source(&other), FitPolicy::default()).unwrap();
    let [norm, layer, scale] = ["norm.weight", "layer.norm.weight", "out.scale"]
        .map(|name| of(&other, name).as_slice::<f32>().unwrap());
    let x = x.as_slice::<f32>().unwrap();
    let expected: Vec<f32> = (0..20).map(|i| (x[i] * norm[i] + layer[i]) * scale[i]).collect();
    assert_eq!(outputs(&refitted), [Tensor::from_slice(&[20], &expected)]);
}
