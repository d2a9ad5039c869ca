//! Strings and the operators of ai.onnx.ml against ONNX Runtime, live and through a stripped file.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::oracle::{self, Known};
use engine_builder::{BuildOptions, build};
use engine_format::{Engine, SerializeFlags};
use engine_onnx::Model;
use engine_ops::{Tolerance, compare};
use engine_runtime::{Device, LiveModule, Module, PackedModule};

/// |a − b| ≤ 1e-5 + 1e-4·|b|. Coupled probabilities are iterated until they are good to three digits, and the formula for
/// the probit that both follow loses as many near its root.
fn tolerance(name: &str) -> Tolerance {
    let coupled = name.starts_with("svm") && name.ends_with(" sure");
    match coupled || name.contains("PROBIT") {
        true => Tolerance { atol: 1e-3, rtol: 1e-3 },
        false => Tolerance { atol: 1e-5, rtol: 1e-4 },
    }
}

fn check(made: &Known, device: &Device) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| format!("{}: {error}", made.name);
    let model = Model::open(&made.model).map_err(|e| text(&e))?;
    let engine = build(&model, &BuildOptions::default()).map_err(|e| text(&e))?;
    // Coefficients are part of the program: a stripped file runs as it is.
    let stripped = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS).map_err(|e| text(&e))?;
    assert!(Engine::read(stripped.clone().into()).unwrap().missing().is_empty(), "{}", made.name);
    let live = LiveModule::load(engine, device).map_err(|e| text(&e))?;
    let packed = PackedModule::load(stripped.into(), device).map_err(|e| text(&e))?;
    for module in [&live as &dyn Module, &packed] {
        // The second run finds the plans of the first.
        for _ in 0..2 {
            let found = module.run(&made.inputs).map_err(|e| text(&e))?.tensors;
            for (name, expected) in &made.outputs {
                compare(&found[name], expected, tolerance(&made.name))
                    .map_err(|e| format!("{}, output {name}: {e}", made.name))?;
            }
        }
    }
    Ok(())
}

#[test]
fn small_models_agree_with_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let models = oracle::known("classical.py", folder.path()).expect("the oracle makes the models");
    assert!(models.len() > 100, "only {} models were made", models.len());
    for device in conformance::devices() {
        let failures: Vec<String> =
            models.iter().filter_map(|made| check(made, &device).err()).collect();
        println!("{} models on {device}, {} failed", models.len(), failures.len());
        assert!(failures.is_empty(), "on {device}:\n{}", failures.join("\n"));
    }
}
