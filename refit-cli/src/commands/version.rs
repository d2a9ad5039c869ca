//! `refit version`: what this program is.

use crate::failure::Failure;
use crate::output::{give, say};
use engine_format::Header;
use engine_ops::{OnnxName, TABLE};
use serde::Serialize;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    /// The newest version of the engine format that is written; every older one of the same major version is read.
    format: String,
    /// Rows of the operator table.
    operators: usize,
    /// The newest opset of ONNX that is read.
    opset: i64,
    /// What it was compiled for, and how.
    target: String,
    profile: &'static str,
}

pub fn run() -> Result<(), Failure> {
    let (major, minor) = Header::NEWEST;
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        format: format!("{major}.{minor}"),
        operators: TABLE.len(),
        opset: OnnxName::LATEST,
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" },
    };
    give(&report, None, || {
        let Report { version, format, operators, opset, target, profile } = &report;
        say!("refit {version}");
        say!("format     {format}");
        say!("operators  {operators}, of ONNX up to opset {opset}");
        say!("target     {target}, {profile}");
    })
}
