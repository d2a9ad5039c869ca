//! Where weights come from: one file for each kind of source.

mod combined;
mod engine;
mod onnx;
mod positional;
mod safetensors;
mod sharded;

pub use combined::Combined;
pub use engine::EngineSource;
pub use onnx::OnnxSource;
pub use safetensors::SafetensorsSource;
pub(crate) use safetensors::their_dtype;
pub use sharded::ShardedSource;

use crate::{RefitError, RefitErrorKind};
use engine_format::{Header, WeightSource};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A source of any kind.
pub type BoxedSource = Box<dyn WeightSource + Send>;

/// Opens the source at `path`: an engine file (recognised by its first bytes), else by its name a safetensors file, a
/// sharded checkpoint's `*.index.json`, or an ONNX model.
///
/// # Errors
/// `Io`, `InvalidSource` for damage and for a file of no known kind, `InvalidEngine`.
pub fn open_source(path: &Path) -> Result<BoxedSource, RefitError> {
    if is_engine(path)? {
        return Ok(Box::new(EngineSource::open(path)?));
    }
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().to_lowercase());
    if name.ends_with(".safetensors") {
        Ok(Box::new(SafetensorsSource::open(path)?))
    } else if name.ends_with(".index.json") {
        Ok(Box::new(ShardedSource::open(path)?))
    } else if name.ends_with(".onnx") {
        Ok(Box::new(OnnxSource::open(path)?))
    } else {
        Err(RefitError::source("source of unknown kind")
            .at(path.display())
            .expected("*.safetensors, *.index.json, *.onnx or an engine file"))
    }
}

/// Opens several sources as one. A tensor that two of them bring has to be the same in both.
///
/// # Errors
/// Those of [`open_source`], and `Conflict`.
pub fn open_sources<P: AsRef<Path>>(paths: &[P]) -> Result<BoxedSource, RefitError> {
    if let [path] = paths {
        return open_source(path.as_ref());
    }
    let sources = paths.iter().map(|path| open_source(path.as_ref())).collect::<Result<_, _>>()?;
    Ok(Box::new(Combined::new(sources)?))
}

/// Whether a file starts as an engine does.
fn is_engine(path: &Path) -> Result<bool, RefitError> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(Header::MAGIC.len() as u64).read_to_end(&mut start))
        .map_err(|error| RefitError::io("opening a source", path, &error))?;
    Ok(start == Header::MAGIC)
}

/// Bytes of a piece of a streamed tensor.
const PIECE: usize = 1 << 20;

/// Hands `bytes` over in copies that nobody else can change.
fn stream_copies(bytes: &[u8], sink: &mut dyn FnMut(&[u8])) {
    let mut own = vec![0; PIECE.min(bytes.len())];
    for piece in bytes.chunks(PIECE) {
        let own = &mut own[..piece.len()];
        own.copy_from_slice(piece);
        sink(own);
    }
}

/// The error of a source whose file cannot be read.
fn unreadable(path: &Path, error: &std::io::Error) -> RefitError {
    RefitError::new(RefitErrorKind::Io, format!("reading a source: {error}")).at(path.display())
}
