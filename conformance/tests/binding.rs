//! Engines bound to the checkpoints that PyTorch models were exported from, and refitted from the framework's own state dicts.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::assets::MINILM_L6_CHECKPOINT;
use conformance::exports::{Exported, export, has_torch};
use conformance::oracle::{Tensors, onnxruntime};
use engine_builder::{Binding, BindingReport, BuildOptions, build_bound};
use engine_format::{Engine, FitPolicy, Tensor, WeightSource};
use engine_onnx::Model;
use engine_ops::{Tolerance, compare};
use engine_runtime::{Device, LiveModule, Module};
use engine_verify::verify::{Refilled, verify};
use std::path::Path;

/// What exporters and ONNX Runtime make of the order of additions.
const TOLERANCE: Tolerance = Tolerance { atol: 2e-4, rtol: 1e-3 };

fn bound(model: &Path, checkpoint: &Path) -> (Engine, BindingReport) {
    let checkpoint = refit::open_source(checkpoint).unwrap();
    let model = Model::open(model).unwrap();
    let (engine, _, report) =
        build_bound(&model, &BuildOptions::default(), &Binding::to(&*checkpoint)).unwrap();
    (engine, report)
}

/// Holds the module to ONNX Runtime on a model.
fn agrees(module: &LiveModule, model: &Path, inputs: &Tensors) {
    let expected = onnxruntime(model, std::slice::from_ref(inputs), &[]).unwrap().remove(0);
    let found = module.run(inputs).unwrap().tensors;
    for (name, expected) in &expected {
        compare(&found[name], expected, TOLERANCE)
            .unwrap_or_else(|error| panic!("{}, {name}: {error}", model.display()));
    }
}

/// Binds to `checkpoint` without a map; refits from it, from the state dict of a changed network, and from the models.
fn refits(exported: &Exported, checkpoint: &Path, inputs: &Tensors) -> BindingReport {
    let (engine, report) = bound(&exported.onnx(), checkpoint);
    assert!(report.unbound.is_empty(), "{report}");
    let source = refit::open_source(checkpoint).unwrap();
    let policy = FitPolicy::default();
    for weight in engine.parts().weights.iter().filter(|weight| weight.is_strippable()) {
        assert!(source.info(&weight.name).is_some(), "{} is the checkpoint's name", weight.name);
    }
    let version = engine.version();
    let stripped = engine.strip().unwrap();
    assert_eq!(stripped.fill(&*source, policy).unwrap().version(), version);
    let from_model = refit::open_source(&exported.onnx()).unwrap();
    assert_eq!(stripped.fill(&*from_model, policy).unwrap().version(), version);

    let module =
        LiveModule::load(stripped.fill(&*source, policy).unwrap(), &Device::cpu()).unwrap();
    agrees(&module, &exported.onnx(), inputs);
    let tuned = refit::open_source(&exported.tuned_checkpoint()).unwrap();
    let tuned_version = module.refit(&*tuned, policy).unwrap().version;
    agrees(&module, &exported.tuned_onnx(), inputs);
    let model = Model::open(&exported.onnx()).unwrap();
    let same = |source: &dyn WeightSource| {
        let compared =
            verify(&module, &model, Some(Refilled { weights: source, before: &engine }), 1)
                .unwrap();
        compared.iter().all(|compared| compared.result.is_ok())
    };
    assert!(same(&*tuned), "the model's own graph with these weights under the checkpoint's names");
    assert!(!same(&*source), "and with others it is another network");
    let fresh = refit::open_source(&exported.tuned_onnx()).unwrap();
    assert_eq!(module.refit(&*fresh, policy).unwrap().version, tuned_version, "a fresh export");
    assert_eq!(Some(module.refit(&*source, policy).unwrap().version), version, "and back");
    report
}

/// Token ids, a mask and types of two texts of five tokens.
fn tokens() -> Tensors {
    let ids: Vec<i64> = vec![101, 7592, 2088, 102, 0, 101, 3899, 2003, 2307, 102];
    let mask: Vec<i64> = ids.iter().map(|&id| i64::from(id != 0)).collect();
    Tensors::from([
        ("input_ids".to_owned(), Tensor::from_slice(&[2, 5], &ids)),
        ("attention_mask".to_owned(), Tensor::from_slice(&[2, 5], &mask)),
        ("token_type_ids".to_owned(), Tensor::from_slice(&[2, 5], &[0i64; 10])),
    ])
}

fn picture() -> Tensors {
    let pixels: Vec<f32> =
        (0..3 * 224 * 224).map(|i| ((i * 37 % 256) as f32 - 128.0) / 64.0).collect();
    Tensors::from([("input".to_owned(), Tensor::from_slice(&[1, 3, 224, 224], &pixels))])
}

#[test]
fn minilm_from_its_published_checkpoint_through_both_exporters() {
    if !has_torch() {
        return;
    }
    let checkpoint = MINILM_L6_CHECKPOINT.path().unwrap();
    for options in [
        ["--perturb", "--exporter", "torchscript"].as_slice(),
        &["--perturb", "--exporter", "torchscript", "--fold"],
        &["--perturb", "--exporter", "dynamo"],
        &["--perturb", "--exporter", "dynamo", "--fold"],
    ] {
        let exported = export("minilm-l6", options, Some(&checkpoint)).unwrap();
        let report = refits(&exported, &checkpoint, &tokens());
        // Folding transposes the matrices of products.
        let transformed = report.bound.iter().filter(|bound| bound.transformed).count();
        assert_eq!(transformed > 0, options.contains(&"--fold"), "{options:?}: {report}");
        let pooler = |name: &String| name.starts_with("pooler.");
        assert_eq!(report.unused.iter().filter(|name| pooler(name)).count(), 2, "{report}");
    }
}

#[test]
fn resnet_with_batch_norm_as_it_is_binds() {
    if !has_torch() {
        return;
    }
    for exporter in ["torchscript", "dynamo"] {
        let exported = export("resnet18", &["--perturb", "--exporter", exporter], None).unwrap();
        refits(&exported, &exported.checkpoint(), &picture());
    }
}

/// What the exporter calculated of the batch norms is calculated again at refit.
#[test]
fn resnet_with_batch_norm_folded_is_refitted_all_the_same() {
    if !has_torch() {
        return;
    }
    for exporter in ["torchscript", "dynamo"] {
        let options = ["--perturb", "--fold", "--exporter", exporter];
        let exported = export("resnet18", &options, None).unwrap();
        let (engine, report) = bound(&exported.onnx(), &exported.checkpoint());
        assert!(report.bound.iter().any(|bound| bound.computed), "{report}");
        let tuned = refit::open_source(&exported.tuned_checkpoint()).unwrap();
        let refitted = engine.strip().unwrap().fill(&*tuned, FitPolicy::default()).unwrap();
        let module = LiveModule::load(refitted, &Device::cpu()).unwrap();
        agrees(&module, &exported.tuned_onnx(), &picture());
    }
}
