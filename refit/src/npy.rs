//! NumPy's `.npy` files: one array with its element type and shape.
//!
//! Format: `\x93NUMPY`, two version bytes, the header's length (u16 in version 1, u32 in 2 and 3), a Python
//! dictionary literal with `descr`, `fortran_order` and `shape`, then the raw elements, row by row or column by column, in either
//! byte order. Strings have one width for all, in characters of four bytes, and zeros behind those that are shorter.
//! Types that NumPy itself does not have are written as the package ml_dtypes writes them: as elements of so many bytes.
//! Source: NumPy's enhancement proposal 1 and the documentation of `numpy.lib.format`.

use engine_format::{AlignedBuf, Bytes, DType, Tensor, size};

/// Element types with their `descr`, little-endian.
const DESCRS: [(DType, &str); 14] = [
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
    (DType::BF16, "<V2"),
    (DType::F8E5M2, "<f1"),
];

/// The `descr` of every other type of one byte. Which one it is the file does not say.
const CODES: &str = "<V1";

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
    /// Elements of one byte, and which type's codes they are is not said.
    #[error(
        "elements of one byte that may be of any type with 8 bits or fewer; save them as safetensors"
    )]
    Codes,
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
    let known = DESCRS.iter().find(|(dtype, _)| *dtype == tensor.dtype());
    // Every type that is left is a compact one, whose elements are codes of one byte.
    file(known.map_or(CODES, |(_, descr)| descr), tensor.shape(), tensor.bytes())
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

/// The strings of cells of `width` characters of four bytes, little-endian.
fn narrowed(shape: &[usize], width: usize, bytes: &[u8]) -> Result<Tensor, NpyError> {
    let count = size::elements(shape);
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
    /// `None` for codes of one byte whose type the file does not say.
    dtype: Option<DType>,
    pub(crate) shape: Vec<usize>,
    /// Bytes of one element: of strings as many for each.
    width: usize,
    /// Where the elements begin.
    pub(crate) data: usize,
    /// Whether the elements lie column by column: the first axis is the one whose neighbours are next to each other.
    by_columns: bool,
    /// Whether the bytes of a number lie the other way, the most significant one first.
    big_endian: bool,
}

impl Header {
    /// Bytes of the elements.
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.width
    }

    /// The element type.
    ///
    /// # Errors
    /// `Codes` if the file does not say it.
    pub(crate) fn dtype(&self) -> Result<DType, NpyError> {
        self.dtype.ok_or(NpyError::Codes)
    }

    /// Whether the elements lie in the file as they do in a tensor.
    pub(crate) fn is_plain(&self) -> bool {
        !self.by_columns && !self.big_endian
    }

    /// The tensor of these elements, as they lie in the file.
    ///
    /// # Errors
    /// `Codes`; `Text`; `Tensor` if there are more or fewer bytes than the header says, or such that stand for nothing.
    pub(crate) fn tensor(&self, elements: Bytes) -> Result<Tensor, NpyError> {
        let dtype = self.dtype()?;
        let number = if dtype == DType::String { 4 } else { self.width };
        let elements = if self.big_endian { swapped(&elements, number) } else { elements };
        // Nothing lies in any order, whatever the sizes of its other axes.
        let by_columns = self.by_columns && !elements.is_empty();
        match (dtype, by_columns) {
            (DType::String, true) => self.strings(&self.rows_of_cells(&elements)?),
            (DType::String, false) => self.strings(&elements),
            (_, true) => {
                let (shape, axes) = self.transposed();
                Ok(Tensor::new(dtype, &shape, elements)?.permuted(&axes))
            }
            (_, false) => Ok(Tensor::new(dtype, &self.shape, elements)?),
        }
    }

    /// The shape of the tensor whose elements lie row by row as this array's lie column by column, and the order of its axes that gives
    /// the array.
    fn transposed(&self) -> (Vec<usize>, Vec<usize>) {
        let shape: Vec<usize> = self.shape.iter().rev().copied().collect();
        let axes = (0..shape.len()).rev().collect();
        (shape, axes)
    }

    fn strings(&self, cells: &[u8]) -> Result<Tensor, NpyError> {
        narrowed(&self.shape, self.width / 4, cells)
    }

    /// Cells of strings that lie column by column, row by row.
    fn rows_of_cells(&self, cells: &[u8]) -> Result<Bytes, NpyError> {
        if cells.len() != self.bytes() {
            return Err(NpyError::Header(format!("{} bytes of {:?}", cells.len(), self.shape)));
        }
        let (shape, axes) = self.transposed();
        let index: Vec<i64> = (0..(cells.len() / self.width) as i64).collect();
        let order = Tensor::from_slice(&shape, &index).permuted(&axes);
        let mut out = Vec::with_capacity(cells.len());
        for &cell in order.as_slice::<i64>().unwrap_or_default() {
            out.extend_from_slice(&cells[cell as usize * self.width..][..self.width]);
        }
        Ok(out.into())
    }
}

