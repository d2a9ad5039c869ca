//! `cargo xtask conformance --suite zoo`: which architectures of PyTorch are refitted from their own checkpoints, for every way to export.

use crate::suite::Arguments;
use ::conformance::exports::has_torch;
use ::conformance::zoo::{EXPORTERS, Verdict, architectures, export, judge};
use miette::{IntoDiagnostic, Result, ensure, miette};
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

/// Judges every chosen model and architecture; with the group `models` the models alone, which ask for no PyTorch.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let alone = arguments.group == "models";
    let models =
        if alone || arguments.group.is_empty() { models(&arguments.case)? } else { String::new() };
    if alone {
        return Ok(());
    }
    ensure!(has_torch(), "the zoo needs a Python with PyTorch");
    let names = architectures().into_diagnostic()?;
    let names = names.into_iter().filter(|name| name.contains(&arguments.case));
    let exporters: Vec<&str> =
        EXPORTERS.into_iter().filter(|name| name.starts_with(&arguments.group)).collect();
    let folder = root.join("target/zoo");
    let mut page = HEAD.to_owned();
    let (names, mut wrong) = (names.collect::<Vec<_>>(), Vec::new());
    for fresh in [false, true] {
        let title = if fresh { "As initialised" } else { "As training leaves them" };
        let mut table = format!("\n## {title}\n\n| | {} |\n|---|", exporters.join(" | "));
        table.push_str(&"---|".repeat(exporters.len()));
        let mut reasons = String::new();
        for name in &names {
            write!(table, "\n| {name} |").into_diagnostic()?;
            let place = folder.join(format!("{name}-{fresh}"));
            export(&place, name, fresh).into_diagnostic()?;
            for exporter in &exporters {
                let verdict = judge(&place, exporter)
                    .map_err(|error| miette!("{name}, {exporter}: {error}"))?;
                println!("{name} {exporter}{}: {verdict:?}", if fresh { " fresh" } else { "" });
                let cell = match verdict {
                    Verdict::Right(size) if size <= LARGEST => size.to_string(),
                    Verdict::Right(size) => {
                        wrong.push(format!("{name}, {exporter}: {size} bytes stripped"));
                        size.to_string()
                    }
                    Verdict::NotExported => "–".to_owned(),
                    Verdict::Refused(why) => {
                        write!(reasons, "\n- {name}, {exporter}: {why}").into_diagnostic()?;
                        "refused".to_owned()
                    }
                    Verdict::Wrong(how) => {
                        wrong.push(format!("{name}, {exporter}: {how}"));
                        "**wrong**".to_owned()
                    }
                };
                write!(table, " {cell} |").into_diagnostic()?;
            }
            std::fs::remove_dir_all(&place).into_diagnostic()?;
        }
        page.push_str(&table);
        page.push('\n');
        page.push_str(&reasons);
        if !reasons.is_empty() {
            page.push('\n');
        }
    }
    page.push_str(&models);
    println!("{page}");
    if arguments.bless {
        std::fs::write(root.join(PAGE), &page).into_diagnostic()?;
    }
    ensure!(wrong.is_empty(), "accepted and wrong, or too large:\n{}", wrong.join("\n"));
    Ok(())
}
