//! Maps that bind a model to a checkpoint.

use crate::choices::Choices;
use crate::damage::damage;
use crate::exercise;
use conformance::graphs::SKETCHES;
use engine_builder::{BindMap, Binding, BuildOptions, build_bound};
use engine_format::{Bytes, DType, FitError, MapSource, Tensor, WeightSource};
use engine_onnx::Model;

/// Bytes of a map.
const MOST: usize = 4096;

/// A map over a sketch and a checkpoint of its own weights, some of them transposed, cut, joined, converted or left out.
pub fn maps(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let sketch = choices.pick(&SKETCHES);
    let Ok(model) = Model::parse(Bytes::from((sketch.onnx)()), None) else { return };
    let own: Vec<(String, Tensor)> = model
        .constants()
        .into_iter()
        .filter_map(|constant| Some((constant.name.clone(), constant.data.tensor().ok()?)))
        .collect();
    let checkpoint = checkpoint(&own, &mut choices);
    let names: Vec<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
    let mut text = map(&names, &checkpoint.names(), &mut choices).into_bytes();
    if choices.once_in(8) {
        damage(&mut text, &mut choices, MOST);
    }
    let Ok(map) = BindMap::parse(&String::from_utf8_lossy(&text)) else { return };
    let binding = Binding { map, pin_unbound: choices.once_in(2), ..Binding::to(&checkpoint) };
    let Ok((engine, ..)) = build_bound(&model, &BuildOptions::default(), &binding) else { return };
    let Ok(stripped) = engine.strip() else { return };
    let filled = stripped.fill(&checkpoint, Default::default()).expect("its checkpoint fills it");
    assert!(filled.parts() == engine.parts(), "strip, then fill, is the full build");
    let source = refit::OnnxSource::new(&model, "the model");
    match stripped.fill(&source, Default::default()) {
        Ok(filled) => {
            assert!(filled.parts() == engine.parts(), "a fill from the model is the build")
        }
        // Of what an export calculated, or has in several places, the model does not say what it was.
        Err(FitError::Unfit(report)) => {
            let missing = report.misfits.iter().all(|misfit| misfit.kind() == "missing");
            assert!(missing, "its model fits it, but for what it lacks: {report}");
        }
        Err(error) => panic!("its model is read: {error}"),
    }
    exercise::engine(engine, &mut choices);
}

fn checkpoint(own: &[(String, Tensor)], choices: &mut Choices<'_>) -> MapSource {
    let mut source = MapSource::new();
    for (name, tensor) in own {
        let name = if choices.once_in(4) { format!("module.{name}") } else { name.clone() };
        let rank = tensor.shape().len();
        let tensor = match choices.byte() % 12 {
            0 => continue,
            1 | 2 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                perm.reverse();
                tensor.permuted(&perm)
            }
            3 if rank > 0 => tensor.range(0, 0..tensor.shape()[0] / 2),
            4 if rank > 0 => Tensor::joined(0, &[tensor.clone(), tensor.clone()]),
            5 if tensor.dtype() == DType::F32 => {
                tensor.converted_exactly(DType::F16).unwrap_or_else(|_| tensor.clone())
            }
            6 => Tensor::zeros(tensor.dtype(), tensor.shape()),
            _ => tensor.clone(),
        };
        source.insert(name, tensor);
    }
    source
}

fn map(own: &[&str], theirs: &[String], choices: &mut Choices<'_>) -> String {
    let mut rows = Vec::new();
    for _ in 0..choices.below(4) {
        if own.is_empty() || theirs.is_empty() {
            break;
        }
        let name = *choices.pick(own);
        let mut tensor = || choices.pick(theirs).clone();
        let (a, b) = (tensor(), tensor());
        let (n, m) = (choices.number(), choices.below(4));
        rows.push(match choices.byte() % 10 {
            0 => format!("{name:?} = false"),
            1 => format!("{name:?} = true"),
            2 => format!("{name:?} = {a:?}"),
            3 => format!("{name:?} = {{ tensor = {a:?}, permute = [{m}, 0] }}"),
            4 => format!("{name:?} = {{ tensor = {a:?}, permute = [1, 0] }}"),
            5 => format!("{name:?} = {{ tensor = {a:?}, axis = {m}, range = [{m}, {n}] }}"),
            6 => format!("{name:?} = {{ join = [{a:?}, {b:?}], axis = {n} }}"),
            7 => format!("{name:?} = {{ join = [], axis = {m} }}"),
            8 => format!("{name:?} = {{ tensor = {a:?}, join = [{b:?}] }}"),
            _ => format!("{name:?} = {{ uses = {{ \"MatMul:{m}\" = {a:?}, \"\" = {b:?} }} }}"),
        });
    }
    rows.join("\n")
}
