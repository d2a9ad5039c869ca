//! The program's interface, as scripts see it: exit codes, stdout, files.
#![expect(clippy::unwrap_used, reason = "a test panics with the error")]

use conformance::graphs::{SKETCHES, with_initializer, with_other_weights};
use engine_format::{Bytes, DType, MapSource, Tensor, WeightSource};
use refit::npy;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with the model `mlp` in it, and the program run there.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(bench.at("model.onnx"), sketch("mlp")).unwrap();
        bench
    }

    /// With the full, the stripped and the frozen engine built.
    fn built() -> Self {
        let bench = Self::new();
        bench.ok(&["build", "model.onnx", "-o", "full"]);
        bench.ok(&["strip", "full", "-o", "stripped"]);
        bench.ok(&["build", "model.onnx", "-o", "frozen", "--refit", "none"]);
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.at(name)).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_refit"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs, expects this exit code and gives what was said on stderr, with line breaks and frames taken out.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(!stderr.trim().is_empty(), "{arguments:?}: an error is explained");
        stderr.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// Writes a safetensors file.
    fn write_safetensors(&self, name: &str, tensors: &BTreeMap<String, Tensor>) {
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, tensor) in tensors {
            let start = data.len();
            data.extend_from_slice(tensor.bytes());
            let entry = serde_json::json!({
                "dtype": tensor.dtype().name().to_uppercase(),
                "shape": tensor.shape(),
                "data_offsets": [start, data.len()],
            });
            header.insert(name.clone(), entry);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let file =
            [&(header.len() as u64).to_le_bytes(), header.as_slice(), data.as_slice()].concat();
        std::fs::write(self.at(name), file).unwrap();
    }
}

fn sketch(name: &str) -> Vec<u8> {
    (SKETCHES.iter().find(|sketch| sketch.name == name).unwrap().onnx)()
}

/// Another graph for the weights of `mlp`.
fn mlp_with_tanh() -> Vec<u8> {
    let mut model = sketch("mlp");
    while let Some(at) = model.windows(4).position(|window| window == b"Relu") {
        model[at..at + 4].copy_from_slice(b"Tanh");
    }
    model
}

/// The weights of an engine file by name.
fn weights(path: &Path) -> BTreeMap<String, Tensor> {
    let engine = refit::open_engine(path).unwrap();
    engine.parts().weights.iter().map(|w| (w.name.clone(), w.tensor().unwrap())).collect()
}

#[test]
fn a_stripped_engine_does_not_run_and_names_what_it_needs() {
    let bench = Bench::built();
    for path in ["live", "packed"] {
        let said =
            bench.fails(4, &["run", "stripped", "--path", path, "--device", "cpu", "--out", "out"]);
        for name in ["fc1.weight", "fc1.bias", "fc2.weight"] {
            assert!(said.contains(name), "{name} in {said}");
        }
        assert!(!bench.at("out").exists(), "nothing is written");
    }
    let said = bench.fails(4, &["bench", "stripped", "--device", "cpu"]);
    assert!(said.contains("fc1.weight"), "{said}");
}

/// As `refit … | head`: what is read no further is not complained about, and files and exit codes are what they would be.
#[test]
fn nobody_has_to_read_to_the_end() {
    let bench = Bench::built();
    let closed = || std::io::pipe().map(|(_, writer)| writer).unwrap();
    let cases: [(&[&str], i32); 5] = [
        (&["inspect", "full"], 0),
        (&["inspect", "full", "--json"], 0),
        (&["diff", "full", "frozen"], 1),
        (&["build", "model.onnx", "-o", "explained", "--explain"], 0),
        (&["check", "frozen", "--weights", "full"], 4),
    ];
    for (arguments, code) in cases {
        let output = bench.command(arguments).stdout(closed()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("pipe"), "{arguments:?}: {said}");
    }
    assert_eq!(bench.bytes("explained"), bench.bytes("full"));
    let deaf = bench.command(&["strip", "full", "-o", "unheard"]).stderr(closed()).status();
    assert_eq!(deaf.unwrap().code(), Some(0));
    assert_eq!(bench.bytes("unheard"), bench.bytes("stripped"));
}

