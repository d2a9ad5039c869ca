//! Pictures of engines that the builder makes.

use crate::common::{Folder, sketch};
use conformance::graphs::with_other_weights;

#[test]
fn every_kind_of_picture_is_written_and_weights_are_marked() {
    let folder = Folder::built();
    for (file, part) in [
        ("full.svg", "<svg "),
        ("full.html", "<!doctype html>"),
        ("full.dot", "digraph \"full\""),
        ("full.json", "{\"signature\":\"netron:refit\""),
        ("full.netron", "{\"signature\":\"netron:refit\""),
    ] {
        let said = folder.ok(&["graph", "full", "-o", file]).1;
        assert!(said.contains("nodes drawn"), "{said}");
        let text = std::fs::read_to_string(folder.at(file)).unwrap();
        assert!(text.contains(part) && text.contains("fc1.weight"), "{file}");
    }
    let marked = |glob: &str| {
        folder.ok(&["graph", "stripped", "-o", "marked.svg", "--weight", glob]);
        let text = std::fs::read_to_string(folder.at("marked.svg")).unwrap();
        text.matches(" marked ").count()
    };
    let one = marked("fc1.weight");
    assert!(one > 0 && marked("*") > one);
    let said = folder.fails(2, &["graph", "full", "-o", "x.svg", "--weight", "fc9*"]);
    assert!(said.contains("fc9*") && said.contains("refit inspect full"), "{said}");
    let said = folder.fails(2, &["graph", "full", "-o", "full.png"]);
    assert!(said.contains(".svg, .html, .dot, .netron or .json"), "{said}");
}

#[test]
fn a_part_is_drawn_and_what_differs_from_another_engine_is_marked() {
    let folder = Folder::built();
    let report = |more: &[&str]| {
        folder.json(&[&["graph", "full", "-o", "part.svg", "--json"][..], more].concat())
    };
    let drawn = |more: &[&str]| report(more)["drawn"].as_u64().unwrap();
    let near = |name: &str, depth: &str| drawn(&["--around", name, "--depth", depth]);
    assert!(near("fc1.weight", "0") < near("fc1.weight", "100"));
    assert_eq!(near("*", "0"), report(&[])["nodes"]);
    let said = folder.fails(2, &["graph", "full", "-o", "x.svg", "--around", "fc9"]);
    assert!(said.contains("fc9") && said.contains("node, weight, input or output"), "{said}");
    folder.fails(2, &["graph", "full", "-o", "x.svg", "--depth", "1"]);

    let is_first = |name: &str| name == "fc1.weight";
    std::fs::write(folder.at("tuned.onnx"), with_other_weights(&sketch("mlp"), &is_first)).unwrap();
    folder.ok(&["build", "tuned.onnx", "-o", "tuned"]);
    let weights = report(&["--diff", "tuned"]);
    assert_eq!(weights["marked"], serde_json::json!(["fc1.weight"]));
    assert_eq!(weights["differing"], serde_json::json!([]));
    folder.ok(&["build", "model.onnx", "-o", "plain", "--no-optimise"]);
    let nodes = report(&["--diff", "plain"]);
    let listed = |key: &str| nodes[key].as_array().unwrap().len();
    assert!(listed("differing") > 0 && listed("only_in_other") > 0, "{nodes}");
    let same = report(&["--diff", "full"]);
    assert_eq!(
        (&same["marked"], &same["differing"]),
        (&weights["differing"], &weights["differing"])
    );
    folder.fails(3, &["graph", "full", "-o", "x.svg", "--diff", "nowhere"]);
}
