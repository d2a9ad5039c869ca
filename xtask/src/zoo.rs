//! `cargo xtask conformance --suite zoo`: which architectures of PyTorch are refitted from their own checkpoints, for every way to export.

use crate::suite::Arguments;
use ::conformance::exports::has_torch;
use ::conformance::zoo::{EXPORTERS, Verdict, architectures, export, judge};
use miette::{IntoDiagnostic, Result, ensure, miette};
use rayon::prelude::*;
use std::fmt::Write as _;
use std::path::Path;

/// The largest stripped file of these small networks.
const LARGEST: usize = 40 << 10;

const PAGE: &str = "docs/ARCHITECTURES.md";

const HEAD: &str = "# Architectures\n\nWhat `refit build --weights` makes of small networks of real architectures, exported by PyTorch in \
four ways: *legacy* (`dynamo=False`), *preserve* (`dynamo=False, do_constant_folding=False, training=TrainingMode.PRESERVE`), *dynamo* \
(`dynamo=True`) and *dynamo_raw* (`dynamo=True, optimize=False`); once with weights as training leaves them, and once as initialised, \
with zeros and ones. A number is the size of the stripped file in bytes: refitted from another checkpoint the engine gives what PyTorch \
gives, and every float tensor of the checkpoint moves the engine's outputs exactly if it moves PyTorch's. Everything else is \
refused by name, or not exported (–). Made by `cargo xtask conformance --suite zoo --bless`.\n";

const MODELS: &str = "\n## Real models\n\nModels that people use, without the framework that made them: their file is the checkpoint, and the \
graph as it is, without binding and without passes, stands for the framework. Of the float tensors so many move the outputs of \
both, so many of neither, and so many take one value only, which the error says; none moves one alone.\n\n| | move both | move neither | \
take one value |\n|---|---|---|---|";

/// Moves every float tensor of the real models, and gives the table.
fn models(case: &str) -> Result<String> {
    let mut table = MODELS.to_owned();
    for model in ::conformance::models::MODELS.iter().filter(|model| model.name.contains(case)) {
        let mutated = model.mutated().map_err(|error| miette!("{}: {error}", model.name))?;
        println!("{}: {mutated}", model.name);
        let (moving, still, fixed) = (mutated.moving, mutated.still, mutated.fixed.len());
        write!(table, "\n| {} | {moving} | {still} | {fixed} |", model.name).into_diagnostic()?;
    }
    table.push('\n');
    Ok(table)
}

/// Judges every chosen model and architecture; with the group `models` the models alone, which ask for no PyTorch, with the group
/// `architectures` these alone.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let group = arguments.group.as_str();
    let models =
        if matches!(group, "" | "models") { models(&arguments.case)? } else { String::new() };
    if group == "models" {
        return Ok(());
    }
    ensure!(has_torch(), "the zoo needs a Python with PyTorch");
    let names = architectures().into_diagnostic()?;
    let names: Vec<String> =
        names.into_iter().filter(|name| name.contains(&arguments.case)).collect();
    let group = if group == "architectures" { "" } else { group };
    let exporters: Vec<&str> =
        EXPORTERS.into_iter().filter(|name| name.starts_with(group)).collect();
    let folder = root.join("target/zoo");
    let mut page = HEAD.to_owned();
    let mut wrong = Vec::new();
    for fresh in [false, true] {
        let judged: Vec<Judged> = names
            .par_iter()
            .with_max_len(1)
            .map(|name| judge_all(&folder, name, &exporters, fresh))
            .collect::<Result<_>>()?;
        page.push_str(&section(&exporters, fresh, &judged));
        wrong.extend(judged.iter().flat_map(Judged::wrong));
    }
    page.push_str(&models);
    println!("{page}");
    if arguments.bless {
        std::fs::write(root.join(PAGE), &page).into_diagnostic()?;
    }
    ensure!(wrong.is_empty(), "accepted and wrong, or too large:\n{}", wrong.join("\n"));
    Ok(())
}

/// An architecture with what became of its exports.
struct Judged {
    name: String,
    exports: Vec<(String, Verdict)>,
}

/// Exports an architecture and judges what every exporter made of it; says how each went as soon as it is known.
fn judge_all(folder: &Path, name: &str, exporters: &[&str], fresh: bool) -> Result<Judged> {
    let place = folder.join(format!("{name}-{fresh}"));
    export(&place, name, fresh).into_diagnostic()?;
    let mut exports = Vec::new();
    for exporter in exporters {
        let verdict =
            judge(&place, exporter).map_err(|error| miette!("{name}, {exporter}: {error}"))?;
        println!("{name} {exporter}{}: {verdict:?}", if fresh { " fresh" } else { "" });
        exports.push(((*exporter).to_owned(), verdict));
    }
    std::fs::remove_dir_all(&place).into_diagnostic()?;
    Ok(Judged { name: name.to_owned(), exports })
}

impl Judged {
    /// What must not be.
    fn wrong(&self) -> impl Iterator<Item = String> {
        self.exports.iter().filter_map(|(exporter, verdict)| {
            let how = match verdict {
                Verdict::Wrong(how) => how.clone(),
                Verdict::Right(size) if *size > LARGEST => format!("{size} bytes stripped"),
                _ => return None,
            };
            Some(format!("{}, {exporter}: {how}", self.name))
        })
    }

    fn row(&self) -> String {
        let cells = self.exports.iter().map(|(_, verdict)| match verdict {
            Verdict::Right(size) => size.to_string(),
            Verdict::NotExported => "–".to_owned(),
            Verdict::Refused(_) => "refused".to_owned(),
            Verdict::Wrong(_) => "**wrong**".to_owned(),
        });
        format!("\n| {} | {} |", self.name, cells.collect::<Vec<_>>().join(" | "))
    }

    /// Why exports were refused.
    fn reasons(&self) -> impl Iterator<Item = String> {
        self.exports.iter().filter_map(|(exporter, verdict)| match verdict {
            Verdict::Refused(why) => Some(format!("\n- {}, {exporter}: {why}", self.name)),
            _ => None,
        })
    }
}

/// The table of all architectures, and under it why exports were refused.
fn section(exporters: &[&str], fresh: bool, judged: &[Judged]) -> String {
    let title = if fresh { "As initialised" } else { "As training leaves them" };
    let rule = "---|".repeat(exporters.len());
    let rows: String = judged.iter().map(Judged::row).collect();
    let reasons: String = judged.iter().flat_map(Judged::reasons).collect();
    let end = if reasons.is_empty() { "" } else { "\n" };
    format!("\n## {title}\n\n| | {} |\n|---|{rule}{rows}\n{reasons}{end}", exporters.join(" | "))
}
