//! Sources of weights: files of every kind, made from choices, opened and read.

mod gguf;
mod npz;
mod pickle;
mod safetensors;
mod torch;
mod zip;

pub use self::safetensors::file as safetensors_file;
pub use gguf::gguf;
pub use npz::{npy, npz};
pub use pickle::pickle;
pub use safetensors::{safetensors, sharded};
pub use torch::torch;

use crate::choices::Choices;
use crate::onnx::seeds;
use crate::scratch;
use engine_format::{Tensor, WeightSource};
use engine_onnx::proto::StringStringEntryProto;
use prost::Message;

/// Bytes that a file of a source may grow to.
const MOST: usize = 1 << 14;

/// Bytes of tensors that one byte of a file can stand for: what deflate makes of a run of zeros.
const MOST_UNPACKED: usize = 1100;

/// Writes `files` beside each other, opens the first one and reads everything in it.
fn open(files: &[(&str, &[u8])]) {
    let path = scratch::write(files);
    let Ok(source) = refit::open_source(&path) else { return };
    let bytes = files.iter().map(|(_, bytes)| bytes.len()).sum();
    read_all(&*source, bytes);
}

/// Reads every tensor in every way. A file of `file_bytes` bytes cannot hold more than deflate can pack into it.
pub fn read_all(source: &dyn WeightSource, file_bytes: usize) {
    for name in source.names() {
        let info = source.info(&name);
        let read = source.read(&name);
        let mut streamed = Vec::new();
        let stream = source.stream(&name, &mut |piece| streamed.extend_from_slice(piece));
        match (&read, &stream) {
            (Ok(Some(tensor)), Ok(true)) => same(tensor, &streamed, info.as_ref(), file_bytes),
            (Ok(None), Ok(false)) | (Err(_), Err(_)) => continue,
            // What is streamed is raw: types and codes that there are not show when it is read, or before.
            (Err(_), Ok(true)) if info.as_ref().is_none_or(|i| i.dtype.is_restricted()) => continue,
            (read, stream) => panic!("{name:?} read: {read:?}, streamed: {stream:?}"),
        }
        let mut into = vec![0; streamed.len()];
        let len = source.stream_into(&name, &mut into, &mut |_| ());
        assert!(len.is_ok_and(|len| len == Some(into.len())) && into == streamed, "{name:?}");
    }
    let nowhere = "a name that no file has";
    assert!(matches!(source.read(nowhere), Ok(None)) && source.info(nowhere).is_none());
}

fn same(
    tensor: &Tensor,
    streamed: &[u8],
    info: Option<&engine_format::TensorInfo>,
    file_bytes: usize,
) {
    assert!(**tensor.bytes() == *streamed, "what is read is what is streamed");
    let said = info.map(|info| (info.dtype, info.shape.as_slice()));
    assert_eq!(said, Some((tensor.dtype(), tensor.shape())), "what was said of a tensor");
    let most = (file_bytes + 64).saturating_mul(MOST_UNPACKED);
    assert!(streamed.len() <= most, "{} bytes from a file of {file_bytes}", streamed.len());
}

/// An engine file as a source.
pub fn engine(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let mut forgery = choices.pick(crate::engine::seeds()).clone();
    for _ in 0..=choices.below(3) {
        forgery.change(&mut choices);
    }
    let digests = !choices.once_in(8);
    open(&[("weights.engine", &forgery.file(digests))]);
}

/// An ONNX file as a source, some of its tensors in a file beside it.
pub fn onnx(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let mut model = choices.pick(seeds::all()).clone();
    let mut beside = Vec::new();
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        let Some(raw) = tensor.raw_data.take_if(|_| choices.once_in(2)) else { continue };
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        let offset = match choices.once_in(4) {
            true => choices.number().to_string(),
            false => beside.len().to_string(),
        };
        let length = match choices.once_in(4) {
            true => choices.number().to_string(),
            false => raw.len().to_string(),
        };
        const FILES: [&str; 6] =
            ["data.bin", "./data.bin", "../data.bin", "/etc/hostname", "", "model.onnx"];
        let file = FILES[if choices.once_in(4) { choices.below(FILES.len()) } else { 0 }];
        tensor.data_location = engine_onnx::proto::EXTERNAL;
        tensor.external_data =
            vec![entry("location", file.into()), entry("offset", offset), entry("length", length)];
        beside.extend_from_slice(&raw);
    }
    let mut file = model.encode_to_vec();
    if choices.once_in(2) {
        crate::damage::damage(&mut file, &mut choices, MOST);
    }
    open(&[("model.onnx", &file), ("data.bin", &beside)]);
}
