//! Reading ahead: under the feature `parallel`, where there are threads, one of its own reads and digests the next pieces of a weight while
//! earlier ones are written.

use crate::Digest;
use crate::digest::Hasher;

/// Hands the pieces of a weight to the sink it is given.
pub(crate) type ReadPieces<'a, E> = dyn FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E> + Send + 'a;

/// Hands the pieces that `read` brings to `write`, in their order, and gives the digest of all of them. After an error of `write`
/// nothing more is written.
#[cfg(any(not(feature = "parallel"), target_family = "wasm"))]
pub(crate) fn pass_on<E, W: Into<E>>(
    read: Box<ReadPieces<'_, E>>,
    mut write: impl FnMut(&[u8]) -> Result<(), W>,
) -> Result<Digest, E> {
    let mut hasher = Hasher::default();
    let mut written = Ok(());
    read(&mut |piece| {
        hasher.update(piece);
        if written.is_ok() {
            written = write(piece);
        }
    })?;
    written.map_err(Into::into)?;
    Ok(hasher.finish())
}

/// Hands the pieces that `read` brings to `write`, in their order, and gives the digest of all of them. After an error of `write`
/// nothing more is written.
#[cfg(all(feature = "parallel", not(target_family = "wasm")))]
pub(crate) fn pass_on<E: Send, W: Into<E>>(
    read: Box<ReadPieces<'_, E>>,
    mut write: impl FnMut(&[u8]) -> Result<(), W>,
) -> Result<Digest, E> {
    use std::sync::mpsc;

    /// Bytes that are handed over at a time; so few that they are digested by the thread that read them.
    const PIECE: usize = 128 << 10;
    /// Pieces that may wait to be written.
    const WAITING: usize = 8;

    let (filled, waiting) = mpsc::sync_channel::<Vec<u8>>(WAITING);
    let (emptied, spare) = mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut hasher = Hasher::default();
            read(&mut |bytes| {
                for piece in bytes.chunks(PIECE) {
                    hasher.update(piece);
                    let mut buf = spare.try_recv().unwrap_or_default();
                    buf.clear();
                    buf.extend_from_slice(piece);
                    // Nobody waits for it any more once writing has failed, which is what the caller then hears of.
                    let _unwanted = filled.send(buf);
                }
            })?;
            Ok(hasher.finish())
        });
        let mut written = Ok(());
        while let (Ok(()), Ok(piece)) = (&written, waiting.recv()) {
            written = write(&piece);
            // The reader may be done.
            let _unwanted = emptied.send(piece);
        }
        drop(waiting);
        let digest = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written.map_err(Into::into)?;
        digest
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of every size, with more of them than may wait, come in order and whole; the error of either side is the result.
    #[test]
    fn every_byte_is_passed_on_in_order_or_an_error_is() {
        let bytes: Vec<u8> = (0..3_000_001u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        for size in [1000, 128 << 10, 3_000_001] {
            let read = |end: Result<(), &'static str>| -> Box<ReadPieces<'_, &'static str>> {
                let pieces = bytes.chunks(size);
                Box::new(move |sink| {
                    pieces.for_each(sink);
                    end
                })
            };
            let mut found = Vec::new();
            let digest = pass_on(read(Ok(())), |piece| {
                found.extend_from_slice(piece);
                Ok::<_, &str>(())
            });
            assert_eq!((digest, &found), (Ok(Digest::of(&bytes)), &bytes), "pieces of {size}");
            let digest = pass_on(read(Err("unreadable")), |_| Ok::<_, &str>(()));
            assert_eq!(digest, Err("unreadable"));
            let mut asked = 0;
            let digest = pass_on(read(Ok(())), |_| {
                asked += 1;
                Err::<(), _>("full")
            });
            assert_eq!((digest, asked), (Err("full"), 1));
        }
    }
}
