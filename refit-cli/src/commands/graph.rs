//! `refit graph`: a picture of an engine's programs.

use super::{human, open_engine};
use crate::args::Graph;
use crate::failure::{Class, Failure};
use crate::output::{give, remark};
use glob::Pattern;
use refit::{Picture, PictureOptions};
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
}

/// Kinds of files, by the ends of their names.
type Write = for<'a, 'b> fn(&'a Picture<'b>) -> String;
const KINDS: [(&str, Write); 4] =
    [("svg", |p| p.svg()), ("html", |p| p.html()), ("dot", |p| p.dot()), ("json", |p| p.json())];

pub fn run(args: Graph) -> Result<(), Failure> {
    let ending = args.output.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let kind = KINDS.iter().find(|(name, _)| ending.as_deref() == Some(name));
    let Some((_, write)) = kind else {
        let what = format!("{}: a picture of unknown kind", args.output.display());
        return Err(Failure::with_help(
            Class::Usage,
            what,
            "name a .svg, .html, .dot or .json file",
        ));
    };
    let engine = open_engine(&args.file)?;
    let mut marked = Vec::new();
    for text in &args.weight {
        let pattern = Pattern::new(text)
            .map_err(|error| Failure::new(Class::Usage, format!("--weight {text:?}: {error}")))?;
        let names = engine.parts().weights.iter().map(|weight| &weight.name);
        let found: Vec<String> = names.filter(|name| pattern.matches(name)).cloned().collect();
        if found.is_empty() {
            let what = format!("--weight {text:?}: no weight has such a name");
            let help = format!("refit inspect {} lists them", args.file.display());
            return Err(Failure::with_help(Class::Usage, what, help));
        }
        marked.extend(found);
    }
    let options = PictureOptions { marked, unfolded: args.unfolded };
    let title = Path::new(args.file.file_name().unwrap_or_default()).display().to_string();
    let picture = Picture::new(&engine, title, &options);
    let text = write(&picture);
    refit::write_file(&args.output, text.as_bytes())?;
    let (nodes, drawn) = picture.counts();
    let report = Report {
        file: args.output.display().to_string(),
        bytes: text.len() as u64,
        nodes,
        drawn: if ending.as_deref() == Some("json") { nodes } else { drawn },
        marked: options.marked,
    };
    give(&report, None, || {
        let Report { file, bytes, nodes, drawn, .. } = &report;
        remark!("{file}: {drawn} of {nodes} nodes drawn, {}", human(*bytes));
    })
}
