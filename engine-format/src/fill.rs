//! Putting weights into an engine: in memory, or straight into a file piece by piece.

use crate::digest::Hasher;
use crate::fit::{self, Examined, FitError, FitPolicy, FitReport, Misfit, Way};
use crate::spread;
use crate::weights::stored;
use crate::writer::{Pieces, Supply, Written, write_file};
use crate::{
    Bytes, Digest, Engine, EngineFlags, FormatError, SerializeFlags, Spare, Weight, WeightData,
    WeightSource, WeightsPresence,
};
use std::io::{Seek, Write};

impl Engine {
    /// The engine with the weights of `source`. All or nothing: everything is checked before, and the
    /// engine itself does not change. Filling a full engine is a refit. The source's bytes are shared,
    /// not copied; a weight whose bytes are what they were keeps its own, so that two engines share them. Under the feature
    /// `parallel` weights are read and digested on the rayon pool of the caller.
    ///
    /// # Errors
    /// `Unfit` with everything that is wrong, or `Source`.
    pub fn fill(&self, source: &dyn WeightSource, policy: FitPolicy) -> Result<Self, FitError> {
        Ok(self.fill_into(source, policy, &Spare::default())?.made)
    }

    /// As [`Engine::fill`], and says what was taken and kept; weights that are read into memory are read into that of `spare` where it has
    /// buffers of their size.
    ///
    /// # Errors
    /// As [`Engine::fill`].
    pub fn fill_into(
        &self,
        source: &dyn WeightSource,
        policy: FitPolicy,
        spare: &Spare,
    ) -> Result<Filled<Self>, FitError> {
        self.fill_with(source, policy, spare, &|_, _| {})
    }

    /// As [`Engine::fill_into`], and calls `changed` with the row in the weight table and the new state of each weight whose bytes are not what
    /// they were, as soon as it was read, on the thread that read it. The fill may still fail then.
    ///
    /// # Errors
    /// As [`Engine::fill`].
    pub fn fill_with(
        &self,
        source: &dyn WeightSource,
        policy: FitPolicy,
        spare: &Spare,
        changed: &(dyn Fn(usize, &Weight) + Sync),
    ) -> Result<Filled<Self>, FitError> {
        let Examined { report: fit, from } = examine(self, source, policy)?;
        let named = |(row, from): (usize, Option<Way>)| Some((row, from?));
        let wanted = from.into_iter().enumerate().filter_map(named).collect();
        let taken = spread::try_map(wanted, |(row, way): (usize, Way)| {
            let weight = &self.parts().weights[row];
            let (bytes, digest) = take(weight, &way, source, self.flags(), spare)?;
            // Equal bytes stay where they are: nobody has to hold or to move them twice.
            if weight.data != WeightData::Missing && weight.digest == Some(digest) {
                bytes.into_buf().into_iter().for_each(|buf| spare.put(buf));
                return Ok(None);
            }
            let data = WeightData::Stored(bytes);
            let filled = Weight { data, digest: Some(digest), ..weight.clone() };
            changed(row, &filled);
            Ok::<_, FitError>(Some((row, filled)))
        })?;
        let mut parts = self.parts().clone();
        for (row, filled) in taken.into_iter().flatten() {
            parts.weights[row] = filled;
        }
        parts.flags.remove(EngineFlags::EXCLUDE_WEIGHTS);
        let made = self.followed_by(parts)?;
        // What it kept of a file is read again; what took its place never was in one.
        made.check_unchanged()?;
        Ok(Filled { made, fit })
    }
}

/// What a fill made, and what it took from the source and what it kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Filled<T> {
    /// An engine, or a file.
    pub made: T,
    /// It has no misfits.
    pub fit: FitReport,
}

/// Writes the file under `options` of `engine` filled from `source`, the same bytes that
/// `engine.fill(source, policy)?.write(options, out)` writes, while holding no large weight in memory: it is digested
/// and written piece by piece, as [`WeightSource::stream`] brings it.
///
/// Everything that can be known without a weight's bytes is checked before the first byte is written;
/// after an error `out` holds no readable file.
///
/// # Errors
/// `Unfit` with everything that is wrong, `Source`, or `Format`.
pub fn fill_to(
    engine: &Engine,
    source: &dyn WeightSource,
    policy: FitPolicy,
    options: SerializeFlags,
    out: &mut (impl Write + Seek),
) -> Result<Filled<Written>, FitError> {
    let examined = examine(engine, source, policy)?;
    let filled = engine.flags() - EngineFlags::EXCLUDE_WEIGHTS;
    let flags = crate::serialized_flags(filled, WeightsPresence::Present, options)?;
    engine.check_unchanged()?;
    let written = write_file(engine.parts(), engine.probes(), flags, out, |index, weight| {
        match &examined.from[index] {
            Some(way) if is_streamed(weight, flags) => Ok(Supply::Pieces(Pieces {
                read: Box::new(move |sink| Ok(fit::stream(source, way, weight, sink)?)),
                accept: Box::new(move |digest| accept(weight, way, digest, engine.flags())),
            })),
            Some(way) => {
                let (bytes, digest) = take(weight, way, source, engine.flags(), &Spare::default())?;
                Ok(Supply::Whole(bytes, digest))
            }
            None => {
                let (bytes, digest) = stored(weight);
                Ok(Supply::Whole(bytes, digest))
            }
        }
    });
    Ok(Filled { made: written?, fit: examined.report })
}

/// Bytes from which on a weight is written without being held in memory.
const STREAMED: usize = 1 << 20;

/// Whether a weight is written piece by piece: its bytes go to the file as they are, and any are valid.
fn is_streamed(weight: &Weight, flags: EngineFlags) -> bool {
    let as_is = !flags.contains(EngineFlags::COMPRESSED) && !weight.dtype.is_restricted();
    as_is && weight.byte_len() >= STREAMED
}

fn examine(
    engine: &Engine,
    source: &dyn WeightSource,
    policy: FitPolicy,
) -> Result<Examined, FitError> {
    let examined = Examined::new(engine, source, policy)?;
    if examined.report.is_fit() { Ok(examined) } else { Err(FitError::Unfit(examined.report)) }
}

/// Bytes of a weight from the source, with the digest of these very bytes. Values were checked before
/// where they matter, but a source may have changed since.
fn take(
    weight: &Weight,
    way: &Way,
    source: &dyn WeightSource,
    flags: EngineFlags,
    spare: &Spare,
) -> Result<(Bytes, Digest), FitError> {
    let (bytes, found) = match fit::is_resident(source, way) {
        true => {
            let tensor = fit::read(source, way, weight)?;
            (tensor.bytes().clone(), Digest::of(tensor.bytes()))
        }
        false => {
            // Digested while the piece is in the cache, in which it was read.
            let mut buf = spare.take(weight.byte_len()).map_err(FormatError::from)?;
            let mut hasher = Hasher::default();
            fit::stream_into(source, way, weight, &mut buf, &mut |piece| hasher.update(piece))?;
            (fit::checked(source, way, weight, buf.into())?, hasher.finish())
        }
    };
    accept(weight, way, found, flags)?;
    Ok((bytes, found))
}

/// Whether a weight takes values of this digest.
fn accept(weight: &Weight, way: &Way, found: Digest, flags: EngineFlags) -> Result<(), FitError> {
    match fit::locked(weight, flags) {
        Some((reason, expected)) if expected != found => {
            let name = way.to_string();
            let misfits = vec![Misfit::Values { name, reason, expected, found }];
            Err(FitError::Unfit(FitReport { misfits, ..FitReport::default() }))
        }
        _ => Ok(()),
    }
}
