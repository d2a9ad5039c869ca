//! What is measured.

use crate::common::{Folder, sketch};
use serde_json::{Value, json};

fn file(folder: &Folder, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.at(name)).unwrap()).unwrap()
}

#[test]
fn bench_makes_as_many_runs_as_it_is_asked_for() {
    let folder = Folder::built();
    let bench = |more: &[&str]| {
        folder.json(&[&["bench", "full", "--device", "cpu", "--json"][..], more].concat())
    };
    assert_eq!(bench(&[])["iterations"], 20);
    assert_eq!(bench(&["--iterations", "5", "--parallel", "3"])["iterations"], 5);
    assert!(bench(&["--duration", "0.2"])["iterations"].as_u64().unwrap() > 1);
    let both = bench(&["--duration", "0", "--iterations", "7", "--warmup", "0"]);
    assert_eq!(both["iterations"], 7);
    let time = |key: &str| both[key].as_f64().unwrap();
    let order = ["min_ms", "median_ms", "p90_ms", "p99_ms", "max_ms"].map(time);
    assert!(order.is_sorted() && order[0] > 0.0, "{order:?}");
    assert!(time("throughput") > 0.0 && time("first_ms") > 0.0 && time("load_ms") > 0.0);
    assert_eq!(both["steps"], json!([]));
    for wrong in [["--iterations", "0"], ["--parallel", "0"], ["--duration", "-1"]] {
        folder.fails(2, &["bench", "full", "--device", "cpu", wrong[0], wrong[1]]);
    }
}

#[test]
fn a_decoder_takes_what_the_step_before_left() {
    let folder = Folder::built();
    std::fs::write(folder.at("loop.onnx"), sketch("loop")).unwrap();
    folder.ok(&["build", "loop.onnx", "-o", "loop"]);
    let bench = ["bench", "loop", "--device", "cpu", "--decode", "4", "--carry", "y=x"];
    let report = folder.json(&[&bench[..], &["--json", "--profile"]].concat());
    assert_eq!((&report["iterations"], &report["carried"]), (&json!(4), &json!([["y", "x"]])));
    let steps = report["steps"].as_array().unwrap();
    let mut paths: Vec<_> = steps.iter().map(|step| step["path"].as_str().unwrap()).collect();
    paths.sort_unstable();
    assert!(!paths.is_empty() && paths.windows(2).all(|pair| pair[0] != pair[1]), "{paths:?}");
    let said = folder.ok(&bench).0;
    assert!(said.contains("x f32[1, 6] on the host, left by the step before"), "{said}");
    assert!(said.contains("4 in a row"), "{said}");
    let said = folder.fails(2, &["bench", "full", "--device", "cpu", "--decode", "4"]);
    assert!(said.contains("outputs y") && said.contains("--carry"), "{said}");
    for wrong in [["--decode", "4", "--parallel", "2"], ["--carry", "y=x", "--warmup", "1"]] {
        folder.fails(2, &[&["bench", "loop", "--device", "cpu"], &wrong[..]].concat());
    }
}

#[test]
fn times_and_steps_are_saved() {
    let folder = Folder::built();
    let bench = ["bench", "full", "--device", "cpu", "--iterations", "4", "--parallel", "2"];
    let files = ["--save-times", "times.json", "--trace", "trace.json", "--profile", "--json"];
    let report = folder.json(&[&bench[..], &files].concat());
    let steps = report["steps"].as_array().unwrap();
    assert!(!steps.is_empty());
    let times = file(&folder, "times.json");
    assert_eq!(times["runs"].as_array().unwrap().len(), 4);
    let trace = file(&folder, "trace.json");
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |category: &str| events.iter().filter(|e| e["cat"] == category).count();
    assert_eq!((of("run"), of("step")), (4, 4 * steps.len()));
    for event in events.iter().filter(|event| event["ph"] == "X") {
        assert!(event["ts"].as_f64().unwrap() >= 0.0 && event["dur"].as_f64().unwrap() > 0.0);
        assert!(["pid", "tid", "name", "args"].iter().all(|key| event.get(key).is_some()));
    }
    // Steps lie inside their run.
    let inside = |step: &Value| {
        let (ts, dur) = (step["ts"].as_f64().unwrap(), step["dur"].as_f64().unwrap());
        events.iter().filter(|e| e["cat"] == "run" && e["tid"] == step["tid"]).any(|run| {
            let (begun, took) = (run["ts"].as_f64().unwrap(), run["dur"].as_f64().unwrap());
            begun <= ts + 0.01 && ts + dur <= begun + took + 0.01
        })
    };
    assert!(events.iter().filter(|e| e["cat"] == "step").all(inside));
    let said = folder.ok(&["bench", "full", "--device", "cpu", "--profile"]).0;
    assert!(said.contains("share") && said.contains("p99"), "{said}");
    assert!(said.contains("input   x f32[1, 6], made up"), "{said}");
}
