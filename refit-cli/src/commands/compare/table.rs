//! A comparison as text.

use super::{Compared, Report, WorstReport};
use crate::output::say;
use std::path::Path;

/// Columns of a table: what stands above each, and its cells. Numbers stand at the right.
struct Column {
    head: &'static str,
    right: bool,
    cell: fn(&Compared) -> String,
}

const COLUMNS: [Column; 9] = [
    Column { head: "output", right: false, cell: |one| one.output.clone() },
    Column { head: "type", right: false, cell: types },
    Column { head: "", right: false, cell: |one| verdict(one).to_owned() },
    Column { head: "max |a-b|", right: true, cell: |one| number(one.max_abs) },
    Column { head: "max rel", right: true, cell: |one| number(one.max_rel) },
    Column {
        head: "cosine",
        right: true,
        cell: |one| one.cosine.map_or(none(), |c| format!("{c:.6}")),
    },
    Column {
        head: "beyond",
        right: true,
        cell: |one| one.differing.map_or(none(), |n| n.to_string()),
    },
    Column { head: "NaN", right: true, cell: nan },
    Column { head: "worst", right: false, cell: |one| one.worst.as_ref().map_or(none(), worst) },
];

fn none() -> String {
    "–".to_owned()
}

fn types(one: &Compared) -> String {
    match one.found == one.expected {
        true => one.found.clone(),
        false => format!("{} | {}", one.found, one.expected),
    }
}

fn verdict(one: &Compared) -> &'static str {
    if one.agrees { "agrees" } else { "DIFFERENT" }
}

fn number(number: Option<f64>) -> String {
    number.map_or_else(none, |number| match number {
        0.0 => "0".to_owned(),
        number => format!("{number:.2e}"),
    })
}

fn nan(one: &Compared) -> String {
    match one.nan_found == one.nan_expected {
        true => one.nan_found.to_string(),
        false => format!("{} | {}", one.nan_found, one.nan_expected),
    }
}

fn worst(WorstReport { index, found, expected }: &WorstReport) -> String {
    format!("{index:?}: {} | {}", shortest(*found), shortest(*expected))
}

/// A number in as many digits as its element needs, which is seldom an f64.
fn shortest(value: f64) -> String {
    let narrow = value as f32;
    match f64::from(narrow) == value {
        true => format!("{narrow:?}"),
        false => format!("{value:?}"),
    }
}

/// Prints what was compared, and a line for each output.
pub fn print(file: &Path, report: &Report, made: &[String]) {
    say!("found     {} on {}", file.display(), report.device);
    say!("expected  {}", report.with);
    for (name, value) in &report.inputs {
        let from = if made.contains(name) { "made up" } else { "given" };
        say!("input     {name} {value}, {from}");
    }
    say!("allowed   {:?} + {:?} of what is expected", report.atol, report.rtol);
    let rows =
        report.outputs.iter().map(|one| COLUMNS.iter().map(|column| (column.cell)(one)).collect());
    let heads = COLUMNS.iter().map(|column| column.head.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).zip(&COLUMNS).map(|((cell, &width), column)| {
            match column.right {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            }
        });
        say!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    for (label, names) in [("engine", &report.only_in_engine), ("other", &report.only_in_other)] {
        if !names.is_empty() {
            say!("only in the {label}: {}", names.join(", "));
        }
    }
}
