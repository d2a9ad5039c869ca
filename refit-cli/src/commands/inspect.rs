//! `refit inspect`: what an engine file holds.

use super::{human, open_device, open_engine, operators, placement};
use crate::args::Inspect;
use crate::failure::Failure;
use crate::output::{give, say, to_stdout};
use engine_format::{Engine, Form, Header, Port};
use refit::WeightSummary;
use serde::Serialize;
use std::collections::BTreeMap;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    format: String,
    flags: Vec<String>,
    state: &'static str,
    version: Option<String>,
    inputs: Vec<PortReport>,
    outputs: Vec<PortReport>,
    metadata: BTreeMap<String, String>,
    prepare: BTreeMap<String, usize>,
    execute: BTreeMap<String, usize>,
    weights: Vec<WeightSummary>,
    bytes: BTreeMap<String, u64>,
    /// Null unless a device was named.
    placement: Option<placement::Report>,
}

#[derive(Serialize)]
struct PortReport {
    name: String,
    form: Form,
    dtype: String,
    /// Numbers and symbols; null if not even the rank is known.
    shape: Option<Vec<serde_json::Value>>,
}

pub fn run(args: Inspect) -> Result<(), Failure> {
    let engine = open_engine(&args.file)?;
    let bytes = engine_onnx::map_file(&args.file)?;
    let header = Header::parse(&bytes)?;
    let mut report = report(&engine, &header);
    if let Some(selector) = &args.device {
        report.placement = Some(placement::report(engine, &open_device(selector)?)?);
    }
    give(&report, None, || match args.weights {
        true => report.weights.iter().for_each(print_weight),
        false => print(&report),
    })
}

fn report(engine: &Engine, header: &Header) -> Report {
    let parts = engine.parts();
    let sections =
        header.sections.iter().map(|s| (s.kind.to_string().replace(" section", ""), s.length));
    Report {
        format: format!("{}.{}", header.major, header.minor),
        flags: engine.flags().flag_names(),
        state: if engine.is_full() { "ready" } else { "needs-weights" },
        version: engine.version().map(|v| v.to_string()),
        inputs: parts.inputs.iter().map(port).collect(),
        outputs: parts.outputs.iter().map(port).collect(),
        metadata: parts.metadata.clone(),
        prepare: operators(&parts.prepare),
        execute: operators(&parts.execute),
        weights: refit::weight_summaries(engine),
        bytes: sections.chain([("total".to_owned(), header.file_length)]).collect(),
        placement: None,
    }
}

fn port(port: &Port) -> PortReport {
    let dim = |dim: &engine_format::Dim| match dim.known() {
        Some(n) => n.into(),
        None => dim.to_string().into(),
    };
    PortReport {
        name: port.name.clone(),
        form: port.form,
        dtype: port.dtype.to_string(),
        shape: port.shape.as_ref().map(|dims| dims.iter().map(dim).collect()),
    }
}

fn print(report: &Report) {
    let list = |ports: &[PortReport]| {
        for port in ports {
            let dims = port.shape.as_ref().map(|dims| {
                dims.iter().map(|d| d.to_string().replace('"', "")).collect::<Vec<_>>()
            });
            let dims = dims.map_or_else(|| "?".to_owned(), |dims| dims.join(", "));
            let tensor = format!("{}[{dims}]", port.dtype);
            say!("  {:<32} {}", port.name, port.form.describe(&tensor));
        }
    };
    let flags = if report.flags.is_empty() { "frozen".to_owned() } else { report.flags.join(", ") };
    say!("format   {}\nflags    {flags}\nstate    {}", report.format, report.state);
    say!("version  {}", report.version.as_deref().unwrap_or("–"));
    say!("inputs");
    list(&report.inputs);
    say!("outputs");
    list(&report.outputs);
    for (key, value) in &report.metadata {
        say!("metadata {key} = {value}");
    }
    say!("prepare  {}", super::list(&report.prepare));
    say!("execute  {}", super::list(&report.execute));
    say!("weights  {:>10}  {:<9} {:<10} {:<6} type", "bytes", "class", "refittable", "stored");
    for w in &report.weights {
        let mark = |yes: bool| if yes { "yes" } else { "no" };
        say!(
            "         {:>10}  {:<9} {:<10} {:<6} {}{:?} {}{}",
            w.bytes,
            w.class,
            mark(w.refittable),
            mark(w.stored),
            w.dtype,
            w.shape,
            w.name,
            w.pinned.as_ref().map_or_else(String::new, |why| format!(" (pinned: {why})")),
        );
    }
    let sections: Vec<String> =
        report.bytes.iter().map(|(name, n)| format!("{name} {}", human(*n))).collect();
    say!("bytes    {}", sections.join(", "));
    if let Some(placement) = &report.placement {
        to_stdout(format_args!("{}", placement.text()));
    }
}

fn print_weight(weight: &WeightSummary) {
    let stored = if weight.stored { "stored" } else { "stripped" };
    let takes = match (&weight.fixed, weight.refittable) {
        (None, _) => "takes any values".to_owned(),
        (Some(why), true) => format!("takes only the values it was built with ({why})"),
        (Some(why), false) => format!("takes no values ({why})"),
    };
    say!(
        "{}\n  {} {}{:?}, {} bytes, {stored}, {takes}",
        weight.name,
        weight.class,
        weight.dtype,
        weight.shape,
        weight.bytes
    );
    if !weight.aliases.is_empty() {
        say!("  also called {}", weight.aliases.join(", "));
    }
    say!("  digest  {}", weight.digest.as_deref().unwrap_or("unknown"));
    let nodes = weight.reaches.iter().map(|reached| format!("{} ({})", reached.node, reached.op));
    let nodes: Vec<String> = nodes.collect();
    say!("  reaches {}", if nodes.is_empty() { "no node".to_owned() } else { nodes.join(", ") });
}
