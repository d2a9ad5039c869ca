//! A walk over the wire form of a model before it is decoded: it finds damage with its offset, and counts
//! messages so that a small file cannot unpack to gigabytes.

use crate::{OnnxError, OnnxErrorKind};

/// Embedded messages of one model. A decoded message takes a few hundred bytes where its wire form may take two;
/// the largest real models have some hundred thousand.
const MAX_MESSAGES: usize = 4 << 20;

/// Depth of nested messages; an `If` or `Loop` body costs three levels.
const MAX_DEPTH: usize = 96;

/// The message types that contain messages.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Function,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    ElementType,
    MapType,
    Shape,
    Leaf,
}

/// The message type that a field holds, for the fields that are decoded.
fn child(of: Kind, field: u64) -> Option<Kind> {
    Some(match (of, field) {
        (Kind::Model, 7) => Kind::Graph,
        (Kind::Model, 8 | 14) => Kind::Leaf,
        (Kind::Model, 25) => Kind::Function,
        (Kind::Graph, 1) | (Kind::Function, 7) => Kind::Node,
        (Kind::Graph, 5) => Kind::Tensor,
        (Kind::Graph, 11..=13) => Kind::ValueInfo,
        (Kind::Graph, 15) => Kind::Sparse,
        (Kind::Node, 5) | (Kind::Function, 11) => Kind::Attribute,
        (Kind::Function, 9) => Kind::Leaf,
        (Kind::Attribute, 5 | 10) => Kind::Tensor,
        (Kind::Attribute, 6 | 11) => Kind::Graph,
        (Kind::Attribute, 22 | 23) => Kind::Sparse,
        (Kind::Tensor, 3 | 13) => Kind::Leaf,
        (Kind::Sparse, 1 | 2) => Kind::Tensor,
        (Kind::ValueInfo, 2) => Kind::Type,
        (Kind::Type, 1 | 8) => Kind::TensorType,
        (Kind::Type, 4 | 9) => Kind::ElementType,
        (Kind::Type, 5) => Kind::MapType,
        (Kind::ElementType, 1) | (Kind::MapType, 2) => Kind::Type,
        (Kind::TensorType, 2) => Kind::Shape,
        (Kind::Shape, 1) => Kind::Leaf,
        _ => return None,
    })
}

/// Checks the wire form of a whole model.
pub(crate) fn check(bytes: &[u8]) -> Result<(), OnnxError> {
    let mut walk = Walk { bytes, at: 0, messages: 0 };
    walk.message(Kind::Model, bytes.len(), 0)
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    messages: usize,
}

impl Walk<'_> {
    fn message(&mut self, kind: Kind, end: usize, depth: usize) -> Result<(), OnnxError> {
        self.messages += 1;
        if self.messages > MAX_MESSAGES {
            return Err(OnnxError::limit("number of protobuf messages", MAX_MESSAGES));
        }
        if depth > MAX_DEPTH {
            return Err(OnnxError::limit("nesting of protobuf messages", MAX_DEPTH)
                .at(format_args!("offset {}", self.at)));
        }
        while self.at < end {
            self.field(kind, end, depth)?;
        }
        Ok(())
    }

    fn field(&mut self, kind: Kind, end: usize, depth: usize) -> Result<(), OnnxError> {
        let start = self.at;
        let key = self.varint(end)?;
        let field = key >> 3;
        if field == 0 || field >= 1 << 29 {
            return Err(corrupt("field number out of range", start).found(field));
        }
        match (key & 7, child(kind, field)) {
            (0, None) => self.varint(end).map(drop),
            (1, None) => self.skip(8, end),
            (5, None) => self.skip(4, end),
            (2, child) => {
                let len = self.varint(end)?;
                let from = self.at;
                self.skip(len, end)?;
                if let Some(child) = child {
                    let end = self.at;
                    self.at = from;
                    self.message(child, end, depth + 1)?;
                }
                Ok(())
            }
            (wire, Some(_)) => {
                Err(corrupt("wire type of an embedded message", start).expected(2).found(wire))
            }
            (wire, None) => Err(corrupt("wire type", start).expected("0, 1, 2 or 5").found(wire)),
        }
    }

    fn skip(&mut self, len: u64, end: usize) -> Result<(), OnnxError> {
        let left = end - self.at;
        match usize::try_from(len) {
            Ok(len) if len <= left => {
                self.at += len;
                Ok(())
            }
            _ => Err(corrupt("field runs past the end", self.at)
                .expected(format_args!("at most {left} bytes"))
                .found(len)),
        }
    }

    fn varint(&mut self, end: usize) -> Result<u64, OnnxError> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            if self.at >= end {
                return Err(corrupt("number runs past the end", start));
            }
            let byte = self.bytes[self.at];
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift.min(63);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(corrupt("number of more than ten bytes", start))
    }
}

fn corrupt(what: &str, offset: usize) -> OnnxError {
    OnnxError::new(OnnxErrorKind::Corrupt, format!("not an ONNX model: {what}"))
        .at(format_args!("offset {offset}"))
}
