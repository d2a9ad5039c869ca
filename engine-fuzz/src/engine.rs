//! Engine files: damaged, and forged behind their digests.

use crate::choices::Choices;
use crate::damage::damage;
use crate::exercise;
use crate::forge::Forgery;
use engine_format::{Bytes, Engine};
use std::sync::LazyLock;

/// Files of every version that was ever written.
const FILES: [&[u8]; 10] = [
    include_bytes!("../../engine-format/tests/files/v1.0-frozen.engine"),
    include_bytes!("../../engine-format/tests/files/v1.0-full.engine"),
    include_bytes!("../../engine-format/tests/files/v1.0-identical-stripped.engine"),
    include_bytes!("../../engine-format/tests/files/v1.0-individual-packed.engine"),
    include_bytes!("../../engine-format/tests/files/v1.0-stripped.engine"),
    include_bytes!("../../engine-format/tests/files/v1.1-bound.engine"),
    include_bytes!("../../engine-format/tests/files/v1.1-full.engine"),
    include_bytes!("../../engine-format/tests/files/v1.1-strings.engine"),
    include_bytes!("../../engine-format/tests/files/v1.1-stripped.engine"),
    include_bytes!("../../engine-format/tests/files/v1.2-reshaped.engine"),
];

/// Bytes of a damaged file.
const MOST: usize = 1 << 16;

/// What forgers start from: the files above, and the engines of small models.
pub fn seeds() -> &'static [Forgery] {
    static SEEDS: LazyLock<Vec<Forgery>> = LazyLock::new(|| {
        let built = conformance::graphs::SKETCHES.iter().filter_map(|sketch| {
            let model = engine_onnx::Model::parse(Bytes::from((sketch.onnx)()), None).ok()?;
            let engine = engine_builder::build(&model, &Default::default()).ok()?;
            engine.serialize(Default::default()).ok()
        });
        let files = FILES.iter().map(|file| file.to_vec()).chain(built);
        files.filter_map(|file| Forgery::of(&file)).collect()
    });
    &SEEDS
}

/// A file that was damaged.
pub fn damaged(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let mut file = choices.pick(&FILES).to_vec();
    damage(&mut file, &mut choices, MOST);
    read(file, &mut choices);
}

/// A file that was forged.
pub fn forged(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let mut forgery = choices.pick(seeds()).clone();
    for _ in 0..=choices.below(3) {
        forgery.change(&mut choices);
    }
    let digests = !choices.once_in(8);
    read(forgery.file(digests), &mut choices);
}

fn read(file: Vec<u8>, choices: &mut Choices<'_>) {
    if let Ok(engine) = Engine::read(Bytes::from(file)) {
        exercise::engine(engine, choices);
    }
}
