//! Adapters and conversions between a source and an engine.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

mod common;

use common::{engine, ramp, save_safetensors};
use engine_format::{DType, EngineFlags, FitPolicy, MapSource, Tensor, WeightSource};
use half::{bf16, f16};
use refit::{CastSource, Lora, LoraSource, RefitErrorKind};
use std::path::{Path, PathBuf};

const PREFIX: &str = "base_model.model.";

/// Writes an adapter in a folder of its own; `config` is its `adapter_config.json`.
fn adapter(folder: &Path, name: &str, tensors: &[(&str, Tensor)], config: Option<&str>) -> PathBuf {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    if let Some(config) = config {
        std::fs::write(folder.join("adapter_config.json"), config).unwrap();
    }
    let path = folder.join("adapter_model.safetensors");
    let names: Vec<String> =
        tensors.iter().map(|(name, _)| format!("{PREFIX}{name}.weight")).collect();
    let named: Vec<(&str, Tensor)> =
        names.iter().zip(tensors).map(|(name, (_, t))| (name.as_str(), t.clone())).collect();
    save_safetensors(&named, &path);
    path
}

fn base() -> MapSource {
    MapSource::from_iter([
        ("net.fc.weight".to_owned(), ramp(&[3, 4], 1.0)),
        ("net.fc.bias".to_owned(), ramp(&[3], 0.0)),
        ("net.conv.weight".to_owned(), ramp(&[2, 3, 1, 1], 5.0)),
        ("net.turned.weight".to_owned(), ramp(&[4, 3], 2.0)),
    ])
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.as_slice::<f32>().unwrap().to_vec()
}

/// W + s·B·A, element by element.
fn merged(w: &Tensor, a: &Tensor, b: &Tensor, scale: f32, turned: bool) -> Vec<f32> {
    let rank = a.shape()[0];
    let (inputs, outputs) = (a.len() / rank, b.len() / rank);
    let (a, b, mut w) = (floats(a), floats(b), floats(w));
    for output in 0..outputs {
        for input in 0..inputs {
            let mut sum = 0.0;
            for k in 0..rank {
                sum += b[output * rank + k] * a[k * inputs + input];
            }
            let at = if turned { input * outputs + output } else { output * inputs + input };
            w[at] += scale * sum;
        }
    }
    w
}

#[test]
fn adapters_are_added_in_their_order_to_what_they_adapt_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (ramp(&[2, 4], 0.5), ramp(&[3, 2], -1.0));
    let (ca, cb) = (ramp(&[2, 3, 1, 1], 0.0), ramp(&[2, 2, 1, 1], 1.0));
    let one = adapter(
        folder.path(),
        "one",
        &[
            ("fc.lora_A", a.clone()),
            ("fc.lora_B", b.clone()),
            ("net.conv.lora_A", ca.clone()),
            ("net.conv.lora_B", cb.clone()),
        ],
        Some(r#"{"r": 2, "lora_alpha": 3, "peft_type": "LORA"}"#),
    );
    let (a2, b2) = (ramp(&[1, 4], 2.0), ramp(&[3, 1], 0.25));
    let two = adapter(
        folder.path(),
        "two",
        &[("net.fc.lora_A", a2.clone()), ("net.fc.lora_B", b2.clone())],
        None,
    );
    let opened = || {
        let two = Lora::parse(&format!("{}:0.5", two.display())).unwrap();
        vec![Lora::parse(&one.display().to_string()).unwrap(), two]
    };
    let source = LoraSource::new(Box::new(base()), opened()).unwrap();
    assert_eq!(source.adapted().collect::<Vec<_>>(), ["net.conv.weight", "net.fc.weight"]);
    let read = |name: &str| source.read(name).unwrap().unwrap();
    let w = base().read("net.fc.weight").unwrap().unwrap();
    let first = Tensor::from_slice(&[3, 4], &merged(&w, &a, &b, 1.5, false));
    assert_eq!(floats(&read("net.fc.weight")), merged(&first, &a2, &b2, 0.5, false));
    let conv = base().read("net.conv.weight").unwrap().unwrap();
    assert_eq!(floats(&read("net.conv.weight")), merged(&conv, &ca, &cb, 1.5, false));
    for name in ["net.fc.bias", "net.turned.weight"] {
        assert_eq!(read(name), base().read(name).unwrap().unwrap());
    }
    let mut streamed = Vec::new();
    source.stream("net.fc.weight", &mut |piece| streamed.extend_from_slice(piece)).unwrap();
    assert_eq!(streamed, **read("net.fc.weight").bytes());

    let only =
        LoraSource::new(Box::new(base()), opened()).unwrap().only(["net.fc.weight".to_owned()]);
    assert_eq!(only.names(), ["net.fc.weight"]);
    assert!(only.read("net.fc.bias").unwrap().is_none() && only.info("net.fc.bias").is_none());
}

#[test]
fn weights_that_lie_the_other_way_and_types_with_fewer_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (ramp(&[2, 4], 0.5), ramp(&[3, 2], -1.0));
    let tensors = [("turned.lora_A", a.clone()), ("turned.lora_B", b.clone())];
    let config = r#"{"r": 4, "lora_alpha": 2, "use_rslora": true, "fan_in_fan_out": true}"#;
    let path = adapter(folder.path(), "turned", &tensors, Some(config));
    let open = || vec![Lora::open(&path, None).unwrap()];
    let source = LoraSource::new(Box::new(base()), open()).unwrap();
    let w = base().read("net.turned.weight").unwrap().unwrap();
    let expected = merged(&w, &a, &b, 1.0, true);
    assert_eq!(floats(&source.read("net.turned.weight").unwrap().unwrap()), expected);

    let mut halves = base();
    halves.insert("net.turned.weight", w.converted_exactly(DType::F16).unwrap());
    let source = LoraSource::new(Box::new(halves), open()).unwrap();
    let rounded: Vec<f16> = expected.iter().map(|&v| f16::from_f32(v)).collect();
    let found = source.read("net.turned.weight").unwrap().unwrap();
    assert_eq!(found, Tensor::from_slice(&[4, 3], &rounded));
}

