//! `refit gate`: an engine held to every promise of refit with two sets of weights, for whoever releases it.

use super::{open_device, open_engine, open_model, open_weights};
use crate::args::Gate;
use crate::failure::{Class, Context, Failure};
use crate::inputs::prepare;
use crate::output::{give, remark, say};
use engine_format::WeightSource;
use engine_verify::gate::{self, GateError, Limits, Report};
use std::path::Path;

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
    let inputs = prepare(&engine.parts().inputs, &args.inputs)?;
    let devices = args.device.iter().map(open_device).collect::<Result<Vec<_>, _>>()?;
    let limits = Limits { max_diff: args.max_diff, cosine: args.cosine };
    let gate = gate::Gate::new(&engine, &model, sources, args.changes.policy())?;
    let report =
        gate.with_inputs(inputs.given, inputs.recipe).with_limits(limits).hold(&devices)?;
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
            error => Self::new(Class::Usage, error),
        }
    }
}
