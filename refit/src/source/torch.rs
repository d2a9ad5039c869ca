//! PyTorch's `.pt`, `.pth` and `.bin` files: storages, and a pickle that says which tensors lie in them. They are members of a zip archive
//! or, in files of PyTorch before 1.6, follow the pickle.

use super::file::SourceFile;
use super::pickle::{self, PickledTensor, Series, StateDict};
use super::zip::{Archive, Member};
use crate::RefitError;
use engine_format::size::byte_len;
use engine_format::{AlignedBuf, SourceError, Tensor, TensorInfo, WeightSource};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes that the pickle may take.
const MAX_PICKLE: u64 = 64 << 20;

/// The tensors of a state dict that `torch.save` wrote, as a zip archive or as the series of pickles that it wrote before PyTorch 1.6.
///
/// The pickle is read when the file is opened, by an interpreter that knows what dictionaries of tensors need and executes nothing.
/// Storages are read tensor by tensor; one that several tensors share may be read several times. A tensor of a kind that is not read
/// here (sparse, quantised) is an error once it is used.
#[derive(Debug)]
pub struct TorchSource {
    file: SourceFile,
    tensors: BTreeMap<String, Result<Entry, String>>,
    /// What there is to say about the choice of the dictionary.
    remarks: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    tensor: PickledTensor,
    /// Where the storage lies in the file.
    start: u64,
}

impl TorchSource {
    /// Opens a file, reads its pickle and checks that every tensor lies inside its storage.
    ///
    /// The weights may be in a dictionary inside others, beside optimizers and numbers: under `state_dict`, `model` and the like, or
    /// under any key if no other dictionary there has tensors.
    ///
    /// # Errors
    /// `Io`, or `InvalidSource` that says what is wrong: for the pickle with opcode and offset; if several dictionaries may be meant,
    /// which.
    pub fn open(path: &Path) -> Result<Self, RefitError> {
        Self::of(SourceFile::open(path)?, None)
    }

    /// As [`TorchSource::open`], of a dictionary in the file: its key, or several with `/` between them; `.` is the outermost one.
    ///
    /// # Errors
    /// Those of [`TorchSource::open`].
    pub fn open_at(path: &Path, key: &str) -> Result<Self, RefitError> {
        Self::of(SourceFile::open(path)?, Some(key))
    }

    pub(super) fn of(file: SourceFile, key: Option<&str>) -> Result<Self, RefitError> {
        let path = file.path().to_owned();
        let refused = |why: String| {
            RefitError::source(format!("not a PyTorch state dict: {why}")).at(path.display())
        };
        let (file, storages, found) = match is_series(&file).map_err(refused)? {
            true => {
                let (storages, found) = series(&file, key).map_err(refused)?;
                (file, storages, found)
            }
            false => {
                let archive = Archive::of(file)?;
                let (storages, found) = archived(&archive, key).map_err(refused)?;
                (archive.file, storages, found)
            }
        };
        let remarks = remarks(&path, &found);
        let entry = |tensor: PickledTensor| {
            let start = check(&storages, &tensor)?;
            Ok(Entry { tensor, start })
        };
        let tensors = found.tensors.into_iter();
        let tensors = tensors.map(|(name, tensor)| (name, tensor.and_then(entry))).collect();
        Ok(Self { file, tensors, remarks })
    }

    fn entry(&self, name: &str) -> Option<Result<&Entry, SourceError>> {
        let entry = self.tensors.get(name)?;
        Some(entry.as_ref().map_err(|why| self.failed(name, why.clone())))
    }

    fn load(&self, entry: &Entry) -> Result<Tensor, String> {
        let Entry { tensor, start } = entry;
        let size = tensor.dtype.width();
        let count: usize = tensor.shape.iter().product();
        let from = start + tensor.offset * size as u64;
        if is_contiguous(tensor) {
            let bytes = self.file.bytes(from, count * size)?;
            return Tensor::new(tensor.dtype, &tensor.shape, bytes).map_err(|e| e.to_string());
        }
        let mut bytes = AlignedBuf::try_zeroed(count * size).map_err(|error| error.to_string())?;
        if count > 0 {
            let mut window =
                vec![0; (span(tensor).expect("checked when it was opened") as usize) * size];
            self.file.read_at(from, &mut window)?;
            gather(tensor, &window, &mut bytes);
        }
        Tensor::new(tensor.dtype, &tensor.shape, bytes.into()).map_err(|error| error.to_string())
    }