#[test]
fn fill_gives_the_full_build_from_every_kind_of_source() {
    let bench = Bench::built();
    bench.ok(&["extract", "full", "-o", "weights.safetensors"]);
    for source in ["model.onnx", "weights.safetensors", "full"] {
        bench.ok(&["fill", "stripped", "--weights", source, "-o", "filled"]);
        assert!(bench.bytes("filled") == bench.bytes("full"), "from {source}");
        bench.ok(&["check", "stripped", "--weights", source]);
    }
    let frozen = ["fill", "stripped", "--weights", "full", "-o", "filled", "--freeze"];
    bench.ok(&frozen);
    assert_eq!(bench.json(&["inspect", "filled", "--json"])["flags"], serde_json::json!([]));
    let said = bench.fails(4, &["fill", "filled", "--weights", "full", "-o", "again"]);
    assert!(said.contains("frozen"), "{said}");
}

#[test]
fn everything_that_does_not_fit_is_listed_and_nothing_is_written() {
    let bench = Bench::built();
    let mut tensors = weights(&bench.at("full"));
    let transposed = tensors["fc1.weight"].clone();
    let half = tensors["fc2.weight"].shape().to_vec();
    tensors.remove("fc1.bias");
    tensors.insert("stranger".to_owned(), Tensor::zeros(DType::F32, &[3]));
    let reversed: Vec<usize> = transposed.shape().iter().rev().copied().collect();
    tensors.insert("fc1.weight".to_owned(), transposed.reshaped(&reversed).unwrap());
    tensors.insert("fc2.weight".to_owned(), Tensor::zeros(DType::F16, &half));
    bench.write_safetensors("bad.safetensors", &tensors);
    let said =
        bench.fails(4, &["fill", "stripped", "--weights", "bad.safetensors", "-o", "filled"]);
    for part in [
        "missing \"fc1.bias\"",
        "extra \"stranger\"",
        "wrong shape of \"fc1.weight\"",
        "wrong dtype of \"fc2.weight\"",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let left: Vec<_> =
        std::fs::read_dir(bench.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(
        !left.iter().any(
            |f| f.to_string_lossy().contains("filled") || f.to_string_lossy().ends_with(".tmp")
        ),
        "{left:?}"
    );

    let output = bench.run(&["check", "stripped", "--weights", "bad.safetensors", "--json"]);
    assert_eq!(output.status.code(), Some(4));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["fits"], false);
    assert_eq!(report["misfits"].as_array().unwrap().len(), 4);
    let allowed =
        ["fill", "stripped", "--weights", "bad.safetensors", "-o", "filled", "--allow-extra"];
    assert!(!bench.fails(4, &allowed).contains("stranger"));
}

#[test]
fn damaged_and_foreign_files_are_refused_with_a_place() {
    let bench = Bench::built();
    let full = bench.bytes("full");
    let mut cases = vec![
        ("empty".to_owned(), Vec::new()),
        ("trailing".to_owned(), [full.as_slice(), &[0]].concat()),
    ];
    for cut in [1, 7, 100, 511, 512, full.len() / 2, full.len() - 1] {
        cases.push((format!("cut at {cut}"), full[..cut].to_vec()));
    }
    for at in (0..full.len()).step_by(full.len() / 40) {
        let mut flipped = full.clone();
        flipped[at] ^= 1 << (at % 8);
        cases.push((format!("bit flipped in byte {at}"), flipped));
    }
    for (what, bytes) in cases {
        std::fs::write(bench.at("damaged"), bytes).unwrap();
        let said = bench.fails(3, &["inspect", "damaged"]);
        assert!(said.contains("offset") || said.contains(" at "), "{what}: {said}");
    }
    let said = bench.fails(3, &["inspect", "nowhere"]);
    assert!(said.contains("nowhere"), "{said}");
    std::fs::write(bench.at("bad.onnx"), b"not protobuf at all").unwrap();
    bench.fails(3, &["build", "bad.onnx", "-o", "out"]);
    assert!(!bench.at("out").exists());
}

/// A pipe would wait for a writer, and a device may never end or be replaced by a file.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_neither_read_nor_replaced() {
    use std::os::unix::fs::FileTypeExt;
    let bench = Bench::built();
    let made = Command::new("mkfifo").arg(bench.at("pipe.npz")).status().unwrap();
    assert!(made.success());
    for arguments in [
        ["fill", "stripped", "--weights", "pipe.npz", "-o", "out"].as_slice(),
        &["run", "full", "--input", "x=/dev/zero"],
        &["inspect", "pipe.npz"],
        &["build", "pipe.npz", "-o", "out"],
        &["build", "model.onnx", "-o", "pipe.npz"],
        &["strip", "full", "-o", "pipe.npz"],
    ] {
        let said = bench.fails(3, arguments);
        assert!(said.contains("not a regular file"), "{arguments:?}: {said}");
    }
    assert!(std::fs::metadata(bench.at("pipe.npz")).unwrap().file_type().is_fifo());
    assert!(!bench.at("out").exists());
}

