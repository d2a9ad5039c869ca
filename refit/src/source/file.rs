//! A foreign file that is read in parts and may be written to by others at any time, or the bytes of one in memory.

use super::positional::read_exact_at;
use super::{PIECE, unreadable};
use crate::RefitError;
use engine_format::{AlignedBuf, Bytes};
use engine_onnx::{FileState, map_file, open_regular};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How tensors that lie in a file as they are come to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// As copies, which others cannot change.
    Read,
    /// As parts of a mapping of the file, for a call that keeps none of them.
    Map,
}

/// A file of a source. One that changes after it was opened is an error where it is read.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Names it in messages.
    path: PathBuf,
    contents: Contents,
    /// All of it, where tensors may be parts of that.
    shared: Option<Bytes>,
}

#[derive(Debug)]
enum Contents {
    /// With what it was when it was opened.
    File(File, FileState),
    Memory(Bytes),
}

impl SourceFile {
    pub(super) fn open(path: &Path) -> Result<Self, RefitError> {
        let file = open_regular(path).map_err(|error| unreadable(path, &error))?;
        let state = FileState::of(&file).map_err(|error| unreadable(path, &error))?;
        Ok(Self { path: path.to_owned(), contents: Contents::File(file, state), shared: None })
    }

    pub(super) fn with_access(path: &Path, access: Access) -> Result<Self, RefitError> {
        let file = Self::open(path)?;
        let shared = match access {
            Access::Read => None,
            Access::Map => Some(map_file(path).map_err(|error| unreadable(path, &error))?),
        };
        Ok(Self { shared, ..file })
    }

    /// A file whose bytes are in memory, and do not change.
    pub(super) fn of_bytes(bytes: Bytes) -> Self {
        Self { path: PathBuf::from("memory"), contents: Contents::Memory(bytes), shared: None }
    }

    pub(super) fn len(&self) -> u64 {
        match &self.contents {
            Contents::File(_, state) => state.len(),
            Contents::Memory(bytes) => bytes.len() as u64,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn origin(&self) -> String {
        self.path.display().to_string()
    }

    /// `len` bytes from `offset` on: a part of what is shared, or a copy.
    pub(super) fn bytes(&self, offset: u64, len: usize) -> Result<Bytes, String> {
        if let Some(all) = &self.shared {
            all.check().map_err(|changed| changed.to_string())?;
            let start = usize::try_from(offset).map_err(|error| error.to_string())?;
            return match start.checked_add(len).is_some_and(|end| end <= all.len()) {
                true => Ok(all.slice(start, len)),
                false => Err(format!("{len} bytes at offset {offset} reach out of the file")),
            };
        }
        let mut bytes = AlignedBuf::try_zeroed(len).map_err(|error| error.to_string())?;
        self.read_at(offset, &mut bytes)?;
        Ok(bytes.into())
    }

    /// Fills `bytes` from `offset` on; any number of threads may ask.
    pub(super) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), String> {
        let (file, state) = match &self.contents {
            Contents::File(file, state) => (file, state),
            Contents::Memory(all) => return copy_at(all, offset, bytes),
        };
        read_exact_at(file, offset, bytes).map_err(|error| error.to_string())?;
        state.check(file, &self.origin()).map_err(|changed| changed.to_string())
    }

    /// Hands over `len` bytes from `offset` on, piece by piece.
    pub(super) fn stream(
        &self,
        offset: u64,
        len: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), String> {
        let mut piece = vec![0; PIECE.min(len)];
        for at in (0..len).step_by(PIECE) {
            let piece = &mut piece[..PIECE.min(len - at)];
            self.read_at(offset + at as u64, piece)?;
            sink(piece);
        }
        Ok(())
    }

    /// Fills `out` from `offset` on, and hands over each piece once it is there.
    pub(super) fn stream_into(
        &self,
        offset: u64,
        out: &mut [u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), String> {
        for (i, piece) in out.chunks_mut(PIECE).enumerate() {
            self.read_at(offset + (i * PIECE) as u64, piece)?;
            sink(piece);
        }
        Ok(())
    }

    /// A reader over the bytes from `offset` up to `end`, which buffers.
    pub(super) fn reader(&self, offset: u64, end: u64) -> FileReader<'_> {
        FileReader { file: self, at: offset, end, buffer: Vec::new(), used: 0 }
    }
}

/// Fills `out` from `offset` of `all` on.
fn copy_at(all: &[u8], offset: u64, out: &mut [u8]) -> Result<(), String> {
    let start = usize::try_from(offset).ok();
    let found = start.and_then(|start| all.get(start..start.checked_add(out.len())?));
    let found = found.ok_or_else(|| format!("it ends before {} bytes at {offset}", out.len()))?;
    out.copy_from_slice(found);
    Ok(())
}

/// Reads a part of a [`SourceFile`] from its start to its end.
pub(super) struct FileReader<'a> {
    file: &'a SourceFile,
    /// Where the next piece starts.
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl FileReader<'_> {
    /// Offset in the file of the next byte that is read.
    pub(super) fn position(&self) -> u64 {
        self.at - (self.buffer.len() - self.used) as u64
    }
}

/// Bytes of a buffer: headers are read in small steps.
const BUFFER: u64 = 1 << 16;

impl Read for FileReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.used == self.buffer.len() {
            let len = BUFFER.min(self.end - self.at);
            self.buffer.resize(usize::try_from(len).expect("at most a buffer"), 0);
            self.file.read_at(self.at, &mut self.buffer).map_err(std::io::Error::other)?;
            self.at += len;
            self.used = 0;
        }
        let len = out.len().min(self.buffer.len() - self.used);
        out[..len].copy_from_slice(&self.buffer[self.used..self.used + len]);
        self.used += len;
        Ok(len)
    }
}
