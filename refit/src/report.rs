//! A fit report in a form for machines.

use engine_format::FitReport;
use serde::Serialize;

/// What `check --json` prints, and `run --json` and `fill --json` under `fit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FitSummary {
    /// Whether nothing is wrong.
    pub fits: bool,
    /// Weights that take the source's bytes.
    pub taken: Vec<TakenSummary>,
    /// Weights that the source does not have and that keep the values they have.
    pub kept: Vec<String>,
    /// Tensors of the source that are accepted and not used.
    pub unused: Vec<String>,
    /// Those of them that hold floats of a module of which the engine takes other tensors.
    pub stray: Vec<String>,
    /// Everything that is wrong.
    pub misfits: Vec<MisfitSummary>,
}

/// A weight that is taken from the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TakenSummary {
    /// The engine's name.
    pub weight: String,
    /// The source's name.
    pub source: String,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MisfitSummary {
    /// `missing`, `extra`, `shape`, `dtype`, `values`, `literal`, `conflict` or `frozen`.
    pub kind: &'static str,
    /// The tensor; none for a frozen engine.
    pub name: Option<String>,
    /// The whole of it in words.
    pub message: String,
}

impl From<&FitReport> for FitSummary {
    fn from(report: &FitReport) -> Self {
        let taken = report.taken.iter().map(|taken| TakenSummary {
            weight: taken.weight.clone(),
            source: taken.source.clone(),
        });
        let misfits = report.misfits.iter().map(|misfit| MisfitSummary {
            kind: misfit.kind(),
            name: misfit.name().map(str::to_owned),
            message: misfit.to_string(),
        });
        Self {
            fits: report.is_fit(),
            taken: taken.collect(),
            kept: report.kept.clone(),
            unused: report.unused.clone(),
            stray: report.stray.clone(),
            misfits: misfits.collect(),
        }
    }
}
