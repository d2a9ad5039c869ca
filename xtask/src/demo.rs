//! `cargo xtask demo`: a real model end to end.

use crate::vulkan;
use ::conformance::assets;
use ::conformance::models::{MODELS, magika_features, repository_files};
use engine_builder::{BuildOptions, build};
use engine_format::{Engine, FitPolicy, MapSource, SerializeFlags, Tensor, WeightSource};
use engine_onnx::Model;
use engine_ops::{Agreement, compare};
use engine_runtime::{Device, DeviceSelector, Inputs, LiveModule, Module, Outputs, PackedModule};
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

    let source = refit::open_source(&model_path).into_diagnostic()?;
    swap(&stripped, &*source)?;

    let begun = Instant::now();
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

/// Swaps the weights of a live module that was loaded without any: A, B, and A again, over the same file.
fn swap(stripped: &Path, a: &dyn WeightSource) -> Result<()> {
    let labels = labels()?;
    let inputs = features(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("src/demo.rs")])?;
    let module = LiveModule::load(refit::open_engine(stripped).into_diagnostic()?, &Device::cpu())
        .into_diagnostic()?;
    let b = others(&module.engine(), a)?;
    let mut seen = Vec::new();
    for (what, weights) in [("A", a), ("B", &b), ("A", a)] {
        let begun = Instant::now();
        let refitted = module.refit(weights, FitPolicy::default()).into_diagnostic()?;
        let took = begun.elapsed();
        let scores = scores(module.run(&inputs).into_diagnostic()?)?;
        let (label, score) = best(&labels, scores.as_slice().into_diagnostic()?)?;
        let same = match seen.iter().find(|(earlier, _)| *earlier == what) {
            Some((_, earlier)) if *earlier == scores => ", the bits of the first time",
            Some(_) => return Err(miette!("weights that came back gave other outputs")),
            None => "",
        };
        println!(
            "Refit     {what}: {} weights in {:.1} ms, version {}; demo.rs is {label}, {score:.1} %{same}",
            refitted.fit.taken.len(),
            1e3 * took.as_secs_f64(),
            &refitted.version.to_string()[..8]
        );
        seen.push((what, scores));
    }
    ensure!(seen[0].1 != seen[1].1, "other weights gave the same outputs");
    Ok(())
}

/// Weights as of another training: every float between nothing and twice itself, by where it is.
fn others(engine: &Engine, weights: &dyn WeightSource) -> Result<MapSource> {
    let names = engine.parts().weights.iter().map(|weight| weight.name.clone());
    let other = |name: String| {
        let tensor = weights.read(&name).into_diagnostic()?;
        let tensor = tensor.ok_or_else(|| miette!("{name} is not in Magika's model"))?;
        let turned = tensor.as_slice::<f32>().map(|values| {
            let turn = |(i, x): (usize, &f32)| x * (1.0 + (i as f32).sin());
            let values: Vec<f32> = values.iter().enumerate().map(turn).collect();
            Tensor::from_slice(tensor.shape(), &values)
        });
        Ok((name, turned.unwrap_or(tensor)))
    };
    names.map(other).collect()
}

/// What Magika takes of files.
fn features(files: &[PathBuf]) -> Result<Inputs> {
    let rows = files.iter().map(|path| {
        let file = std::fs::read(path).into_diagnostic();
        Ok(magika_features(&file.wrap_err_with(|| path.display().to_string())?))
    });
    let rows = rows.collect::<Result<Vec<_>>>()?.concat();
    let bytes = Tensor::from_slice(&[files.len(), rows.len() / files.len()], &rows);
    Ok(Inputs::from([("bytes".to_owned(), bytes)]))
}

/// Magika's one output.
fn scores(outputs: Outputs) -> Result<Tensor> {
    let first = outputs.tensors.into_iter().next();
    first.map(|(_, scores)| scores).ok_or_else(|| miette!("Magika has one output"))
}

/// The likeliest label and its share in per cent.
fn best<'a>(labels: &'a [String], scores: &[f32]) -> Result<(&'a str, f32)> {
    let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    let (best, score) = best.ok_or_else(|| miette!("Magika has labels"))?;
    Ok((&labels[best], 100.0 * score))
}

/// Runs the filled engine over files of this repository on every device and path.
fn classify(root: &Path, engine: &Path) -> Result<()> {
    let labels = labels()?;
    let files = repository_files();
    let inputs = features(&files)?;

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
            let scores = scores(module.run(&inputs).into_diagnostic()?)?;
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
        let (label, score) = best(&labels, scores)?;
        println!("{:<50} {label:<14} {score:.1} %", relative(root, path).display());
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
