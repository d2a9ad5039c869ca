//! What passes between a worker and the process that watches it: how far it is, and what it found.

use crate::Target;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How far a worker is, in a file that outlives it: the target that it is at, and for each target how many cases it has begun.
#[derive(Debug)]
pub struct Progress {
    file: File,
    begun: Vec<u64>,
}

/// A copy of a worker's [`Progress`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Which target it is at.
    pub target: usize,
    /// Cases begun, for each target.
    pub begun: Vec<u64>,
}

impl Progress {
    /// Opens the file, which a worker before this one may have written, for that many targets.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, targets: usize) -> io::Result<Self> {
        let file =
            File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        let begun = Position::read(path)?.begun;
        let mut progress = Self { file, begun };
        progress.begun.resize(targets, 0);
        Ok(progress)
    }

    /// Says that the next case of a target begins, and gives how many were begun before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin(&mut self, target: usize) -> io::Result<u64> {
        let before = self.begun[target];
        self.begun[target] += 1;
        self.put(0, target as u64)?;
        self.put(1 + target, self.begun[target])?;
        Ok(before)
    }

    fn put(&mut self, slot: usize, number: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(slot as u64 * 8))?;
        self.file.write_all(&number.to_le_bytes())
    }
}

impl Position {
    /// What a worker wrote last; nothing if it wrote nothing yet.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(mut file) => file.read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let numbers = bytes.chunks_exact(8).map(|chunk| {
            u64::from_le_bytes(*chunk.first_chunk().expect("chunks have eight bytes"))
        });
        let mut numbers = numbers.collect::<Vec<_>>().into_iter();
        let target = numbers.next().unwrap_or(0) as usize;
        Ok(Self { target, begun: numbers.collect() })
    }
}

/// Runs one case; gives what it panicked with, and where.
///
/// # Errors
/// The place and the words of the panic.
pub fn run(target: &Target, choices: &[u8]) -> Result<(), String> {
    static LAST: Mutex<String> = Mutex::new(String::new());
    let last = || LAST.lock().unwrap_or_else(PoisonError::into_inner);
    // A pool's thread panics under this hook, too, and its words are lost on the way to here.
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map_or_else(String::new, |at| format!("{at}: "));
        let words = info.payload_as_str().unwrap_or("a panic without words");
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = format!("{place}{words}");
    }));
    let ended = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(choices)));
    panic::set_hook(before);
    ended.map_err(|_| std::mem::take(&mut *last()))
}

/// A folder of findings, one for each place and kind.
#[derive(Debug)]
pub struct Findings {
    folder: PathBuf,
}

impl Findings {
    /// Findings in `folder`, which is made when something is found.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keeps a case, unless one was kept that ended alike. Gives whether it is new.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn keep(&self, target: &Target, choices: &[u8], message: &str) -> io::Result<bool> {
        let folder = self.folder.join(target.name).join(slug(message));
        if folder.exists() {
            return Ok(false);
        }
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("choices"), choices)?;
        std::fs::write(folder.join("message.txt"), format!("{message}\n"))?;
        Ok(true)
    }

    /// First lines of all messages, by target.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn all(&self) -> io::Result<BTreeMap<String, Vec<String>>> {
        let mut all = BTreeMap::<String, Vec<String>>::new();
        if !self.folder.exists() {
            return Ok(all);
        }
        for target in std::fs::read_dir(&self.folder)? {
            let target = target?;
            for finding in std::fs::read_dir(target.path())? {
                let message = std::fs::read_to_string(finding?.path().join("message.txt"))?;
                let line = message.lines().next().unwrap_or_default().to_owned();
                all.entry(target.file_name().to_string_lossy().into_owned())
                    .or_default()
                    .push(line);
            }
        }
        all.values_mut().for_each(|lines| lines.sort());
        Ok(all)
    }
}

/// A name for a kind of finding: place and first words, without what differs from case to case.
fn slug(message: &str) -> String {
    let place = message.split_once(": ").map_or("", |(place, _)| place);
    let words = message.strip_prefix(place).unwrap_or(message);
    let words = words.chars().filter(|c| !c.is_ascii_digit());
    let letters = place.chars().chain(words).take(120);
    letters.map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_of_one_kind_are_kept_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let findings = Findings::new(folder.path().join("findings"));
        let target = &crate::TARGETS[0];
        for (message, new) in [
            ("a.rs:3:1: index 5 of 4", true),
            ("a.rs:3:1: index 77 of 4", false),
            ("a.rs:4:1: index 77 of 4", true),
        ] {
            assert_eq!(findings.keep(target, b"x", message).expect("it is written"), new);
        }
        assert_eq!(findings.all().expect("it is read")[target.name].len(), 2);
    }

    #[test]
    fn a_position_outlives_its_worker() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("progress");
        for before in 0..3 {
            let mut progress = Progress::open(&path, 2).expect("it opens");
            assert_eq!(progress.begin(1).expect("it is written"), before);
        }
        let position = Position::read(&path).expect("it is read");
        assert_eq!(position, Position { target: 1, begun: vec![0, 3] });
    }
}