#[test]
fn inspect_prints_one_object_with_every_field() {
    let bench = Bench::built();
    let report = bench.json(&["inspect", "stripped", "--json"]);
    assert_eq!(report["flags"], serde_json::json!(["REFIT", "EXCLUDE_WEIGHTS"]));
    assert_eq!(report["state"], "needs-weights");
    assert_eq!(report["format"], "1.0");
    assert_eq!(report["inputs"][0]["shape"], serde_json::json!(["batch", 6]));
    assert_eq!(report["metadata"]["made"], "by hand");
    assert_eq!(report["bytes"]["total"], bench.bytes("stripped").len());
    let weights = report["weights"].as_array().unwrap();
    let named = |name: &str| weights.iter().find(|w| w["name"] == name).unwrap();
    assert_eq!(named("fc1.weight")["stored"], false);
    assert_eq!(
        named("fc1.weight")["digest"],
        Value::Null,
        "a stripped file knows nothing of values"
    );
    assert_eq!(named("fc1.weight")["class"], "weight");
    assert_eq!(named("val_9")["class"], "parameter");
    assert_eq!(named("val_9")["stored"], true);
    for key in ["name", "dtype", "shape", "bytes", "class", "refittable", "stored", "digest"] {
        assert!(weights.iter().all(|w| w.get(key).is_some()), "{key}");
    }
    assert_eq!(bench.json(&["inspect", "full", "--json"])["state"], "ready");
    assert!(bench.ok(&["inspect", "full"]).contains("fc2.weight"));
}

#[test]
fn inspect_says_of_every_weight_what_hangs_on_it() {
    let bench = Bench::built();
    let said = bench.ok(&["inspect", "stripped", "--weights"]);
    assert!(said.contains("weight f32[9, 6], 216 bytes, stripped, takes any values"), "{said}");
    assert!(said.contains("digest  unknown"), "{said}");
    let report = bench.json(&["inspect", "full", "--weights", "--json"]);
    let weights = report["weights"].as_array().unwrap();
    let named = |name: &str| weights.iter().find(|w| w["name"] == name).unwrap();
    // Through the transposition in `prepare`.
    let reaches = named("fc1.weight")["reaches"].as_array().unwrap();
    assert!(!reaches.is_empty() && reaches.iter().all(|n| n["op"] != "Transpose"), "{reaches:?}");
    assert!(named("fc1.weight")["fixed"].is_null());
    bench.ok(&["build", "model.onnx", "-o", "identical", "--refit", "identical"]);
    let identical = bench.json(&["inspect", "identical", "--weights", "--json"]);
    assert_eq!(identical["weights"][0]["fixed"], "REFIT_IDENTICAL");
}

