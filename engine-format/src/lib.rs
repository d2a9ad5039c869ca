//! The engine file format and the types every other crate speaks.
//!
//! An [`Engine`] is a validated pair of programs (`prepare` and `execute`), a
//! weight table and flags. It is read from bytes by [`Engine::read`] and written
//! by [`Engine::write`]; nothing else produces one without validation, so
//! holding an `Engine` is the proof that its ids, names, sizes, flags and digests
//! are consistent.
//!
//! This crate knows no operator, does no file I/O and contains no `unsafe`.
#![forbid(unsafe_code)]

mod bytes;
mod dim;
mod dtype;
mod engine;
mod error;
mod fill;
mod fit;
mod flags;
mod header;
pub mod limits;
mod msgpack;
mod pack;
mod program;
mod reader;
mod rule;
mod tensor;
mod validate;
mod weights;
mod wire;
mod writer;

pub use bytes::{AlignedBuf, Bytes};
pub use dim::Dim;
pub use dtype::DType;
pub use engine::{Engine, EngineParts, Port, SourceLiteral};
pub use error::{FormatError, FormatErrorKind};
pub use fill::fill_to;
pub use fit::{FitError, FitPolicy, FitReport, Misfit, Taken, check_fit};
pub use flags::{EngineFlags, SerializeFlags};
pub use header::{Header, Section, SectionKind};
pub use program::{Attr, Attrs, Block, Literal, Node, ValueId};
pub use rule::{WeightsPresence, serialized_flags};
pub use tensor::{Element, Tensor, TensorError};
pub use weights::{
    Digest, MapSource, SourceError, TensorInfo, Weight, WeightClass, WeightData, WeightSource,
};
pub use writer::Written;
