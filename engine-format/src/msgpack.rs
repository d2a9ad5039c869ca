//! MessagePack: encoding with named fields, and a walk that knows no schema.
//!
//! One value has one encoding here. The walk accepts only that one: shortest integers and lengths,
//! map keys that are strings in strictly rising byte order, no extension types, nothing after the value.

use crate::{FormatError, FormatErrorKind, limits};
use rmp::Marker;
use serde::{Serialize, de::DeserializeOwned};

/// Encodes with field names.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
    value.serialize(&mut serializer).expect("lengths are known and a vector takes every write");
    out
}

/// Decodes `bytes` of the section `section`, walking them first.
///
/// # Errors
/// `Corrupt` for bytes that are not the one encoding of a `T`, `LimitExceeded` for a cap, and `newer`
/// (the kind for what this version does not know) for fields or variants without a meaning here.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    section: &str,
    newer: FormatErrorKind,
) -> Result<T, FormatError> {
    let mut walk = Walk { bytes, offset: 0, section };
    walk.value(0)?;
    if walk.offset != bytes.len() {
        return Err(walk.error("bytes after the end of the MessagePack value"));
    }
    let value: T = rmp_serde::from_slice(bytes).map_err(|error| {
        FormatError::new(newer, format!("the {section} does not have the fields of this version"))
            .found(error)
    })?;
    // A field that is left out when empty must be left out: compare with what we would write.
    let again = encode(&value);
    if again != bytes {
        let offset = again.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        let what = format!("non-canonical MessagePack in the {section}");
        return Err(FormatError::new(FormatErrorKind::Corrupt, what)
            .at(format!("unpacked offset {offset}"))
            .expected("the shortest form of the same contents"));
    }
    Ok(value)
}

struct Walk<'a> {
    bytes: &'a [u8],
    offset: usize,
    section: &'a str,
}

impl<'a> Walk<'a> {
    fn error(&self, what: &str) -> FormatError {
        FormatError::new(FormatErrorKind::Corrupt, what)
            .at(format!("unpacked offset {} of the {}", self.offset, self.section))
    }

    fn limit(&self, what: &str, cap: usize, found: impl std::fmt::Display) -> FormatError {
        FormatError::new(FormatErrorKind::LimitExceeded, what)
            .at(format!("unpacked offset {} of the {}", self.offset, self.section))
            .expected(format!("at most {cap}"))
            .found(found)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let rest = &self.bytes[self.offset..];
        if len > rest.len() {
            return Err(self
                .error("MessagePack value cut short")
                .expected(format!("{len} bytes"))
                .found(rest.len()));
        }
        self.offset += len;
        Ok(&rest[..len])
    }