#[test]
fn inspect_says_where_nodes_run_with_and_without_weights() {
    let bench = Bench::built();
    assert_eq!(bench.json(&["inspect", "full", "--json"])["placement"], Value::Null);
    let on_cpu = bench.ok(&["inspect", "stripped", "--device", "cpu"]);
    assert!(on_cpu.contains("cpu  every node"), "{on_cpu}");
    // Only the weights of the build are accepted, so none can be made up.
    bench.ok(&["build", "model.onnx", "-o", "identical", "--refit", "identical", "--strip"]);
    let said = bench.fails(4, &["inspect", "identical", "--device", "cpu"]);
    assert!(said.contains("fc1.weight"), "{said}");
    if conformance::devices().iter().all(|device| !device.is_gpu()) {
        return;
    }
    for engine in ["full", "stripped"] {
        let report = bench.json(&["inspect", engine, "--device", "gpu", "--json"]);
        let nodes = report["placement"]["nodes"].as_array().unwrap();
        assert!(!nodes.is_empty());
        assert!(nodes.iter().all(|node| node["on"] == "gpu" && node["why"] == Value::Null));
        // What no kernel runs is counted, so that nothing is left out.
        let executed = report["execute"].as_object().unwrap().values();
        let planned = report["placement"]["planned"].as_object().unwrap().values();
        let sum =
            |counts: serde_json::map::Values<'_>| counts.map(|n| n.as_u64().unwrap()).sum::<u64>();
        assert_eq!(sum(executed), sum(planned) + nodes.len() as u64);
    }
}

#[test]
fn run_takes_and_leaves_numpy_arrays_and_both_paths_agree() {
    let bench = Bench::built();
    let x = Tensor::from_slice(&[2, 6], &[0.5f32; 12]);
    std::fs::write(bench.at("x.npy"), npy::encode(&x).unwrap()).unwrap();
    let mut results = Vec::new();
    for (path, engine, weights) in
        [("live", "full", None), ("packed", "full", None), ("live", "stripped", Some("model.onnx"))]
    {
        let out = format!("out-{}", results.len());
        let mut arguments = vec![
            "run", engine, "--input", "x=x.npy", "--out", &out, "--path", path, "--device", "cpu",
            "--json",
        ];
        arguments.extend(weights.iter().flat_map(|w| ["--weights", w]));
        let report = bench.json(&arguments);
        assert_eq!(report["random_inputs"], serde_json::json!([]));
        results.push(npy::decode(&Bytes::from(bench.bytes(&format!("{out}/y.npy")))).unwrap());
    }
    assert_eq!(results[0].shape(), [2, 5]);
    assert!(results.iter().all(|r| *r == results[0]));
    let output = bench.run(&["run", "full", "--device", "cpu"]);
    assert!(output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("random"),
        "made-up inputs are announced"
    );
    std::fs::write(bench.at("bad.npy"), npy::encode(&Tensor::zeros(DType::I64, &[2, 7])).unwrap())
        .unwrap();
    let said = bench.fails(2, &["run", "full", "--input", "x=bad.npy", "--device", "cpu"]);
    assert!(said.contains("i64") && said.contains("f32"), "{said}");
    bench.fails(3, &["run", "full", "--input", "x=model.onnx", "--device", "cpu"]);
}

#[test]
fn wrong_usage_and_wrong_devices_have_their_own_codes() {
    let bench = Bench::built();
    bench.fails(2, &["build", "model.onnx", "-o", "out", "--strip", "--refit", "none"]);
    bench.fails(2, &["build", "model.onnx"]);
    bench.fails(2, &["frobnicate"]);
    bench.fails(2, &["build", "model.onnx", "-o", "out", "--refit-only", "no such weight"]);
    bench.fails(4, &["strip", "frozen", "-o", "out"]);
    let said = bench.fails(5, &["run", "full", "--device", "no such adapter"]);
    assert!(said.contains("cpu"), "what was found is listed: {said}");
    assert!(!bench.at("out").exists());
}

#[test]
fn a_fill_that_is_to_be_verified_writes_nothing_wrong() {
    let bench = Bench::built();
    let other = with_other_weights(&sketch("mlp"), &|_| true);
    std::fs::write(bench.at("other.onnx"), other).unwrap();
    let cpu = ["--device", "cpu"];
    let fill = ["fill", "stripped", "--weights", "other.onnx", "-o", "out"];
    // The other weights are in the reference too, so their outputs agree.
    bench.ok(&[&fill[..], &["--verify", "--onnx", "other.onnx"], &cpu].concat());
    let verified = bench.bytes("out");
    bench.ok(&fill);
    assert_eq!(bench.bytes("out"), verified, "the same file as without");
    std::fs::remove_file(bench.at("out")).unwrap();
    // Another graph for the same weights.
    std::fs::write(bench.at("graph.onnx"), mlp_with_tanh()).unwrap();
    bench.fails(1, &[&fill[..], &["--verify", "--onnx", "graph.onnx"], &cpu].concat());
    assert!(!bench.at("out").exists(), "nothing is written");
    bench.fails(2, &[&fill[..], &["--verify"]].concat());
}

