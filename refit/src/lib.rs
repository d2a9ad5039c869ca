//! Where weights come from: safetensors, PyTorch, NumPy, GGUF, ONNX, engines and memory, with conversions and adapters on the
//! way; streaming strip and fill of engine files.
//!
//! A [source](open_source) is any file that brings named tensors. [`strip_file`] takes an engine's weights away,
//! [`fill_file`] puts a source's weights in, one at a time, after everything was checked; [`check_file`] only checks,
//! [`extract_file`] writes the weights out and [`diff`] compares. What is written appears whole or not at all.
//!
//! The crate knows no operator and no device.
#![forbid(unsafe_code)]

mod diff;
mod error;
mod files;
mod graph;
pub mod npy;
mod output;
mod picture;
mod report;
mod source;
mod tensors;
mod weights;

pub use diff::{EngineDiff, FlagsDiff, NodeDiff, RetypedWeight, WeightDiff, diff};
pub use engine_format::MapSource;
pub use error::{RefitError, RefitErrorKind};
pub use files::{
    FillOptions, check_file, extract_file, fill_engine, fill_file, open_engine, strip_file,
    write_engine,
};
pub use output::{Progress, write_file};
pub use picture::{Around, Picture, PictureOptions};
pub use report::{FitSummary, MisfitSummary, TakenSummary};
pub use source::{
    BoxedSource, CastSource, Combined, Conversion, EngineSource, GgufSource, Lora, LoraSource,
    NpzSource, OnnxSource, SafetensorsSource, ShardedSource, TorchSource, map_sources, open_bytes,
    open_source, open_sources,
};
pub use tensors::{TensorFile, WrittenTensors};
pub use weights::{ReachedNode, WeightSummary, weight_summaries};

/// The example of the README is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
