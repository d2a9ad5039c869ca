//! Real models with real inputs, and how far a runtime may be from ONNX Runtime on them.

use crate::assets::{self, Asset};
use crate::oracle::{self, OracleError, Tensors};
use engine_format::Tensor;
use engine_ops::Tolerance;
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

/// The models of the first release.
pub const MODELS: [ModelCase; 5] = [
    ModelCase {
        name: "magika",
        asset: assets::MAGIKA,
        runs: magika_runs,
        carry: &[],
        tolerance: TOLERANCE,
    },
    ModelCase {
        name: "yunet",
        asset: assets::YUNET,
        runs: yunet_runs,
        carry: &[],
        tolerance: TOLERANCE,
    },
    ModelCase {
        name: "minilm-l3",
        asset: assets::MINILM_L3,
        runs: minilm_runs,
        carry: &[],
        tolerance: TOLERANCE,
    },
    ModelCase {
        name: "silero-vad-ifless",
        asset: assets::SILERO_IFLESS,
        runs: silero_runs,
        carry: &[("stateN", "state")],
        tolerance: TOLERANCE,
    },
    ModelCase {
        name: "silero-vad",
        asset: assets::SILERO,
        runs: silero_runs,
        carry: &[("stateN", "state")],
        tolerance: TOLERANCE,
    },
];

impl ModelCase {
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

fn magika_runs() -> Result<Vec<Tensors>, OracleError> {
    let files = repository_files();
    let rows = files.iter().map(|path| Ok(magika_features(&std::fs::read(path)?)));
    let rows: Vec<Vec<i32>> = rows.collect::<Result<_, OracleError>>()?;
    let batch = |rows: &[Vec<i32>]| {
        let tensor = Tensor::from_slice(&[rows.len(), 2 * MAGIKA_END], &rows.concat());
        Tensors::from([("bytes".to_owned(), tensor)])
    };
    Ok(vec![batch(&rows[..1]), batch(&rows)])
}

fn yunet_runs() -> Result<Vec<Tensors>, OracleError> {
    Ok(vec![oracle::generate("portrait.py", &[assets::PORTRAIT.path()?])?])
}

/// Word pieces of "this is an example sentence" between the marks for start and end.
const SENTENCE: [i64; 7] = [101, 2023, 2003, 2019, 2742, 6251, 102];

fn minilm_runs() -> Result<Vec<Tensors>, OracleError> {
    let run = |batch: usize, length: usize| {
        let (mut ids, mut mask) = (Vec::new(), Vec::new());
        for row in 0..batch {
            // Rows differ in length, so that the mask matters; the first is full.
            let real = length - row * length / (2 * batch);
            ids.extend(
                (0..length)
                    .map(|i| if i < real { SENTENCE[(i + row) % SENTENCE.len()] } else { 0 }),
            );
            mask.extend((0..length).map(|i| i64::from(i < real)));
        }
        Tensors::from([
            ("input_ids".to_owned(), Tensor::from_slice(&[batch, length], &ids)),
            ("attention_mask".to_owned(), Tensor::from_slice(&[batch, length], &mask)),
        ])
    };
    Ok(vec![run(1, 7), run(1, 128), run(3, 7), run(3, 128)])
}

fn silero_runs() -> Result<Vec<Tensors>, OracleError> {
    let frames = oracle::generate("speech.py", &[])?;
    let state = Tensor::zeros(engine_format::DType::F32, &[2, 1, 128]);
    let run = |frame: &Tensor| {
        Tensors::from([
            ("input".to_owned(), frame.clone()),
            ("sr".to_owned(), Tensor::from_slice(&[], &[16_000i64])),
            ("state".to_owned(), state.clone()),
        ])
    };
    Ok(frames.values().map(run).collect())
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