#[test]
fn probes_say_whether_an_engine_still_does_what_it_did() {
    let bench = Bench::built();
    let probed = ["build", "model.onnx", "-o", "probed", "--probe", "2:7"];
    bench.ok(&probed);
    let said = bench.ok(&["verify", "probed", "--device", "cpu"]);
    assert!(said.contains("probe 1, y: agrees"), "{said}");
    let other = with_other_weights(&sketch("mlp"), &|_| true);
    std::fs::write(bench.at("other.onnx"), other).unwrap();
    bench.ok(&["fill", "probed", "--weights", "other.onnx", "-o", "other"]);
    let said = bench.ok(&["verify", "other", "--device", "cpu"]);
    assert!(said.contains("probe 0: not applicable"), "{said}");
    // The weights come back, and with them what the probes say.
    bench.ok(&["fill", "other", "--weights", "model.onnx", "-o", "back"]);
    assert_eq!(bench.bytes("back"), bench.bytes("probed"));
    bench.ok(&["strip", "probed", "-o", "bare"]);
    assert_eq!(bench.bytes("bare"), bench.bytes("stripped"), "outputs tell of weights");
    let said = bench.fails(2, &["verify", "full", "--device", "cpu"]);
    assert!(said.contains("--probe"), "{said}");
    bench.fails(2, &[&probed[..], &["--strip"]].concat());
    bench.fails(2, &["build", "model.onnx", "-o", "none", "--probe", "0"]);
}

