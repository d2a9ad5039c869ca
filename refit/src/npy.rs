//! NumPy's `.npy` files: one array with its element type and shape.
//!
//! Format: `\x93NUMPY`, two version bytes, the header's length (u16 in version 1, u32 in 2 and 3), a Python
//! dictionary literal with `descr`, `fortran_order` and `shape`, then the raw elements. Strings have one width for all, in
//! characters of four bytes, and zeros behind those that are shorter.
//! Source: NumPy's enhancement proposal 1 and the documentation of `numpy.lib.format`.

use engine_format::{Bytes, DType, Tensor};

/// Element types with their `descr`, little-endian.
const DESCRS: [(DType, &str); 12] = [
    (DType::F32, "<f4"),
    (DType::F64, "<f8"),
    (DType::F16, "<f2"),
    (DType::I8, "|i1"),
    (DType::I16, "<i2"),
    (DType::I32, "<i4"),
    (DType::I64, "<i8"),
    (DType::U8, "|u1"),
    (DType::U16, "<u2"),
    (DType::U32, "<u4"),
    (DType::U64, "<u8"),
    (DType::Bool, "|b1"),
];

const MAGIC: &[u8] = b"\x93NUMPY";

/// Why bytes are not a readable array, or a tensor has no `.npy` form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NpyError {
    /// The file is not one, or is cut short.
    #[error("not a .npy file: {0}")]
    Header(String),
    /// The element type has no counterpart.
    #[error("element type {0} has no counterpart: .npy knows {known:?}", known = DESCRS.map(|(_, d)| d))]
    DType(String),
    /// Column-major arrays are not read.
    #[error("the array is in Fortran order; save it with numpy.ascontiguousarray")]
    FortranOrder,
    /// A string has no form there: zeros at its end are taken for filling, and what is no character is none.
    #[error("element {index} of the strings {why}")]
    Text {
        /// Position.
        index: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Bytes and header disagree.
    #[error(transparent)]
    Tensor(#[from] engine_format::TensorError),
}

/// The bytes of a `.npy` file that holds `tensor`.
pub fn encode(tensor: &Tensor) -> Result<Vec<u8>, NpyError> {
    if let Ok(texts) = tensor.strings() {
        let (width, bytes) = widened(&texts)?;
        return file(&format!("<U{width}"), tensor.shape(), &bytes);
    }
    let (_, descr) = DESCRS
        .iter()
        .find(|(dtype, _)| *dtype == tensor.dtype())
        .ok_or_else(|| NpyError::DType(tensor.dtype().to_string()))?;
    file(descr, tensor.shape(), tensor.bytes())
}

/// Strings in characters of four bytes, all as wide as the longest.
fn widened(texts: &[&str]) -> Result<(usize, Vec<u8>), NpyError> {
    let width = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
    let mut bytes = vec![0; texts.len() * width * 4];
    for (index, (text, cell)) in texts.iter().zip(bytes.chunks_exact_mut(width * 4)).enumerate() {
        if text.ends_with('\0') {
            return Err(NpyError::Text { index, why: "ends in a zero, which would be lost" });
        }
        for (c, slot) in text.chars().zip(cell.chunks_exact_mut(4)) {
            slot.copy_from_slice(&u32::from(c).to_le_bytes());
        }
    }
    Ok((width, bytes))
}

/// The strings of cells of `width` characters of four bytes.
fn narrowed(shape: &[usize], width: usize, bytes: &[u8]) -> Result<Tensor, NpyError> {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let expected = count.and_then(|n| n.checked_mul(width)?.checked_mul(4));
    if expected != Some(bytes.len()) {
        let found = bytes.len();
        return Err(NpyError::Header(format!(
            "{found} bytes of strings of shape {shape:?} with {width} characters each"
        )));
    }
    let text = |index: usize| {
        let cell = &bytes[index * width * 4..][..width * 4];
        let code = |c: &[u8]| u32::from_le_bytes([c[0], c[1], c[2], c[3]]);
        let text: Option<String> = cell.chunks_exact(4).map(|c| char::from_u32(code(c))).collect();
        let text = text.ok_or(NpyError::Text { index, why: "is not made of characters" })?;
        Ok(text.trim_end_matches('\0').to_owned())
    };
    let texts: Vec<String> = (0..count.unwrap_or(0)).map(text).collect::<Result<_, NpyError>>()?;
    Ok(Tensor::from_strings(shape, &texts))
}

/// A file with these raw elements.
fn file(descr: &str, shape: &[usize], data: &[u8]) -> Result<Vec<u8>, NpyError> {
    let shape: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    // The data starts at a multiple of 64: magic, version, length, dictionary, spaces, newline.
    let length = (10 + dict.len() + 1).next_multiple_of(64) - 10;
    let header = u16::try_from(length).map_err(|_| NpyError::Header("shape too long".into()))?;
    let mut out = Vec::with_capacity(10 + length + data.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[1, 0]);
    out.extend_from_slice(&header.to_le_bytes());
    out.extend_from_slice(dict.as_bytes());
    out.resize(10 + length - 1, b' ');
    out.push(b'\n');
    out.extend_from_slice(data);
    Ok(out)
}

/// What a `.npy` file says of its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    /// Bytes of one element: of strings as many for each.
    pub(crate) width: usize,
    /// Where the elements begin.
    pub(crate) data: usize,
}

