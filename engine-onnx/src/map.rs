//! The one place where a file is mapped into memory, and how files of strangers are opened.

use engine_format::{Bytes, Changed, Mapped};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

/// Maps a regular file read-only.
///
/// The bytes are the file's as long as nobody writes to it. [`Bytes::check`] tells whether it has the length and the time of the last change
/// that it had; what reads engines, models and sources asks before it reads, so that a file which was truncated or written over is an
/// error. Nobody can be told who truncates a file in the very moment in which it is read: the system then ends the process. A file that
/// is replaced by renaming another to its name, as everything here does, stays what it was as long as it is mapped. On a platform without
/// mappings, such as WebAssembly, the file is read.
///
/// # Errors
/// `InvalidInput` for a folder, a device or a pipe, else what the system says.
pub fn map_file(path: &Path) -> io::Result<Bytes> {
    let file = open_regular(path)?;
    let state = FileState::of(&file)?;
    // An empty file cannot be mapped.
    if state.len == 0 || !cfg!(any(unix, windows)) {
        let mut read = Vec::new();
        (&file).read_to_end(&mut read)?;
        return Ok(Bytes::from(read));
    }
    // SAFETY: nobody writes through the mapping, which is read-only and known to this process alone; that others may write to the
    // file underneath, or cut it off, is the documented condition of this function.
    let map = unsafe { memmap2::MmapOptions::new().len(length(state.len)?).map(&file)? };
    Ok(Bytes::from_mapped(MappedFile { origin: path.display().to_string(), map, file, state }))
}

fn length(len: u64) -> io::Result<usize> {
    usize::try_from(len).map_err(|error| io::Error::new(io::ErrorKind::FileTooLarge, error))
}

/// A mapped file, with what it was when it was mapped.
struct MappedFile {
    origin: String,
    map: memmap2::Mmap,
    file: File,
    state: FileState,
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Mapped for MappedFile {
    fn check(&self) -> Result<(), Changed> {
        self.state.check(&self.file, &self.origin)
    }

    #[cfg(unix)]
    fn release(&self, range: Range<usize>) {
        let advice = memmap2::UncheckedAdvice::DontNeed;
        // SAFETY: no page of a read-only mapping differs from the file, so that one which is given up is read from it again, the same,
        // where it is touched again.
        let released = unsafe { self.map.unchecked_advise_range(advice, range.start, range.len()) };
        // A system that does not take the advice keeps the memory.
        drop(released);
    }

    #[cfg(not(unix))]
    fn release(&self, _range: Range<usize>) {}
}

/// What shows that somebody wrote to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileState {
    len: u64,
    modified: Option<SystemTime>,
}

impl FileState {
    /// What a file is now.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self { len: meta.len(), modified: meta.modified().ok() })
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the file is still what it was.
    ///
    /// # Errors
    /// What changed of `origin`, the file as messages name it.
    pub fn check(&self, file: &File, origin: &str) -> Result<(), Changed> {
        let changed = |expected: String, found: String| {
            Err(Changed { origin: origin.to_owned(), expected, found })
        };
        match Self::of(file) {
            Ok(now) if now == *self => Ok(()),
            Ok(now) if now.len == self.len => {
                changed(format!("{} bytes", self.len), "as long, and written to since".to_owned())
            }
            Ok(now) => changed(format!("{} bytes", self.len), format!("{} bytes", now.len)),
            Err(error) => changed(format!("{} bytes", self.len), format!("unreadable ({error})")),
        }
    }
}

/// Opens a file for reading that is no folder, device or pipe: one has no end, the other waits for a writer.
///
/// # Errors
/// `InvalidInput` for those, else what the system says.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Asked before opening too: opening a pipe waits already.
    check_regular(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

fn check_regular(meta: &Metadata) -> io::Result<()> {
    match meta.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_contents_and_empty_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"abc").unwrap();
        let map = map_file(&path).unwrap();
        assert_eq!(&*map, b"abc");
        map.release();
        map.slice(1, 1).release();
        assert_eq!(&*map, b"abc");
        std::fs::write(&path, b"").unwrap();
        assert!(map_file(&path).unwrap().is_empty());
        assert!(map_file(dir.path()).is_err());
    }

    /// What others may do to a file that is mapped, and whether it still is what was mapped.
    #[test]
    fn a_file_that_changes_says_so_and_one_that_is_replaced_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let write = |path: &Path| {
            std::fs::write(path, b"abc").unwrap();
            // Long ago, so that a change has another time however coarse the system's clock is.
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        };
        let open = || File::options().write(true).open(&path).unwrap();
        let said = |change: &dyn Fn()| {
            write(&path);
            let bytes = map_file(&path).unwrap();
            assert_eq!(bytes.check(), Ok(()));
            change();
            bytes.slice(1, 1).check().map_err(|changed| (changed.expected, changed.found))
        };
        let changed = |found: &str| Err(("3 bytes".to_owned(), found.to_owned()));
        assert_eq!(said(&|| open().set_len(1).unwrap()), changed("1 bytes"));
        assert_eq!(said(&|| open().set_len(9).unwrap()), changed("9 bytes"));
        let written = changed("as long, and written to since");
        assert_eq!(said(&|| std::fs::write(&path, b"xyz").unwrap()), written);
        assert_eq!(said(&|| std::fs::remove_file(&path).unwrap()), Ok(()));
        let other = dir.path().join("other");
        let rename = || {
            write(&other);
            std::fs::rename(&other, &path).unwrap();
        };
        assert_eq!(said(&rename), Ok(()));
    }
}
