//! A source as a refit reads it: counted, and given up when the refit is cancelled.

use crate::options::RefitOptions;
use engine_format::{Engine, Naming, SourceError, Tensor, TensorInfo, WeightSource};
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads `source`, tells the caller's [`Progress`](crate::Progress) how much of it was read, and fails once the caller's
/// [`Cancel`](crate::Cancel) says so.
pub(super) struct Watched<'a> {
    source: &'a dyn WeightSource,
    options: &'a RefitOptions,
    /// Bytes read so far, and the most that will be.
    read: AtomicU64,
    all: u64,
}

impl<'a> Watched<'a> {
    /// What a refit of `engine` reads of `source`.
    pub fn new(source: &'a dyn WeightSource, engine: &Engine, options: &'a RefitOptions) -> Self {
        let weights = engine.parts().weights.iter().map(|weight| weight.byte_len() as u64);
        Self { source, options, read: AtomicU64::new(0), all: weights.sum() }
    }

    /// The refit has read all that it reads.
    pub fn finished(&self) {
        self.tell(self.all);
    }

    fn tell(&self, done: u64) {
        if let Some(progress) = &self.options.progress {
            progress.receive(done, self.all);
        }
    }

    fn took(&self, bytes: usize) {
        let bytes = bytes as u64;
        // What is read twice, to be compared first, is not counted beyond the whole.
        let done = self.read.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.tell(done.min(self.all));
    }

    fn check(&self, name: &str) -> Result<(), SourceError> {
        match &self.options.cancel {
            Some(cancel) if cancel.look() => Err(SourceError {
                name: name.to_owned(),
                origin: self.source.origin(),
                why: "the refit was cancelled".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl WeightSource for Watched<'_> {
    fn origin(&self) -> String {
        self.source.origin()
    }

    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn naming(&self, name: &str) -> Naming {
        self.source.naming(name)
    }

    fn remarks(&self) -> Vec<String> {
        self.source.remarks()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.source.info(name)
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        self.check(name)?;
        let tensor = self.source.read(name)?;
        self.took(tensor.as_ref().map_or(0, |tensor| tensor.bytes().len()));
        Ok(tensor)
    }

    fn is_resident(&self, name: &str) -> bool {
        self.source.is_resident(name)
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        self.check(name)?;
        self.source.stream(name, &mut |piece| {
            sink(piece);
            self.took(piece.len());
        })
    }

    fn stream_into(
        &self,
        name: &str,
        out: &mut [u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<usize>, SourceError> {
        self.check(name)?;
        self.source.stream_into(name, out, &mut |piece| {
            sink(piece);
            self.took(piece.len());
        })
    }
}
