//! Where weights come from: safetensors, ONNX, engines and memory; streaming strip and fill of engine files.

pub mod npy;