/// Numbers of `width` bytes each with their bytes the other way round.
fn swapped(bytes: &[u8], width: usize) -> Bytes {
    let mut out = AlignedBuf::zeroed(bytes.len());
    out.copy_from_slice(bytes);
    out.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    out.into()
}

/// The tensor in the bytes of a `.npy` file.
///
/// # Errors
/// See [`NpyError`]; `Codes` for elements of one byte whose type only the reader may know, see [`decode_as`].
pub fn decode(bytes: &Bytes) -> Result<Tensor, NpyError> {
    let header = header(bytes)?;
    header.tensor(bytes.slice(header.data, bytes.len() - header.data))
}

/// As [`decode`], where the reader knows which type the elements have if the file leaves it open.
///
/// # Errors
/// See [`NpyError`].
pub fn decode_as(bytes: &Bytes, dtype: DType) -> Result<Tensor, NpyError> {
    let mut header = header(bytes)?;
    if dtype.is_compact() {
        header.dtype.get_or_insert(dtype);
    }
    header.tensor(bytes.slice(header.data, bytes.len() - header.data))
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
    let data = start + length;
    let header = bytes.get(start..data).ok_or_else(|| bad("the header is cut short"))?;
    let header = std::str::from_utf8(header).map_err(|_| bad("the header is not text"))?;
    let shape = dimensions(field(header, "shape")?)?;
    let (dtype, width, big_endian) = element(quoted(field(header, "descr")?)?)?;
    let by_columns = field(header, "fortran_order")?.starts_with("True") && shape.len() > 1;
    if size::elements(&[shape.as_slice(), &[width]].concat()).is_none() {
        return Err(bad(&format!("an array of {shape:?} is too large")));
    }
    Ok(Header { dtype, shape, width, data, by_columns, big_endian })
}

/// The element type that a `descr` says, if it says one, the bytes of an element, and whether the most significant byte of a number
/// comes first.
fn element(descr: &str) -> Result<(Option<DType>, usize, bool), NpyError> {
    let unknown = || NpyError::DType(descr.to_owned());
    let kind = descr.strip_prefix(['<', '>', '=', '|']).ok_or_else(unknown)?;
    let big_endian = descr.starts_with('>');
    if kind == &CODES[1..] {
        return Ok((None, 1, false));
    }
    if let Some((dtype, _)) = DESCRS.iter().find(|(_, known)| &known[1..] == kind) {
        return Ok((Some(*dtype), dtype.width(), big_endian && dtype.width() > 1));
    }
    let characters = kind.strip_prefix('U').and_then(|n| n.parse().ok().filter(|&n: &usize| n > 0));
    let width = characters.and_then(|n| n.checked_mul(4)).ok_or_else(unknown)?;
    Ok((Some(DType::String), width, big_endian))
}

/// Whether elements of this `descr` are numbers, though perhaps of a type that nothing here has.
pub(crate) fn is_number(descr: &str) -> bool {
    let kind = descr.trim_start_matches(['<', '>', '=', '|']).chars().next();
    kind.is_some_and(|kind| "biufcV".contains(kind))
}

/// What follows `'name':` in the dictionary.
fn field<'a>(header: &'a str, name: &str) -> Result<&'a str, NpyError> {
    let key = format!("'{name}':");
    let at = header
        .find(&key)
        .ok_or_else(|| NpyError::Header(format!("the header has no {name:?}: {header:?}")))?;
    Ok(header[at + key.len()..].trim_start())
}

