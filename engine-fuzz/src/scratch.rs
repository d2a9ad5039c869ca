//! Files of one execution.

use std::cell::RefCell;
use std::path::PathBuf;

thread_local! {
    /// The folder of a thread, and how many of its files were written before.
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// Writes files beside each other, over those of the execution before, and gives the path of the first. Set `TMPDIR` to a folder in memory to
/// spare the disk.
///
/// # Panics
/// If they cannot be written.
pub fn write(files: &[(&str, &[u8])]) -> PathBuf {
    FOLDER.with_borrow_mut(|folder| {
        let folder =
            folder.get_or_insert_with(|| tempfile::tempdir().expect("a folder of its own"));
        for (name, bytes) in files {
            // What an earlier execution has mapped keeps its bytes: the file gets another inode.
            let path = folder.path().join(name);
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, bytes).expect("a file in a folder of its own");
        }
        folder.path().join(files[0].0)
    })
}
