//! Files of named tensors, written whole or not at all: safetensors, and NumPy's `.npz`.

use crate::output::{Progress, write_atomically};
use crate::source::their_dtype;
use crate::{RefitError, RefitErrorKind, npy};
use engine_format::size::byte_len;
use engine_format::{DType, Tensor, TensorInfo, WeightSource};
use flate2::Crc;
use safetensors::tensor::{Metadata, TensorInfo as Entry};
use std::io::Write;
use std::path::Path;

/// A kind of file that holds named tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorFile {
    /// `.safetensors`: element types of 8 bits and more, but for strings.
    Safetensors,
    /// `.npz`: every element type; of those of one byte that NumPy does not have, the file does not say which it is.
    Npz,
}

impl TensorFile {
    /// The kind that a file's name says, if it says one.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_lowercase();
        match extension.as_str() {
            "safetensors" => Some(Self::Safetensors),
            "npz" => Some(Self::Npz),
            _ => None,
        }
    }

    /// Whether it has elements of this type.
    pub fn holds(self, dtype: DType) -> bool {
        self == Self::Npz || their_dtype(dtype).is_some()
    }

    /// Writes tensors, whose names are unique, to `path`.
    ///
    /// # Errors
    /// `Io`; `Unwritable` for an element type, a name or a size that the format does not have.
    pub fn write(self, path: &Path, tensors: &[(String, Tensor)]) -> Result<(), RefitError> {
        let total = tensors.iter().map(|(_, tensor)| tensor.bytes().len() as u64).sum();
        let written = write_atomically(path, total, None, |file| match self {
            Self::Safetensors => safetensors(file, tensors),
            Self::Npz => npz(file, tensors.len(), tensors.iter().cloned().map(Ok)),
        });
        written.map_err(|error| error.at(path.display()))
    }

    /// Writes every tensor of `source` to `path`, holding at most one of them in memory.
    ///
    /// # Errors
    /// As [`TensorFile::write`], and `InvalidSource` for a tensor that cannot be read.
    pub fn write_source(
        self,
        path: &Path,
        source: &dyn WeightSource,
        progress: Option<Progress<'_>>,
    ) -> Result<WrittenTensors, RefitError> {
        let rows = source.names().into_iter().map(|name| match source.info(&name) {
            Some(info) => Ok((name, info)),
            // Reading it says why it has no type.
            None => Err(read(source, &name).err().unwrap_or_else(|| unreadable(source, &name))),
        });
        let rows: Vec<(String, TensorInfo)> = rows.collect::<Result<_, _>>()?;
        let bytes = |info: &TensorInfo| byte_len(info.dtype, &info.shape).unwrap_or(usize::MAX);
        let total = rows.iter().map(|(_, info)| bytes(info) as u64).sum();
        let written = write_atomically(path, total, progress, |file| match self {
            Self::Safetensors => stream_safetensors(file, source, rows.clone()),
            Self::Npz => {
                let tensors = rows.iter().map(|(name, _)| Ok((name.clone(), read(source, name)?)));
                npz(file, rows.len(), tensors)
            }
        });
        written.map_err(|error| error.at(path.display()))?;
        Ok(WrittenTensors { tensors: rows.len(), bytes: total })
    }
}

/// What was written of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenTensors {
    /// How many tensors.
    pub tensors: usize,
    /// Bytes of their data.
    pub bytes: u64,
}

fn read(source: &dyn WeightSource, name: &str) -> Result<Tensor, RefitError> {
    source.read(name)?.ok_or_else(|| unreadable(source, name))
}

fn unreadable(source: &dyn WeightSource, name: &str) -> RefitError {
    RefitError::source(format!("tensor {name:?} is listed but cannot be read")).at(source.origin())
}

/// The tensors of a source piece by piece, those of larger elements first, as [`safetensors`] does.
fn stream_safetensors(
    out: &mut impl Write,
    source: &dyn WeightSource,
    mut rows: Vec<(String, TensorInfo)>,
) -> Result<(), RefitError> {
    rows.sort_by(|(a, x), (b, y)| y.dtype.size().cmp(&x.dtype.size()).then(a.cmp(b)));
    let bytes = |info: &TensorInfo| byte_len(info.dtype, &info.shape);
    let mut sized = Vec::with_capacity(rows.len());
    for (name, info) in &rows {
        let too_large = || unwritable(format!("tensor {name:?} is {info}, which no file holds"));
        let bytes = bytes(info).ok_or_else(too_large)?;
        sized.push(Row { name, dtype: info.dtype, shape: &info.shape, bytes });
    }
    let expected: Vec<usize> = sized.iter().map(|row| row.bytes).collect();
    out.write_all(&safetensors_header(sized.into_iter())?).map_err(failed)?;
    for ((name, _), expected) in rows.iter().zip(expected) {
        let (mut found, mut written) = (0, Ok(()));
        let known = source.stream(name, &mut |piece| {
            found += piece.len();
            if written.is_ok() {
                written = out.write_all(piece).map_err(failed);
            }
        })?;
        written?;
        if !known {
            return Err(unreadable(source, name));
        }
        if found != expected {
            let what = format!("tensor {name:?} has another length than announced");
            return Err(RefitError::source(what).expected(expected).found(found));
        }
    }
    Ok(())
}

