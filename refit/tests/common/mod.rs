//! Small engines and checkpoints.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]
#![allow(dead_code, reason = "each test file uses its own part")]

use engine_format::{
    Block, Bytes, DType, Digest, Engine, EngineFlags, EngineParts, Form, Port, SerializeFlags,
    Tensor, ValueId, Weight, WeightClass, WeightData,
};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::path::Path;

/// An engine that gives its input back and has these weights.
pub fn engine(flags: EngineFlags, weights: &[(&str, Tensor)]) -> Engine {
    let mut weights = weights.to_vec();
    weights.sort_by_key(|(name, _)| *name);
    let rows = weights.iter().enumerate().map(|(i, (name, tensor))| Weight {
        name: (*name).to_owned(),
        aliases: Vec::new(),
        value: ValueId(1 + i as u32),
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
        class: WeightClass::Weight,
        pinned: None,
        refittable: !flags.is_frozen(),
        digest: Some(Digest::of(tensor.bytes())),
        data: WeightData::Stored(tensor.bytes().clone()),
    });
    let port = Port {
        name: "x".into(),
        value: ValueId(0),
        form: Form::Tensor,
        dtype: DType::F32,
        shape: Some(vec![]),
    };
    Engine::new(EngineParts {
        flags,
        metadata: Default::default(),
        inputs: vec![port.clone()],
        outputs: vec![port],
        values: 1 + weights.len() as u32,
        literals: Vec::new(),
        weights: rows.collect(),
        prepare: Block::default(),
        execute: Block { inputs: vec![], nodes: vec![], outputs: vec![ValueId(0)] },
        source_literals: Vec::new(),
        ignored: Vec::new(),
    })
    .unwrap()
}

/// Writes an engine as a full, refittable file.
pub fn save(engine: &Engine, path: &Path) {
    std::fs::write(path, engine.serialize(SerializeFlags::default()).unwrap()).unwrap();
}

/// Values that tell weights and elements apart.
pub fn ramp(shape: &[usize], from: f32) -> Tensor {
    let n = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..n).map(|i| from + i as f32 * 0.25).collect();
    Tensor::from_slice(shape, &values)
}

/// Weights of a few shapes; `from` makes sets of them differ.
pub fn weights(from: f32) -> Vec<(&'static str, Tensor)> {
    let half = Tensor::from_slice(&[2], &[half::f16::ONE, half::f16::from_f32(from)]);
    vec![
        ("layer.bias", ramp(&[3], from)),
        ("layer.weight", ramp(&[3, 5], from + 100.0)),
        // Larger than what is written in one piece.
        ("embedding", ramp(&[700, 1024], from)),
        ("half", half),
        ("empty", ramp(&[0, 4], 0.0)),
    ]
}

/// A safetensors file written by the format's own crate.
pub fn save_safetensors(tensors: &[(&str, Tensor)], path: &Path) {
    let views = tensors.iter().map(|(name, tensor)| {
        let dtype = match tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::I64 => Dtype::I64,
            other => panic!("{other}"),
        };
        let view = TensorView::new(dtype, tensor.shape().to_vec(), tensor.bytes()).unwrap();
        ((*name).to_owned(), view)
    });
    std::fs::write(path, safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap()).unwrap();
}

/// The names in a folder, sorted.
pub fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A range of bytes that owns a copy.
pub fn bytes(of: &[u8]) -> Bytes {
    Bytes::copy_from(of)
}
