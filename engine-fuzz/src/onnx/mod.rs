//! ONNX models: bytes → build → run.

mod change;
pub mod seeds;

use crate::choices::Choices;
use crate::damage::damage;
use crate::exercise;
use engine_builder::{BuildOptions, RefitMode, build};
use engine_format::{Bytes, SerializeFlags};
use engine_onnx::Model;
use engine_ops::hostile;
use prost::Message;

/// Bytes of a model.
const MOST: usize = 1 << 18;

/// A valid model, changed in a few places that know what a model is.
pub fn models(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let mut model = choices.pick(seeds::all()).clone();
    for _ in 0..=choices.below(4) {
        change::change(&mut model, &mut choices);
    }
    run(model.encode_to_vec(), &mut choices);
}

/// A call of a row of the table that somebody made up, with its operands as constants, which are folded, or as inputs.
pub fn rows(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let def = *choices.pick(engine_ops::TABLE);
    let call = hostile::call(def, choices.word());
    if def.onnx.is_empty() {
        return;
    }
    let name = choices.pick(def.onnx);
    let odds = choices.below(3) + 1;
    let model = seeds::node_model(name, &call, |_| choices.once_in(odds));
    if let Some(model) = model {
        run(model.encode_to_vec(), &mut choices);
    }
}

/// A valid model, changed as bytes.
pub fn bytes(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let mut file = choices.pick(seeds::all()).encode_to_vec();
    damage(&mut file, &mut choices, MOST);
    run(file, &mut choices);
}

/// Builds a model and does with the engine all that can be done.
fn run(file: Vec<u8>, choices: &mut Choices<'_>) {
    let refit = *choices.pick(&[RefitMode::All, RefitMode::Identical, RefitMode::None]);
    let options = BuildOptions { refit, optimise: !choices.once_in(4), ..BuildOptions::default() };
    let Ok(model) = Model::parse(Bytes::from(file), None) else { return };
    let Ok(engine) = build(&model, &options) else { return };
    // What was stripped is filled from the model again, and is the same file.
    if let Ok(stripped) = engine.strip() {
        let source = refit::OnnxSource::new(&model, "the model");
        let filled = stripped.fill(&source, Default::default()).expect("a model fills its engine");
        let bytes = |engine: &engine_format::Engine| engine.serialize(SerializeFlags::default());
        assert!(bytes(&filled) == bytes(&engine), "strip, then fill, is the full build");
    }
    exercise::engine(engine, choices);
}