#[test]
fn verify_and_diff_tell_the_same_from_the_different() {
    let bench = Bench::built();
    std::fs::write(bench.at("other.onnx"), with_other_weights(&sketch("mlp"), &|_| true)).unwrap();
    bench.ok(&["verify", "full", "--onnx", "model.onnx", "--device", "cpu"]);
    bench.ok(&[
        "verify",
        "stripped",
        "--onnx",
        "model.onnx",
        "--weights",
        "model.onnx",
        "--device",
        "cpu",
    ]);
    bench.fails(1, &["verify", "full", "--onnx", "other.onnx", "--device", "cpu"]);
    bench.ok(&["fill", "stripped", "--weights", "other.onnx", "-o", "other"]);
    bench.ok(&["verify", "other", "--onnx", "other.onnx", "--device", "cpu"]);
    bench.ok(&["diff", "full", "full"]);
    bench.fails(1, &["diff", "full", "other"]);
    let output = bench.run(&["diff", "full", "other", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = report.to_string();
    assert!(text.contains("fc1.weight") && !text.contains("val_9"), "{text}");
    assert_eq!(report["nodes"], serde_json::json!([]), "only values differ");
    bench.ok(&["build", "model.onnx", "-o", "plain", "--no-optimise"]);
    let output = bench.run(&["diff", "full", "plain"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.lines().any(|line| line.starts_with("node  ")), "{said}");
}

#[test]
fn bench_prints_times() {
    let bench = Bench::built();
    let report = bench.json(&[
        "bench",
        "stripped",
        "--weights",
        "model.onnx",
        "--device",
        "cpu",
        "--iterations",
        "3",
        "--json",
    ]);
    for key in ["median_ms", "min_ms", "load_ms", "refit_ms"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!(report["device"].as_str().unwrap().to_lowercase(), "cpu");
}

#[test]
fn extracted_weights_are_the_engines() {
    let bench = Bench::built();
    bench.ok(&["extract", "full", "-o", "weights.safetensors"]);
    let source = refit::open_source(&bench.at("weights.safetensors")).unwrap();
    let expected: MapSource = weights(&bench.at("full")).into_iter().collect();
    assert_eq!(source.names(), expected.names());
    for name in expected.names() {
        assert_eq!(source.read(&name).unwrap(), expected.read(&name).unwrap(), "{name}");
    }
    bench.fails(4, &["extract", "stripped", "-o", "nothing.safetensors"]);
    assert!(!bench.at("nothing.safetensors").exists());
}

#[test]
fn an_engine_bound_to_a_checkpoint_takes_its_names() {
    let bench = Bench::built();
    let plain = weights(&bench.at("full"));
    // What a training framework calls them: under a prefix, the matrices lying the other way.
    let checkpoint: BTreeMap<String, Tensor> = (plain.iter())
        .map(|(name, tensor)| {
            let turned =
                if tensor.shape().len() == 2 { tensor.permuted(&[1, 0]) } else { tensor.clone() };
            (format!("net.{name}"), turned)
        })
        .collect();
    bench.write_safetensors("ckpt.safetensors", &checkpoint);
    bench.ok(&["build", "model.onnx", "--weights", "ckpt.safetensors", "-o", "bound"]);
    let names: Vec<String> = weights(&bench.at("bound")).into_keys().collect();
    assert_eq!(names, checkpoint.keys().cloned().collect::<Vec<_>>());
    bench.ok(&["strip", "bound", "-o", "bound-stripped"]);
    for source in ["ckpt.safetensors", "model.onnx"] {
        bench.ok(&["fill", "bound-stripped", "--weights", source, "-o", "filled"]);
        assert_eq!(bench.bytes("filled"), bench.bytes("bound"), "{source}");
    }
    for (file, out) in [("full", "a"), ("bound", "b")] {
        bench.ok(&["run", file, "--device", "cpu", "--out", out]);
    }
    for entry in std::fs::read_dir(bench.at("a")).unwrap() {
        let name = entry.unwrap().file_name();
        let read = |folder| std::fs::read(bench.at(folder).join(&name)).unwrap();
        assert_eq!(read("a"), read("b"));
    }
    // A checkpoint of another training step is not the one that the model was exported from.
    let other: BTreeMap<String, Tensor> =
        checkpoint.iter().map(|(n, t)| (n.clone(), Tensor::zeros(t.dtype(), t.shape()))).collect();
    bench.write_safetensors("other.safetensors", &other);
    let build = ["build", "model.onnx", "--weights", "other.safetensors", "-o", "x"];
    let said = bench.fails(4, &build);
    assert!(said.contains("fc1.weight") && said.contains("--bind MAP"), "{said}");
    let open = bench.run(&[build.as_slice(), &["--json"]].concat());
    let open: Value = serde_json::from_slice(&open.stdout).unwrap();
    let unbound = open["binding"]["unbound"].as_array().unwrap();
    assert!(unbound.iter().any(|open| open["initializer"] == "fc1.weight"), "{open}");
    std::fs::write(bench.at("map.toml"), "\"fc9.weight\" = \"net.fc1.weight\"").unwrap();
    let said = bench.fails(2, &[build.as_slice(), &["--bind", "map.toml"]].concat());
    assert!(said.contains("fc9.weight"), "{said}");
    assert!(!bench.at("x").exists());
}

/// The reference of an engine with a checkpoint's names takes the same sources as the engine.
#[test]
fn a_bound_engine_is_verified_with_the_weights_of_its_checkpoint() {
    let bench = Bench::built();
    let turn = |(name, tensor): (String, Tensor)| match tensor.shape() {
        [_, _] => (format!("net.{name}"), tensor.permuted(&[1, 0])),
        _ => (name, tensor),
    };
    let checkpoint: BTreeMap<String, Tensor> =
        weights(&bench.at("full")).into_iter().map(turn).collect();
    bench.write_safetensors("ckpt.safetensors", &checkpoint);
    bench.ok(&["build", "model.onnx", "--weights", "ckpt.safetensors", "-o", "bound"]);
    std::fs::write(bench.at("other.onnx"), with_other_weights(&sketch("mlp"), &|_| true)).unwrap();
    bench.ok(&["build", "other.onnx", "-o", "other"]);
    let tuned: BTreeMap<String, Tensor> =
        weights(&bench.at("other")).into_iter().map(turn).collect();
    bench.write_safetensors("tuned.safetensors", &tuned);

    let against = ["--onnx", "model.onnx", "--device", "cpu"];
    for source in ["tuned.safetensors", "other.onnx"] {
        let fill = ["fill", "bound", "--weights", source, "-o", "filled", "--verify"];
        bench.ok(&[&fill[..], &against].concat());
        let verify = ["verify", "filled", "--weights", source];
        bench.ok(&[&verify[..], &against].concat());
    }
    // The model that was exported from the new weights has them itself.
    bench.ok(&["verify", "filled", "--onnx", "other.onnx", "--device", "cpu"]);
    bench.fails(1, &["verify", "bound", "--onnx", "other.onnx", "--device", "cpu"]);
    // With the model's own weights in the reference it is another network, and so is the model with another function.
    bench.fails(1, &[&["verify", "filled"][..], &against].concat());
    bench.ok(&[&["verify", "bound"][..], &against].concat());
    std::fs::write(bench.at("graph.onnx"), mlp_with_tanh()).unwrap();
    let verify = ["verify", "filled", "--weights", "tuned.safetensors", "--device", "cpu"];
    bench.fails(1, &[&verify[..], &["--onnx", "graph.onnx"]].concat());
    // A model that does not have what the engine was bound from.
    std::fs::write(bench.at("conv.onnx"), sketch("conv")).unwrap();
    let said = bench.fails(3, &[&verify[..], &["--onnx", "conv.onnx"]].concat());
    assert!(said.contains("binding the reference") && said.contains("fc1.weight"), "{said}");
}

/// A tensor of which the model holds a part is bound by its contents, so the reference needs an engine that has them still, as the one
/// before the refit does.
#[test]
fn a_model_with_a_part_of_a_tensor_verifies_the_weights_it_was_bound_to() {
    let bench = Bench::built();
    let mut checkpoint = weights(&bench.at("full"));
    let whole = |part: &Tensor| Tensor::joined(1, &[part.range(1, 0..2), part.clone()]);
    checkpoint.insert("fc2.weight".to_owned(), whole(&checkpoint["fc2.weight"]));
    bench.write_safetensors("ckpt.safetensors", &checkpoint);
    bench.ok(&["build", "model.onnx", "--weights", "ckpt.safetensors", "-o", "bound"]);
    let verify = ["--onnx", "model.onnx", "--device", "cpu"];
    let verify = |file, source| [&["verify", file, "--weights", source][..], &verify].concat();
    bench.ok(&verify("bound", "ckpt.safetensors"));
    checkpoint.insert("fc2.weight".to_owned(), Tensor::zeros(DType::F32, &[9, 7]));
    bench.write_safetensors("tuned.safetensors", &checkpoint);
    bench.ok(&verify("bound", "tuned.safetensors"));
    bench.ok(&["fill", "bound", "--weights", "tuned.safetensors", "-o", "filled"]);
    let said = bench.fails(3, &verify("filled", "tuned.safetensors"));
    assert!(said.contains("not bound fc2.weight f32[9, 5]"), "{said}");
}

/// What an exporter calculated of a weight: the model that the engine was built from is the reference as well as one that was exported from
/// the new weights.
#[test]
fn an_engine_with_calculated_weights_is_verified_after_a_refit() {
    let bench = Bench::built();
    // The model holds the exponential of what the checkpoint holds.
    let calculated = |model: &str, checkpoint: &str| {
        let mut tensors = weights(&bench.at(model));
        let bias = tensors["fc1.bias"].as_slice::<f32>().unwrap();
        let logs: Vec<f32> = bias.iter().map(|b| -(b.abs() + 0.25).ln()).collect();
        let values: Vec<f32> = logs.iter().map(|x| x.exp()).collect();
        let shape = tensors["fc1.bias"].shape().to_vec();
        let held = Tensor::from_slice(&shape, &values);
        tensors.insert("fc1.bias".to_owned(), Tensor::from_slice(&shape, &logs));
        bench.write_safetensors(checkpoint, &tensors);
        held
    };
    std::fs::write(bench.at("other.onnx"), with_other_weights(&sketch("mlp"), &|_| true)).unwrap();
    bench.ok(&["build", "other.onnx", "-o", "other"]);
    for (engine, onnx, checkpoint, exported) in [
        ("full", "model.onnx", "ckpt.safetensors", "exp.onnx"),
        ("other", "other.onnx", "tuned.safetensors", "exp2.onnx"),
    ] {
        let held = calculated(engine, checkpoint);
        let model = std::fs::read(bench.at(onnx)).unwrap();
        std::fs::write(bench.at(exported), with_initializer(&model, "fc1.bias", &held)).unwrap();
    }
    bench.ok(&["build", "exp.onnx", "--weights", "ckpt.safetensors", "-o", "bound"]);
    bench.ok(&["fill", "bound", "--weights", "tuned.safetensors", "-o", "filled"]);
    let against = |file: &'static str, onnx: &'static str, source: Option<&'static str>| {
        let weights = source.map_or(vec![], |source| vec!["--weights", source]);
        [vec!["verify", file, "--onnx", onnx, "--device", "cpu"], weights].concat()
    };
    // The refitted engine against the export from the new weights, by themselves and through the engine's names.
    bench.ok(&against("filled", "exp2.onnx", None));
    bench.ok(&against("filled", "exp2.onnx", Some("tuned.safetensors")));
    // The engine with the new weights put in, against the model that it was built from and the new one.
    bench.ok(&against("bound", "exp.onnx", Some("tuned.safetensors")));
    bench.ok(&against("bound", "exp2.onnx", Some("tuned.safetensors")));
    let fill = ["fill", "bound", "--weights", "tuned.safetensors", "-o", "filled"];
    bench.ok(&[&fill[..], &["--verify", "--device", "cpu", "--onnx", "exp.onnx"]].concat());
    // What was not refitted is another network.
    bench.fails(1, &against("bound", "exp2.onnx", None));
    bench.fails(1, &against("filled", "exp.onnx", None));
}

#[test]
fn weights_are_converted_and_adapted_when_asked_for() {
    let bench = Bench::built();
    let halves: BTreeMap<String, Tensor> = (weights(&bench.at("full")).into_iter())
        .map(|(name, tensor)| {
            let zeros = Tensor::zeros(DType::BF16, tensor.shape());
            (name, if tensor.dtype() == DType::F32 { zeros } else { tensor })
        })
        .collect();
    bench.write_safetensors("bf16.safetensors", &halves);
    let said = bench.fails(4, &["fill", "stripped", "--weights", "bf16.safetensors", "-o", "x"]);
    assert!(said.contains("expected f32, found bf16"), "{said}");
    let fill = ["fill", "stripped", "--weights", "bf16.safetensors", "--cast", "-o", "x"];
    let output = bench.run(&fill);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("tensors converted from bf16 to f32"),
        "{said}"
    );
    assert_eq!(weights(&bench.at("x"))["fc1.weight"], Tensor::zeros(DType::F32, &[9, 6]));

    let ones = |shape: &[usize]| Tensor::from_slice(shape, &vec![1.0f32; shape.iter().product()]);
    let adapter = BTreeMap::from([
        ("base_model.model.fc1.lora_A.weight".to_owned(), ones(&[2, 6])),
        ("base_model.model.fc1.lora_B.weight".to_owned(), ones(&[9, 2])),
    ]);
    bench.write_safetensors("adapter.safetensors", &adapter);
    let fill = |lora: &str| {
        bench.run(&["fill", "x", "--weights", "x", "--lora", lora, "-o", "y"]).status.code()
    };
    assert_eq!(fill("adapter.safetensors:0.25"), Some(0));
    assert_eq!(weights(&bench.at("y"))["fc1.weight"].as_slice::<f32>().unwrap(), [0.5f32; 54]);
    assert_eq!(fill("adapter.safetensors"), Some(3), "there is no scale");
    bench.ok(&["build", "model.onnx", "--refit", "identical", "-o", "identical"]);
    let run = ["run", "identical", "--lora", "adapter.safetensors:1", "--device", "cpu"];
    let said = bench.fails(4, &run);
    assert!(said.contains("REFIT_IDENTICAL"), "{said}");
    bench.ok(&["run", "full", "--lora", "adapter.safetensors:1", "--device", "cpu"]);
}
