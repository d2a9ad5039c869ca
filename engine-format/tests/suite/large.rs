//! Weights that are written while they are read, and the memory of those that were replaced.

use crate::sample;
use engine_format::{
    DType, Engine, EngineFlags, FitPolicy, MapSource, SerializeFlags, SourceError, Spare, Tensor,
    TensorInfo, WeightSource, fill_to,
};
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const PIECE: usize = 1 << 16;
const REFITTABLE: SerializeFlags = SerializeFlags::INCLUDE_REFIT;
const COMPRESSED: SerializeFlags = SerializeFlags::INCLUDE_REFIT.union(SerializeFlags::COMPRESS);

/// A source that gives tensors in pieces, as files do, and notes how much of the file was written when each was asked for.
struct InPieces<'a> {
    tensors: MapSource,
    written: &'a AtomicU64,
    /// Of the tensor with this name.
    watched: &'static str,
    seen: Mutex<Vec<u64>>,
    /// The last byte of that tensor comes as this.
    last: Option<u8>,
}

impl WeightSource for InPieces<'_> {
    fn origin(&self) -> String {
        "a source in pieces".to_owned()
    }
    fn names(&self) -> Vec<String> {
        self.tensors.names()
    }
    fn info(&self, name: &str) -> Option<TensorInfo> {
        self.tensors.info(name)
    }
    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        self.tensors.read(name)
    }
    fn is_resident(&self, _name: &str) -> bool {
        false
    }
    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        let Some(tensor) = self.tensors.read(name)? else { return Ok(false) };
        let mut bytes = tensor.bytes().to_vec();
        if name == self.watched
            && let (Some(last), Some(spoilt)) = (bytes.last_mut(), self.last)
        {
            *last = spoilt;
        }
        for piece in bytes.chunks(PIECE) {
            if name == self.watched {
                self.seen.lock().unwrap().push(self.written.load(Ordering::Relaxed));
            }
            sink(piece);
        }
        Ok(true)
    }
}

/// A file that counts what is written to it.
struct Metered<'a>(Cursor<Vec<u8>>, &'a AtomicU64);

impl Write for Metered<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Metered<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

/// The sample with one more weight.
fn with(name: &str, tensor: &Tensor) -> Engine {
    let mut parts = sample::parts(EngineFlags::REFIT, 1);
    parts.weights.push(sample::weight(name, parts.values, tensor, EngineFlags::REFIT));
    parts.values += 1;
    parts.weights.sort_by(|a, b| a.name.cmp(&b.name));
    Engine::new(parts).unwrap()
}

#[test]
fn a_large_weight_is_written_while_it_is_read() {
    // A mebibyte, from which on weights are streamed, and one row less.
    for (rows, options, is_streamed) in
        [(512, REFITTABLE, true), (511, REFITTABLE, false), (512, COMPRESSED, false)]
    {
        let built = with("large", &sample::floats(&[rows, 512], 7));
        let written = AtomicU64::new(0);
        let source = InPieces {
            tensors: sample::source(built.parts()),
            written: &written,
            watched: "large",
            seen: Mutex::default(),
            last: None,
        };
        let mut out = Metered(Cursor::new(Vec::new()), &written);
        fill_to(&built.strip().unwrap(), &source, FitPolicy::default(), options, &mut out).unwrap();
        assert!(
            *out.0.get_ref() == built.serialize(options).unwrap(),
            "{rows} rows under {options:?}"
        );
        let seen = source.seen.into_inner().unwrap();
        let grows = seen.first() < seen.last();
        assert_eq!(grows, is_streamed, "{rows} rows under {options:?}: {seen:?}");
    }
}

/// Not every byte is a bool: such weights are looked at before they are written, however large they are.
#[test]
fn large_weights_of_types_that_have_invalid_bytes_are_checked() {
    let tensor = Tensor::zeros(DType::Bool, &[1 << 20]);
    let built = with("mask", &tensor);
    for options in [REFITTABLE, COMPRESSED] {
        for (last, is_valid) in [(None, true), (Some(1), true), (Some(2), false)] {
            let written = AtomicU64::new(0);
            let source = InPieces {
                tensors: sample::source(built.parts()),
                written: &written,
                watched: "mask",
                seen: Mutex::default(),
                last,
            };
            let mut out = Cursor::new(Vec::new());
            let filled =
                fill_to(&built.strip().unwrap(), &source, FitPolicy::default(), options, &mut out);
            assert_eq!(filled.is_ok(), is_valid, "{last:?} under {options:?}");
            let read = Engine::read(out.into_inner().into());
            assert_eq!(read.is_ok(), is_valid, "{last:?} under {options:?}");
        }
    }
}

#[test]
fn memory_of_weights_is_kept_where_no_other_engine_has_them() {
    let (engine, spare) = (with("more", &sample::floats(&[64, 64], 3)), Spare::default());
    let shared = engine.clone();
    spare.keep(engine);
    assert_eq!(spare.byte_len(), 0);
    let bytes: usize = shared.parts().weights.iter().map(|weight| weight.byte_len()).sum();
    spare.keep(shared);
    assert_eq!(spare.byte_len(), bytes);
}
