//! The engine: validated parts.

use crate::weights::stored;
use crate::writer::{Supply, VersionHasher, Written, write_file};
use crate::{
    Bytes, Digest, Dim, EngineFlags, EngineParts, FormatError, FormatErrorKind, Probe,
    SerializeFlags, Weight, WeightData, WeightsPresence, probe, reader, validate,
};
use std::io::{Seek, Write};
use std::sync::Arc;

/// A validated engine. Cheap to clone; immutable.
#[derive(Clone, Debug)]
pub struct Engine {
    parts: Arc<EngineParts>,
    probes: Arc<[Probe]>,
}

impl Engine {
    /// Validates `parts`: ids below `values` and defined once before their use, names unique and
    /// sorted, weights' lengths and digests, flags against the weights present. Sizes of ports that
    /// are neither a number nor a symbol become a symbol of that text, as a file stores them.
    ///
    /// # Errors
    /// `InvalidEngine`, `InvalidFlags`, `LimitExceeded` or `MissingWeights`.
    pub fn new(parts: EngineParts) -> Result<Self, FormatError> {
        validate::check_digests(&parts.weights)?;
        Self::with_digests_checked(parts)
    }

    /// [`Engine::new`] for weights whose digests were just computed or checked.
    pub(crate) fn with_digests_checked(mut parts: EngineParts) -> Result<Self, FormatError> {
        let ports = parts.inputs.iter_mut().chain(&mut parts.outputs);
        for dim in ports.flat_map(|port| port.shape.iter_mut().flatten()) {
            let Ok(stored) = dim.to_string().parse::<Dim>();
            *dim = stored;
        }
        validate::check(&parts)?;
        Ok(Self { parts: Arc::new(parts), probes: Arc::new([]) })
    }

    /// The engine with these probes instead of those it has.
    ///
    /// # Errors
    /// `InvalidEngine`: a probe whose tensors are not those of the ports, one without outputs, a tolerance that is no number from
    /// 0 up, or any probe in an engine that is stripped of weights which no digest tells.
    pub fn with_probes(self, probes: Vec<Probe>) -> Result<Self, FormatError> {
        probe::check(&self.parts, &probes)?;
        Ok(Self { probes: probes.into(), ..self })
    }

