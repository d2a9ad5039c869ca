//! Tensor bytes in other files, contained in the folders that the model is in.

use crate::{OnnxError, OnnxErrorKind, map_file};
use engine_format::{Bytes, Changed};
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What a model's tensors share: its name for messages and the files beside it.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    file: Option<String>,
    /// The file, mapped.
    bytes: Option<Bytes>,
    beside: Option<Beside>,
}

impl Origin {
    /// Of a model in memory, with external data in `folder` if there is one.
    pub(crate) fn memory(folder: Option<&Path>) -> Self {
        let beside = folder.map(|folder| Beside::new(Place::Folder(folder.to_owned())));
        Self { file: None, bytes: None, beside }
    }

    /// Of the model at `path`, mapped as `bytes`.
    pub(crate) fn file(path: &Path, bytes: Bytes) -> Self {
        let beside = Some(Beside::new(Place::File(path.to_owned())));
        Self { file: Some(path.display().to_string()), bytes: Some(bytes), beside }
    }

    /// Whether the model's file is still what was read.
    pub(crate) fn check(&self) -> Result<(), OnnxError> {
        self.bytes.iter().try_for_each(Bytes::check).map_err(|changed| changed_file(&changed))
    }

    /// Adds the file's name to an error.
    pub(crate) fn locate(&self, error: OnnxError) -> OnnxError {
        match &self.file {
            Some(file) => error.in_file(file),
            None => error,
        }
    }

    pub(crate) fn beside(&self) -> Result<&Beside, OnnxError> {
        self.beside.as_ref().ok_or_else(|| {
            OnnxError::new(OnnxErrorKind::ExternalData, "external data of a model without a folder")
                .expected("a model opened from a path")
        })
    }
}

/// The files beside a model, with those that were mapped.
#[derive(Debug)]
pub(crate) struct Beside {
    place: Place,
    maps: Mutex<BTreeMap<String, Bytes>>,
}

/// Where a model is.
#[derive(Debug)]
pub(crate) enum Place {
    File(PathBuf),
    /// In memory, and its data in a folder.
    Folder(PathBuf),
}

/// What a tensor says about where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Location {
    pub file: String,
    pub offset: usize,
    pub length: Option<usize>,
}

impl Beside {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, maps: Mutex::default() }
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
            bytes.check().map_err(|changed| changed_file(&changed))?;
            return Ok(bytes.clone());
        }
        let path = self.resolve(file)?;
        let bytes = map_file(&path).map_err(|error| unreadable(file, &error))?;
        maps.insert(file.to_owned(), bytes.clone());
        Ok(bytes)
    }

    /// The real path of `file`, proven to lie beside the model.
    fn resolve(&self, file: &str) -> Result<PathBuf, OnnxError> {
        let path = match &self.place {
            Place::File(model) => contained_path(model, file),
            Place::Folder(folder) => {
                folder.canonicalize().and_then(|folder| contained(&[folder], file))
            }
        };
        path.map_err(|error| unreadable(file, &error))
    }
}

fn changed_file(changed: &Changed) -> OnnxError {
    OnnxError::new(OnnxErrorKind::Io, "the file changed while it was in use")
        .expected(&changed.expected)
        .found(&changed.found)
}

/// The real path of the file that the file at `by` names `name`, proven to lie in a folder that `by` is in: no absolute path, no
/// `..`, no link that leads out. A path that leaves the folders is an error of the kind `InvalidInput`.
///
/// Where `by` is a link, as in a cache whose snapshots are links to blobs, it is in the folder of the link, in that of what it leads
/// to, and in that of every link between. `name` is looked for in this order. A link beside a file that is itself no link must stay in
/// the folder.
pub fn contained_path(by: &Path, name: &str) -> io::Result<PathBuf> {
    contained(&folders(by)?, name)
}

/// Links on the way to a file; more are a circle.
const MAX_LINKS: usize = 40;

/// The real paths of the folders that a file is in, that of the path as given first.
fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    let mut path = path.to_owned();
    for _ in 0..=MAX_LINKS {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.canonicalize()?,
            _ => Path::new(".").canonicalize()?,
        };
        let link = std::fs::read_link(folder.join(name)).map(|target| folder.join(target));
        if !folders.contains(&folder) {
            folders.push(folder);
        }
        match link {
            Ok(target) => path = target,
            // Not a link: this is the file.
            Err(_) => return Ok(folders),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "links that lead in a circle"))
}

