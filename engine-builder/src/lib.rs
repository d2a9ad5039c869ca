#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod assemble;
mod binding;
mod build;
mod classify;
mod error;
pub mod graph;
mod import;
mod op;
mod options;
mod passes;
mod report;
#[cfg(test)]
mod testing;

pub use binding::{BindMap, Binding, BindingReport, BoundTo, Kept, Reason, Unbound, Why};
pub use build::{build, build_bound, build_with_report};
pub use error::{BuildError, BuildErrorKind};
pub use import::composed;
pub use options::{BuildOptions, Precision, RefitMode};
pub use report::{BuildReport, Note, Outcome};

/// Infers all types of a graph anew.
fn infer_all(graph: &mut graph::Graph) -> Result<(), BuildError> {
    graph.infer_all().map_err(|(node, error)| {
        BuildError::new(BuildErrorKind::InvalidNode, format!("node {node:?}: {error}"))
    })
}
