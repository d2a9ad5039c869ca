//! Reads ONNX files: protobuf decoding, external data, functions, constants by name.
