//! Safetensors files, read tensor by tensor and never mapped: whoever writes such a file may do so at any time.

use super::file::SourceFile;
use crate::{RefitError, RefitErrorKind};
use engine_format::{DType, SourceError, Tensor, TensorInfo, WeightSource, size};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of the length in front of the header.
const LENGTH: u64 = 8;

/// Bytes a header may take; the format's own cap.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes of the widest element.
const WIDEST: usize = 8;

/// The tensors of one safetensors file.
///
/// The header is validated when the file is opened: it describes every byte of the file exactly once. Tensors are read
/// into memory by whoever asks, on any number of threads, and a file that changes meanwhile is an error.
#[derive(Debug)]
pub struct SafetensorsSource {
    file: SourceFile,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    /// From the start of the file.
    offset: u64,
    bytes: usize,
}

impl SafetensorsSource {
    /// Opens a file and validates its header.
    ///
    /// # Errors
    /// `Io`, or `InvalidSource`.
    pub fn open(path: &Path) -> Result<Self, RefitError> {
        Self::of(SourceFile::open(path)?)
    }

    pub(super) fn of(file: SourceFile) -> Result<Self, RefitError> {
        let (metadata, data) = header(&file)?;
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let shape = info.shape.clone();
            if size::elements(&[shape.as_slice(), &[WIDEST]].concat()).is_none() {
                let what =
                    format!("tensor {name:?}: {shape:?} is too large, even without elements");
                return Err(RefitError::source(what).at(file.path().display()));
            }
            let (dtype, offset) = (info.dtype, data + start as u64);
            tensors.insert(name, Entry { dtype, shape, offset, bytes: end - start });
        }
        Ok(Self { file, tensors })
    }

    fn load(&self, entry: &Entry) -> Result<Tensor, String> {
        let dtype = dtype_of(entry.dtype)
            .ok_or_else(|| format!("its element type {:?} is not supported", entry.dtype))?;
        let bytes = self.file.bytes(entry.offset, entry.bytes)?;
        Tensor::new(dtype, &entry.shape, bytes).map_err(|error| error.to_string())
    }

    fn failed(&self, name: &str, why: String) -> SourceError {
        SourceError { name: name.to_owned(), origin: self.origin(), why }
    }
}

/// The validated header and the offset of the data.
fn header(file: &SourceFile) -> Result<(Metadata, u64), RefitError> {
    let place = || file.path().display();
    let invalid =
        |what: &str| RefitError::source(format!("not a safetensors file: {what}")).at(place());
    let read = |why: String| RefitError::new(RefitErrorKind::Io, why).at(place());
    let len = file.len();
    if len < LENGTH {
        return Err(invalid("length").expected("at least 8 bytes").found(len));
    }
    let mut size = [0; LENGTH as usize];
    file.read_at(0, &mut size).map_err(read)?;
    let size = u64::from_le_bytes(size);
    let cap = MAX_HEADER.min(len - LENGTH);
    if size > cap {
        return Err(invalid("length of the header")
            .expected(format_args!("at most {cap} bytes"))
            .found(size));
    }
    let mut text = vec![0; usize::try_from(size).expect("below the cap")];
    file.read_at(LENGTH, &mut text).map_err(read)?;
    let metadata: Metadata =
        serde_json::from_slice(&text).map_err(|error| invalid(&format!("header: {error}")))?;
    let data = LENGTH + size;
    let expected = data + metadata.data_len() as u64;
    if expected != len {
        return Err(invalid("length of the file").expected(expected).found(len));
    }
    Ok((metadata, data))
}

impl WeightSource for SafetensorsSource {
    fn origin(&self) -> String {
        self.file.origin()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let entry = self.tensors.get(name)?;
        Some(TensorInfo { dtype: dtype_of(entry.dtype)?, shape: entry.shape.clone() })
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let Some(entry) = self.tensors.get(name) else { return Ok(None) };
        self.load(entry).map(Some).map_err(|why| self.failed(name, why))
    }

    fn is_resident(&self, _name: &str) -> bool {
        false
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        let Some(entry) = self.tensors.get(name) else { return Ok(false) };
        let streamed = self.file.stream(entry.offset, entry.bytes, sink);
        streamed.map_err(|why| self.failed(name, why))?;
        Ok(true)
    }

    fn stream_into(
        &self,
        name: &str,
        out: &mut [u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, SourceError> {
        let Some(entry) = self.tensors.get(name) else { return Ok(None) };
        if entry.bytes == out.len() {
            let streamed = self.file.stream_into(entry.offset, out, sink);
            streamed.map_err(|why| self.failed(name, why))?;
        }
        Ok(Some(entry.bytes))
    }
}

/// Element types of both, in pairs.
const TYPES: [(Dtype, DType); 18] = [
    (Dtype::F32, DType::F32),
    (Dtype::F64, DType::F64),
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::BF16),
    (Dtype::I8, DType::I8),
    (Dtype::I16, DType::I16),
    (Dtype::I32, DType::I32),
    (Dtype::I64, DType::I64),
    (Dtype::U8, DType::U8),
    (Dtype::U16, DType::U16),
    (Dtype::U32, DType::U32),
    (Dtype::U64, DType::U64),
    (Dtype::BOOL, DType::Bool),
    (Dtype::F8_E4M3, DType::F8E4M3FN),
    (Dtype::F8_E4M3FNUZ, DType::F8E4M3FNUZ),
    (Dtype::F8_E5M2, DType::F8E5M2),
    (Dtype::F8_E5M2FNUZ, DType::F8E5M2FNUZ),
    (Dtype::F8_E8M0, DType::F8E8M0),
];

fn dtype_of(theirs: Dtype) -> Option<DType> {
    TYPES.iter().find(|(t, _)| *t == theirs).map(|(_, ours)| *ours)
}

/// The file format's name for one of our element types; `None` for those with fewer than 8 bits.
pub(crate) fn their_dtype(ours: DType) -> Option<Dtype> {
    TYPES.iter().find(|(_, o)| *o == ours).map(|(theirs, _)| *theirs)
}