    /// The probes it holds, of whatever versions.
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }

    /// `parts`, which follow from this engine's, with its probes where they may be.
    pub(crate) fn followed_by(&self, parts: EngineParts) -> Result<Self, FormatError> {
        let next = Self::with_digests_checked(parts)?;
        match probe::may_be_in(next.flags()) {
            true => Ok(Self { probes: self.probes.clone(), ..next }),
            false => Ok(next),
        }
    }

    /// Reads an engine file and checks all of it, digests included. Raw weights are ranges of `file`:
    /// nothing of a mapped file is copied.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes, with an offset, a field or a weight.
    pub fn read(file: Bytes) -> Result<Self, FormatError> {
        file.check()?;
        let (parts, probes) = reader::read(&file)?;
        validate::check(&parts)?;
        Self { parts: Arc::new(parts), probes: Arc::new([]) }.with_probes(probes)
    }

    /// The file under `options`, in memory. The same engine and options give the same bytes, however the
    /// engine came to be.
    ///
    /// # Errors
    /// Those of [`serialized_flags`](crate::serialized_flags); `MissingWeights` names the weights.
    pub fn serialize(&self, options: SerializeFlags) -> Result<Vec<u8>, FormatError> {
        let mut out = std::io::Cursor::new(Vec::new());
        self.write(options, &mut out)?;
        Ok(out.into_inner())
    }

    /// Writes the file under `options` to `out`, from where it stands, in one pass. After an error `out`
    /// holds no readable file.
    ///
    /// # Errors
    /// As [`Engine::serialize`], and `Io`.
    pub fn write(
        &self,
        options: SerializeFlags,
        out: &mut (impl Write + Seek),
    ) -> Result<Written, FormatError> {
        let flags = self.serialized_flags(options)?;
        self.check_unchanged()?;
        write_file(&self.parts, &self.probes, flags, out, |_, weight| {
            let (bytes, digest) = stored(weight);
            Ok(Supply::Whole(bytes, digest))
        })
    }

    /// What a file of this engine would be under `options`; see [`crate::serialized_flags`].
    ///
    /// # Errors
    /// As [`crate::serialized_flags`]; `MissingWeights` names the weights.
    pub fn serialized_flags(&self, options: SerializeFlags) -> Result<EngineFlags, FormatError> {
        crate::serialized_flags(self.flags(), self.presence(), options).map_err(|error| match error
            .kind()
        {
            FormatErrorKind::MissingWeights => error.names(self.missing()),
            _ => error,
        })
    }

    /// The engine without the weights that may be replaced: what a stripped file holds.
    ///
    /// # Errors
    /// `NotRefittable` for a frozen engine.
    pub fn strip(&self) -> Result<Self, FormatError> {
        let mut options = SerializeFlags::EXCLUDE_WEIGHTS;
        options.set(SerializeFlags::COMPRESS, self.flags().contains(EngineFlags::COMPRESSED));
        let flags = self.serialized_flags(options)?;
        let mut parts = (*self.parts).clone();
        parts.flags = flags;
        let identical = flags.contains(EngineFlags::REFIT_IDENTICAL);
        for weight in parts.weights.iter_mut().filter(|weight| weight.is_strippable()) {
            weight.data = WeightData::Missing;
            weight.digest = weight.digest.filter(|_| identical);
        }
        self.followed_by(parts)
    }

    /// Files that its weights are parts of: one range of bytes of each. Empty if all weights are in memory of their own.
    pub fn files(&self) -> Vec<Bytes> {
        let stored = self.parts.weights.iter().filter_map(|weight| match &weight.data {
            WeightData::Stored(bytes) => Some(bytes),
            WeightData::Missing => None,
        });
        Bytes::of_mapped(stored)
    }

    /// Whether the files that its weights are parts of are still what was read, see [`Bytes::check`].
    ///
    /// # Errors
    /// `Io`: one changed.
    pub fn check_unchanged(&self) -> Result<(), FormatError> {
        Ok(self.files().iter().try_for_each(Bytes::check)?)
    }

    /// The parts, read-only.
    pub fn parts(&self) -> &EngineParts {
        &self.parts
    }

    /// The weight table, if no other engine shares it; else nothing.
    pub(crate) fn into_unshared_weights(self) -> Vec<Weight> {
        Arc::into_inner(self.parts).map(|parts| parts.weights).unwrap_or_default()
    }

    /// What the engine is.
    pub fn flags(&self) -> EngineFlags {
        self.parts.flags
    }

    /// The row of the weight table with this name (not alias).
    pub fn weight(&self, name: &str) -> Option<&Weight> {
        let weights = &self.parts.weights;
        let index = weights.binary_search_by(|weight| weight.name.as_str().cmp(name)).ok()?;
        Some(&weights[index])
    }

    /// Names of the weights whose bytes are not here, sorted; empty for a full engine.
    pub fn missing(&self) -> Vec<String> {
        let missing = |w: &&Weight| w.data == WeightData::Missing;
        self.parts.weights.iter().filter(missing).map(|w| w.name.clone()).collect()
    }

    /// Whether every weight's bytes are here.
    pub fn is_full(&self) -> bool {
        self.presence() == WeightsPresence::Present
    }

    fn presence(&self) -> WeightsPresence {
        match self.parts.weights.iter().any(|weight| weight.data == WeightData::Missing) {
            true => WeightsPresence::Missing,
            false => WeightsPresence::Present,
        }
    }

    /// The version of the weights: a digest over the names and digests of all of them in table order,
    /// the same on every path to the same weights. `None` if weights are missing.
    pub fn version(&self) -> Option<Digest> {
        if !self.is_full() {
            return None;
        }
        let mut version = VersionHasher::default();
        for weight in &self.parts.weights {
            let (_, digest) = stored(weight);
            version.add(&weight.name, digest);
        }
        Some(version.finish())
    }
}
