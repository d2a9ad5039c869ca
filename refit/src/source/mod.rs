//! Where weights come from: one file for each kind of source, and for each thing that is done to one on the way.

mod cast;
mod combined;
mod engine;
mod file;
mod gguf;
mod lora;
mod npz;
mod onnx;
mod pickle;
mod positional;
mod safetensors;
mod sharded;
mod torch;
mod zip;

pub use cast::{CastSource, Conversion};
pub use combined::Combined;
pub use engine::EngineSource;
pub use gguf::GgufSource;
pub use lora::{Lora, LoraSource};
pub use npz::NpzSource;
pub use onnx::OnnxSource;
pub use safetensors::SafetensorsSource;
pub(crate) use safetensors::their_dtype;
pub use sharded::ShardedSource;
pub use torch::TorchSource;

use crate::{RefitError, RefitErrorKind};
use engine_format::{Bytes, Engine, Header, WeightSource};
use engine_onnx::{Model, open_regular};
use file::{Access, SourceFile};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A source of any kind.
pub type BoxedSource = Box<dyn WeightSource + Send>;

/// Opens the source at `path`: an engine file (recognised by its first bytes), else what its name says, as the table of the
/// README lists. `FILE:KEY` is a dictionary inside a PyTorch checkpoint, see [`TorchSource::open_at`]. A folder is the checkpoint in it, under
/// the names that the libraries of Hugging Face write.
///
/// # Errors
/// `Io`, `InvalidSource` for damage and for a file of no known kind, `InvalidEngine`.
pub fn open_source(path: &Path) -> Result<BoxedSource, RefitError> {
    open_with(path, Access::Read)
}

fn open_with(path: &Path, access: Access) -> Result<BoxedSource, RefitError> {
    if !path.exists()
        && let Some((file, key)) = torch::file_and_key(path)
    {
        let file = SourceFile::with_access(&file, access)?;
        return Ok(Box::new(TorchSource::of(file, Some(key))?));
    }
    let path = &in_folder(path, &CHECKPOINTS)?;
    if is_engine(path)? {
        return Ok(Box::new(EngineSource::open(path)?));
    }
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    match kind_of(SHARDS, &name).or_else(|| kind_of(KINDS, &name)) {
        Some(open) => open(path, access),
        None => {
            let known = SHARDS.iter().chain(KINDS).map(|(ending, _)| format!("*{ending}"));
            let known: Vec<String> = known.collect();
            Err(RefitError::source("source of unknown kind")
                .at(path.display())
                .expected(format_args!("{} or an engine file", known.join(", "))))
        }
    }
}

/// Opens a source of one kind.
type Open = fn(&Path, Access) -> Result<BoxedSource, RefitError>;

/// Kinds of files by the ends of their names: those that a checkpoint may be split into.
static SHARDS: &[(&str, Open)] = &[
    (".safetensors", |path, access| {
        Ok(Box::new(SafetensorsSource::of(SourceFile::with_access(path, access)?)?))
    }),
    (".pt", torch),
    (".pth", torch),
    (".bin", torch),
];

fn torch(path: &Path, access: Access) -> Result<BoxedSource, RefitError> {
    Ok(Box::new(TorchSource::of(SourceFile::with_access(path, access)?, None)?))
}

/// The other kinds.
static KINDS: &[(&str, Open)] = &[
    (".index.json", |path, access| Ok(Box::new(ShardedSource::with_access(path, access)?))),
    (".onnx", |path, _| Ok(Box::new(OnnxSource::open(path)?))),
    (".npz", |path, _| Ok(Box::new(NpzSource::open(path)?))),
    (".gguf", |path, _| Ok(Box::new(GgufSource::open(path)?))),
];

/// The names of a checkpoint in a folder, what is preferred first.
const CHECKPOINTS: [&str; 4] = [
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
];

/// The first of these files that is in a folder; a path that is no folder is the file itself.
fn in_folder(path: &Path, names: &[&str]) -> Result<PathBuf, RefitError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let mut files = names.iter().map(|name| path.join(name));
    files.find(|file| file.exists()).ok_or_else(|| {
        RefitError::source("a folder without weights")
            .at(path.display())
            .expected(format_args!("{} in it", names.join(" or ")))
    })
}

