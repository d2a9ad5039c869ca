//! Real models with real inputs, and how far a runtime may be from ONNX Runtime on them.

mod runs;

use crate::assets::{self, Asset};
use crate::mutation::{Mutated, mutate};
use crate::oracle::{self, OracleError, Tensors};
use engine_onnx::Model;
use engine_ops::Tolerance;
use engine_verify::inputs::random;
use std::path::{Path, PathBuf};

/// A model, its runs and its tolerance.
pub struct ModelCase {
    /// Short name.
    pub name: &'static str,
    /// The ONNX file.
    pub asset: Asset,
    /// Inputs of each run, in order.
    pub runs: fn() -> Result<Vec<Tensors>, OracleError>,
    /// (output, input) pairs by which one run hands its state to the next.
    pub carry: &'static [(&'static str, &'static str)],
    /// Held elementwise against ONNX Runtime, on every device.
    pub tolerance: Tolerance,
}

/// |a − b| ≤ 1e-5 + 1e-4·|b|.
const TOLERANCE: Tolerance = Tolerance { atol: 1e-5, rtol: 1e-4 };

/// |a − b| ≤ 2e-5 + 1e-3·|b|: what a hundred layers make of the order of sums, in which two runtimes always differ.
const DEEP: Tolerance = Tolerance { atol: 2e-5, rtol: 1e-3 };

/// Every model, in the order in which refit learnt them.
pub const MODELS: [ModelCase; 14] = [
    ModelCase::new("magika", assets::MAGIKA, runs::magika),
    ModelCase::new("yunet", assets::YUNET, runs::yunet),
    ModelCase::new("minilm-l3", assets::MINILM_L3, runs::minilm_l3),
    ModelCase::new("minilm-int8", assets::MINILM_INT8, runs::minilm_int8),
    ModelCase {
        carry: &[("stateN", "state")],
        ..ModelCase::new("silero-vad-ifless", assets::SILERO_IFLESS, runs::silero)
    },
    ModelCase {
        carry: &[("stateN", "state")],
        ..ModelCase::new("silero-vad", assets::SILERO, runs::silero)
    },
    ModelCase { tolerance: DEEP, ..ModelCase::new("tinyocr-det", assets::TINYOCR_DET, runs::page) },
    ModelCase::new("tinyocr-rec", assets::TINYOCR_REC, runs::line),
    ModelCase::new("rapidocr-det", assets::RAPIDOCR_DET, runs::page),
    ModelCase {
        tolerance: DEEP,
        ..ModelCase::new("rapidocr-rec", assets::RAPIDOCR_REC, runs::line)
    },
    ModelCase::new("rapidocr-cls", assets::RAPIDOCR_CLS, runs::line),
    ModelCase::new("multistyle26", assets::MULTISTYLE, runs::multistyle),
    ModelCase { tolerance: DEEP, ..ModelCase::new("u2netp", assets::U2NETP, runs::u2net) },
    ModelCase::new("basic-pitch", assets::BASIC_PITCH, runs::basic_pitch),
];

impl ModelCase {
    const fn new(
        name: &'static str,
        asset: Asset,
        runs: fn() -> Result<Vec<Tensors>, OracleError>,
    ) -> Self {
        Self { name, asset, runs, carry: &[], tolerance: TOLERANCE }
    }

    /// Moves every float tensor of the model, one at a time, and holds the engine to the graph as it is. A state that is handed from run
    /// to run is one in which something happened: from zeros, what is recurrent moves nothing.
    ///
    /// # Errors
    /// Those of [`mutate`], and what its inputs are made from.
    pub fn mutated(&self) -> Result<Mutated, Box<dyn std::error::Error>> {
        let runs = (self.runs)()?;
        let mut inputs = runs.into_iter().next().ok_or("a model without runs")?;
        for (_, state) in self.carry {
            if let Some(tensor) = inputs.get_mut(*state) {
                *tensor = random(tensor.dtype(), tensor.shape(), 1);
            }
        }
        mutate(&Model::open(&self.asset.path()?)?, &inputs, self.tolerance)
    }

    /// ONNX Runtime's outputs of every run.
    pub fn expected(&self, runs: &[Tensors]) -> Result<Vec<Tensors>, OracleError> {
        oracle::onnxruntime(&self.asset.path()?, runs, self.carry)
    }
}

/// Bytes Magika looks at, from either end of a file.
const MAGIKA_END: usize = 1024;
/// Bytes of which leading or trailing white space is dropped.
const MAGIKA_BLOCK: usize = 4096;
/// Stands where a file has no more bytes.
const MAGIKA_PADDING: i32 = 256;

/// A file's bytes as Magika takes them: the first 1,024 after leading white space, padded at the end, then the last 1,024 before
/// trailing white space, padded at the start.
pub fn magika_features(file: &[u8]) -> Vec<i32> {
    let space = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let block = file.len().min(MAGIKA_BLOCK);
    let (head, tail) = (&file[..block], &file[file.len() - block..]);
    let from = head.iter().position(|b| !space(b)).unwrap_or(head.len());
    let to = tail.iter().rposition(|b| !space(b)).map_or(0, |i| i + 1);
    let head = &head[from..][..(head.len() - from).min(MAGIKA_END)];
    let tail = &tail[to.saturating_sub(MAGIKA_END)..to];
    let pad = |n: usize| std::iter::repeat_n(MAGIKA_PADDING, MAGIKA_END - n);
    head.iter()
        .map(|&b| i32::from(b))
        .chain(pad(head.len()))
        .chain(pad(tail.len()))
        .chain(tail.iter().map(|&b| i32::from(b)))
        .collect()
}

/// Real files of this repository, by their paths.
pub fn repository_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    [
        "README.md",
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE-APACHE",
        ".ci/run",
        "xtask/src/main.rs",
        "conformance/oracle/run.py",
        "engine-format/tests/files/v1.0-full.engine",
    ]
    .iter()
    .map(|path| root.join(path))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magika_features_strip_and_pad_each_end() {
        let features = magika_features(b"  hello \n");
        assert_eq!(features.len(), 2048);
        let hello_space: Vec<i32> = b"hello \n".iter().map(|&b| b.into()).collect();
        assert_eq!(features[..7], hello_space[..]);
        assert!(features[7..2041].iter().all(|&v| v == 256));
        let space_hello: Vec<i32> = b"  hello".iter().map(|&b| b.into()).collect();
        assert_eq!(features[2041..], space_hello[..]);
        assert!(magika_features(b" \n ").iter().all(|&v| v == 256));
    }
}
