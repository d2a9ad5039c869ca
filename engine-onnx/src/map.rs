//! The one place where a file is mapped into memory, and how files of strangers are opened.

use engine_format::Bytes;
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

/// Maps a regular file read-only.
///
/// The bytes are the file's as long as nobody writes to it; a file that another process truncates while it is mapped
/// ends the process when the lost pages are touched. Map files that you own (engines), and copy what you keep from files
/// that others write.
pub fn map_file(path: &Path) -> io::Result<Bytes> {
    let file = open_regular(path)?;
    // An empty file cannot be mapped.
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::from(Vec::new()));
    }
    // SAFETY: the mapping is read-only and private to this process; that the file may change underneath is the
    // documented condition of this function.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
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
        assert_eq!(&*map_file(&path).unwrap(), b"abc");
        std::fs::write(&path, b"").unwrap();
        assert!(map_file(&path).unwrap().is_empty());
        assert!(map_file(dir.path()).is_err());
    }
}
