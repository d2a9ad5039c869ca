//! `cargo xtask bench refit`: what a refit costs, held against reading and digesting the same bytes on the same threads and, on a GPU, against
//! the best upload of as many bytes.

use super::upload::Uploads;
use super::{Times, first_output, memory, milliseconds, ratio};
use ::conformance::sized::SIZED;
use clap::Args;
use engine_builder::{BuildOptions, RefitMode, build};
use engine_format::{DType, Digest, Engine, FitPolicy, SerializeFlags, Tensor, WeightSource};
use engine_onnx::Model;
use engine_runtime::{Device, DeviceInfo, DeviceSelector, Inputs, LiveModule, Module, Values};
use engine_verify::inputs::{all_tensors, run_seeded};
use miette::{IntoDiagnostic, Result, miette};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use safetensors::tensor::{Dtype, TensorView};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What to measure with.
#[derive(Args)]
pub struct Arguments {
    /// An ONNX model; without it models of the size of BERT-base and ResNet-50 with random weights are made.
    #[arg(long)]
    model: Option<PathBuf>,
    /// Weights for the model; without them the model's own are written to a safetensors file first.
    #[arg(long, requires = "model")]
    weights: Option<PathBuf>,
    /// Part of the names of the weights that a partial refit replaces; the largest weight if none bears it.
    #[arg(long, default_value = "layer.3.")]
    layer: String,
    /// The device: cpu, or a GPU (gpu, gpu:N, part of its name), where refits are held against the best upload too.
    #[arg(long, default_value = "cpu")]
    device: DeviceSelector,
    /// Threads, of refits and of what they are held against.
    #[arg(long)]
    threads: Option<usize>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

/// Measures and prints.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let scratch = root.join("target/bench");
    std::fs::create_dir_all(&scratch).into_diagnostic()?;
    let folder = tempfile::tempdir_in(&scratch).into_diagnostic()?;
    if let Some(model) = &arguments.model {
        let subject = Subject {
            name: &model.display().to_string(),
            onnx: model.clone(),
            weights: arguments.weights.clone(),
            layer: &arguments.layer,
        };
        return measure(&subject, folder.path(), arguments);
    }
    for sized in SIZED {
        let onnx = folder.path().join(format!("{}.onnx", sized.name));
        std::fs::write(&onnx, (sized.onnx)()).into_diagnostic()?;
        let subject = Subject { name: sized.name, onnx, weights: None, layer: sized.layer };
        measure(&subject, folder.path(), arguments)?;
    }
    Ok(())
}

/// A model that is measured.
struct Subject<'a> {
    name: &'a str,
    onnx: PathBuf,
    weights: Option<PathBuf>,
    layer: &'a str,
}

/// What a measurement works with: two sets of all weights, two of one layer's, and engine files.
struct Files {
    full: PathBuf,
    stripped: PathBuf,
    all: [PathBuf; 2],
    layer: [PathBuf; 2],
    /// Bytes of all weights, and of the layer's.
    bytes: [u64; 2],
}

fn measure(subject: &Subject<'_>, folder: &Path, arguments: &Arguments) -> Result<()> {
    let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let threads = arguments.threads.unwrap_or_else(available);
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(threads).build().into_diagnostic()?);
    let device = Device::open(&arguments.device).into_diagnostic()?;
    let device = device.with_threads(threads).with_refit_pool(pool.clone());
    let files = prepare(subject, folder)?;
    let [all, layer] = files.bytes.map(|bytes| bytes as f64 / 1e6);
    println!(
        "{}: {all:.1} MB of weights, {layer:.1} MB in the layer, {device}, {threads} threads, medians of {} rounds, {} build",
        subject.name,
        arguments.rounds,
        super::PROFILE
    );
    if let DeviceInfo::Gpu(adapter) = device.info() {
        let upload = Uploads::new(&adapter.name, files.bytes[0])?.best(arguments.rounds)?;
        let (_, all) = times(&files, &device, &pool, arguments.rounds)?;
        println!(
            "  refit of all weights      {:>10.2} times the best upload of as many bytes\n",
            ratio(all, upload)
        );
        return Ok(());
    }
    let stripped = std::fs::metadata(&files.stripped).into_diagnostic()?.len();
    println!("  stripped file             {stripped:>10} bytes");
    memory_of_a_refit(&files, &device)?;
    let (inputs, _) = times(&files, &device, &pool, arguments.rounds)?;
    let begin = || {
        let module = load(&files.stripped, &device)?;
        refit_from(&module, &files.all[0], false)?;
        let outputs = module.run(&inputs).into_diagnostic()?;
        Ok((module, outputs))
    };
    first_output::in_turns(&begin, &subject.onnx, &inputs, threads, arguments.rounds)?;
    frozen_against_refittable(subject, &device, arguments.rounds)
}