#[test]
fn an_engine_takes_adapters_and_gives_them_back() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [("fc.lora_A", ramp(&[2, 4], 0.5)), ("fc.lora_B", ramp(&[3, 2], -1.0))];
    let path = adapter(folder.path(), "a", &tensors, None);
    let adapted = |scale| {
        let lora = vec![Lora::open(&path, Some(scale)).unwrap()];
        LoraSource::new(Box::new(base()), lora).unwrap()
    };
    let weights: Vec<(String, Tensor)> = base()
        .names()
        .into_iter()
        .map(|name| (name.clone(), base().read(&name).unwrap().unwrap()))
        .collect();
    let weights: Vec<(&str, Tensor)> =
        weights.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    let plain = engine(EngineFlags::REFIT, &weights);
    let policy = FitPolicy::default();
    let with = plain.strip().unwrap().fill(&adapted(1.0), policy).unwrap();
    assert_ne!(with.version(), plain.version());
    assert_eq!(with.fill(&base(), policy).unwrap().version(), plain.version(), "removed");
    // A partial refit of what is adapted gives the same as a whole one.
    let names: Vec<String> = adapted(1.0).adapted().map(str::to_owned).collect();
    let partial = FitPolicy { partial: true, ..policy };
    let part = plain.fill(&adapted(1.0).only(names), partial).unwrap();
    assert_eq!(part.version(), with.version());

    let identical = engine(EngineFlags::REFIT_IDENTICAL, &weights);
    let error = identical.fill(&adapted(1.0), policy).unwrap_err().to_string();
    assert!(error.contains("wrong values of \"net.fc.weight\" (REFIT_IDENTICAL)"), "{error}");
}

#[test]
fn adapters_that_do_not_fit_are_all_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, tensors: &[(&str, Tensor)], config| {
        adapter(folder.path(), name, tensors, config)
    };
    let (a, b) = (ramp(&[2, 4], 0.5), ramp(&[3, 2], -1.0));
    let unfit = path(
        "unfit",
        &[
            ("gone.lora_A", a.clone()),
            ("gone.lora_B", b.clone()),
            ("fc.lora_A", ramp(&[2, 5], 0.0)),
            ("fc.lora_B", b.clone()),
        ],
        None,
    );
    let lora = vec![Lora::open(&unfit, Some(1.0)).unwrap()];
    let error = LoraSource::new(Box::new(base()), lora).err().unwrap();
    assert_eq!(error.kind(), RefitErrorKind::UnfitWeights);
    let text = error.to_string();
    assert!(text.contains("no weight is called \"gone.weight\""), "{text}");
    assert!(text.contains("\"net.fc.weight\" is f32[3, 4], which A f32[2, 5]"), "{text}");

    let refused = |path: &Path, scale| Lora::open(path, scale).unwrap_err().to_string();
    let whole = [("fc.lora_A", a.clone()), ("fc.lora_B", b.clone())];
    assert!(refused(&path("bare", &whole, None), None).contains("no scale"));
    let error = refused(&path("half", &whole[..1], None), Some(1.0));
    assert!(error.contains("module \"fc\" lacks one of its two matrices"), "{error}");
    let error = refused(&path("more", &[("fc.modules_to_save", a)], None), Some(1.0));
    assert!(error.contains(".lora_A.weight"), "{error}");
    let config = Some(r#"{"r": 2, "lora_alpha": 2, "use_dora": true}"#);
    assert!(refused(&path("dora", &whole, config), None).contains("DoRA"));
    let config = Some(r#"{"r": 2, "lora_alpha": 2, "alpha_pattern": {"fc": 4}}"#);
    assert!(refused(&path("pattern", &whole, config), None).contains("alpha_pattern"));
}

#[test]
fn types_are_converted_only_when_asked_for() {
    let wide = ramp(&[5], 1.0 / 3.0);
    let wanted = engine(EngineFlags::REFIT, &[("w", wide.converted_exactly(DType::F32).unwrap())]);
    let values: Vec<bf16> = floats(&wide).into_iter().map(bf16::from_f32).collect();
    let source = || {
        let tensor = Tensor::from_slice(&[5], &values);
        Box::new(MapSource::from_iter([("w".to_owned(), tensor)]))
    };
    let policy = FitPolicy::default();
    let error = wanted.fill(&*source(), policy).unwrap_err().to_string();
    assert!(error.contains("wrong dtype of \"w\": expected f32, found bf16"), "{error}");
    let cast = CastSource::new(source(), &wanted);
    assert_eq!(cast.conversions().len(), 1);
    assert_eq!(cast.conversions()["w"].to_string(), "bf16 to f32");
    let filled = wanted.fill(&cast, policy).unwrap();
    let expected: Vec<f32> = values.iter().map(|v| v.to_f32()).collect();
    assert_eq!(floats(&filled.weight("w").unwrap().tensor().unwrap()), expected);
    // What has the type already, and what is no float, is left as it is.
    let same = CastSource::new(Box::new(MapSource::from_iter([("w".to_owned(), wide)])), &wanted);
    assert!(same.conversions().is_empty());
    let longs = Tensor::from_slice(&[5], &[1i64; 5]);
    let cast = CastSource::new(Box::new(MapSource::from_iter([("w".to_owned(), longs)])), &wanted);
    assert!(wanted.fill(&cast, policy).is_err());
}
