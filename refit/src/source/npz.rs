//! NumPy's `.npz`: a zip archive with one `.npy` file for each array, stored or deflated, in either order of elements and bytes.

use super::PIECE;
use super::file::SourceFile;
use super::zip::{Archive, Contents, Member};
use crate::RefitError;
use crate::npy::{self, Header, NpyError};
use engine_format::{AlignedBuf, Bytes, DType, SourceError, Tensor, TensorInfo, WeightSource};
use std::collections::BTreeMap;
use std::path::Path;

/// The arrays of an `.npz` file, by their names without `.npy`.
///
/// Their headers are read when the file is opened. Contents are read array by array and held against the archive's
/// checksum; a file that changes meanwhile is an error. Arrays of strings, dates and objects are no tensors and left out; one of numbers
/// that nothing here has is an error once it is used.
#[derive(Debug)]
pub struct NpzSource {
    archive: Archive,
    arrays: BTreeMap<String, Result<Array, String>>,
    /// What is left out: names, and what they are.
    others: Vec<(String, String)>,
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
        Self::of(Archive::of(SourceFile::open(path)?)?)
    }

    pub(super) fn of(archive: Archive) -> Result<Self, RefitError> {
        let (mut arrays, mut others) = (BTreeMap::new(), Vec::new());
        for (member_name, member) in archive.members() {
            let name = member_name.strip_suffix(".npy").unwrap_or(member_name).to_owned();
            let found = array(&archive, member).map_err(|why| {
                RefitError::source(format!("array {member_name:?}: {why}"))
                    .at(archive.file.path().display())
            })?;
            match found {
                Found::Array(array) => drop(arrays.insert(name, Ok(array))),
                Found::Unread(why) => drop(arrays.insert(name, Err(why))),
                Found::Other(what) => others.push((name, what)),
            }
        }
        Ok(Self { archive, arrays, others })
    }

    fn array(&self, name: &str) -> Option<Result<&Array, SourceError>> {
        let array = self.arrays.get(name)?;
        Some(array.as_ref().map_err(|why| self.failed(name, why.clone())))
    }

    /// A reader that stands at the first element.
    fn elements(&self, array: &Array) -> Result<Contents<'_>, String> {
        let mut contents = self.archive.contents(&array.member)?;
        contents.read(&mut vec![0; array.header.data])?;
        Ok(contents)
    }

    fn load(&self, array: &Array) -> Result<Tensor, String> {
        let mut contents = self.elements(array)?;
        let mut bytes =
            AlignedBuf::try_zeroed(array.header.bytes()).map_err(|error| error.to_string())?;
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

/// What a member is.
enum Found {
    Array(Array),
    /// An array of a type that is not read here, and why.
    Unread(String),
    /// No array of numbers: what it is.
    Other(String),
}

/// A member whose header says as many bytes as it has.
fn array(archive: &Archive, member: &Member) -> Result<Found, String> {
    let mut start = vec![0; usize::try_from(member.size.min(MAX_HEADER)).expect("below the cap")];
    archive.contents(member)?.read(&mut start)?;
    let header = match npy::header(&start) {
        Err(NpyError::DType(descr)) if !npy::is_number(&descr) => {
            return Ok(Found::Other(format!("elements of {descr:?}")));
        }
        Err(error @ NpyError::DType(_)) => return Ok(Found::Unread(error.to_string())),
        header => header.map_err(|error| error.to_string())?,
    };
    let dtype = match header.dtype() {
        Ok(DType::String) => return Ok(Found::Other("strings".to_owned())),
        Ok(dtype) => dtype,
        Err(error) => return Ok(Found::Unread(error.to_string())),
    };
    let expected = header.data as u64 + header.bytes() as u64;
    if expected != member.size {
        return Err(format!("its header asks for {expected} bytes, it has {}", member.size));
    }
    Ok(Found::Array(Array { member: member.clone(), dtype, header }))
}

impl WeightSource for NpzSource {
    fn origin(&self) -> String {
        self.archive.file.origin()
    }

    fn names(&self) -> Vec<String> {
        self.arrays.keys().cloned().collect()
    }

    fn remarks(&self) -> Vec<String> {
        let others = self.others.iter().map(|(name, what)| format!("{name:?} ({what})"));
        let others = others.collect::<Vec<_>>().join(", ");
        match self.others.is_empty() {
            true => Vec::new(),
            false => vec![format!("{}: not read: {others}", self.origin())],
        }
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let Array { dtype, header, .. } = self.arrays.get(name)?.as_ref().ok()?;
        Some(TensorInfo { dtype: *dtype, shape: header.shape.clone() })
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let Some(array) = self.array(name).transpose()? else { return Ok(None) };
        self.load(array).map(Some).map_err(|why| self.failed(name, why))
    }

    /// What does not lie in the file as in a tensor is put in order in memory.
    fn is_resident(&self, name: &str) -> bool {
        matches!(self.arrays.get(name), Some(Ok(array)) if !array.header.is_plain())
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        let Some(array) = self.array(name).transpose()? else { return Ok(false) };
        self.pieces(array, sink).map_err(|why| self.failed(name, why))?;
        Ok(true)
    }
}
