//! `cargo xtask demo`: a real model end to end.

use crate::vulkan;
use ::conformance::assets;
use ::conformance::models::{MODELS, magika_features, repository_files};
use engine_builder::{BuildOptions, build};
use engine_format::{SerializeFlags, Tensor};
use engine_onnx::Model;
use engine_ops::{Agreement, compare};
use engine_runtime::{Device, DeviceSelector, Inputs, LiveModule, Module, PackedModule};
use miette::{Context, IntoDiagnostic, Result, ensure, miette};
use refit::FillOptions;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Fetches Magika and shows every step; with `inner` unset it first looks for a GPU and starts itself anew where its
/// variables are set.
pub fn run(root: &Path, inner: bool) -> Result<()> {
    if inner {
        return show(root);
    }
    let mut command = Command::new(std::env::current_exe().into_diagnostic()?);
    command.args(["demo", "--inner"]).current_dir(root);
    match vulkan::environment(&root.join("target")) {
        Ok(environment) => drop(command.envs(environment)),
        Err(why) => {
            println!("No GPU and no software adapter, so the demo runs on the CPU alone: {why:?}\n")
        }
    }
    let status = command.status().into_diagnostic()?;
    ensure!(status.success(), "the demo ended with {status}");
    Ok(())
}

fn show(root: &Path) -> Result<()> {
    let folder = root.join("target/demo");
    std::fs::create_dir_all(&folder).into_diagnostic()?;
    let file = |name: &str| folder.join(name);
    let model_path = assets::MAGIKA.path().into_diagnostic()?;
    println!(
        "Model     Magika ({}), which tells a file's type from its bytes: {}",
        assets::MAGIKA.package,
        size(&model_path)?
    );

    let (full, stripped, filled) =
        (file("magika.engine"), file("magika.stripped"), file("magika.filled"));
    let begun = Instant::now();
    let engine = build(&Model::open(&model_path).into_diagnostic()?, &BuildOptions::default())
        .into_diagnostic()?;
    refit::write_engine(&engine, SerializeFlags::default(), &full, None).into_diagnostic()?;
    println!("Build     {}: {}, {} ms", full.display(), size(&full)?, begun.elapsed().as_millis());

    refit::strip_file(&full, &stripped, None).into_diagnostic()?;
    let share = 100.0 * length(&stripped)? as f64 / length(&full)? as f64;
    println!(
        "Strip     {}: {} ({share:.2} % of the full engine)",
        stripped.display(),
        size(&stripped)?
    );

    let empty = LiveModule::load(refit::open_engine(&stripped).into_diagnostic()?, &Device::cpu())
        .into_diagnostic()?;
    match empty.run(&Inputs::new()) {
        Err(refusal) => println!("Refuse    {refusal}"),
        Ok(_) => return Err(miette!("a stripped engine ran")),
    }

    let begun = Instant::now();
    let source = refit::open_source(&model_path).into_diagnostic()?;
    refit::fill_file(&stripped, &*source, &filled, FillOptions::default(), None)
        .into_diagnostic()?;
    let same =
        std::fs::read(&full).into_diagnostic()? == std::fs::read(&filled).into_diagnostic()?;
    ensure!(same, "the filled engine is not the full build byte for byte");
    println!(
        "Fill      {}: byte for byte the full build, {} ms",
        filled.display(),
        begun.elapsed().as_millis()
    );
    classify(root, &filled)
}

/// Runs the filled engine over files of this repository on every device and path.
fn classify(root: &Path, engine: &Path) -> Result<()> {
    let labels = labels()?;
    let files = repository_files();
    let rows: Vec<i32> = files
        .iter()
        .map(|path| {
            Ok(magika_features(
                &std::fs::read(path)
                    .into_diagnostic()
                    .wrap_err_with(|| path.display().to_string())?,
            ))
        })
        .collect::<Result<Vec<_>>>()?
        .concat();
    let bytes = Tensor::from_slice(&[files.len(), rows.len() / files.len()], &rows);
    let inputs = Inputs::from([("bytes".to_owned(), bytes)]);

    let mut devices = vec![Device::cpu()];
    devices.extend("gpu".parse::<DeviceSelector>().ok().and_then(|gpu| Device::open(&gpu).ok()));
    let mut results: Vec<(String, Tensor)> = Vec::new();
    for device in &devices {
        let opened = || refit::open_engine(engine).into_diagnostic();
        let live = LiveModule::load(opened()?, device).into_diagnostic()?;
        let packed = PackedModule::load(std::fs::read(engine).into_diagnostic()?.into(), device)
            .into_diagnostic()?;
        for (path, module) in [("live", &live as &dyn Module), ("packed", &packed)] {
            let begun = Instant::now();
            let outputs = module.run(&inputs).into_diagnostic()?;
            let (_, scores) = outputs
                .tensors
                .into_iter()
                .next()
                .ok_or_else(|| miette!("Magika has one output"))?;
            println!(
                "Run       {path:<6} on {device}: {} files in {} ms",
                files.len(),
                begun.elapsed().as_millis()
            );
            results.push((format!("{path} on {device}"), scores));
        }
    }
    let (first, reference) = &results[0];
    println!("\n{:<50} {:<14} score", "file", "label");
    let scores = reference.as_slice::<f32>().into_diagnostic()?;
    for (path, scores) in files.iter().zip(scores.chunks(labels.len())) {
        let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let (best, score) = best.ok_or_else(|| miette!("Magika has labels"))?;
        println!(
            "{:<50} {:<14} {:.1} %",
            relative(root, path).display(),
            labels[best],
            100.0 * score
        );
    }
    println!();
    for (name, scores) in &results[1..] {
        let agreement = if scores == reference {
            "the same bits".to_owned()
        } else {
            agree(scores, reference)?.to_string()
        };
        println!("{name} against {first}: {agreement}");
    }
    Ok(())
}

fn agree(a: &Tensor, b: &Tensor) -> Result<Agreement> {
    compare(a, b, MODELS[0].tolerance).into_diagnostic()
}

fn labels() -> Result<Vec<String>> {
    let config =
        std::fs::read(assets::MAGIKA_CONFIG.path().into_diagnostic()?).into_diagnostic()?;
    let config: serde_json::Value = serde_json::from_slice(&config).into_diagnostic()?;
    let labels = config["target_labels_space"]
        .as_array()
        .ok_or_else(|| miette!("Magika's configuration has no labels"))?;
    Ok(labels.iter().filter_map(|l| l.as_str().map(str::to_owned)).collect())
}

fn relative(root: &Path, path: &Path) -> PathBuf {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.strip_prefix(root).map_or_else(|_| path.clone(), Path::to_owned)
}

fn length(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).into_diagnostic()?.len())
}

fn size(path: &Path) -> Result<String> {
    Ok(format!("{} bytes", length(path)?))
}