    fn failed(&self, name: &str, why: String) -> SourceError {
        SourceError { name: name.to_owned(), origin: self.origin(), why }
    }
}

/// Where storages lie in a file and how many bytes they have, by key; of one that cannot be read, why.
type Storages = BTreeMap<String, Result<(u64, u64), String>>;

/// Whether a file is a series of pickles instead of an archive.
fn is_series(file: &SourceFile) -> Result<bool, String> {
    Ok(pickle::is_series(&beginning(file, 64)?))
}

/// The first bytes of a file, at most `cap`.
fn beginning(file: &SourceFile, cap: u64) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; usize::try_from(file.len().min(cap)).map_err(|e| e.to_string())?];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// The storages and the state dict of a file that begins with a series of pickles.
fn series(file: &SourceFile, key: Option<&str>) -> Result<(Storages, StateDict), String> {
    let series = Series::read(&beginning(file, MAX_PICKLE)?, key)?;
    let mut storages = Storages::new();
    let mut at = series.end;
    for (key, width) in series.storages {
        let mut count = [0; 8];
        let start = at + count.len() as u64;
        if start > file.len() {
            return Err(format!("storage {key:?} at offset {at} reaches out of the file"));
        }
        file.read_at(at, &mut count)?;
        let count = u64::from_le_bytes(count);
        let size = count.checked_mul(width);
        let end = size.and_then(|size| size.checked_add(start)).filter(|&end| end <= file.len());
        let (Some(size), Some(end)) = (size, end) else {
            return Err(format!(
                "storage {key:?} at offset {at} has {count} elements of {width} bytes, which reach out of the file"
            ));
        };
        if storages.insert(key.clone(), Ok((start, size))).is_some() {
            return Err(format!("storage {key:?} is there twice"));
        }
        at = end;
    }
    Ok((storages, series.state))
}

/// The storages and the state dict of an archive.
fn archived(archive: &Archive, key: Option<&str>) -> Result<(Storages, StateDict), String> {
    let (folder, found) = state_dict(archive, key)?;
    let folder = format!("{folder}data/");
    let storages = archive.members().filter_map(|(name, member)| {
        let key = name.strip_prefix(&folder)?;
        Some((key.to_owned(), archive.stored(member).map(|start| (start, member.size))))
    });
    Ok((storages.collect(), found))
}

/// The folder that all members lie in, and the pickle in it.
fn pickle(archive: &Archive) -> Result<(&str, &Member), String> {
    let mut found = archive.members().filter_map(|(name, member)| {
        let folder = name.strip_suffix("data.pkl")?;
        (folder.is_empty() || folder.ends_with('/')).then_some((folder, member))
    });
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        _ => Err("expected one member called data.pkl".to_owned()),
    }
}

/// The state dict, and the folder that its storages lie in.
fn state_dict(archive: &Archive, key: Option<&str>) -> Result<(String, StateDict), String> {
    let (folder, member) = pickle(archive)?;
    if member.size > MAX_PICKLE {
        return Err(format!("a pickle of {} bytes, expected at most {MAX_PICKLE}", member.size));
    }
    if let Some(order) = archive.member(&format!("{folder}byteorder")) {
        let order = whole(archive, order, 16)?;
        if order != b"little" {
            return Err(format!(
                "byte order {:?}, expected little",
                String::from_utf8_lossy(&order)
            ));
        }
    }
    let found = pickle::state_dict(&whole(archive, member, MAX_PICKLE)?, key)?;
    Ok((folder.to_owned(), found))
}

/// Says which dictionary was taken, if it is not the only one, and what else there is.
fn remarks(path: &Path, found: &StateDict) -> Vec<String> {
    let taken = match found.path.as_slice() {
        [] => String::new(),
        path => format!("the weights are those under {:?}", path.join("/")),
    };
    let others: Vec<_> =
        found.others.iter().map(|(key, what)| format!("{key:?} ({what})")).collect();
    let others = match others.as_slice() {
        [] => String::new(),
        others => format!("not read: {}", others.join(", ")),
    };
    let said: Vec<_> = [taken, others].into_iter().filter(|part| !part.is_empty()).collect();
    if said.is_empty() { vec![] } else { vec![format!("{}: {}", path.display(), said.join("; "))] }
}

/// The file and the key of `FILE:KEY`.
pub(super) fn file_and_key(path: &Path) -> Option<(PathBuf, &str)> {
    let (file, key) = path.to_str()?.rsplit_once(':')?;
    Some((PathBuf::from(file), key)).filter(|(file, key)| !key.is_empty() && file.is_file())
}