impl Header {
    /// Bytes of the elements.
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.width
    }
}

/// The tensor in the bytes of a `.npy` file.
pub fn decode(bytes: &Bytes) -> Result<Tensor, NpyError> {
    let Header { dtype, shape, width, data } = header(bytes)?;
    if dtype == DType::String {
        return narrowed(&shape, width / 4, &bytes[data..]);
    }
    Ok(Tensor::new(dtype, &shape, bytes.slice(data, bytes.len() - data))?)
}

/// The header of a file of which at least that is in `bytes`. Its sizes do not overflow.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, NpyError> {
    let bad = |why: &str| NpyError::Header(why.to_owned());
    if !bytes.starts_with(MAGIC) {
        return Err(bad("the first six bytes are not \\x93NUMPY"));
    }
    let (start, length) = match (bytes.get(6), bytes.get(8..12)) {
        (Some(1), Some(n)) => (10, usize::from(u16::from_le_bytes([n[0], n[1]]))),
        (Some(2 | 3), Some(n)) => (12, u32::from_le_bytes([n[0], n[1], n[2], n[3]]) as usize),
        (Some(v), Some(_)) => return Err(bad(&format!("version {v}, expected 1, 2 or 3"))),
        _ => return Err(bad("the header is cut short")),
    };
    let header = bytes.get(start..start + length).ok_or_else(|| bad("the header is cut short"))?;
    let header = std::str::from_utf8(header).map_err(|_| bad("the header is not text"))?;
    let descr = quoted(field(header, "descr")?)?;
    let native = descr.replacen('=', "<", 1);
    let shape = dimensions(field(header, "shape")?)?;
    if field(header, "fortran_order")?.starts_with("True") && shape.len() > 1 {
        return Err(NpyError::FortranOrder);
    }
    let known = DESCRS.iter().find(|(_, d)| *d == native || d.replacen('|', "<", 1) == native);
    let width = native.strip_prefix("<U").and_then(|n| n.parse::<usize>().ok()?.checked_mul(4));
    let (dtype, width) = match (known, width) {
        (Some((dtype, _)), _) => (*dtype, dtype.width()),
        (None, Some(width)) => (DType::String, width),
        (None, None) => return Err(NpyError::DType(descr.to_owned())),
    };
    let elements = shape.iter().try_fold(width.max(1), |n, &d: &usize| n.checked_mul(d));
    if elements.is_none() {
        return Err(bad(&format!("an array of {shape:?} is too large")));
    }
    Ok(Header { dtype, shape, width, data: start + length })
}

