//! Faults between engines and files.

use engine_format::{Digest, Engine, EngineFlags, FormatError, Literal, SerializeFlags, ValueId};
use engine_verify::scenario::Stack;

/// What is wrong with the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileFault {
    LosesRefit,
    SwapsBits,
    KeepsValue,
}

impl Stack for FileFault {
    fn serialize(&self, engine: &Engine, options: SerializeFlags) -> Result<Vec<u8>, FormatError> {
        match self {
            Self::LosesRefit => engine.serialize(options - SerializeFlags::INCLUDE_REFIT),
            Self::SwapsBits => Ok(swapped(engine.serialize(options)?)),
            Self::KeepsValue if options.contains(SerializeFlags::EXCLUDE_WEIGHTS) => {
                with_value(engine)?.serialize(options)
            }
            Self::KeepsValue => engine.serialize(options),
        }
    }
}

/// A file whose lowest two flags are exchanged, with the digest of its prefix made anew. `docs/FORMAT.md` says where these are.
fn swapped(mut file: Vec<u8>) -> Vec<u8> {
    const FLAGS: usize = 16;
    const DIGEST: std::ops::Range<usize> = 480..512;
    let pair = (EngineFlags::REFIT | EngineFlags::REFIT_IDENTICAL).bits() as u8;
    if (file[FLAGS] & pair).count_ones() == 1 {
        file[FLAGS] ^= pair;
        let digest = Digest::of(&file[..DIGEST.start]);
        file[DIGEST].copy_from_slice(&digest.0);
    }
    file
}

/// The engine with the values of its first weight that may be stripped among the constants of the program.
fn with_value(engine: &Engine) -> Result<Engine, FormatError> {
    let mut parts = engine.parts().clone();
    let kept = parts.weights.iter().filter(|weight| weight.is_strippable());
    let Some(tensor) = kept.filter_map(engine_format::Weight::tensor).next() else {
        return Ok(engine.clone());
    };
    parts.literals.push(Literal { value: ValueId(parts.values), tensor });
    parts.values += 1;
    Engine::new(parts)
}
