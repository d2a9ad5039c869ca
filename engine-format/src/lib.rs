//! The engine file format and the types every other crate speaks.
//!
//! An [`Engine`] is a validated pair of programs (`prepare` and `execute`), a
//! weight table and flags. [`Engine::new`] and [`Engine::read`] check everything, so
//! holding an `Engine` is the proof that its ids, names, sizes, flags and digests
//! are consistent. [`Engine::write`] writes it, [`Engine::strip`] and [`Engine::fill`] take
//! weights out and put them back, [`check_fit`] says whether weights fit, and
//! [`serialized_flags`] is the one rule of what a file becomes.
//!
//! ```no_run
//! use engine_format::{Bytes, Engine, SerializeFlags};
//!
//! let engine = Engine::read(Bytes::from(std::fs::read("model.engine")?))?;
//! println!("{} with {} weights", engine.flags(), engine.parts().weights.len());
//! std::fs::write("stripped.engine", engine.serialize(SerializeFlags::EXCLUDE_WEIGHTS)?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate knows no operator, does no file I/O and contains no `unsafe`.
#![forbid(unsafe_code)]

mod ahead;
mod alias;
mod buffer;
mod bytes;
mod digest;
mod dim;
mod dtype;
mod engine;
mod error;
mod fill;
mod fit;
mod flags;
mod form;
mod header;
pub mod limits;
mod meaning;
mod msgpack;
mod pack;
mod parts;
mod probe;
mod program;
mod reader;
mod rearrange;
mod rule;
pub mod size;
mod source;
mod spare;
mod spread;
mod strings;
mod tensor;
mod validate;
mod weights;
mod wire;
mod writer;

pub use alias::{Alias, View, ViewPart};
pub use buffer::{AlignedBuf, Home};
pub use bytes::{Bytes, Changed, Mapped};
pub use digest::Digest;
pub use dim::Dim;
pub use dtype::DType;
pub use engine::Engine;
pub use error::{FormatError, FormatErrorKind, TensorError};
pub use fill::{Filled, fill_to};
pub use fit::{FitError, FitPolicy, FitReport, Misfit, Taken, check_fit};
pub use flags::{EngineFlags, SerializeFlags};
pub use form::Form;
pub use header::{Header, Section, SectionKind};
pub use parts::{EngineParts, Port, SourceLiteral};
pub use probe::Probe;
pub use program::{Attr, Attrs, Block, Literal, Node, ValueId};
pub use rearrange::Inexact;
pub use rule::{WeightsPresence, serialized_flags};
pub use size::OutOfMemory;
pub use source::{MapSource, Naming, SourceError, TensorInfo, WeightSource};
pub use spare::Spare;
pub use strings::decode as decode_strings;
pub use tensor::{Element, Tensor};
pub use weights::{Weight, WeightClass, WeightData};
pub use writer::Written;

/// The README's example is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