    /// A big-endian unsigned number of `width` bytes.
    fn number(&mut self, width: usize) -> Result<u64, FormatError> {
        Ok(self.take(width)?.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    /// A number of `width` bytes that would not have fitted a shorter form, whose largest is `below`.
    fn number_above(&mut self, width: usize, below: u64) -> Result<u64, FormatError> {
        let start = self.offset;
        let number = self.number(width)?;
        if number > below {
            return Ok(number);
        }
        self.offset = start;
        Err(self.error("number or length not in its shortest form").found(number))
    }

    /// A negative number of `width` bytes that would not have fitted a shorter form (at least `above`).
    fn negative(&mut self, width: usize, above: i64) -> Result<(), FormatError> {
        let start = self.offset;
        let shift = 64 - 8 * width;
        let number = (self.number(width)? << shift).cast_signed() >> shift;
        if number < above {
            return Ok(());
        }
        self.offset = start;
        Err(self.error("number not in its shortest form").found(number))
    }

    fn value(&mut self, depth: usize) -> Result<(), FormatError> {
        if depth > limits::MESSAGE_DEPTH {
            return Err(self.limit("MessagePack nested too deep", limits::MESSAGE_DEPTH, depth));
        }
        let start = self.offset;
        let marker = Marker::from_u8(self.take(1)?[0]);
        match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) => Ok(()),
            Marker::Null | Marker::False | Marker::True => Ok(()),
            Marker::U8 => self.number_above(1, 0x7f).map(drop),
            Marker::U16 => self.number_above(2, 0xff).map(drop),
            Marker::U32 => self.number_above(4, 0xffff).map(drop),
            Marker::U64 => self.number_above(8, 0xffff_ffff).map(drop),
            Marker::I8 => self.negative(1, -32),
            Marker::I16 => self.negative(2, i8::MIN.into()),
            Marker::I32 => self.negative(4, i16::MIN.into()),
            Marker::I64 => self.negative(8, i32::MIN.into()),
            Marker::F32 => self.take(4).map(drop),
            Marker::F64 => self.take(8).map(drop),
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                self.string(marker).map(drop)
            }
            Marker::Bin8 => self.binary(1, None),
            Marker::Bin16 => self.binary(2, Some(0xff)),
            Marker::Bin32 => self.binary(4, Some(0xffff)),
            Marker::FixArray(len) => self.array(len.into(), depth),
            Marker::Array16 => self.number_above(2, 15).and_then(|len| self.array(len, depth)),
            Marker::Array32 => self.number_above(4, 0xffff).and_then(|len| self.array(len, depth)),
            Marker::FixMap(len) => self.map(len.into(), depth),
            Marker::Map16 => self.number_above(2, 15).and_then(|len| self.map(len, depth)),
            Marker::Map32 => self.number_above(4, 0xffff).and_then(|len| self.map(len, depth)),
            _ => {
                self.offset = start;
                Err(self
                    .error("MessagePack type without a meaning here")
                    .found(format!("{marker:?}")))
            }
        }
    }

    fn string(&mut self, marker: Marker) -> Result<&'a str, FormatError> {
        let len = match marker {
            Marker::FixStr(len) => len.into(),
            Marker::Str8 => self.number_above(1, 31)?,
            Marker::Str16 => self.number_above(2, 0xff)?,
            Marker::Str32 => self.number_above(4, 0xffff)?,
            other => {
                self.offset -= 1;
                return Err(self.error("map key is not a string").found(format!("{other:?}")));
            }
        };
        if len > limits::STRING_BYTES as u64 {
            return Err(self.limit("string too long", limits::STRING_BYTES, len));
        }
        let start = self.offset;
        std::str::from_utf8(self.take(len as usize)?).map_err(|error| {
            self.offset = start + error.valid_up_to();
            self.error("string is not UTF-8")
        })
    }

    fn binary(&mut self, width: usize, below: Option<u64>) -> Result<(), FormatError> {
        let len = match below {
            None => self.number(width)?,
            Some(below) => self.number_above(width, below)?,
        };
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.take(len).map(drop)
    }

    /// Every item takes a byte at least, so that a count beyond the rest is refused at once.
    fn count(&self, items: u64) -> Result<(), FormatError> {
        let rest = self.bytes.len() - self.offset;
        if items > rest as u64 {
            return Err(self
                .error("count exceeds the bytes left")
                .expected(format!("at most {rest}"))
                .found(items));
        }
        Ok(())
    }

    fn array(&mut self, len: u64, depth: usize) -> Result<(), FormatError> {
        self.count(len)?;
        (0..len).try_for_each(|_| self.value(depth + 1))
    }

    fn map(&mut self, len: u64, depth: usize) -> Result<(), FormatError> {
        self.count(len.saturating_mul(2))?;
        let mut before: Option<&str> = None;
        for _ in 0..len {
            let start = self.offset;
            let marker = Marker::from_u8(self.take(1)?[0]);
            let key = self.string(marker)?;
            if let Some(before) = before.filter(|&before| before >= key) {
                self.offset = start;
                return Err(self
                    .error("map keys not in rising order")
                    .expected(format!("a key after {before:?}"))
                    .found(format!("{key:?}")));
            }
            before = Some(key);
            self.value(depth + 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn walk(bytes: &[u8]) -> Result<(), String> {
        let mut walk = Walk { bytes, offset: 0, section: "test" };
        walk.value(0).map_err(|error| error.to_string())
    }

    #[test]
    fn every_number_that_is_written_is_canonical() {
        let edges =
            [0u64, 31, 32, 127, 128, 255, 256, 65535, 65536, u32::MAX.into(), 1 << 32, u64::MAX];
        for number in edges {
            assert_eq!(walk(&encode(&number)), Ok(()), "{number}");
        }
        for number in [-1i64, -32, -33, -128, -129, -32768, -32769, i32::MIN.into(), i64::MIN] {
            assert_eq!(walk(&encode(&number)), Ok(()), "{number}");
        }
    }

    #[test]
    fn every_length_that_is_written_is_canonical() {
        for len in [0usize, 15, 16, 31, 32, 255, 256, 65535, 65536] {
            assert_eq!(walk(&encode(&"x".repeat(len))), Ok(()), "string of {len}");
            assert_eq!(walk(&encode(&vec![7u8; len])), Ok(()), "array of {len}");
            let map: BTreeMap<String, u8> = (0..len).map(|i| (format!("{i:05}"), 1)).collect();
            assert_eq!(walk(&encode(&map)), Ok(()), "map of {len}");
        }
    }

    #[test]
    fn other_encodings_of_the_same_value_are_refused() {
        let refused: [(&[u8], &str); 12] = [
            (&[0xcc, 0x05], "number or length not in its shortest form at unpacked offset 1"),
            (&[0xcd, 0x00, 0xff], "number or length not in its shortest form"),
            (&[0xd0, 0x05], "number not in its shortest form"),
            (&[0xd1, 0xff, 0xff], "number not in its shortest form"),
            (&[0xd9, 0x01, b'x'], "number or length not in its shortest form"),
            (&[0xc5, 0x00, 0x01, 0x00], "number or length not in its shortest form"),
            (&[0xdc, 0x00, 0x01, 0x00], "number or length not in its shortest form"),
            (&[0x82, 0xa1, b'b', 0x01, 0xa1, b'a', 0x01], "map keys not in rising order"),
            (&[0x82, 0xa1, b'a', 0x01, 0xa1, b'a', 0x01], "map keys not in rising order"),
            (&[0x81, 0x01, 0x01], "map key is not a string at unpacked offset 1"),
            (&[0xd4, 0x01, 0x00], "MessagePack type without a meaning here"),
            (&[0xc1], "MessagePack type without a meaning here"),
        ];
        for (bytes, message) in refused {
            let error = walk(bytes).unwrap_err();
            assert!(error.starts_with(message), "{bytes:02x?}: {error}");
        }
    }

    #[test]
    fn forged_counts_and_depths_are_refused_before_anything_is_read() {
        let error = walk(&[0xdd, 0xff, 0xff, 0xff, 0xff]).unwrap_err();
        assert!(error.starts_with("count exceeds the bytes left"), "{error}");
        let error = walk(&[0xc6, 0xff, 0xff, 0xff, 0xff]).unwrap_err();
        assert!(error.starts_with("MessagePack value cut short"), "{error}");
        let error = walk(&[0xdb, 0xff, 0xff, 0xff, 0xff]).unwrap_err();
        assert!(error.starts_with("string too long"), "{error}");
        let error = walk(&[0x91; 4096]).unwrap_err();
        assert!(error.starts_with("MessagePack nested too deep"), "{error}");
        assert!(walk(&[0xa2, 0xff, 0xfe]).unwrap_err().starts_with("string is not UTF-8"));
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        let error = decode::<u64>(&[1, 2], "test", FormatErrorKind::Corrupt).unwrap_err();
        assert!(error.to_string().starts_with("bytes after the end"), "{error}");
    }
}
