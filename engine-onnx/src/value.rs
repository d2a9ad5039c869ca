//! Stored values that need not be tensors.

use crate::proto::{OptionalProto, SequenceProto, TensorProto, optional_type};
use crate::{OnnxError, OnnxErrorKind, TensorData};
use engine_format::{Bytes, Form};
use prost::Message;

/// A value as ONNX's own tests keep their inputs and outputs.
#[derive(Clone, Debug)]
pub enum ValueData {
    /// A tensor; also an optional one that is there.
    Tensor(TensorData),
    /// A sequence of tensors; also an optional one that is there.
    Sequence(Vec<TensorData>),
    /// An optional value that is absent.
    Absent,
}

impl ValueData {
    /// Decodes a file that holds one message of the kind that a value of this form is stored as.
    pub fn parse(bytes: Bytes, form: Form) -> Result<Self, OnnxError> {
        let shared = prost::bytes::Bytes::from_owner(bytes);
        let corrupt = |error: prost::DecodeError| {
            OnnxError::new(OnnxErrorKind::Corrupt, format!("not an ONNX {form:?}: {error}"))
        };
        match form {
            Form::Tensor => Self::tensor(&TensorProto::decode(shared).map_err(corrupt)?),
            Form::Sequence => Self::sequence(&SequenceProto::decode(shared).map_err(corrupt)?),
            Form::OptionalTensor | Form::OptionalSequence => {
                Self::optional(&OptionalProto::decode(shared).map_err(corrupt)?)
            }
        }
    }

    fn tensor(proto: &TensorProto) -> Result<Self, OnnxError> {
        TensorData::alone(proto).map(Self::Tensor)
    }

    fn sequence(proto: &SequenceProto) -> Result<Self, OnnxError> {
        let elements = proto.tensor_values.iter().map(TensorData::alone);
        elements.collect::<Result<_, _>>().map(Self::Sequence)
    }

    fn optional(proto: &OptionalProto) -> Result<Self, OnnxError> {
        match (proto.elem_type, &proto.tensor_value, &proto.sequence_value) {
            (optional_type::TENSOR, Some(tensor), _) => Self::tensor(tensor),
            (optional_type::SEQUENCE, _, Some(sequence)) => Self::sequence(sequence),
            (
                optional_type::UNDEFINED | optional_type::TENSOR | optional_type::SEQUENCE,
                None,
                None,
            ) => Ok(Self::Absent),
            (kind, ..) => Err(OnnxError::invalid("kind of an optional value")
                .expected("0 (absent), 1 (a tensor) or 3 (a sequence), with that value")
                .found(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::data_type;

    fn tensor(value: i64) -> TensorProto {
        let data_type = data_type::INT64;
        TensorProto { dims: vec![1], data_type, int64_data: vec![value], ..Default::default() }
    }

    fn ints(data: &TensorData) -> Vec<i64> {
        data.tensor().unwrap().to_i64s().unwrap()
    }

    #[test]
    fn each_form_is_read_from_its_own_message() {
        let sequence =
            SequenceProto { tensor_values: vec![tensor(1), tensor(2)], ..Default::default() };
        let read = |bytes: Vec<u8>, form| ValueData::parse(bytes.into(), form).unwrap();
        let ValueData::Tensor(found) = read(tensor(7).encode_to_vec(), Form::Tensor) else {
            panic!()
        };
        assert_eq!(ints(&found), [7]);
        let ValueData::Sequence(found) = read(sequence.encode_to_vec(), Form::Sequence) else {
            panic!()
        };
        assert_eq!(found.iter().map(ints).collect::<Vec<_>>(), [[1], [2]]);
        let there = OptionalProto {
            elem_type: optional_type::SEQUENCE,
            sequence_value: Some(sequence),
            ..Default::default()
        };
        let found = read(there.encode_to_vec(), Form::OptionalSequence);
        assert!(matches!(found, ValueData::Sequence(elements) if elements.len() == 2));
        let absent = OptionalProto::default().encode_to_vec();
        assert!(matches!(read(absent, Form::OptionalTensor), ValueData::Absent));
        let odd = OptionalProto { elem_type: 4, ..Default::default() }.encode_to_vec();
        assert!(ValueData::parse(odd.into(), Form::OptionalTensor).is_err());
    }
}
