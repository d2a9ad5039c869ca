//! Cases with inputs made weights, held to every promise of refit.
//!
//! The suite's own graphs have hardly any weights, as what an operator takes comes in from outside, and stay as they are on every
//! other runtime. Here they are taken for what they are with weights: with the first of their float inputs made one, with all others
//! but the first, and with all of them, so that whatever can is done in `prepare`.

use super::case::Case;
use super::failure::{Failure, Stage, at};
use super::value;
use crate::graphs::with_weights;
use crate::oracle::Tensors;
use crate::proof::prove;
use engine_builder::{BuildOptions, build};
use engine_format::{Attr, Block, DType};
use engine_onnx::Model;
use engine_ops::lookup;
use engine_runtime::Device;
use engine_verify::inputs::all_tensors;

/// Holds a case to the promises and gives back how many weights were replaced for it: none where its inputs are made up or no
/// tensors, or its results are drawn by chance.
///
/// # Errors
/// `Promise`, with what was made a weight and the promise that did not hold; what the case fails with anyway.
pub fn hold(case: &Case) -> Result<usize, Failure> {
    let Some(set) = case.sets.first().filter(|set| set.inputs.is_some()) else { return Ok(0) };
    let onnx = std::fs::read(&case.model).map_err(at(Stage::Read))?;
    let model = Model::parse(onnx.clone().into(), None).map_err(at(Stage::Read))?;
    let run = value::read(&model, set)?;
    let names: Vec<String> = run.inputs.iter().map(|(name, _)| name.clone()).collect();
    let Some(inputs) = all_tensors(run.inputs.into_iter().collect()) else { return Ok(0) };
    let engine = build(&model, &BuildOptions::default()).map_err(at(Stage::Build))?;
    if draws(&engine.parts().execute) {
        return Ok(0);
    }
    let floats: Vec<&String> =
        names.iter().filter(|name| inputs[*name].dtype() == DType::F32).collect();
    let (first, rest) = floats.split_at(floats.len().min(1));
    let mut choices = vec![first, rest, &floats];
    choices.retain(|chosen| !chosen.is_empty());
    choices.dedup();
    if !model.constants().is_empty() {
        choices.push(&[]);
    }
    let mut replaced = 0;
    for chosen in choices {
        let (weights, others): (Tensors, Tensors) =
            inputs.clone().into_iter().partition(|(name, _)| chosen.contains(&name));
        let onnx = with_weights(&onnx, &weights);
        let proved = prove(&onnx, &others, &[Device::cpu()], case.tolerance);
        let failed =
            |broken| Failure::new(Stage::Promise, format!("{chosen:?} made weights: {broken}"));
        replaced += proved.map_err(failed)?;
    }
    Ok(replaced)
}

/// Whether a program's results are drawn by chance, so that no two runs need be the same.
fn draws(block: &Block) -> bool {
    block.nodes.iter().any(|node| {
        let random = lookup(&node.op, node.version).is_some_and(|def| def.random);
        let inner = |attr: &Attr| matches!(attr, Attr::Block(block) if draws(block));
        random || node.attrs.values().any(inner)
    })
}
