//! The language of Graphviz.

use super::boxes::{Drawn, Kind, Program, Scene};
use std::fmt::Write;

pub(super) fn graph(scene: &Scene, title: &str) -> String {
    let mut out = format!(
        "digraph {} {{\n  node [shape=box, fontname=monospace, fontsize=10]\n  compound=true\n",
        quoted(title)
    );
    for program in &scene.programs {
        let _ = writeln!(out, "  subgraph {} {{", quoted(&format!("cluster_{}", program.name)));
        let _ = writeln!(out, "    label={}", quoted(program.name));
        let mut groups = 0;
        items(&mut out, program, &program.items, 2, &mut groups);
        out += "  }\n";
        for arrow in &program.arrows {
            let style = if arrow.is_carried { " [style=dashed, constraint=false]" } else { "" };
            let [from, to] = [arrow.from, arrow.to].map(|index| id(program.name, index));
            let _ = writeln!(out, "  {from} -> {to}{style}");
        }
    }
    for &(from, to) in &scene.prepared {
        let (from, to) = (id("prepare", from), id("execute", to));
        let _ = writeln!(out, "  {from} -> {to} [style=dotted]");
    }
    out += "}\n";
    out
}

fn items(out: &mut String, program: &Program, drawn: &[Drawn], depth: usize, groups: &mut usize) {
    let indent = "  ".repeat(depth);
    for item in drawn {
        match item {
            Drawn::Box(index) => {
                let shape = &program.boxes[*index];
                let chips = shape.chips.iter().map(|chip| chip.text.clone());
                let lines = [shape.title.clone(), shape.name.clone()].into_iter().chain(chips);
                let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
                let fill = match shape.kind {
                    Kind::Input | Kind::Output => ", style=rounded",
                    Kind::Node if shape.is_marked => ", color=red, penwidth=3",
                    Kind::Node => "",
                };
                let (id, label) = (id(program.name, *index), quoted(&lines.join("\n")));
                let _ = writeln!(out, "{indent}{id} [label={label}{fill}]");
            }
            Drawn::Group(times, inner) => {
                *groups += 1;
                let name = quoted(&format!("cluster_{}_{groups}", program.name));
                let _ = writeln!(out, "{indent}subgraph {name} {{");
                let _ = writeln!(out, "{indent}  label={}", quoted(&format!("× {times}")));
                items(out, program, inner, depth + 1, groups);
                let _ = writeln!(out, "{indent}}}");
            }
        }
    }
}

fn id(program: &str, index: usize) -> String {
    format!("{program}_{index}")
}

/// A string of the language. A backslash begins an escape of its labels, and a line end is one.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
