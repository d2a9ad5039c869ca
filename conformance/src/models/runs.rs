//! The inputs of the models: two sizes at least where a model leaves sizes open.

use super::{MAGIKA_END, magika_features, repository_files};
use crate::assets;
use crate::oracle::{self, OracleError, Tensors};
use engine_format::{DType, Tensor};

type Runs = Result<Vec<Tensors>, OracleError>;

/// One file of this repository, then several.
pub fn magika() -> Runs {
    let files = repository_files();
    let rows = files.iter().map(|path| Ok(magika_features(&std::fs::read(path)?)));
    let rows: Vec<Vec<i32>> = rows.collect::<Result<_, OracleError>>()?;
    let batch = |rows: &[Vec<i32>]| {
        let tensor = Tensor::from_slice(&[rows.len(), 2 * MAGIKA_END], &rows.concat());
        Tensors::from([("bytes".to_owned(), tensor)])
    };
    Ok(vec![batch(&rows[..1]), batch(&rows)])
}

/// Word pieces of "this is an example sentence" between the marks for start and end.
const SENTENCE: [i64; 7] = [101, 2023, 2003, 2019, 2742, 6251, 102];

/// Ids and mask of `batch` sentences, the first of which is `length` long and the others shorter, so that the mask matters.
fn sentences(batch: usize, length: usize) -> Tensors {
    let (mut ids, mut mask) = (Vec::new(), Vec::new());
    for row in 0..batch {
        let real = length - row * length / (2 * batch);
        let piece = |i: usize| if i < real { SENTENCE[(i + row) % SENTENCE.len()] } else { 0 };
        ids.extend((0..length).map(piece));
        mask.extend((0..length).map(|i| i64::from(i < real)));
    }
    Tensors::from([
        ("input_ids".to_owned(), Tensor::from_slice(&[batch, length], &ids)),
        ("attention_mask".to_owned(), Tensor::from_slice(&[batch, length], &mask)),
    ])
}

pub fn minilm_l3() -> Runs {
    Ok(vec![sentences(1, 7), sentences(1, 128), sentences(3, 7), sentences(3, 128)])
}

/// Pairs of sentences: the second half of each row is of the other type.
pub fn minilm_int8() -> Runs {
    let run = |batch: usize, length: usize| {
        let mut tensors = sentences(batch, length);
        let types = (0..batch * length).map(|i| i64::from(i % length > length / 2));
        let types = Tensor::from_slice(&[batch, length], &types.collect::<Vec<_>>());
        tensors.insert("token_type_ids".to_owned(), types);
        tensors
    };
    Ok(vec![run(1, 7), run(3, 7), run(1, 64)])
}

/// Frames of speech, one after the other.
pub fn silero() -> Runs {
    let frames = oracle::generate("speech.py", &[])?;
    let state = Tensor::zeros(DType::F32, &[2, 1, 128]);
    let run = |frame: Tensor| {
        Tensors::from([
            ("input".to_owned(), frame),
            ("sr".to_owned(), Tensor::from_slice(&[], &[16_000i64])),
            ("state".to_owned(), state.clone()),
        ])
    };
    Ok(frames.into_values().map(run).collect())
}

/// What `script` makes, one tensor for each run, given to `input`.
fn one_each(input: &str, script: &str, arguments: &[&std::ffi::OsStr]) -> Runs {
    let made = oracle::generate(script, arguments)?;
    let run = |tensor| Tensors::from([(input.to_owned(), tensor)]);
    Ok(made.into_values().map(run).collect())
}

/// The portrait, made ready as the network `kind` takes it.
fn portrait(input: &str, kind: &str) -> Runs {
    let picture = assets::PORTRAIT.path()?;
    one_each(input, "portrait.py", &[picture.as_os_str(), kind.as_ref()])
}

pub fn yunet() -> Runs {
    portrait("input", "yunet")
}

pub fn u2net() -> Runs {
    portrait("input.1", "u2net")
}

/// A landscape format in one style, an upright one in a blend of two.
pub fn multistyle() -> Runs {
    let mut runs = portrait("image", "multistyle")?;
    let blends: [&[(usize, f32)]; 2] = [&[(3, 1.0)], &[(7, 0.25), (12, 0.75)]];
    for (run, blend) in runs.iter_mut().zip(blends) {
        let mut styles = [0f32; 26];
        blend.iter().for_each(|&(style, weight)| styles[style] = weight);
        run.insert("style_weights".to_owned(), Tensor::from_slice(&[26], &styles));
    }
    Ok(runs)
}

/// Printed pages of two sizes, one of them twice.
pub fn page() -> Runs {
    one_each("x", "text.py", &["page".as_ref()])
}

/// Printed lines of two lengths.
pub fn line() -> Runs {
    one_each("x", "text.py", &["line".as_ref()])
}

/// Two seconds of a plucked chord; then two such at once.
pub fn basic_pitch() -> Runs {
    one_each("serving_default_input_2:0", "notes.py", &[])
}
