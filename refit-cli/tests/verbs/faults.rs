//! What is left of a file when writing it ends early: the old file or the new one, whatever byte was the last.
//!
//! The shell's limit for the size of files stands in for a disk that is full and for a process that is killed: a process that writes past
//! it is ended by a signal, and one that does not take that signal has its write refused.

use crate::common::Folder;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

/// How a write past the limit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The process is gone.
    Killed,
    /// The write is an error.
    Refused,
}

/// Runs the program where no file may have more than so many blocks.
fn limited(folder: &Folder, verb: &[&str], blocks: usize, end: End) -> ExitStatus {
    let ignore = if end == End::Refused { "trap '' XFSZ; " } else { "" };
    let script = format!("{ignore}ulimit -c 0; ulimit -f {blocks}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_refit")]).args(verb);
    command.current_dir(folder.at("")).output().unwrap().status
}

/// Names of temporary files.
fn left_behind(folder: &Folder) -> Vec<String> {
    let names = std::fs::read_dir(folder.at("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".tmp")).collect()
}

/// Whether a folder may have files without a name, of which nothing is left when their process ends.
fn has_unnamed_files(folder: &Folder) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let unnamed = rustix::fs::OFlags::TMPFILE.bits().cast_signed();
        let mut options = std::fs::OpenOptions::new();
        options.write(true).custom_flags(unnamed).open(folder.at("")).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// A verb that writes the file `out`, over one that is there and over none.
fn every_end_leaves_a_whole_file(verb: &[&str], end: End) {
    let folder = Folder::built();
    folder.ok(verb);
    let new = std::fs::read(folder.at("out")).unwrap();
    for old in [None, Some(b"an older file".to_vec())] {
        let mut ended_early = 0;
        for blocks in 0.. {
            match &old {
                Some(old) => std::fs::write(folder.at("out"), old).unwrap(),
                None => drop(std::fs::remove_file(folder.at("out"))),
            }
            let status = limited(&folder, verb, blocks, end);
            let found = std::fs::read(folder.at("out")).ok();
            if status.success() {
                assert_eq!(found.as_deref(), Some(&*new), "{verb:?}, {blocks} blocks");
                break;
            }
            ended_early += 1;
            assert!(ended_early < 1000, "{verb:?} never ends: {status}");
            assert_eq!(found, old, "{verb:?}, {blocks} blocks: {status}");
            match end {
                End::Killed => {
                    assert!(status.signal().is_some(), "{verb:?}: {status}");
                    if has_unnamed_files(&folder) {
                        assert_eq!(left_behind(&folder), [""; 0], "{verb:?}, {blocks} blocks");
                    }
                }
                End::Refused => {
                    assert_eq!(status.code(), Some(3), "{verb:?}, {blocks} blocks");
                    assert_eq!(left_behind(&folder), [""; 0], "{verb:?}, {blocks} blocks");
                }
            }
        }
        assert!(ended_early > 0, "{verb:?} has one block at least");
    }
}

/// The verbs that write files. A stripped engine of the model has a block or two, a full one some more.
const VERBS: [&[&str]; 4] = [
    &["build", "model.onnx", "-o", "out"],
    &["strip", "full", "-o", "out"],
    &["fill", "stripped", "--weights", "model.onnx", "-o", "out"],
    &["fill", "full", "--weights", "model.onnx", "-o", "out", "--freeze"],
];

#[test]
fn a_process_that_is_killed_leaves_the_old_file_or_the_new_one() {
    VERBS.iter().for_each(|verb| every_end_leaves_a_whole_file(verb, End::Killed));
}

#[test]
fn a_disk_that_is_full_leaves_the_old_file_and_nothing_else() {
    VERBS.iter().for_each(|verb| every_end_leaves_a_whole_file(verb, End::Refused));
}
