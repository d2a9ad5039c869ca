//! Pictures of engines that the builder makes.

use crate::common::Folder;

#[test]
fn every_kind_of_picture_is_written_and_weights_are_marked() {
    let folder = Folder::built();
    for (file, part) in [
        ("full.svg", "<svg "),
        ("full.html", "<!doctype html>"),
        ("full.dot", "digraph \"full\""),
        ("full.json", "{\"signature\":\"netron:refit\""),
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
    assert!(said.contains(".svg, .html, .dot or .json"), "{said}");
}
