//! Tensor bytes in other files, contained in the model's folder.

use crate::{OnnxError, OnnxErrorKind, map_file};
use engine_format::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What a model's tensors share: its name for messages and its folder.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    file: Option<String>,
    folder: Option<Folder>,
}

impl Origin {
    pub(crate) fn new(file: Option<&Path>, folder: Option<&Path>) -> Self {
        Self { file: file.map(|f| f.display().to_string()), folder: folder.map(Folder::new) }
    }

    /// Adds the file's name to an error.
    pub(crate) fn locate(&self, error: OnnxError) -> OnnxError {
        match &self.file {
            Some(file) => error.in_file(file),
            None => error,
        }
    }

    pub(crate) fn folder(&self) -> Result<&Folder, OnnxError> {
        self.folder.as_ref().ok_or_else(|| {
            OnnxError::new(OnnxErrorKind::ExternalData, "external data of a model without a folder")
                .expected("a model opened from a path")
        })
    }
}

/// The folder of a model, with the files that were mapped from it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    maps: Mutex<BTreeMap<String, Bytes>>,
}

/// What a tensor says about where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Location {
    pub file: String,
    pub offset: usize,
    pub length: Option<usize>,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), maps: Mutex::default() }
    }

    /// The `expected` bytes at `location`, mapped.
    pub(crate) fn read(&self, location: &Location, expected: usize) -> Result<Bytes, OnnxError> {
        let external = |what: &str| {
            OnnxError::new(OnnxErrorKind::ExternalData, format!("external data: {what}"))
        };
        if let Some(length) = location.length
            && length != expected
        {
            return Err(external("length does not follow from type and shape")
                .expected(expected)
                .found(length));
        }
        let bytes = self.map(&location.file)?;
        let end = location.offset.checked_add(expected);
        if end.is_none_or(|end| end > bytes.len()) {
            return Err(external("range is outside the file")
                .expected(format_args!(
                    "{expected} bytes at offset {} of {:?}",
                    location.offset, location.file
                ))
                .found(format_args!("a file of {} bytes", bytes.len())));
        }
        Ok(bytes.slice(location.offset, expected))
    }

    fn map(&self, file: &str) -> Result<Bytes, OnnxError> {
        // A poisoned cache is still a valid cache: entries are inserted whole.
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = maps.get(file) {
            return Ok(bytes.clone());
        }
        let path = self.resolve(file)?;
        let bytes = map_file(&path).map_err(|error| unreadable(file, &error))?;
        maps.insert(file.to_owned(), bytes.clone());
        Ok(bytes)
    }

    /// The real path of `file`, proven to lie in this folder.
    fn resolve(&self, file: &str) -> Result<PathBuf, OnnxError> {
        contained_path(&self.path, file).map_err(|error| unreadable(file, &error))
    }
}

/// The real path of `file`, which a file in `folder` names, proven to lie in `folder`: no absolute path, no `..`, no link
/// that leads out. A path that leaves the folder is an error of the kind `InvalidInput`.
pub fn contained_path(folder: &Path, file: &str) -> io::Result<PathBuf> {
    let outside = || io::Error::new(io::ErrorKind::InvalidInput, "path leaves the folder");
    let relative = Path::new(file);
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if file.is_empty() || !relative.components().all(inside) {
        return Err(outside());
    }
    // Links are followed by the system, so the resolved path is what has to be inside.
    let root = folder.canonicalize()?;
    let path = root.join(relative).canonicalize()?;
    if path.starts_with(&root) { Ok(path) } else { Err(outside()) }
}

fn unreadable(file: &str, error: &io::Error) -> OnnxError {
    OnnxError::new(OnnxErrorKind::ExternalData, format!("external data {file:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("model");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(outer.path().join("secret"), [7; 16]).unwrap();
        std::fs::write(inner.join("w.bin"), (0..16).collect::<Vec<u8>>()).unwrap();
        let folder = Folder::new(&inner);
        (outer, folder)
    }

    fn at(file: &str, offset: usize, length: Option<usize>) -> Location {
        Location { file: file.to_owned(), offset, length }
    }

    #[test]
    fn reads_ranges() {
        let (_keep, folder) = folder();
        let read = |offset, length| folder.read(&at("./w.bin", offset, length), 4);
        assert_eq!(&*read(0, None).unwrap(), [0, 1, 2, 3]);
        assert_eq!(&*read(12, Some(4)).unwrap(), [12, 13, 14, 15]);
    }

    #[test]
    fn refuses_ranges_outside_the_file() {
        let (_keep, folder) = folder();
        for (offset, length) in [(13, None), (usize::MAX, None), (0, Some(5)), (0, Some(3))] {
            let error = folder.read(&at("w.bin", offset, length), 4).unwrap_err();
            assert_eq!(error.kind(), OnnxErrorKind::ExternalData, "{offset} {length:?}");
        }
    }

    #[test]
    fn refuses_paths_outside_the_folder() {
        let (outer, folder) = folder();
        let absolute = outer.path().join("secret").display().to_string();
        for file in ["../secret", "a/../../secret", "", "missing", "w.bin\0", absolute.as_str()] {
            let error = folder.read(&at(file, 0, None), 4).unwrap_err();
            assert_eq!(error.kind(), OnnxErrorKind::ExternalData, "{file:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn refuses_links_out_and_follows_links_within() {
        use std::os::unix::fs::symlink;
        let (outer, folder) = folder();
        let inner = outer.path().join("model");
        symlink(outer.path().join("secret"), inner.join("link")).unwrap();
        symlink(outer.path(), inner.join("up")).unwrap();
        symlink(inner.join("w.bin"), inner.join("alias")).unwrap();
        for file in ["link", "up/secret"] {
            let error = folder.read(&at(file, 0, None), 4).unwrap_err();
            assert!(error.to_string().contains("leaves the folder"), "{error}");
        }
        assert_eq!(&*folder.read(&at("alias", 0, None), 4).unwrap(), [0, 1, 2, 3]);
    }
}
