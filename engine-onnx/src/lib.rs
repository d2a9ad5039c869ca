//! Reads ONNX files: protobuf decoding, external data, functions, constants by name.
//!
//! [`Model::open`] maps a file and gives back its graph: functions inlined, names unique, every `Constant` in one
//! form, tensors known by type and decoded on request. The crate knows the container, not the operators: what a node
//! means is the reader's affair.
//!
//! ```
//! use engine_onnx::{Model, proto};
//! use prost::Message;
//!
//! let tensor = proto::TensorProto {
//!     name: "bias".into(),
//!     data_type: proto::data_type::FLOAT,
//!     dims: vec![2],
//!     float_data: vec![0.5, -0.5],
//!     ..Default::default()
//! };
//! let file = proto::ModelProto {
//!     ir_version: Some(8),
//!     opset_import: vec![proto::OperatorSetIdProto { domain: String::new(), version: 17 }],
//!     graph: Some(proto::GraphProto { initializer: vec![tensor], ..Default::default() }),
//!     ..Default::default()
//! };
//! let model = Model::parse(file.encode_to_vec().into(), None)?;
//! let [bias] = &model.constants()[..] else { unreachable!() };
//! assert_eq!(bias.name, "bias");
//! assert_eq!(bias.data.tensor()?.as_slice::<f32>().unwrap(), [0.5, -0.5]);
//! # Ok::<(), engine_onnx::OnnxError>(())
//! ```

mod error;
mod external;
mod import;
mod inline;
mod map;
mod model;
mod names;
mod order;
pub mod proto;
mod tensor;
mod value;
mod value_type;
mod wire;

pub use error::{OnnxError, OnnxErrorKind};
pub use external::contained_path;
pub use map::{FileState, map_file, open_regular};
pub use model::{AttrValue, Constant, Graph, Initializer, Model, Node, ValueInfo};
pub use tensor::{TensorData, dtype_of, type_name};
pub use value::ValueData;

use engine_format::{Bytes, Header};
use external::Origin;
use prost::Message;
use std::path::Path;
use std::sync::Arc;

impl Model {
    /// Maps and decodes the file at `path`. External data is looked for beside it, see [`contained_path`].
    ///
    /// Tensors refer to the mapped file, which must not be changed as long as the model, or a tensor of it, is alive; a tensor that is asked
    /// for after it was is an error, see [`map_file`].
    pub fn open(path: &Path) -> Result<Self, OnnxError> {
        let bytes = map_file(path).map_err(|error| {
            OnnxError::new(OnnxErrorKind::Io, error.to_string()).in_file(path.display())
        })?;
        Self::read(bytes.clone(), Origin::file(path, bytes))
    }

    /// Decodes a model in memory. `folder` is where external data is looked for; without one, external data is an error
    /// once it is used.
    pub fn parse(bytes: Bytes, folder: Option<&Path>) -> Result<Self, OnnxError> {
        Self::read(bytes, Origin::memory(folder))
    }

    fn read(bytes: Bytes, origin: Origin) -> Result<Self, OnnxError> {
        let origin = Arc::new(origin);
        if bytes.starts_with(&Header::MAGIC) {
            let error = OnnxError::new(OnnxErrorKind::Corrupt, "not an ONNX model");
            return Err(
                origin.locate(error.expected("what an exporter writes").found("an engine file"))
            );
        }
        let decoded = wire::check(&bytes).and_then(|()| {
            // The shared owner lets `raw_data` fields be slices of the file.
            let shared = prost::bytes::Bytes::from_owner(bytes);
            proto::ModelProto::decode(shared).map_err(|error| {
                OnnxError::new(OnnxErrorKind::Corrupt, format!("not an ONNX model: {error}"))
            })
        });
        decoded
            .and_then(|proto| import::model(&proto, origin.clone()))
            .map_err(|error| origin.locate(error))
    }
}

/// The example of the README is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