fn unwritable(why: impl Into<String>) -> RefitError {
    RefitError::new(RefitErrorKind::Unwritable, why)
}

fn failed(error: std::io::Error) -> RefitError {
    RefitError::new(RefitErrorKind::Io, format!("writing a file: {error}"))
}

fn safetensors(out: &mut impl Write, tensors: &[(String, Tensor)]) -> Result<(), RefitError> {
    let mut tensors: Vec<_> = tensors.iter().collect();
    // Larger elements first keeps every tensor aligned without padding, which the format does not have.
    let width = |tensor: &Tensor| tensor.dtype().size();
    tensors.sort_by(|(a, x), (b, y)| width(y).cmp(&width(x)).then(a.cmp(b)));
    let rows = tensors.iter().map(|(name, tensor)| Row {
        name,
        dtype: tensor.dtype(),
        shape: tensor.shape(),
        bytes: tensor.bytes().len(),
    });
    out.write_all(&safetensors_header(rows)?).map_err(failed)?;
    tensors.iter().try_for_each(|(_, tensor)| out.write_all(tensor.bytes()).map_err(failed))
}

/// A tensor in the header of a safetensors file.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) dtype: DType,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: usize,
}

/// The beginning of a safetensors file whose data are those of `rows` one after the other, padded so that they are aligned.
pub(crate) fn safetensors_header<'a>(
    rows: impl Iterator<Item = Row<'a>>,
) -> Result<Vec<u8>, RefitError> {
    // The format's own entry in the header; a tensor of that name would be taken for it.
    const RESERVED: &str = "__metadata__";
    let unwritable = |why: String| unwritable(format!("not writable as safetensors: {why}"));
    let mut end = 0;
    let tensors = rows.map(|Row { name, dtype, shape, bytes }| {
        if name == RESERVED {
            return Err(unwritable(format!("a tensor is called {RESERVED:?}")));
        }
        let start = end;
        end += bytes;
        let dtype =
            their_dtype(dtype).ok_or_else(|| unwritable(format!("tensor {name:?} is {dtype}")))?;
        let info = Entry { dtype, shape: shape.to_vec(), data_offsets: (start, end) };
        Ok((name.to_owned(), info))
    });
    let tensors = tensors.collect::<Result<Vec<_>, RefitError>>()?;
    let metadata = Metadata::new(None, tensors).map_err(|error| unwritable(error.to_string()))?;
    let mut header =
        serde_json::to_vec(&metadata).map_err(|error| unwritable(error.to_string()))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes(), header.as_slice()].concat())
}

/// Bytes of a member's name, members, and bytes of an archive without 64-bit fields.
const MAX_NAME: usize = u16::MAX as usize;
const MAX_ARCHIVE: u64 = u32::MAX as u64;

/// A zip archive of stored members, one `.npy` file for each tensor.
fn npz(
    out: &mut impl Write,
    count: usize,
    tensors: impl Iterator<Item = Result<(String, Tensor), RefitError>>,
) -> Result<(), RefitError> {
    let (mut directory, mut at) = (Vec::new(), 0u64);
    for tensor in tensors {
        let (name, tensor) = tensor?;
        let array = npy::encode(&tensor)
            .map_err(|error| unwritable(format!("tensor {name:?}: {error}")))?;
        let name = format!("{name}.npy");
        if name.len() > MAX_NAME {
            return Err(unwritable(format!("a name of {} bytes", name.len())));
        }
        let mut crc = Crc::new();
        crc.update(&array);
        let header = at;
        at += (30 + name.len() + array.len()) as u64;
        let most = at + directory.len() as u64 + (46 + name.len() + 22) as u64;
        if most > MAX_ARCHIVE || count >= MAX_NAME {
            return Err(unwritable(format!(
                "an archive of more than {MAX_ARCHIVE} bytes or {MAX_NAME} arrays; write .safetensors"
            )));
        }
        let size = array.len() as u32;
        // Version 2.0, names in UTF-8, stored, at midnight of the first day that the format knows.
        let common = [
            &[20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0],
            crc.sum().to_le_bytes().as_slice(),
            &size.to_le_bytes(),
            &size.to_le_bytes(),
            &(name.len() as u16).to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        let local = [b"PK\x03\x04", common.as_slice(), name.as_bytes()].concat();
        out.write_all(&local).and_then(|()| out.write_all(&array)).map_err(failed)?;
        directory.extend_from_slice(b"PK\x01\x02\x14\x00");
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&(header as u32).to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let count = (count as u16).to_le_bytes();
    let (len, start) = ((directory.len() as u32).to_le_bytes(), (at as u32).to_le_bytes());
    let end = [b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count, &len, &start, &[0, 0]].concat();
    out.write_all(&directory).and_then(|()| out.write_all(&end)).map_err(failed)
}
