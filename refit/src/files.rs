//! Engine files: opening, stripping, filling, checking, extracting.

use crate::output::{Progress, write_atomically};
use crate::source::kind_of_bytes;
use crate::{EngineSource, RefitError, RefitErrorKind, TensorFile};
use engine_format::{
    Engine, EngineFlags, Filled, FitPolicy, FitReport, SerializeFlags, WeightSource, Written,
    check_fit, fill_to,
};
use std::path::Path;

/// Opens an engine file: mapped, validated, its weights not copied.
///
/// The engine keeps the file mapped. Replace engine files by renaming, as everything here does: one that is written to or truncated while
/// it is mapped is an error of whatever reads it next, a run too, and may end a process that reads it at that very moment.
///
/// # Errors
/// `Io`, or `InvalidEngine`.
pub fn open_engine(path: &Path) -> Result<Engine, RefitError> {
    let bytes = engine_onnx::map_file(path)
        .map_err(|error| RefitError::io("opening an engine", path, &error))?;
    if let Some(kind) = kind_of_bytes(&bytes) {
        return Err(RefitError::new(RefitErrorKind::InvalidEngine, "not an engine file")
            .at(path.display())
            .expected("a file that `refit build MODEL -o OUT` writes")
            .found(kind));
    }
    Engine::read(bytes).map_err(|error| RefitError::from(error).at(path.display()))
}

/// Writes `engine` without its refittable weights to `out`.
///
/// # Errors
/// `NotRefittable`, `Io`, or `InvalidEngine`.
pub fn strip_file(
    engine: &Path,
    out: &Path,
    progress: Option<Progress<'_>>,
) -> Result<Written, RefitError> {
    let opened = open_engine(engine)?;
    let flags = SerializeFlags::EXCLUDE_WEIGHTS | compression(&opened);
    opened.serialized_flags(flags).map_err(|error| RefitError::from(error).at(engine.display()))?;
    write_engine(&opened, flags, out, progress)
}

/// Writes `engine` to `out` under `flags`.
///
/// # Errors
/// Those of [`Engine::write`], and `Io`.
pub fn write_engine(
    engine: &Engine,
    flags: SerializeFlags,
    out: &Path,
    progress: Option<Progress<'_>>,
) -> Result<Written, RefitError> {
    engine.serialized_flags(flags)?;
    write_atomically(out, weight_bytes(engine), progress, |file| Ok(engine.write(flags, file)?))
}

/// How to fill a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FillOptions {
    /// The result takes no other weights any more.
    pub freeze: bool,
    /// Tensors that the engine does not know are left alone.
    pub allow_extra: bool,
}

impl FillOptions {
    fn policy(self) -> FitPolicy {
        FitPolicy { partial: false, allow_extra: self.allow_extra }
    }
}

/// Writes `engine` with the weights of `source` to `out`, and says what was taken and kept, holding little more than one weight in memory.
///
/// Everything is checked before a byte is written, and `out` appears whole or not at all. It may be the engine's own
/// path.
///
/// # Errors
/// `UnfitWeights`, `MissingWeights` or `NotRefittable` with the whole [`FitReport`]; `InvalidSource`, `InvalidEngine`,
/// `Io`.
pub fn fill_file(
    engine: &Path,
    source: &dyn WeightSource,
    out: &Path,
    options: FillOptions,
    progress: Option<Progress<'_>>,
) -> Result<Filled<Written>, RefitError> {
    fill_engine(&open_engine(engine)?, source, out, options, progress)
        .map_err(|error| error.at(engine.display()))
}

/// As [`fill_file`], of an engine in memory.
///
/// # Errors
/// Those of [`fill_file`].
pub fn fill_engine(
    engine: &Engine,
    source: &dyn WeightSource,
    out: &Path,
    options: FillOptions,
    progress: Option<Progress<'_>>,
) -> Result<Filled<Written>, RefitError> {
    let mut flags = compression(engine);
    flags.set(SerializeFlags::INCLUDE_REFIT, !options.freeze);
    write_atomically(out, weight_bytes(engine), progress, |file| {
        Ok(fill_to(engine, source, options.policy(), flags, file)?)
    })
}

/// Says whether the weights of `source` would fit `engine`; nothing is written. That they do not is no error here.
///
/// # Errors
/// `Io`, `InvalidEngine`, `InvalidSource`.
pub fn check_file(
    engine: &Path,
    source: &dyn WeightSource,
    allow_extra: bool,
) -> Result<FitReport, RefitError> {
    let policy = FitPolicy { partial: false, allow_extra };
    Ok(check_fit(&open_engine(engine)?, source, policy)?)
}

/// Writes every weight of `engine`, parameters included, to a safetensors file and gives back their number.
///
/// # Errors
/// `MissingWeights` that names them, `Io`, `InvalidEngine`.
pub fn extract_file(
    engine: &Path,
    out: &Path,
    progress: Option<Progress<'_>>,
) -> Result<usize, RefitError> {
    let weights = EngineSource::open(engine)?.weights()?;
    Ok(TensorFile::Safetensors.write_source(out, &weights, progress)?.tensors)
}

/// Keeps a compressed file compressed.
fn compression(engine: &Engine) -> SerializeFlags {
    let mut flags = SerializeFlags::empty();
    flags.set(SerializeFlags::COMPRESS, engine.flags().contains(EngineFlags::COMPRESSED));
    flags
}

/// What there is to do, for progress: close to the length of a full file.
fn weight_bytes(engine: &Engine) -> u64 {
    engine.parts().weights.iter().map(|weight| weight.byte_len() as u64).sum()
}
