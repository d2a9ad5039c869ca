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
    let config = r#"{"r": 2, "lora_alpha": 2, "use_rslora": true, "fan_in_fan_out": true}"#;
    let path = adapter(folder.path(), "turned", &tensors, Some(config));
    let open = || vec![Lora::open(&path, None).unwrap()];
    let source = LoraSource::new(Box::new(base()), open()).unwrap();
    let w = base().read("net.turned.weight").unwrap().unwrap();
    let expected = merged(&w, &a, &b, 2.0 / 2.0f32.sqrt(), true);
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
    let expected = "\"net.fc.weight\" is f32[3, 4]: expected \"base_model.model.fc.lora_A.weight\" [rank, 4] and \
                    \"base_model.model.fc.lora_B.weight\" [3, rank], found f32[2, 5] and f32[3, 2]";
    assert!(text.contains(expected) && text.contains("unfit"), "{text}");

    let refused = |path: &Path, scale| Lora::open(path, scale).unwrap_err().to_string();
    let whole = [("fc.lora_A", a.clone()), ("fc.lora_B", b.clone())];
    assert!(refused(&path("bare", &whole, None), None).contains("no scale"));
    let error = refused(&path("half", &whole[..1], None), Some(1.0));
    let expected = "module \"fc\": expected lora_A and lora_B, found only";
    assert!(error.contains(expected) && error.contains("half"), "{error}");
    let error = refused(&path("more", &[("fc.other", a)], None), Some(1.0));
    assert!(error.contains(".lora_A.weight"), "{error}");
    for (config, why) in [
        (r#"{"r": 3, "lora_alpha": 2}"#, "expected rank 3 by adapter_config.json, found 2"),
        (r#"{"r": 2, "lora_alpha": 2, "rank_pattern": {"fc": 5}}"#, "expected rank 5"),
        (
            r#"{"r": 2, "lora_alpha": 2, "alpha_pattern": {"f(?!x)c": 4}}"#,
            "the pattern \"f(?!x)c\"",
        ),
        (r#"{"r": 2, "lora_alpha": 2, "use_dora": true}"#, "no lora_magnitude_vector"),
        (r#"{"r": 2, "lora_alpha": 2, "init_lora_weights": "pissa_niter_4"}"#, "changed the base"),
        (r#"{"r": 2, "lora_alpha": 2, "alora_invocation_tokens": [1]}"#, "from a token on"),
    ] {
        let error = refused(&path("configured", &whole, Some(config)), None);
        assert!(error.contains(why) && error.contains("configured"), "{error}");
    }
    // A folder is the adapter in it.
    let file = path("folder", &whole, Some(r#"{"r": 2, "lora_alpha": 2}"#));
    let folder = file.parent().unwrap();
    assert_eq!(Lora::open(folder, None).unwrap().origin(), file.display().to_string());
    std::fs::remove_file(&file).unwrap();
    assert!(
        refused(folder, None).contains("expected adapter_model.safetensors or adapter_model.bin")
    );
    let long = [&whole[..], &[("fc.lora_magnitude_vector", ramp(&[4], 1.0))]].concat();
    let lora = vec![Lora::open(&path("long", &long, None), Some(1.0)).unwrap()];
    let error = LoraSource::new(Box::new(base()), lora).err().unwrap().to_string();
    let expected = "expected one number for each of 3 outputs of \"net.fc.weight\", found f32[4]";
    assert!(error.contains(expected) && error.contains("long"), "{error}");
}

/// `W + s·B·A` of a weight `[out, in…]` in f64, and with `lengths` every output's part of it brought to its length.
fn exact([w, a, b]: [&Tensor; 3], scale: f64, turned: bool, lengths: Option<&Tensor>) -> Vec<f64> {
    let rank = a.shape()[0];
    let (inputs, outputs) = (a.len() / rank, b.len() / rank);
    let [mut w, a, b] = [w, a, b].map(|t| floats(t).into_iter().map(f64::from).collect::<Vec<_>>());
    let at = |o: usize, i: usize| if turned { i * outputs + o } else { o * inputs + i };
    for o in 0..outputs {
        for i in 0..inputs {
            w[at(o, i)] +=
                scale * (0..rank).map(|k| b[o * rank + k] * a[k * inputs + i]).sum::<f64>();
        }
        if let Some(lengths) = lengths {
            let length = (0..inputs).map(|i| w[at(o, i)] * w[at(o, i)]).sum::<f64>().sqrt();
            (0..inputs).for_each(|i| w[at(o, i)] *= f64::from(floats(lengths)[o]) / length);
        }
    }
    w
}

fn close(found: &Tensor, expected: &[f64]) {
    let found = floats(found);
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(*found) - expected).abs();
        assert!(
            apart <= 1e-6 * expected.abs().max(1.0),
            "element {i}: {found}, expected {expected}"
        );
    }
}

/// Numbers around 0 without a pattern.
fn mixed(shape: &[usize], seed: usize) -> Tensor {
    let number = |i: usize| ((i * 2_654_435_761 + seed * 97_531) >> 8) % 2001;
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| number(i) as f32 / 1000.0 - 1.0).collect();
    Tensor::from_slice(shape, &values)
}

#[test]
fn modules_have_ranks_and_alphas_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["net.a.fc", "net.b.fc", "net.b.proj"];
    let base: MapSource = names
        .iter()
        .zip(1..)
        .map(|(n, seed)| (format!("{n}.weight"), mixed(&[5, 4], seed)))
        .collect();
    let ranks = [2, 3, 4];
    let a = ranks.map(|rank| mixed(&[rank, 4], 10 + rank));
    let b = ranks.map(|rank| mixed(&[5, rank], 20 + rank));
    let halves: Vec<(String, Tensor)> = (names.iter().zip(a.iter().zip(&b)))
        .flat_map(|(n, (a, b))| {
            [(format!("{n}.lora_A"), a.clone()), (format!("{n}.lora_B"), b.clone())]
        })
        .collect();
    let tensors: Vec<(&str, Tensor)> =
        halves.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
    // The first pattern that fits decides: `fc` fits both, the one for b comes before it.
    let patterns =
        r#""rank_pattern": {"b.fc": 3, "fc": 2}, "alpha_pattern": {"^net\\.b\\..*": 6, "fc": 16}"#;
    for (rslora, alpha_over) in
        [(false, [2.0, 3.0, 4.0]), (true, [2.0f64, 3.0, 4.0].map(f64::sqrt))]
    {
        let config = format!(r#"{{"r": 4, "lora_alpha": 1, "use_rslora": {rslora}, {patterns}}}"#);
        let path = adapter(folder.path(), &format!("{rslora}"), &tensors, Some(&config));
        let lora = vec![Lora::open(&path, None).unwrap()];
        let source = LoraSource::new(Box::new(base.clone()), lora).unwrap();
        let alphas = [16.0, 6.0, 6.0];
        for (i, name) in names.iter().enumerate() {
            let name = format!("{name}.weight");
            let w = base.read(&name).unwrap().unwrap();
            let expected = exact([&w, &a[i], &b[i]], alphas[i] / alpha_over[i], false, None);
            close(&source.read(&name).unwrap().unwrap(), &expected);
        }
    }
}

/// DoRA on weights that lie either way, of convolutions and of embeddings; its magnitudes under each of the names that are written.
#[test]
fn magnitudes_give_every_output_its_length() {
    let folder = tempfile::tempdir().unwrap();
    struct Case {
        weight: [&'static [usize]; 3],
        magnitude: (&'static str, &'static [usize]),
        roles: [&'static str; 2],
        turned: bool,
        fan_in_fan_out: bool,
    }
    const MATRICES: [&str; 2] = ["lora_A", "lora_B"];
    let plain = Case {
        weight: [&[6, 5], &[3, 5], &[6, 3]],
        magnitude: ("lora_magnitude_vector", &[6]),
        roles: MATRICES,
        turned: false,
        fan_in_fan_out: false,
    };
    let cases = [
        Case { weight: [&[5, 6], &[3, 5], &[6, 3]], turned: true, fan_in_fan_out: true, ..plain },
        Case {
            weight: [&[6, 5, 3, 2], &[3, 5, 3, 2], &[6, 3, 1, 1]],
            magnitude: ("lora_magnitude_vector.default", &[1, 6, 1, 1]),
            ..plain
        },
        Case { weight: [&[6, 5, 4], &[2, 5, 4], &[6, 2, 1]], ..plain },
        Case {
            weight: [&[5, 6], &[3, 5], &[6, 3]],
            roles: ["lora_embedding_A", "lora_embedding_B"],
            turned: true,
            ..plain
        },
        plain,
    ];
    for (i, case) in cases.into_iter().enumerate() {
        let [w, a, b] = [0, 1, 2].map(|part| mixed(case.weight[part], 7 * i + part));
        let lengths = ramp(case.magnitude.1, 0.5);
        let base = MapSource::from_iter([
            ("net.m.weight".to_owned(), w.clone()),
            ("net.m.bias".to_owned(), mixed(&[6], 1)),
        ]);
        let [role_a, role_b] = case.roles.map(|role| format!("net.m.{role}"));
        let magnitude = format!("net.m.{}", case.magnitude.0);
        let tensors =
            [(&*role_a, a.clone()), (&*role_b, b.clone()), (&*magnitude, lengths.clone())];
        let config = format!(
            r#"{{"r": {}, "lora_alpha": 5, "use_dora": true, "fan_in_fan_out": {}}}"#,
            a.shape()[0],
            case.fan_in_fan_out
        );
        let path = adapter(folder.path(), &format!("{i}"), &tensors, Some(&config));
        let weights: Vec<(&str, Tensor)> =
            vec![("net.m.bias", mixed(&[6], 1)), ("net.m.weight", w.clone())];
        let engine = engine(EngineFlags::REFIT, &weights);
        let lora = vec![Lora::open(&path, None).unwrap()];
        let source = LoraSource::new(Box::new(base.clone()), lora).unwrap();
        let policy = FitPolicy::default();
        let with = engine.fill(&source, policy).unwrap();
        let scale = 5.0 / a.shape()[0] as f64;
        let expected = exact([&w, &a, &b], scale, case.turned, Some(&lengths));
        close(&with.weight("net.m.weight").unwrap().tensor().unwrap(), &expected);
        assert_ne!(with.version(), engine.version(), "case {i}");
        assert_eq!(with.fill(&base, policy).unwrap().version(), engine.version(), "removed");
    }
}

/// What has no direction cannot get a length, and is not made to look as if it had one.
#[test]
fn a_weight_without_a_direction_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [
        ("net.m.lora_A", Tensor::zeros(DType::F32, &[1, 2])),
        ("net.m.lora_B", mixed(&[3, 1], 1)),
        ("net.m.lora_magnitude_vector", ramp(&[3], 1.0)),
    ];
    let path = adapter(folder.path(), "zero", &tensors, None);
    let w = Tensor::from_slice(&[3, 2], &[1.0f32, 2.0, 0.0, 0.0, 1.0, 1.0]);
    let base = MapSource::from_iter([("net.m.weight".to_owned(), w)]);
    let lora = vec![Lora::open(&path, Some(1.0)).unwrap()];
    let source = LoraSource::new(Box::new(base), lora).unwrap();
    let error = source.read("net.m.weight").unwrap_err().to_string();
    assert!(error.contains("output 1 is 0 and cannot get the length 1.25"), "{error}");
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

fn adapters(base: &MapSource, paths: &[&Path]) -> Result<LoraSource, String> {
    let adapters = paths.iter().map(|path| Lora::open(path, None).unwrap());
    LoraSource::new(Box::new(base.clone()), adapters.collect()).map_err(|error| {
        assert_eq!(error.kind(), RefitErrorKind::UnfitWeights, "{error}");
        error.to_string()
    })
}

/// Matrices for modules of `[4, 4]`.
fn matrices(modules: &[&str]) -> Vec<(String, Tensor)> {
    let of = |(i, module): (usize, &&str)| {
        let (a, b) = (mixed(&[2, 4], i), mixed(&[4, 2], 100 + i));
        [(format!("{module}.lora_A"), a), (format!("{module}.lora_B"), b)]
    };
    modules.iter().enumerate().flat_map(of).collect()
}

const PLAIN: &str =
    r#"{"r": 2, "lora_alpha": 2, "modules_to_save": ["score", "head"], "bias": "none"}"#;

#[test]
fn an_adapter_of_another_model_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let open = |base: &[&str], modules: &[&str]| {
        let base = base.iter().map(|name| (format!("{name}.weight"), mixed(&[4, 4], 1))).collect();
        let tensors = matrices(modules);
        let tensors: Vec<_> = tensors.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        let path = adapter(folder.path(), &modules.join("+"), &tensors, Some(PLAIN));
        adapters(&base, &[&path])
            .map(|source| source.adapted().map(str::to_owned).collect::<Vec<_>>())
    };
    let refused = |base: &[&str], modules: &[&str], why: &str| {
        let error = open(base, modules).unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    // Two modules that mean one tensor, by what they end with or one by its name.
    let both = "both mean \"layers.0.q.weight\"";
    refused(&["layers.0.q"], &["model.encoder.layers.0.q", "model.decoder.layers.0.q"], both);
    refused(&["layers.0.q"], &["layers.0.q", "decoder.layers.0.q"], both);
    // Layers of the two that do not even meet in one tensor.
    let two = "expected one prefix for all modules, found \"decoder.\" in front of the adapter's names (decoder.l1.q), \
               \"encoder.\" in front of the adapter's names (encoder.l0.q)";
    refused(&["l0.q", "l1.q"], &["encoder.l0.q", "decoder.l1.q"], two);
    refused(&["a.q", "b.k"], &["q", "k"], "expected one prefix for all modules");
    // Names of the base that end alike.
    refused(
        &["encoder.q", "decoder.q"],
        &["q"],
        "may be \"decoder.q.weight\" or \"encoder.q.weight\"",
    );
    // A layer of a list is more than a wrapper.
    let layer = "which is a layer in a list and no wrapper";
    refused(&["fc"], &["layers.3.fc"], layer);
    refused(&["layers.3.fc"], &["fc"], layer);
    // What wraps a model, on either side, stays.
    let names =
        |modules: &[&str]| modules.iter().map(|m| format!("{m}.weight")).collect::<Vec<_>>();
    for (base, modules) in [
        (["l0.q", "l1.q"], ["wrapper.l0.q", "wrapper.l1.q"]),
        (["bert.l0.q", "bert.l1.q"], ["l0.q", "l1.q"]),
        (["l0.q", "l1.q"], ["0.auto_model.l0.q", "0.auto_model.l1.q"]),
        (["l0.q", "l1.q"], ["l0.q", "l1.q"]),
    ] {
        assert_eq!(open(&base, &modules).unwrap(), names(&base));
    }
}

#[test]
fn what_was_trained_beside_an_adapter_takes_the_place_of_the_base() {
    let folder = tempfile::tempdir().unwrap();
    let halves: Vec<f16> = floats(&mixed(&[3, 4], 9)).into_iter().map(f16::from_f32).collect();
    let base = MapSource::from_iter([
        ("net.body.weight".to_owned(), mixed(&[4, 4], 1)),
        ("net.body.bias".to_owned(), mixed(&[4], 2)),
        ("net.score.weight".to_owned(), mixed(&[3, 4], 3)),
        ("net.embed_tokens.weight".to_owned(), Tensor::from_slice(&[3, 4], &halves)),
    ]);
    let save = |name: &str, extra: &[(&str, Tensor)], config: &str| {
        let mut tensors = matrices(&["body"]);
        tensors.extend(extra.iter().map(|(n, t)| ((*n).to_owned(), t.clone())));
        let tensors: Vec<_> = tensors.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        adapter(folder.path(), name, &tensors, Some(config))
    };
    let score = mixed(&[5, 4], 4);
    // The names that are written today, and older ones.
    for (i, name) in
        ["score", "score.modules_to_save", "score.modules_to_save.default"].into_iter().enumerate()
    {
        let path = save(&format!("score{i}"), &[(name, score.clone())], PLAIN);
        let source = adapters(&base, &[&path]).unwrap();
        assert_eq!(source.adapted().collect::<Vec<_>>(), ["net.body.weight", "net.score.weight"]);
        // Its own shape: whether that fits is for the engine to say.
        assert_eq!(source.info("net.score.weight").unwrap().shape, [5, 4]);
        assert_eq!(source.read("net.score.weight").unwrap().unwrap(), score);
        let mut streamed = Vec::new();
        source.stream("net.score.weight", &mut |piece| streamed.extend_from_slice(piece)).unwrap();
        assert_eq!(streamed, **score.bytes());
        let body = base.read("net.body.weight").unwrap().unwrap();
        assert_ne!(source.read("net.body.weight").unwrap().unwrap(), body);
        let [said] = source.remarks().try_into().unwrap();
        assert!(said.ends_with("takes the place of net.score.weight"), "{said}");
    }
    // A head that the base does not have is new, behind what wraps the base.
    let path = save("head", &[("head.dense", score.clone())], PLAIN);
    let source = adapters(&base, &[&path]).unwrap();
    assert!(source.names().contains(&"net.head.dense.weight".to_owned()), "{:?}", source.names());
    assert_eq!(source.read("net.head.dense.weight").unwrap().unwrap(), score);
    // The next adapter adds to the head of the one before; one that brings a head replaces both.
    let on_head = [("score.lora_A", mixed(&[2, 4], 5)), ("score.lora_B", mixed(&[5, 2], 6))];
    let on_head = adapter(folder.path(), "on_head", &on_head, Some(PLAIN));
    let first = save("first", &[("score", score.clone())], PLAIN);
    let both = adapters(&base, &[&first, &on_head]).unwrap();
    let expected = exact([&score, &mixed(&[2, 4], 5), &mixed(&[5, 2], 6)], 1.0, false, None);
    close(&both.read("net.score.weight").unwrap().unwrap(), &expected);
    let again = adapters(&base, &[&first, &on_head, &first]).unwrap();
    assert_eq!(again.read("net.score.weight").unwrap().unwrap(), score);
    let error = adapters(&base, &[&on_head, &first]).err().unwrap();
    assert!(error.contains("\"net.score.weight\" is f32[3, 4]: expected"), "{error}");
    // Embeddings of a vocabulary that grew, in the base's type of floats.
    let path = save("grown", &[("embed_tokens", mixed(&[6, 4], 8))], PLAIN);
    let source = adapters(&base, &[&path]).unwrap();
    let grown = source.read("net.embed_tokens.weight").unwrap().unwrap();
    let expected: Vec<f16> = floats(&mixed(&[6, 4], 8)).into_iter().map(f16::from_f32).collect();
    assert_eq!(grown, Tensor::from_slice(&[6, 4], &expected));
    assert_eq!(source.info("net.embed_tokens.weight").unwrap().dtype, DType::F16);
    // A module that is trained as a whole and adapted is not known to be either.
    let path = save(
        "twice",
        &[("body", mixed(&[4, 4], 8))],
        r#"{"r": 2, "lora_alpha": 2, "modules_to_save": ["body"]}"#,
    );
    assert!(adapters(&base, &[&path]).err().unwrap().contains("both mean \"net.body.weight\""));
    // What nothing says to be trained is no part of an adapter.
    let path = save("other", &[("other", mixed(&[4, 4], 8))], PLAIN);
    let error = Lora::open(&path, None).unwrap_err().to_string();
    assert!(error.contains("that modules_to_save in adapter_config.json names"), "{error}");
}

/// Trained biases come with their names as they are, without `.weight` behind.
#[test]
fn trained_biases_take_the_place_of_the_base() {
    let folder = tempfile::tempdir().unwrap();
    let base = MapSource::from_iter([
        ("body.weight".to_owned(), mixed(&[4, 4], 1)),
        ("body.bias".to_owned(), mixed(&[4], 2)),
    ]);
    for (bias, accepted) in [("all", true), ("lora_only", true), ("none", false)] {
        let tensors: Vec<_> = matrices(&["body"])
            .into_iter()
            .map(|(name, tensor)| (format!("{PREFIX}{name}.weight"), tensor))
            .chain([(format!("{PREFIX}body.bias"), mixed(&[4], 7))])
            .collect();
        let tensors: Vec<_> = tensors.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
        let path = folder.path().join("adapter_model.safetensors");
        save_safetensors(&tensors, &path);
        let config = format!(r#"{{"r": 2, "lora_alpha": 2, "bias": "{bias}"}}"#);
        std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
        match Lora::open(&path, None) {
            Ok(lora) => {
                assert!(accepted);
                let source = LoraSource::new(Box::new(base.clone()), vec![lora]).unwrap();
                assert_eq!(source.read("body.bias").unwrap().unwrap(), mixed(&[4], 7));
            }
            Err(error) => assert!(!accepted && error.to_string().contains("body.bias"), "{error}"),
        }
    }
}

#[test]
fn an_adapter_may_be_a_file_of_pytorch() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files/adapter_model.bin");
    let base = MapSource::from_iter([("net.body.weight".to_owned(), ramp(&[2, 3], 0.0))]);
    let lora = Lora::open(&path, Some(1.0)).unwrap();
    let source = LoraSource::new(Box::new(base), vec![lora]).unwrap();
    // B is [[0, 1], [2, 3]] and A of ones: 1 more in the first row, 5 in the second.
    let expected = [1.0f32, 1.25, 1.5, 5.75, 6.0, 6.25];
    assert_eq!(
        source.read("net.body.weight").unwrap().unwrap(),
        Tensor::from_slice(&[2, 3], &expected)
    );
}

#[test]
fn an_adapter_of_tensors_in_memory_is_that_of_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = [("fc.lora_A", ramp(&[2, 4], 0.5)), ("fc.lora_B", ramp(&[3, 2], -1.0))];
    let path = adapter(folder.path(), "one", &tensors, None);
    let named =
        |(name, tensor): &(&str, Tensor)| (format!("{PREFIX}{name}.weight"), tensor.clone());
    let memory = || -> MapSource { tensors.iter().map(named).collect() };
    let read = |lora: Lora| {
        let source = LoraSource::new(Box::new(base()), vec![lora]).unwrap();
        source.read("net.fc.weight").unwrap()
    };
    let of_file = read(Lora::open(&path, Some(0.25)).unwrap());
    assert!(of_file.is_some() && of_file != base().read("net.fc.weight").unwrap());
    assert_eq!(read(Lora::of(Box::new(memory()), 0.25).unwrap()), of_file);

    let refused = |source: MapSource, scale| {
        let error = Lora::of(Box::new(source), scale).unwrap_err();
        assert_eq!(error.kind(), RefitErrorKind::InvalidSource);
        error.to_string()
    };
    assert!(refused(memory(), f32::NAN).contains("no scale"));
    assert!(refused(MapSource::new(), 1.0).starts_with("memory: not a LoRA adapter: it has no"));
    let half = memory().names().split_off(1);
    let half: MapSource = half
        .into_iter()
        .map(|name| (name.clone(), memory().read(&name).unwrap().unwrap()))
        .collect();
    assert!(refused(half, 1.0).contains("found only"));
}