/// The text in quotes; what is in none is a list of fields, which is no element type.
fn quoted(text: &str) -> Result<&str, NpyError> {
    text.strip_prefix('\'')
        .and_then(|rest| rest.split_once('\''))
        .map(|(inside, _)| inside)
        .ok_or_else(|| NpyError::DType("a record".to_owned()))
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
    }

    /// An array with this header of NumPy's.
    fn array(descr: &str, by_columns: bool, shape: &str, elements: &[u8]) -> Bytes {
        let order = if by_columns { "True" } else { "False" };
        let dict =
            format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let length = u16::try_from(dict.len()).unwrap().to_le_bytes();
        [MAGIC, &[1, 0], &length, dict.as_bytes(), elements].concat().into()
    }

    #[test]
    fn elements_by_columns_and_in_either_byte_order_are_read() {
        let expected = Tensor::from_slice(&[2, 3], &[1i16, 2, 3, 4, 5, 6]);
        let (by_rows, by_columns) = ([1i16, 2, 3, 4, 5, 6], [1i16, 4, 2, 5, 3, 6]);
        for (columns, values) in [(false, by_rows), (true, by_columns)] {
            let little: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let big: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
            for (descr, elements) in [("<i2", &little), (">i2", &big), ("=i2", &little)] {
                let found = decode(&array(descr, columns, "(2, 3)", elements));
                assert_eq!(found.as_ref(), Ok(&expected), "{descr} {columns}");
                let cut = array(descr, columns, "(2, 3)", &elements[1..]);
                assert!(decode(&cut).is_err(), "{descr} {columns}");
            }
        }
        // Three axes, of which none is where it was; and nothing, and one axis, whose order makes no difference.
        let cube = Tensor::from_slice(&[2, 3, 2], &std::array::from_fn::<u8, 12, _>(|i| i as u8));
        let transposed = cube.permuted(&[2, 1, 0]);
        assert_eq!(decode(&array("|u1", true, "(2, 3, 2)", transposed.bytes())), Ok(cube));
        let none = Tensor::zeros(DType::F64, &[3, 0]);
        assert_eq!(decode(&array(">f8", true, "(3, 0)", &[])), Ok(none));
        assert_eq!(
            decode(&array("|u1", true, "(2,)", &[1, 2])),
            Ok(Tensor::from_slice(&[2], &[1u8, 2]))
        );
        let texts = ["a", "bc", "", "d", "e", "f"];
        let cells: Vec<u8> = [0, 3, 1, 4, 2, 5]
            .iter()
            .flat_map(|&i: &usize| {
                let c = |at: usize| texts[i].chars().nth(at).map_or(0, u32::from);
                [c(0).to_be_bytes(), c(1).to_be_bytes()].concat()
            })
            .collect();
        let expected = Tensor::from_strings(&[2, 3], &texts);
        assert_eq!(decode(&array(">U2", true, "(2, 3)", &cells)), Ok(expected));
        assert!(decode(&array(">U2", true, "(2, 3)", &cells[4..])).is_err());
    }

    #[test]
    fn types_that_numpy_lacks_are_as_the_package_ml_dtypes_writes_them() {
        let compact = DType::ALL.into_iter().filter(|dtype| dtype.is_compact());
        for dtype in compact.chain([DType::BF16]) {
            let tensor = Tensor::new(dtype, &[2], vec![1; 2 * dtype.width()].into()).unwrap();
            let bytes = Bytes::from(encode(&tensor).unwrap());
            assert_eq!(decode_as(&bytes, dtype), Ok(tensor.clone()), "{dtype}");
            // Two types have a mark of their own; of the others the file does not say which it is.
            match dtype {
                DType::BF16 | DType::F8E5M2 => assert_eq!(decode(&bytes), Ok(tensor)),
                _ => assert_eq!(decode(&bytes), Err(NpyError::Codes), "{dtype}"),
            }
        }
        let bytes = array("|V1", false, "(1,)", &[200]);
        assert_eq!(decode_as(&bytes, DType::F32), Err(NpyError::Codes));
        assert!(decode_as(&bytes, DType::I4).is_err(), "no code of four bits");
        for descr in ["<V3", "<c8", "i4", "<M8[ns]", "|O", ""] {
            let error = decode(&array(descr, false, "(1,)", &[0; 16])).unwrap_err();
            assert!(matches!(error, NpyError::DType(_)), "{descr}: {error}");
        }
    }
}
