//! What shaders note of indices that lie outside.

use super::scope::Scope;
use crate::gpu::GpuError;
use engine_format::{DType, Tensor};
use engine_ops::OpError;
use engine_ops::cpu::TensorMeta;
use engine_ops::gpu::outside;
use wgpu::{Buffer, BufferBinding, BufferSize, CommandEncoder};

/// Words from one program's note to the next: what every device takes as the distance of two bindings of a buffer.
const WORDS: usize = 64;

/// Words of a note ([`engine_ops::gpu::Bind::Outside`]).
const NOTE: usize = 4;

/// A note for each program of a list that may make one.
pub(crate) struct Notes {
    buffer: Option<Buffer>,
    count: usize,
}

impl Notes {
    pub(crate) fn new(scope: &Scope<'_>, count: usize) -> Result<Self, GpuError> {
        let bytes = (count * WORDS * 4) as u64;
        let buffer = (count > 0).then(|| scope.storage("notes", bytes)).transpose()?;
        Ok(Self { buffer, count })
    }

    /// The note of the program that is number `i` of those that make one.
    pub(crate) fn binding(&self, i: usize) -> Option<BufferBinding<'_>> {
        let buffer = self.buffer.as_ref()?;
        let (offset, size) = ((i * WORDS * 4) as u64, BufferSize::new(NOTE as u64 * 4));
        Some(BufferBinding { buffer, offset, size })
    }

    /// The notes, to be read back; none if no program makes one.
    pub(crate) fn buffer(&self) -> Option<&Buffer> {
        self.buffer.as_ref()
    }

    /// The type under which the notes are read back.
    pub(crate) fn meta(&self) -> Option<TensorMeta> {
        let shape = vec![self.count * WORDS];
        self.buffer.as_ref().map(|_| TensorMeta { dtype: DType::U32, shape })
    }

    /// Records that nothing is noted.
    pub(crate) fn clear(&self, encoder: &mut CommandEncoder) {
        if let Some(buffer) = &self.buffer {
            encoder.clear_buffer(buffer, 0, None);
        }
    }

    /// The first program that has noted something, by its number, in what was read back.
    pub(crate) fn first(&self, read: &Tensor) -> Option<(usize, OpError)> {
        let words = read.as_slice::<u32>().ok()?;
        let noted = |(i, note): (usize, &[u32])| {
            let &[kind, size, low, high, ..] = note else { return None };
            Some((i, outside([kind, size, low, high])?))
        };
        words.chunks_exact(WORDS).enumerate().find_map(noted)
    }
}
