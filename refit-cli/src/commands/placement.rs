//! Where the nodes of an engine run on a device, for `refit inspect --device`.

use super::operators;
use crate::failure::{Context, Failure};
use engine_format::{Engine, EngineFlags, FitPolicy, MapSource};
use engine_runtime::{Device, LiveModule, Module, Values};
use engine_verify::inputs::{random, run_seeded};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Seed of the inputs, and of weights where the engine has none.
const SEED: u64 = 1;

/// The object under `placement` that `--json` prints.
#[derive(Serialize)]
pub struct Report {
    device: String,
    /// Types of the inputs that were planned for; sizes that the model leaves open were chosen.
    inputs: BTreeMap<String, String>,
    /// The nodes that a kernel runs.
    nodes: Vec<NodeReport>,
    /// How many nodes of each operator no kernel runs: views, shape arithmetic, branches not taken.
    planned: BTreeMap<String, usize>,
}

#[derive(Serialize)]
struct NodeReport {
    path: String,
    op: &'static str,
    on: On,
    /// Why it is not on the GPU that was asked for.
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum On {
    Gpu,
    Cpu,
}

/// Runs `engine` once on `device`, as plans are made for the shapes of a run, and says where its nodes ran. Missing weights
/// are made up, as no plan depends on their values; where only certain values are accepted, their absence is the error.
pub fn report(engine: Engine, device: &Device) -> Result<Report, Failure> {
    let execute = operators(&engine.parts().execute);
    let engine = with_some_weights(engine)?;
    let module = LiveModule::load(engine, device)?;
    let run = run_seeded(&module, &Values::new(), SEED).doing("running it to see its plan")?;
    let lines = module.placement();
    let mut planned = execute;
    for line in &lines {
        planned.entry(line.op.to_owned()).and_modify(|n| *n = n.saturating_sub(1));
    }
    planned.retain(|_, n| *n > 0 && device.is_gpu());
    let node = |line: engine_runtime::Placement| NodeReport {
        path: line.path.to_string(),
        op: line.op,
        on: if line.obstacle.is_some() { On::Cpu } else { On::Gpu },
        why: line.obstacle.map(|obstacle| obstacle.to_string()),
    };
    Ok(Report {
        device: device.to_string(),
        inputs: run.inputs.iter().map(|(name, t)| (name.clone(), t.to_string())).collect(),
        nodes: lines.into_iter().map(node).collect(),
        planned,
    })
}

fn with_some_weights(engine: Engine) -> Result<Engine, Failure> {
    if engine.is_full() || engine.flags().contains(EngineFlags::REFIT_IDENTICAL) {
        return Ok(engine);
    }
    let missing = engine.missing();
    let weights = missing.iter().filter_map(|name| engine.weight(name));
    let weights: MapSource =
        weights.map(|w| (w.name.clone(), random(w.dtype, &w.shape, SEED))).collect();
    engine.fill(&weights, FitPolicy::default()).doing("making up weights")
}

impl Report {
    /// As text: a line for the GPU, one for each node on the CPU, one for what no kernel runs.
    pub fn text(&self) -> String {
        let inputs: Vec<String> =
            self.inputs.iter().map(|(name, kind)| format!("{name} {kind}")).collect();
        let mut out = format!("placement on {}, for {}\n", self.device, inputs.join(", "));
        if self.nodes.is_empty() && self.planned.is_empty() {
            out.push_str("  cpu  every node\n");
            return out;
        }
        let mut on_gpu = BTreeMap::<String, usize>::new();
        for node in self.nodes.iter().filter(|node| node.on == On::Gpu) {
            *on_gpu.entry(node.op.to_owned()).or_default() += 1;
        }
        let mut line = |place: &str, counts: &BTreeMap<String, usize>| {
            if !counts.is_empty() {
                let list = super::list(counts);
                writeln!(out, "  {place}  {list}").expect("writing to a String does not fail");
            }
        };
        line("gpu", &on_gpu);
        line("no kernel (views, shape arithmetic, branches not taken)", &self.planned);
        for node in self.nodes.iter().filter(|node| node.on == On::Cpu) {
            let why = node.why.as_deref().unwrap_or_default();
            writeln!(out, "  cpu  {} {}: {why}", node.op, node.path)
                .expect("writing to a String does not fail");
        }
        out
    }
}
