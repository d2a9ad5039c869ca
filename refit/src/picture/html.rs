//! A page with the drawing and the weights.

use super::boxes::{Role, Scene};
use super::{escaped, svg};
use engine_format::Engine;
use std::fmt::Write;

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:14px system-ui,sans-serif;margin:1.5rem}
h1{font-size:1.2rem}.drawing{overflow:auto;border:1px solid #8886;max-height:85vh;resize:vertical}
table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
td.name,td.type{font-family:ui-monospace,monospace}tr[data-row]{cursor:pointer}tr.chosen{background:#cf222e33}
.number{text-align:right}.chosen>rect{stroke:#cf222e;stroke-width:3}
@media print{.drawing{max-height:none;overflow:visible}}
";

/// Shows the nodes that a weight reaches; the page can be read without.
const SCRIPT: &str = "\
document.querySelectorAll('tr[data-row]').forEach(row => row.addEventListener('click', () => {
  const on = row.classList.toggle('chosen');
  const nodes = document.querySelectorAll('svg g.w' + row.dataset.row);
  nodes.forEach(node => node.classList.toggle('chosen', on));
  if (on && nodes.length) nodes[0].scrollIntoView({block: 'center', inline: 'center'});
}));
";

pub(super) fn page(engine: &Engine, scene: &Scene, title: &str) -> String {
    let name = escaped(title);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{name}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n<p>{}</p>\n<div class=\"drawing\">\n{}</div>\n",
        escaped(&summary(engine)),
        svg::element(scene, title)
    );
    let summaries = crate::weight_summaries(engine);
    let _ = writeln!(
        out,
        "<details open>\n<summary>{} weights and parameters</summary>",
        summaries.len()
    );
    out += "<table>\n<thead><tr><th>name</th><th>type</th><th class=\"number\">bytes</th><th>takes</th><th>nodes that it reaches</th></tr></thead>\n<tbody>\n";
    for (row, (weight, summary)) in engine.parts().weights.iter().zip(&summaries).enumerate() {
        let nodes = summary.reaches.iter().map(|node| format!("{} ({})", node.node, node.op));
        let nodes: Vec<String> = nodes.map(|node| escaped(&node)).collect();
        let takes = match (&summary.fixed, Role::of(weight, engine.flags())) {
            (_, Role::Any) => "any values".to_owned(),
            (why, Role::Same) => {
                format!("the built values ({})", why.as_deref().unwrap_or_default())
            }
            _ => "none".to_owned(),
        };
        let _ = writeln!(
            out,
            "<tr data-row=\"{row}\"><td class=\"name\">{}</td><td class=\"type\">{}{:?}</td><td class=\"number\">{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&summary.name),
            summary.dtype,
            summary.shape,
            summary.bytes,
            escaped(&takes),
            nodes.join("<br>")
        );
    }
    let _ = write!(
        out,
        "</tbody>\n</table>\n</details>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    );
    out
}

fn summary(engine: &Engine) -> String {
    let parts = engine.parts();
    let weights: u64 = parts.weights.iter().map(|weight| weight.byte_len() as u64).sum();
    format!(
        "{}, {} nodes in prepare, {} in execute, {weights} bytes of weights",
        match engine.flags().flag_names() {
            names if names.is_empty() => "frozen".to_owned(),
            names => names.join(", "),
        },
        parts.prepare.nodes.len(),
        parts.execute.nodes.len(),
    )
}