/// How a file of this name is opened, if it is of one of these kinds.
fn kind_of(kinds: &[(&str, Open)], name: &str) -> Option<Open> {
    let name = name.to_lowercase();
    kinds.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, open)| *open)
}

/// Opens the bytes of a file as a source, whose kind is told by how they begin: an engine, a PyTorch checkpoint of either form, an `.npz`,
/// GGUF, safetensors, or else an ONNX model.
///
/// # Errors
/// Those of [`open_source`].
pub fn open_bytes(bytes: Bytes) -> Result<BoxedSource, RefitError> {
    const ORIGIN: &str = "memory";
    if bytes.starts_with(&Header::MAGIC) {
        return Ok(Box::new(EngineSource::new(Engine::read(bytes)?, ORIGIN)));
    }
    let file = || SourceFile::of_bytes(bytes.clone());
    if bytes.starts_with(ZIP) {
        let archive = zip::Archive::of(file())?;
        return Ok(match archive.has("data.pkl") {
            true => Box::new(TorchSource::of(file(), None)?),
            false => Box::new(NpzSource::of(archive)?),
        });
    }
    if pickle::is_series(&bytes) {
        return Ok(Box::new(TorchSource::of(file(), None)?));
    }
    if bytes.starts_with(GGUF) {
        return Ok(Box::new(GgufSource::of(file())?));
    }
    if bytes.get(OBJECT) == Some(&b'{') {
        return Ok(Box::new(SafetensorsSource::of(file())?));
    }
    Ok(Box::new(OnnxSource::new(&Model::parse(bytes, None)?, ORIGIN)))
}

const ZIP: &[u8] = b"PK\x03\x04";
const GGUF: &[u8] = b"GGUF";
/// A safetensors file begins with the length of its header, which is an object of JSON.
const OBJECT: usize = 8;

/// What a file is that is no engine, by its contents, if that can be told.
pub(crate) fn kind_of_bytes(bytes: &Bytes) -> Option<&'static str> {
    if bytes.starts_with(&Header::MAGIC) {
        None
    } else if bytes.starts_with(ZIP) {
        Some("a PyTorch checkpoint or a .npz file")
    } else if pickle::is_series(bytes) {
        Some("a PyTorch checkpoint")
    } else if bytes.starts_with(GGUF) {
        Some("a GGUF file")
    } else if bytes.starts_with(b"\x93NUMPY") {
        Some("a .npy file")
    } else if bytes.get(OBJECT) == Some(&b'{') {
        Some("a safetensors file")
    } else {
        Model::parse(bytes.clone(), None).is_ok().then_some("an ONNX model")
    }
}

/// Opens several sources as one. A tensor that two of them bring has to be the same in both.
///
/// # Errors
/// Those of [`open_source`], and `Conflict`.
pub fn open_sources<P: AsRef<Path>>(paths: &[P]) -> Result<BoxedSource, RefitError> {
    open_all(paths, Access::Read)
}

/// As [`open_sources`], for a build: tensors that lie in a safetensors or PyTorch file as they are are parts of a mapping, not copies. So
/// the files must not change, and no tensor may be kept, beyond the call that the source is for.
///
/// # Errors
/// Those of [`open_sources`].
pub fn map_sources<P: AsRef<Path>>(paths: &[P]) -> Result<BoxedSource, RefitError> {
    open_all(paths, Access::Map)
}

fn open_all<P: AsRef<Path>>(paths: &[P], access: Access) -> Result<BoxedSource, RefitError> {
    if let [path] = paths {
        return open_with(path.as_ref(), access);
    }
    let sources = paths.iter().map(|path| open_with(path.as_ref(), access));
    let sources = sources.collect::<Result<_, _>>()?;
    Ok(Box::new(Combined::new(sources)?))
}

/// Whether a file starts as an engine does.
fn is_engine(path: &Path) -> Result<bool, RefitError> {
    let mut start = Vec::new();
    open_regular(path)
        .and_then(|file| file.take(Header::MAGIC.len() as u64).read_to_end(&mut start))
        .map_err(|error| RefitError::io("opening a source", path, &error))?;
    Ok(start == Header::MAGIC)
}

/// Bytes of a piece of a streamed tensor: what reads it next finds it in the second-level cache.
const PIECE: usize = 256 << 10;

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
