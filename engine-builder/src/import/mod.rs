//! ONNX → [`Graph`](crate::graph::Graph).
//!
//! An operator that the table has under the model's opset is taken over as it is. What older opsets spell differently, and
//! what decomposes, is written in terms of the newest forms by the rows of [`adapters`]. Everything else is reported
//! at once, by [`unsupported`].

mod adapters;
pub(crate) mod attrs;
mod blocks;
mod call;
mod importer;
mod inputs;
mod origin;
#[cfg(test)]
mod tests;
mod unsupported;

pub(crate) use attrs::element_number;
pub(crate) use importer::{Imported, import};
pub(crate) use origin::{Origin, Origins};

/// ONNX operators that are written in terms of the operator table, or older forms of those that are in it: domain, name, first
/// and last opset.
pub fn composed() -> impl Iterator<Item = (&'static str, &'static str, i64, i64)> {
    adapters::all()
}