/// A small member as a whole.
fn whole(archive: &Archive, member: &Member, cap: u64) -> Result<Vec<u8>, String> {
    if member.size > cap {
        return Err(format!("a member of {} bytes, expected at most {cap}", member.size));
    }
    let mut bytes = vec![0; usize::try_from(member.size).expect("below the cap")];
    let mut contents = archive.contents(member)?;
    contents.read(&mut bytes)?;
    contents.finish()?;
    Ok(bytes)
}

/// Where the storage of a tensor lies, after checking that the storage is there and the tensor inside it.
fn check(storages: &Storages, tensor: &PickledTensor) -> Result<u64, String> {
    let storage = storages.get(&tensor.storage);
    let storage =
        storage.ok_or_else(|| format!("its storage {:?} is not in the file", tensor.storage))?;
    let (start, bytes) = storage.clone()?;
    let size = tensor.dtype.width() as u64;
    if bytes / size != tensor.elements {
        return Err(format!(
            "its storage has {bytes} bytes, the pickle says {} elements of {}",
            tensor.elements, tensor.dtype
        ));
    }
    let bytes = byte_len(tensor.dtype, &tensor.shape);
    let count = bytes.map(|bytes| bytes as u64 / size);
    let end = span(tensor).and_then(|span| span.checked_add(tensor.offset));
    let inside = end.is_some_and(|end| end <= tensor.elements) && tensor.offset <= tensor.elements;
    // Elements that are there several times cost no storage, so they could ask for any amount of memory.
    let (Some(count), true) = (count, inside) else {
        return Err(format!("{tensor:?} reaches out of its storage"));
    };
    if count > tensor.elements {
        return Err("it repeats elements of its storage; save tensor.contiguous()".to_owned());
    }
    Ok(start)
}

/// Elements of the storage from the tensor's first to its last; `None` if sizes and strides do not go together.
fn span(tensor: &PickledTensor) -> Option<u64> {
    if tensor.shape.len() != tensor.strides.len() {
        return None;
    }
    if tensor.shape.contains(&0) {
        return Some(0);
    }
    let pairs = tensor.shape.iter().zip(&tensor.strides);
    pairs.into_iter().try_fold(1u64, |end, (&size, &stride)| {
        end.checked_add((size as u64 - 1).checked_mul(stride)?)
    })
}

/// Whether the elements lie in the storage as in a row-major tensor.
fn is_contiguous(tensor: &PickledTensor) -> bool {
    let mut expected = 1u64;
    tensor.shape.contains(&0)
        || tensor.shape.iter().zip(&tensor.strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected = expected.saturating_mul(size as u64);
            fits
        })
}

/// Copies the elements of a tensor in row-major order from the part of the storage that holds them.
fn gather(tensor: &PickledTensor, window: &[u8], out: &mut [u8]) {
    let size = tensor.dtype.width();
    let mut index = vec![0; tensor.shape.len()];
    for element in out.chunks_exact_mut(size) {
        let at: u64 = index.iter().zip(&tensor.strides).map(|(&i, stride)| i as u64 * stride).sum();
        let at = at as usize * size;
        element.copy_from_slice(&window[at..at + size]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < tensor.shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

impl WeightSource for TorchSource {
    fn origin(&self) -> String {
        self.file.origin()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let PickledTensor { dtype, shape, .. } = &self.tensors.get(name)?.as_ref().ok()?.tensor;
        Some(TensorInfo { dtype: *dtype, shape: shape.clone() })
    }

    fn remarks(&self) -> Vec<String> {
        self.remarks.clone()
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let Some(entry) = self.entry(name).transpose()? else { return Ok(None) };
        self.load(entry).map(Some).map_err(|why| self.failed(name, why))
    }

    fn is_resident(&self, _name: &str) -> bool {
        false
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        let Some(entry) = self.entry(name).transpose()? else { return Ok(false) };
        let Entry { tensor, start } = entry;
        if !is_contiguous(tensor) {
            let tensor = self.load(entry).map_err(|why| self.failed(name, why))?;
            sink(tensor.bytes());
            return Ok(true);
        }
        let size = tensor.dtype.width();
        let len = tensor.shape.iter().product::<usize>() * size;
        let streamed = self.file.stream(start + tensor.offset * size as u64, len, sink);
        streamed.map_err(|why| self.failed(name, why))?;
        Ok(true)
    }
}