/// Builds the engine and writes every file that is measured with.
fn prepare(subject: &Subject<'_>, folder: &Path) -> Result<Files> {
    let file = |name: &str| folder.join(name);
    let engine = built(&subject.onnx, RefitMode::All)?;
    let (full, stripped) = (file("full.engine"), file("stripped.engine"));
    refit::write_engine(&engine, SerializeFlags::default(), &full, None).into_diagnostic()?;
    refit::strip_file(&full, &stripped, None).into_diagnostic()?;
    let first = match &subject.weights {
        Some(given) => given.clone(),
        None => {
            let own = file("a.safetensors");
            refit::extract_file(&full, &own, None).into_diagnostic()?;
            own
        }
    };
    let source = refit::open_source(&first).into_diagnostic()?;
    let tensor = |name: String| {
        let tensor = source.read(&name).into_diagnostic()?;
        Ok((name.clone(), tensor.ok_or_else(|| miette!("{name} is listed but not there"))?))
    };
    let mut tensors: Tensors = source.names().into_iter().map(tensor).collect::<Result<_>>()?;
    // What is trained is floats; the others are parameters, which a source may leave out.
    tensors.retain(|(_, tensor)| tensor.dtype() == DType::F32);
    let mut layer: Tensors = tensors.clone();
    layer.retain(|(name, _)| name.contains(subject.layer));
    if layer.is_empty() {
        layer.extend(tensors.iter().max_by_key(|(_, tensor)| tensor.bytes().len()).cloned());
    }
    let files = Files {
        bytes: [byte_count(&tensors), byte_count(&layer)],
        all: [first.clone(), file("b.safetensors")],
        layer: ["layer-a.safetensors", "layer-b.safetensors"].map(file),
        full,
        stripped,
    };
    write(&layer, &files.layer[0])?;
    layer.iter_mut().chain(&mut tensors).try_for_each(|(_, tensor)| step(tensor))?;
    write(&layer, &files.layer[1])?;
    write(&tensors, &files.all[1])?;
    Ok(files)
}

/// Tensors by name.
type Tensors = Vec<(String, Tensor)>;

fn byte_count(tensors: &Tensors) -> u64 {
    tensors.iter().map(|(_, tensor)| tensor.bytes().len() as u64).sum()
}

fn built(onnx: &Path, refit: RefitMode) -> Result<Engine> {
    let model = Model::open(onnx).into_diagnostic()?;
    build(&model, &BuildOptions { refit, ..BuildOptions::default() }).into_diagnostic()
}

/// Changes every element a little, as a step of training does.
fn step(tensor: &mut Tensor) -> Result<()> {
    let values: Vec<f32> =
        tensor.as_slice::<f32>().into_diagnostic()?.iter().map(|v| v * 1.001).collect();
    *tensor = Tensor::from_slice(tensor.shape(), &values);
    Ok(())
}

