//! NumPy's `.npz`: a zip archive with one `.npy` file for each array, stored or deflated, in either order of elements and bytes.

use super::PIECE;
use super::zip::{Archive, Contents, Member};
use crate::RefitError;
use crate::npy::{self, Header};
use engine_format::{AlignedBuf, Bytes, DType, SourceError, Tensor, TensorInfo, WeightSource};
use std::collections::BTreeMap;
use std::path::Path;

/// The arrays of an `.npz` file, by their names without `.npy`.
///
/// Their headers are read when the file is opened. Contents are read array by array and held against the archive's
/// checksum; a file that changes meanwhile is an error.
#[derive(Debug)]
pub struct NpzSource {
    archive: Archive,
    arrays: BTreeMap<String, Array>,
}

#[derive(Debug)]
struct Array {
    member: Member,
    dtype: DType,
    header: Header,
}

/// Bytes that are looked at for the header of an array.
const MAX_HEADER: u64 = 1 << 16;

impl NpzSource {
    /// Opens a file and reads the header of every array.
    ///
    /// # Errors
    /// `Io`, or `InvalidSource`.
    pub fn open(path: &Path) -> Result<Self, RefitError> {
        let archive = Archive::open(path)?;
        let mut arrays = BTreeMap::new();
        for (name, member) in archive.members() {
            let array = array(&archive, member).map_err(|why| {
                RefitError::source(format!("array {name:?}: {why}")).at(path.display())
            })?;
            arrays.insert(name.strip_suffix(".npy").unwrap_or(name).to_owned(), array);
        }
        Ok(Self { archive, arrays })
    }

    /// A reader that stands at the first element.
    fn elements(&self, array: &Array) -> Result<Contents<'_>, String> {
        let mut contents = self.archive.contents(&array.member)?;
        contents.read(&mut vec![0; array.header.data])?;
        Ok(contents)
    }

    fn load(&self, array: &Array) -> Result<Tensor, String> {
        let mut contents = self.elements(array)?;
        let mut bytes = AlignedBuf::zeroed(array.header.bytes());
        contents.read(&mut bytes)?;
        contents.finish()?;
        array.header.tensor(Bytes::from(bytes)).map_err(|error| error.to_string())
    }

    fn pieces(&self, array: &Array, sink: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        if !array.header.is_plain() {
            sink(self.load(array)?.bytes());
            return Ok(());
        }
        let mut contents = self.elements(array)?;
        let len = array.header.bytes();
        let mut piece = vec![0; PIECE.min(len)];
        for at in (0..len).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(len - at)];
            contents.read(piece)?;
            sink(piece);
        }
        contents.finish()
    }

    fn failed(&self, name: &str, why: String) -> SourceError {
        SourceError { name: name.to_owned(), origin: self.origin(), why }
    }
}

/// A member whose header says as many bytes as it has.
fn array(archive: &Archive, member: &Member) -> Result<Array, String> {
    let mut start = vec![0; usize::try_from(member.size.min(MAX_HEADER)).expect("below the cap")];
    archive.contents(member)?.read(&mut start)?;
    let header = npy::header(&start).map_err(|error| error.to_string())?;
    let dtype = header.dtype().map_err(|error| error.to_string())?;
    if dtype == DType::String {
        return Err("an array of strings, which are no weights".to_owned());
    }
    let expected = header.data as u64 + header.bytes() as u64;
    if expected != member.size {
        return Err(format!("its header asks for {expected} bytes, it has {}", member.size));
    }
    Ok(Array { member: member.clone(), dtype, header })
}

impl WeightSource for NpzSource {
    fn origin(&self) -> String {
        self.archive.file.origin()
    }

    fn names(&self) -> Vec<String> {
        self.arrays.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let Array { dtype, header, .. } = self.arrays.get(name)?;
        Some(TensorInfo { dtype: *dtype, shape: header.shape.clone() })
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let Some(array) = self.arrays.get(name) else { return Ok(None) };
        self.load(array).map(Some).map_err(|why| self.failed(name, why))
    }

    /// What does not lie in the file as in a tensor is put in order in memory.
    fn is_resident(&self, name: &str) -> bool {
        self.arrays.get(name).is_some_and(|array| !array.header.is_plain())
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        let Some(array) = self.arrays.get(name) else { return Ok(false) };
        self.pieces(array, sink).map_err(|why| self.failed(name, why))?;
        Ok(true)
    }
}