/// What follows `'name':` in the dictionary.
fn field<'a>(header: &'a str, name: &str) -> Result<&'a str, NpyError> {
    let key = format!("'{name}':");
    let at = header
        .find(&key)
        .ok_or_else(|| NpyError::Header(format!("the header has no {name:?}: {header:?}")))?;
    Ok(header[at + key.len()..].trim_start())
}

fn quoted(text: &str) -> Result<&str, NpyError> {
    text.strip_prefix('\'')
        .and_then(|rest| rest.split_once('\''))
        .map(|(inside, _)| inside)
        .ok_or_else(|| NpyError::DType(text.to_owned()))
}

fn dimensions(text: &str) -> Result<Vec<usize>, NpyError> {
    let inside = text
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
        .map(|(inside, _)| inside)
        .ok_or_else(|| NpyError::Header(format!("shape is not a tuple: {text:?}")))?;
    inside
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|_| NpyError::Header(format!("dimension {part:?}"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_and_rank_round_trips() {
        for (dtype, _) in DESCRS {
            for shape in [vec![], vec![3], vec![2, 0, 4], vec![2, 3]] {
                let tensor = Tensor::zeros(dtype, &shape);
                let bytes = Bytes::from(encode(&tensor).unwrap());
                assert_eq!(bytes.len() % 64, tensor.bytes().len() % 64, "data is aligned");
                assert_eq!(decode(&bytes).unwrap(), tensor);
            }
        }
    }

    #[test]
    fn strings_round_trip_and_zeros_at_their_end_are_refused() {
        for (shape, texts) in
            [(vec![2, 2], vec!["", "日本", "a", "a\0b"]), (vec![], vec!["x"]), (vec![0], vec![])]
        {
            let tensor = Tensor::from_strings(&shape, &texts);
            let bytes = Bytes::from(encode(&tensor).unwrap());
            assert_eq!(decode(&bytes).unwrap(), tensor);
        }
        let error = encode(&Tensor::from_strings(&[1], &["a\0"])).unwrap_err();
        assert!(matches!(error, NpyError::Text { index: 0, .. }), "{error}");
        let whole = encode(&Tensor::from_strings(&[2], &["ab", "c"])).unwrap();
        for cut in 0..whole.len() {
            assert!(decode(&Bytes::from(whole[..cut].to_vec())).is_err(), "cut at {cut}");
        }
        let mut surrogate = whole.clone();
        let at = whole.len() - 16;
        surrogate[at..at + 4].copy_from_slice(&0xd800u32.to_le_bytes());
        assert!(matches!(decode(&surrogate.into()), Err(NpyError::Text { index: 0, .. })));
    }

    #[test]
    fn a_header_written_by_numpy_reads() {
        // numpy.save of numpy.array([[1, 2]], dtype='i4'), header and all.
        let mut file =
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2), }"
                .to_vec();
        file.resize(127, b' ');
        file.push(b'\n');
        file.extend([1, 0, 0, 0, 2, 0, 0, 0]);
        let tensor = decode(&Bytes::from(file)).unwrap();
        assert_eq!(tensor, Tensor::from_slice(&[1, 2], &[1i32, 2]));
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let whole = encode(&Tensor::from_slice(&[2, 2], &[1f32, 2.0, 3.0, 4.0])).unwrap();
        for cut in 0..whole.len() {
            assert!(decode(&Bytes::from(whole[..cut].to_vec())).is_err(), "cut at {cut}");
        }
        let fortran = String::from_utf8_lossy(&whole[10..127]).replace("False", "True ");
        let mut other = whole.clone();
        other[10..127].copy_from_slice(fortran.as_bytes());
        assert_eq!(decode(&Bytes::from(other)), Err(NpyError::FortranOrder));
    }
}