fn write(tensors: &Tensors, path: &Path) -> Result<()> {
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(Dtype::F32, tensor.shape().to_vec(), tensor.bytes());
        Ok((name, view.into_diagnostic()?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None, path).into_diagnostic()
}

/// Prints what a refit takes beyond what the module has, which holds one version and those bytes that are mapped.
fn memory_of_a_refit(files: &Files, device: &Device) -> Result<()> {
    let Some(empty) = memory::own_bytes() else { return Ok(()) };
    let module = load(&files.full, device)?;
    let loaded = memory::own_bytes().unwrap_or(empty);
    let source = refit::open_source(&files.all[1]).into_diagnostic()?;
    let (refitted, peak) = memory::peak(|| module.refit(&*source, FitPolicy::default()));
    refitted.into_diagnostic()?;
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let prepared = loaded.saturating_sub(empty);
    let growth = peak.unwrap_or(loaded).saturating_sub(loaded);
    let beyond = growth as f64 - files.bytes[0] as f64 - prepared as f64;
    println!(
        "  memory of a refit         {:>10.1} MB: new weights {:.1}, prepared constants {:.1}, beyond these {:.1} MiB",
        mb(growth),
        mb(files.bytes[0]),
        mb(prepared),
        beyond / f64::from(1 << 20),
    );
    Ok(())
}

fn load(engine: &Path, device: &Device) -> Result<LiveModule> {
    LiveModule::load(refit::open_engine(engine).into_diagnostic()?, device).into_diagnostic()
}

fn refit_from(module: &LiveModule, path: &Path, partial: bool) -> Result<()> {
    let source = refit::open_source(path).into_diagnostic()?;
    let policy = FitPolicy { partial, ..FitPolicy::default() };
    module.refit(&*source, policy).map(drop).into_diagnostic()
}

/// Reads and digests every tensor of a source, a piece at a time: the least that a refit could do.
pub(super) fn read_and_digest(source: &dyn WeightSource, pool: &ThreadPool) -> Result<()> {
    let digest = |name: String| {
        let digested = source.stream(&name, &mut |piece| {
            std::hint::black_box(Digest::of(piece));
        });
        digested.map(drop).into_diagnostic()
    };
    let names = source.names();
    pool.install(|| names.into_par_iter().with_max_len(1).try_for_each(digest))
}

fn read_and_digest_file(path: &Path, pool: &ThreadPool) -> Result<()> {
    read_and_digest(&*refit::open_source(path).into_diagnostic()?, pool)
}

/// Prints what refits take, and gives back the inputs on which the module ran and the time of a refit of all weights.
fn times(
    files: &Files,
    device: &Device,
    pool: &ThreadPool,
    rounds: usize,
) -> Result<(Inputs, Duration)> {
    let module = load(&files.full, device)?;
    let inputs = run_seeded(&module, &Values::new(), 1).into_diagnostic()?.inputs;
    let inputs = all_tensors(inputs).expect("models of a size asked for take tensors");
    let mut all = [Times::default(), Times::default()];
    let mut layer = [Times::default(), Times::default()];
    let mut run = Times::default();
    for round in 0..=rounds {
        // The weights of the other set each time; the first round warms caches and is not counted.
        let which = (round + 1) % 2;
        let (whole, part) = (&files.all[which], &files.layer[1 - which]);
        if round == 1 {
            (all, layer, run) = Default::default();
        }
        all[0].take(|| read_and_digest_file(whole, pool))?;
        all[1].take(|| refit_from(&module, whole, false))?;
        layer[0].take(|| read_and_digest_file(part, pool))?;
        layer[1].take(|| refit_from(&module, part, true))?;
        run.take(|| module.run(&inputs)).into_diagnostic()?;
    }
    let against = |what: &str, [base, refit]: &[Times; 2]| {
        let (base, refit) = (base.median(), refit.median());
        println!(
            "  {what:<25} {:>10.2} ms: {:.2} times reading and digesting the same bytes, {:.2} ms",
            milliseconds(refit),
            ratio(refit, base),
            milliseconds(base),
        );
    };
    against("refit of all weights", &all);
    against("refit of one layer", &layer);
    println!("  a run                     {:>10.2} ms", milliseconds(run.median()));
    Ok((inputs, all[1].median()))
}

/// Prints how the same model runs frozen and refittable.
fn frozen_against_refittable(subject: &Subject<'_>, device: &Device, rounds: usize) -> Result<()> {
    let modules = [RefitMode::None, RefitMode::All].map(|mode| {
        let engine = built(&subject.onnx, mode)?;
        LiveModule::load(engine, device).into_diagnostic()
    });
    let [frozen, refittable] = modules;
    let (frozen, refittable) = (frozen?, refittable?);
    let inputs = run_seeded(&frozen, &Values::new(), 1).into_diagnostic()?.inputs;
    let inputs = all_tensors(inputs).expect("models of a size asked for take tensors");
    refittable.run(&inputs).into_diagnostic()?;
    let mut times = [Times::default(), Times::default()];
    for _ in 0..rounds {
        times[0].take(|| frozen.run(&inputs)).into_diagnostic()?;
        times[1].take(|| refittable.run(&inputs)).into_diagnostic()?;
    }
    let [frozen, refittable] = times.map(|times| times.median());
    println!(
        "  a run, refittable         {:>10.2} ms: {:.3} times a run of the frozen engine, {:.2} ms\n",
        milliseconds(refittable),
        ratio(refittable, frozen),
        milliseconds(frozen),
    );
    Ok(())
}
