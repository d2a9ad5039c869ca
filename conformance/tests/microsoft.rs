//! ONNX Runtime's own operators, each form on every device and through both module paths, against ONNX Runtime.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::oracle::{self, Known, Tensors};
use engine_builder::{BuildOptions, build};
use engine_format::{Bytes, Engine, SerializeFlags};
use engine_onnx::Model;
use engine_ops::{Tolerance, compare};
use engine_runtime::Obstacle;
use engine_runtime::{Device, LiveModule, Module, PackedModule};

/// Names that begin so, and how far their floats may be from ONNX Runtime's; the first that fits counts. Integers are exact.
static TOLERANCES: &[(&str, Tolerance)] = &[
    // ONNX Runtime takes these functions from polynomials of its own.
    ("gelu", Tolerance { atol: 1e-6, rtol: 1e-5 }),
    ("bias-gelu", Tolerance { atol: 1e-6, rtol: 1e-5 }),
    ("fast-gelu", Tolerance { atol: 1e-5, rtol: 1e-4 }),
    ("quick-gelu", Tolerance { atol: 1e-6, rtol: 1e-5 }),
    // ONNX Runtime multiplies weights of few bits with rows rounded for its kernels.
    ("n-bits", Tolerance { atol: 1e-4, rtol: 1e-3 }),
    ("", Tolerance { atol: 2e-5, rtol: 1e-4 }),
];

fn tolerance(case: &str) -> Tolerance {
    let row = TOLERANCES.iter().find(|(start, _)| case.starts_with(start));
    row.expect("the last row fits every name").1
}

/// What is wrong with a module's outputs.
fn wrong(module: &dyn Module, case: &Known) -> Option<String> {
    let outputs: Tensors = match module.run(&case.inputs) {
        Ok(outputs) => outputs.tensors.into_iter().collect(),
        Err(error) => return Some(error.to_string()),
    };
    let wrong = |(name, expected)| {
        let Some(found) = outputs.get(name) else { return Some(format!("no output {name}")) };
        compare(found, expected, tolerance(&case.name)).err().map(|why| format!("{name}: {why}"))
    };
    case.outputs.iter().find_map(wrong)
}

/// Both paths of a device, from a file that was stripped and filled again.
fn failures(case: &Known, device: &Device) -> Vec<String> {
    let model = match Model::open(&case.model) {
        Ok(model) => model,
        Err(error) => return vec![format!("{}: {error}", case.name)],
    };
    let engine = match build(&model, &BuildOptions::default()) {
        Ok(engine) => engine,
        Err(error) => return vec![format!("{}: {error}", case.name)],
    };
    let stripped = engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS);
    let filled = match stripped {
        // Without weights there is nothing to strip.
        Err(_) => engine,
        Ok(bytes) => {
            let source = refit::OnnxSource::open(&case.model).unwrap();
            Engine::read(bytes.into()).unwrap().fill(&source, Default::default()).unwrap()
        }
    };
    let bytes: Bytes = filled.serialize(SerializeFlags::default()).unwrap().into();
    let live = LiveModule::load(filled, device).unwrap();
    let packed = PackedModule::load(bytes, device).unwrap();
    let paths: [(&str, &dyn Module); 2] = [("live", &live), ("packed", &packed)];
    let said = |(path, module): (&str, &dyn Module)| {
        wrong(module, case).map(|why| format!("{} on {device}, {path}: {why}", case.name))
    };
    let mut failures: Vec<String> = paths.into_iter().filter_map(said).collect();
    let fallen = live.placement().into_iter().filter_map(|p| Some((p.op, p.obstacle?)));
    // An adapter that cuts long loops off is not given them.
    let fallen = fallen.filter(|(_, why)| !matches!(why, Obstacle::TooManyRounds { .. }));
    let fallen = fallen.map(|(op, why)| format!("{}: {op} is not on {device}: {why}", case.name));
    failures.extend(fallen);
    failures
}

#[test]
fn operators_of_onnx_runtime_agree_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let cases = oracle::known("microsoft.py", folder.path()).expect("ONNX Runtime runs the cases");
    let devices = conformance::devices();
    let found: Vec<String> = devices
        .iter()
        .flat_map(|device| cases.iter().flat_map(move |case| failures(case, device)))
        .collect();
    println!("{} cases on {} devices, {} failures", cases.len(), devices.len(), found.len());
    assert!(cases.len() >= 80, "the script wrote {} cases", cases.len());
    assert!(found.is_empty(), "{} failures:\n{}", found.len(), found.join("\n"));
}
