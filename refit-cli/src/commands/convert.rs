//! `refit convert`: weights from files of any kind to a file of another.

use super::human;
use crate::args::Convert;
use crate::failure::{Class, Failure};
use crate::output::{give, remark};
use crate::progress::Progress;
use engine_format::DType;
use refit::{BoxedSource, CastSource, Combined, EngineSource, Lora, LoraSource, TensorFile};
use serde::Serialize;
use std::path::Path;

/// The object that `--json` prints.
#[derive(Serialize)]
struct Report {
    file: String,
    /// Tensors, those of them that were converted, and bytes of the data.
    tensors: usize,
    converted: usize,
    bytes: u64,
}

pub fn run(args: Convert) -> Result<(), Failure> {
    let Some(kind) = TensorFile::of(&args.output) else {
        let what = format!("{}: a file of unknown kind", args.output.display());
        return Err(Failure::with_help(Class::Usage, what, "name a .safetensors or .npz file"));
    };
    let sources = args.sources.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut source: BoxedSource = Box::new(Combined::new(sources)?);
    if !args.lora.is_empty() {
        let adapters = args.lora.iter().map(|text| Lora::parse(text));
        source = Box::new(LoraSource::new(source, adapters.collect::<Result<_, _>>()?)?);
    }
    source.remarks().into_iter().for_each(|line| remark!("{line}"));
    let mut converted = 0;
    if let Some(to) = args.cast {
        let cast = CastSource::every(source, DType::from(to));
        converted = cast.conversions().len();
        source = Box::new(cast);
    }
    let progress = Progress::new("converting");
    let follow = |done, total| progress.update(done, total);
    let written = kind.write_source(&args.output, &*source, Some(&follow))?;
    drop(progress);
    let file = args.output.display().to_string();
    let report = Report { file, tensors: written.tensors, converted, bytes: written.bytes };
    give(&report, None, || {
        let Report { file, tensors, converted, bytes } = &report;
        remark!("{file}: {tensors} tensors, {converted} of them converted, {}", human(*bytes));
    })
}

/// A source; of an engine its weights, all of them, and none of the constants of its program.
fn open(path: &Path) -> Result<BoxedSource, Failure> {
    match EngineSource::open(path) {
        Ok(engine) => Ok(Box::new(engine.weights()?)),
        // Another kind of file, or none; the error of what it is said to be is the better one.
        Err(_) => Ok(refit::open_source(path)?),
    }
}
