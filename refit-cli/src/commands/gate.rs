//! `refit gate`: an engine held to every promise of refit with two sets of weights, for whoever releases it.

use super::onnxruntime::{self, Made};
use super::{open_device, open_engine, open_model, open_weights};
use crate::args::{Gate, Given, Inputs, Oracle};
use crate::failure::{Class, Context, Failure};
use crate::inputs::{Prepared, prepare};
use crate::output::{give, remark, say};
use crate::progress::Progress;
use engine_format::{Port, WeightSource};
use engine_verify::gate::{
    self, Baseline, Follow, GateError, InputSet, Limits, OracleOutputs, Report,
};
use engine_verify::scenario::Which;
use std::path::{Path, PathBuf};

pub fn run(args: Gate) -> Result<(), Failure> {
    let engine = open_engine(&args.file)?;
    let model = open_model(&args.onnx)?;
    let [a, b] = args.weights.as_slice() else {
        let what = format!("--weights is given {} times", args.weights.len());
        let help = "a gate refits from one set of weights to another: --weights A --weights B";
        return Err(Failure::with_help(Class::Usage, what, help));
    };
    let open = |path: &Path| {
        let source = open_weights(&[path.to_owned()], &args.changes, &|| Ok(engine.clone()))?;
        source.ok_or_else(|| Failure::new(Class::Internal, "a source that was given is open"))
    };
    let (a, b) = (open(a)?, open(b)?);
    let sources: [&dyn WeightSource; 2] = [&*a, &*b];
    let inputs = input_sets(&engine.parts().inputs, &args)?;
    let baseline = args.baseline.as_deref().map(baseline).transpose()?;
    let devices = args.device.iter().map(open_device).collect::<Result<Vec<_>, _>>()?;
    let limits = Limits { max_diff: args.max_diff, cosine: args.cosine };
    let mut gate = gate::Gate::new(&engine, &model, sources, args.changes.policy())?
        .with_inputs(inputs)
        .with_limits(limits)
        .with_progress(follow());
    if let Some(Oracle::Ort) = args.oracle {
        gate = gate.with_oracle(onnxruntime_of(&args.weights)?);
    }
    let mut report = gate.hold(&devices)?;
    drop(gate);
    if let (Some(baseline), Some(limit)) = (&baseline, args.max_slowdown) {
        report.hold_times(baseline, limit);
    }
    if let Some(folder) = &args.report {
        write(&report, &args.file, folder).doing(format!("writing {}", folder.display()))?;
        remark!("{}: report.json, junit.xml, index.html", folder.display());
    }
    let (checks, failed) = report.count();
    let failure = (failed > 0).then(|| {
        let what = format!("{failed} of {checks} checks of {} do not hold", args.file.display());
        Failure::new(Class::Different, what)
    });
    give(&report, failure, || print(&report))
}

/// The inputs that outputs are compared on: those of each file, or else what is given one by one; the rest is made up.
fn input_sets(ports: &[Port], args: &Gate) -> Result<Vec<InputSet>, Failure> {
    let set = |name: String, given: &Inputs| {
        let Prepared { given, recipe } = prepare(ports, given)?;
        Ok(InputSet { name, given, recipe })
    };
    let of_file = |file: &PathBuf| {
        let mut given = args.inputs.clone();
        given.input.push(Given::All(file.clone()));
        set(file.display().to_string(), &given)
    };
    match args.input_files.as_slice() {
        [] if args.inputs.input.is_empty() => Ok(vec![set("made up".to_owned(), &args.inputs)?]),
        [] => Ok(vec![set("given".to_owned(), &args.inputs)?]),
        files => files.iter().map(of_file).collect(),
    }
}

/// The report of before.
fn baseline(file: &Path) -> Result<Baseline, Failure> {
    let bytes = std::fs::read(file).doing(format!("reading {}", file.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let what = format!("{}: not a report of a gate: {error}", file.display());
        Failure::with_help(Class::InvalidFile, what, "give the report.json that --report DIR wrote")
    })
}

/// Shows how far it is on standard error: a bar on a terminal, else a line for each device.
fn follow() -> Box<Follow> {
    let progress = Progress::in_steps("gating");
    Box::new(move |device, done, total| {
        if done == 1 {
            remark!("{device}: {total} scenarios");
        }
        progress.update(done as u64, total as u64);
    })
}

/// ONNX Runtime with the sets of weights that are models.
fn onnxruntime_of(weights: &[PathBuf]) -> Result<Box<gate::Oracle>, Failure> {
    let is_model = |path: &Path| path.extension().is_some_and(|ending| ending == "onnx");
    if !weights.iter().any(|path| is_model(path)) {
        let what = "ONNX Runtime runs models, and no set of weights is one";
        let help = "give a set as the .onnx file that was exported with it: --weights A.onnx";
        return Err(Failure::with_help(Class::Usage, what, help));
    }
    let weights = weights.to_vec();
    Ok(Box::new(move |which, inputs| {
        let path = weights.get(usize::from(which == Which::B)).filter(|path| is_model(path));
        let Some(path) = path else { return Ok(None) };
        let Made { who, tensors } =
            onnxruntime::run(path, inputs).map_err(|failure| failure.words().to_owned())?;
        Ok(Some(OracleOutputs { who, outputs: tensors }))
    }))
}

/// Writes the report in each of its forms.
fn write(report: &Report, file: &Path, folder: &Path) -> Result<(), std::io::Error> {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(report)?)?;
    std::fs::write(folder.join("junit.xml"), report.junit(&name).map_err(std::io::Error::other)?)?;
    std::fs::write(folder.join("index.html"), report.html(&name).map_err(std::io::Error::other)?)
}

/// What does not hold, then a few lines about each device.
fn print(report: &Report) {
    for problem in report.problems() {
        say!("FAILED  {problem}");
    }
    for on in &report.devices {
        let middle = |times: &[f64]| {
            let mut times = times.to_vec();
            times.sort_by(f64::total_cmp);
            times.get(times.len() / 2).copied().unwrap_or_default()
        };
        let (refit, run) = (middle(&on.times.refit_ms), middle(&on.times.run_ms));
        let worst = on.outputs.iter().filter_map(|compared| compared.max_abs).fold(0.0, f64::max);
        say!("{}", on.device);
        say!("  {} outputs, worst max |a-b| {worst:.2e}", on.outputs.len());
        say!("  {} scenarios", on.scenarios.len());
        for slowdown in &on.slowdowns {
            let before = slowdown.before_ms.unwrap_or_default();
            say!("  {} {:.3} ms, before {before:.3} ms", slowdown.what, slowdown.median_ms);
        }
        say!("  load {:.3} ms, refit {refit:.3} ms, run {run:.3} ms", on.times.load_ms);
    }
    let (checks, failed) = report.count();
    say!("{} of {checks} checks hold", checks - failed);
}

impl From<GateError> for Failure {
    fn from(error: GateError) -> Self {
        match error {
            GateError::Fit(error) => error.into(),
            GateError::Format(error) => error.into(),
            GateError::Refit(error) => error.into(),
            GateError::Verify(error) => error.into(),
            error @ GateError::TakesNoOthers(_) => Self::new(Class::NotRefittable, error),
            error @ GateError::Oracle(_) => Self::new(Class::Unsupported, error),
            error => Self::new(Class::Usage, error),
        }
    }
}