/// The real path of `name` in the first of the `folders` that has it, proven to lie in one of them. They are real paths.
fn contained(folders: &[PathBuf], name: &str) -> io::Result<PathBuf> {
    let outside = || io::Error::new(io::ErrorKind::InvalidInput, "path leaves the folder");
    let relative = Path::new(name);
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if name.is_empty() || !relative.components().all(inside) {
        return Err(outside());
    }
    let mut absent = io::Error::from(io::ErrorKind::NotFound);
    for folder in folders {
        // Links are followed by the system, so the resolved path is what has to be inside.
        match folder.join(relative).canonicalize() {
            Ok(path) if folders.iter().any(|folder| path.starts_with(folder)) => return Ok(path),
            Ok(_) => return Err(outside()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => absent = error,
            Err(error) => return Err(error),
        }
    }
    Err(absent)
}

fn unreadable(file: &str, error: &io::Error) -> OnnxError {
    OnnxError::new(OnnxErrorKind::ExternalData, format!("external data {file:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Beside) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("model");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(outer.path().join("secret"), [7; 16]).unwrap();
        std::fs::write(inner.join("w.bin"), (0..16).collect::<Vec<u8>>()).unwrap();
        let beside = Beside::new(Place::Folder(inner));
        (outer, beside)
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

    /// A cache as model hubs make them: `snapshots/REV/…` are links to `blobs/…`.
    #[cfg(unix)]
    #[test]
    fn a_file_and_what_it_names_may_be_links_into_one_folder() {
        use std::os::unix::fs::symlink;
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        for folder in
            ["cache/blobs/more", "cache/snapshots/0123/onnx", "home", "store", "elsewhere"]
        {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["cache/blobs/11", "cache/blobs/22", "store/33", "store/44", "elsewhere/secret"]
        {
            std::fs::write(at(file), file).unwrap();
        }
        let link = |link: &str, target: &str| symlink(target, at(link)).unwrap();
        let onnx = "cache/snapshots/0123/onnx";
        link(&format!("{onnx}/m"), "../../../blobs/11");
        link(&format!("{onnx}/data"), "../../../blobs/22");
        link(&format!("{onnx}/absolute"), at("cache/blobs/22").to_str().unwrap());
        link(&format!("{onnx}/secret"), "../../../../elsewhere/secret");
        std::fs::write(at(&format!("{onnx}/own")), "own").unwrap();
        let found = |by: &str, name: &str| contained_path(&at(by), name);
        let model = format!("{onnx}/m");
        for (name, real) in [("data", "cache/blobs/22"), ("./absolute", "cache/blobs/22")] {
            assert_eq!(found(&model, name).unwrap(), at(real));
        }
        assert_eq!(found(&model, "own").unwrap(), at(&format!("{onnx}/own")));
        // A link to a link is in the folder of each.
        link("home/m", &format!("../{model}"));
        assert_eq!(found("home/m", "data").unwrap(), at("cache/blobs/22"));
        // Blobs that are links in turn, to one folder and to two.
        std::fs::remove_file(at("cache/blobs/22")).unwrap();
        link("cache/blobs/22", "../../store/44");
        let outside = |by: &str, name: &str| {
            let error = found(by, name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{by} {name}: {error}");
        };
        outside(&model, "data");
        std::fs::remove_file(at("cache/blobs/11")).unwrap();
        link("cache/blobs/11", "../../store/33");
        assert_eq!(found(&model, "data").unwrap(), at("store/44"));
        // Elsewhere stays out, however the file came here.
        for name in ["secret", "../m", at("elsewhere/secret").to_str().unwrap()] {
            outside(&model, name);
            outside("home/m", name);
        }
        // What is beside a file that is no link stays in its folder.
        outside(&format!("{onnx}/own"), "data");
        assert_eq!(found(&model, "none").unwrap_err().kind(), io::ErrorKind::NotFound);
        link("home/round", "round");
        outside("home/round", "data");
    }
}
