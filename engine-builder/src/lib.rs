//! Compiles an ONNX model to an engine: import, passes, classification of constants.
