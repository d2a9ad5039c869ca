//! `refit convert`: weights from files of any kind to a file of another.

use super::human;
use crate::args::Convert;
use crate::failure::{Class, Failure};
use crate::output::{give, remark};
use crate::progress::Progress;
use engine_format::DType;
use refit::{BoxedSource, CastSource, Lora, LoraSource, TensorFile};
use serde::Serialize;

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
    for path in &args.sources {
        // A stripped engine has some tensors, and it is not these that are meant.
        if let Ok(engine) = refit::open_engine(path)
            && !engine.is_full()
        {
            let missing = engine.missing().join(", ");
            let what =
                format!("{} is stripped; it does not hold the weights: {missing}", path.display());
            return Err(Failure::new(Class::MissingWeights, what).names(&engine.missing()));
        }
    }
    let mut source: BoxedSource = refit::open_sources(&args.sources)?;
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
