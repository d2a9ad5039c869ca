//! `refit graph`: a picture of an engine's programs.

use super::{human, open_engine};
use crate::args::Graph;
use crate::failure::{Class, Failure};
use crate::output::{give, remark};
use glob::Pattern;
use refit::{Around, NodeDiff, Picture, PictureOptions};
use serde::Serialize;
use std::path::Path;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    file: String,
    bytes: u64,
    /// Nodes of both programs, and those that are drawn.
    nodes: usize,
    drawn: usize,
    /// Weights whose nodes are marked.
    marked: Vec<String>,
    /// Nodes that are others in the other engine, and those that are there alone.
    differing: Vec<String>,
    only_in_other: Vec<String>,
}

/// Kinds of files, by the ends of their names.
type Write = for<'a, 'b> fn(&'a Picture<'b>) -> String;
const KINDS: [(&str, Write); 5] = [
    ("svg", |p| p.svg()),
    ("html", |p| p.html()),
    ("dot", |p| p.dot()),
    // Netron tells a file's kind by the end of its name.
    ("netron", |p| p.json()),
    ("json", |p| p.json()),
];

pub fn run(args: Graph) -> Result<(), Failure> {
    let ending = args.output.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let kind = KINDS.iter().find(|(name, _)| ending.as_deref() == Some(name));
    let Some((ending, write)) = kind else {
        let what = format!("{}: a picture of unknown kind", args.output.display());
        return Err(Failure::with_help(
            Class::Usage,
            what,
            "name a .svg, .html, .dot, .netron or .json file",
        ));
    };
    let engine = open_engine(&args.file)?;
    let parts = engine.parts();
    let list = format!("refit inspect {} lists them", args.file.display());
    let weights: Vec<&String> = parts.weights.iter().map(|weight| &weight.name).collect();
    let mut marked = Vec::new();
    for text in &args.weight {
        marked.extend(matching("--weight", text, &weights, "weight", &list)?);
    }
    let around = match &args.around {
        None => None,
        Some(text) => {
            let nodes = parts.prepare.nodes.iter().chain(&parts.execute.nodes);
            let ports = parts.inputs.iter().chain(&parts.outputs).map(|port| &port.name);
            let all = nodes.map(|node| &node.name).chain(ports).chain(weights).collect::<Vec<_>>();
            let help = "the picture without --around shows all names";
            let names = matching("--around", text, &all, "node, weight, input or output", help)?;
            Some(Around { names, depth: args.depth })
        }
    };
    let diff = args
        .diff
        .as_deref()
        .map(|other| Ok::<_, Failure>(refit::diff(&engine, &open_engine(other)?)));
    let diff = diff.transpose()?.unwrap_or_default();
    let (here, there): (Vec<_>, Vec<_>) = diff.nodes.into_iter().partition(|node| node.a.is_some());
    let names = |nodes: Vec<NodeDiff>| nodes.into_iter().map(|node| node.node).collect::<Vec<_>>();
    let (differing, only_in_other) = (names(here), names(there));
    marked.extend(diff.changed.into_iter().map(|weight| weight.name));
    marked.extend(diff.retyped.into_iter().map(|weight| weight.name));
    marked.extend(diff.only_in_a);
    let options =
        PictureOptions { marked, marked_nodes: differing, around, unfolded: args.unfolded };
    let title = Path::new(args.file.file_name().unwrap_or_default()).display().to_string();
    let picture = Picture::new(&engine, title, &options);
    let text = write(&picture);
    refit::write_file(&args.output, text.as_bytes())?;
    let (nodes, drawn) = picture.counts();
    let report = Report {
        file: args.output.display().to_string(),
        bytes: text.len() as u64,
        nodes,
        drawn: if matches!(*ending, "netron" | "json") { picture.json_count() } else { drawn },
        marked: options.marked,
        differing: options.marked_nodes,
        only_in_other,
    };
    give(&report, None, || {
        let Report { file, bytes, nodes, drawn, marked, differing, only_in_other } = &report;
        remark!("{file}: {drawn} of {nodes} nodes drawn, {}", human(*bytes));
        if let Some(other) = &args.diff {
            let (nodes, weights) = (differing.len(), marked.len());
            remark!(
                "{nodes} nodes and {weights} weights marked, as others are in {}",
                other.display()
            );
            only_in_other.iter().for_each(|node| remark!("only there: {node}"));
        }
    })
}

/// The names that a pattern means; that it means none is an error.
fn matching(
    flag: &str,
    text: &str,
    names: &[&String],
    what: &str,
    help: &str,
) -> Result<Vec<String>, Failure> {
    let pattern = Pattern::new(text)
        .map_err(|error| Failure::new(Class::Usage, format!("{flag} {text:?}: {error}")))?;
    // Names of nodes have brackets and stars too, and a name means itself.
    let is_meant = |name: &&&String| name.as_str() == text || pattern.matches(name);
    let found: Vec<String> = names.iter().filter(is_meant).map(|name| (*name).clone()).collect();
    match found.is_empty() {
        true => {
            let what = format!("{flag} {text:?}: no {what} has such a name");
            Err(Failure::with_help(Class::Usage, what, help))
        }
        false => Ok(found),
    }
}
