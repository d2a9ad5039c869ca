//! Files that appear whole or not at all.

use crate::RefitError;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Called while a file is written, with the bytes done and the bytes to do. May be called often.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Writes `bytes` to a file that appears whole or not at all.
///
/// # Errors
/// `Io`.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), RefitError> {
    write_atomically(path, bytes.len() as u64, None, |file| {
        file.write_all(bytes).map_err(|error| RefitError::io("writing a file", path, &error))
    })
}

/// Writes the file at `path` through a temporary one in the same folder, which is synced and renamed when `write` is
/// done. After an error nothing is left behind and an older file is still there. What stands at `path` and is no file (a device, a pipe, a
/// folder) is left alone.
pub(crate) fn write_atomically<T>(
    path: &Path,
    total: u64,
    progress: Option<Progress<'_>>,
    write: impl FnOnce(&mut Output<'_>) -> Result<T, RefitError>,
) -> Result<T, RefitError> {
    let failed = |error: std::io::Error| RefitError::io("writing a file", path, &error);
    if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        let why = "it is not a regular file, and would be replaced by one; name a new file";
        return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, why)));
    }
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let temporary = Temporary::new(folder).map_err(failed)?;
    let mut output = Output { file: BufWriter::new(temporary.as_file()), done: 0, total, progress };
    let result = write(&mut output)?;
    output.flush().map_err(failed)?;
    drop(output);
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(folder, path).map_err(failed)?;
    sync_folder(folder).map_err(failed)?;
    if let Some(progress) = progress {
        progress(total, total);
    }
    Ok(result)
}

/// A file that is not yet where it belongs.
enum Temporary {
    /// In its folder under no name, so that nothing is left of it, whatever ends the process.
    #[cfg(target_os = "linux")]
    Unnamed(File),
    /// Where the file system has no such files.
    Named(NamedTempFile),
}

impl Temporary {
    fn new(folder: &Path) -> std::io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(file) = unnamed::create(folder)? {
            return Ok(Self::Unnamed(file));
        }
        builder().tempfile_in(folder).map(Self::Named)
    }

    fn as_file(&self) -> &File {
        match self {
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Puts it in the place of what is at `path`, which is in the folder.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(unused_variables, reason = "only a link needs the folder")
    )]
    fn persist(self, folder: &Path, path: &Path) -> std::io::Result<()> {
        match self {
            // A link takes nobody's place, a rename does.
            #[cfg(target_os = "linux")]
            Self::Unnamed(file) => builder()
                .make_in(folder, |name| unnamed::link(&file, name))?
                .persist(path)
                .map_err(|error| error.error),
            Self::Named(file) => file.persist(path).map(drop).map_err(|error| error.error),
        }
    }
}

/// A builder of temporary files that are as readable as files usually are.
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".refit-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
}

/// Files without a name.
#[cfg(target_os = "linux")]
mod unnamed {
    use rustix::fs::{AtFlags, CWD, OFlags, linkat};
    use rustix::io::Errno;
    use std::fs::{File, OpenOptions};
    use std::io::Result;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    /// Through which files without a name get one.
    const DESCRIPTORS: &str = "/proc/self/fd";

    /// A new file in a folder; `None` where there are no such files.
    pub(super) fn create(folder: &Path) -> Result<Option<File>> {
        if !Path::new(DESCRIPTORS).exists() {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        options.write(true).mode(0o666).custom_flags(OFlags::TMPFILE.bits().cast_signed());
        match options.open(folder) {
            Ok(file) => Ok(Some(file)),
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Gives it a name that is free.
    pub(super) fn link(file: &File, name: &Path) -> Result<()> {
        let descriptor = format!("{DESCRIPTORS}/{}", file.as_raw_fd());
        Ok(linkat(CWD, descriptor, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
    }
}

/// Makes the new name durable; elsewhere than on Unix the rename is all there is.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// The file being written; it counts.
pub(crate) struct Output<'a> {
    file: BufWriter<&'a File>,
    done: u64,
    total: u64,
    progress: Option<Progress<'a>>,
}

/// Bytes between two calls of the progress hook.
const STEP: usize = 1 << 20;

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(&bytes[..bytes.len().min(STEP)])?;
        self.done += written as u64;
        if let Some(progress) = self.progress {
            progress(self.done.min(self.total), self.total);
        }
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Output<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}
