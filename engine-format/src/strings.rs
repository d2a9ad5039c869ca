//! The one encoding of a tensor of strings: a little-endian `u32` for the length of every element in bytes, then the elements'
//! UTF-8, one after the other, with nothing between and nothing after them.

use crate::TensorError;
use crate::size::{STRING_LENGTH, elements};

/// The encoding of `values`.
///
/// # Panics
/// If an element is 4 GiB long or longer.
pub(crate) fn encode<S: AsRef<str>>(values: &[S]) -> Vec<u8> {
    let bytes: usize = values.iter().map(|s| s.as_ref().len()).sum();
    let mut out = Vec::with_capacity(values.len() * STRING_LENGTH + bytes);
    for value in values {
        let length = u32::try_from(value.as_ref().len()).expect("a string is shorter than 4 GiB");
        out.extend_from_slice(&length.to_le_bytes());
    }
    values.iter().for_each(|value| out.extend_from_slice(value.as_ref().as_bytes()));
    out
}

/// Checks that `data` is the encoding of as many strings as `shape` has elements.
pub(crate) fn check(shape: &[usize], data: &[u8]) -> Result<(), TensorError> {
    decode(shape, data).map(drop)
}

/// The elements of a tensor of strings of `shape` with these bytes: a little-endian `u32` for the length of every element, then
/// the elements' UTF-8, one after the other.
///
/// # Errors
/// If the bytes are anything else.
pub fn decode<'a>(shape: &[usize], data: &'a [u8]) -> Result<Vec<&'a str>, TensorError> {
    let wrong = |what: String, expected: String, found: String| TensorError::Strings {
        shape: shape.to_vec(),
        what,
        expected,
        found,
    };
    let count = elements(shape);
    let split =
        count.and_then(|n| n.checked_mul(STRING_LENGTH)).and_then(|at| data.split_at_checked(at));
    let Some((lengths, mut text)) = split else {
        let expected =
            count.map_or_else(|| "fewer elements".to_owned(), |n| format!("{n} lengths"));
        return Err(wrong("bytes".into(), expected, format!("{} bytes", data.len())));
    };
    let mut out = Vec::with_capacity(lengths.len() / STRING_LENGTH);
    for (i, length) in lengths.chunks_exact(STRING_LENGTH).enumerate() {
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let Some((element, rest)) = text.split_at_checked(length) else {
            let (expected, found) = (format!("{length} bytes"), format!("{} left", text.len()));
            return Err(wrong(format!("element {i}"), expected, found));
        };
        let element = std::str::from_utf8(element)
            .map_err(|error| wrong(format!("element {i}"), "UTF-8".into(), error.to_string()))?;
        out.push(element);
        text = rest;
    }
    match text.len() {
        0 => Ok(out),
        more => Err(wrong("the end".into(), "no more bytes".into(), format!("{more} bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Bytes, DType, Tensor};

    #[test]
    fn strings_of_all_lengths_come_back() {
        let values = ["", "a", "grüße", "\0", "日本"];
        let tensor = Tensor::from_strings(&[5], &values);
        assert_eq!(tensor.strings().unwrap(), values);
        assert_eq!((tensor.len(), tensor.bytes().len()), (5, 5 * 4 + 1 + 7 + 1 + 6));
        assert_eq!(tensor.reshaped(&[1, 5]).unwrap().strings().unwrap(), values);
        assert_eq!(tensor.to_string(), "string[5] [\"\", \"a\", \"grüße\", \"\\0\", \"日本\"]");
        assert_eq!(Tensor::zeros(DType::String, &[2]), Tensor::from_strings(&[2], &["", ""]));
        assert!(Tensor::from_strings(&[0, 3], &[""; 0]).is_empty());
        assert!(
            tensor.as_slice::<u8>().is_err() && Tensor::zeros(DType::U8, &[1]).strings().is_err()
        );
    }

    #[test]
    fn what_is_no_encoding_is_refused() {
        let cases: [(&[usize], &[u8], &str); 6] = [
            (&[1], &[1, 0, 0], "expected 1 lengths, found 3 bytes"),
            (&[1], &[2, 0, 0, 0, b'a'], "element 0: expected 2 bytes, found 1 left"),
            (&[1], &[0, 0, 0, 0, b'a'], "the end: expected no more bytes, found 1 bytes"),
            (&[1], &[1, 0, 0, 0, 0xff], "element 0: expected UTF-8"),
            // Two halves of one character are no two strings.
            (&[2], &[1, 0, 0, 0, 1, 0, 0, 0, 0xc3, 0xa9], "element 0: expected UTF-8"),
            (&[usize::MAX, 2], &[], "expected fewer elements"),
        ];
        for (shape, bytes, message) in cases {
            let error = Tensor::new(DType::String, shape, Bytes::copy_from(bytes)).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
