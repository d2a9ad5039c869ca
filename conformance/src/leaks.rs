//! Whether a stripped file holds anything of a weight.

use engine_format::{DType, FormatError, Header, SectionKind, SourceError, Tensor, WeightSource};
use std::collections::{BTreeSet, HashSet};

/// Bytes that are looked for at once: in weights as training leaves them, a match by chance is out of the question.
const RUN: usize = 16;

/// Every byte of an engine file as it means itself: compressed sections unpacked.
///
/// # Errors
/// If it is no engine file.
pub fn unpacked(file: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut out = Vec::new();
    for section in Header::parse(file)?.sections {
        let stored = &file[section.offset as usize..][..section.length as usize];
        match section.kind {
            SectionKind::Weights => out.extend_from_slice(stored),
            _ => out.extend(zstd::stream::decode_all(stored).unwrap_or_default()),
        }
    }
    Ok(out)
}

/// Every order of the axes 0 to `rank`.
fn orders(rank: usize) -> Vec<Vec<usize>> {
    (0..rank).fold(vec![Vec::new()], |orders, axis| {
        let insert = |order: Vec<usize>| {
            (0..=order.len()).map(move |at| {
                let mut order = order.clone();
                order.insert(at, axis);
                order
            })
        };
        orders.into_iter().flat_map(insert).collect()
    })
}

/// A tensor of floats in each type that an engine may keep it in.
fn types(tensor: &Tensor) -> Vec<Vec<u8>> {
    let mut all = vec![tensor.bytes().to_vec()];
    if tensor.dtype() == DType::F32
        && let Ok(values) = tensor.as_slice::<f32>()
    {
        all.push(values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect());
        all.push(values.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect());
    }
    all
}

/// The first float tensor of `checkpoint` of which a run of bytes is in a stripped file, in its own type or a shorter one, in any order
/// of its axes; `None` if there is none. Runs of few different elements are passed over: zeros and ones are in every file.
///
/// # Errors
/// If the file is no engine or the checkpoint cannot be read.
pub fn held(
    stripped: &[u8],
    checkpoint: &dyn WeightSource,
) -> Result<Option<String>, Box<dyn std::error::Error>> {
    let file = unpacked(stripped)?;
    let runs: HashSet<&[u8]> = file.windows(RUN).collect();
    for name in checkpoint.names() {
        let tensor = checkpoint.read(&name)?.ok_or_else(|| missing(checkpoint, &name))?;
        if !tensor.dtype().is_float() {
            continue;
        }
        for order in orders(tensor.shape().len()) {
            let moved = tensor.permuted(&order);
            for (bytes, size) in types(&moved).iter().zip([tensor.dtype().width(), 2, 2]) {
                let varied = |run: &&[u8]| {
                    let elements: BTreeSet<&[u8]> = run.chunks_exact(size).collect();
                    elements.len() == RUN / size
                };
                let mut all = bytes.windows(RUN).step_by(size).filter(varied);
                if all.any(|run| runs.contains(run)) {
                    return Ok(Some(name));
                }
            }
        }
    }
    Ok(None)
}

fn missing(checkpoint: &dyn WeightSource, name: &str) -> SourceError {
    let why = "it is listed and is not there".to_owned();
    SourceError { name: name.to_owned(), origin: checkpoint.origin(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_builder::{BuildOptions, build};
    use engine_format::{MapSource, SerializeFlags};
    use engine_onnx::Model;

    #[test]
    fn a_weight_is_found_in_a_file_that_holds_it_in_any_form_and_in_no_stripped_one() {
        let onnx = (crate::graphs::SKETCHES[0].onnx)();
        let model = Model::parse(onnx.into(), None).expect("the model reads");
        let engine = build(&model, &BuildOptions::default()).expect("the model builds");
        let values: Vec<f32> = (0..54).map(|i| (i as f32 * 0.37).sin()).collect();
        let weight = Tensor::from_slice(&[9, 6], &values);
        let all = MapSource::from_iter([("fc1.weight".to_owned(), weight.clone())]);
        let policy = engine_format::FitPolicy { partial: true, ..Default::default() };
        let filled = engine.fill(&all, policy).expect("it fits");
        let file = |flags| filled.serialize(flags).expect("it is written");
        let found = |file: &[u8], weight: &Tensor| {
            let source = MapSource::from_iter([("w".to_owned(), weight.clone())]);
            held(file, &source).expect("it is an engine").is_some()
        };
        let (full, stripped) = (
            file(SerializeFlags::default()),
            file(SerializeFlags::default() | SerializeFlags::EXCLUDE_WEIGHTS),
        );
        for order in [[0, 1], [1, 0]] {
            assert!(found(&full, &weight.permuted(&order)), "{order:?}");
            assert!(!found(&stripped, &weight.permuted(&order)), "{order:?}");
        }
        let halves = |i: usize| half::f16::from_f32(values[i]);
        let narrow = Tensor::from_slice(&[54], &(0..54).map(halves).collect::<Vec<_>>());
        let all = MapSource::from_iter([("w".to_owned(), narrow)]);
        assert!(held(&full, &all).expect("it is an engine").is_none(), "the file has it in f32");
    }

    #[test]
    fn all_orders_of_axes() {
        assert_eq!(orders(0), [Vec::<usize>::new()]);
        assert_eq!(orders(3).into_iter().collect::<BTreeSet<_>>().len(), 6);
    }
}
