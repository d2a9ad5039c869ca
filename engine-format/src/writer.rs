//! The deterministic writer: one pass over the weights, then one seek back to the prefix.

use crate::ahead::{ReadPieces, pass_on};
use crate::digest::Hasher;
use crate::header::{self, Header, PREFIX, Section, SectionKind, align};
use crate::wire::{
    Blob, WireAlias, WirePacked, WireProbes, WireProgram, WireTable, WireWeight, wire_shape,
};
use crate::{
    Alias, Bytes, DType, Digest, EngineFlags, EngineParts, Form, FormatError, FormatErrorKind,
    Probe, Weight, WeightClass, limits, msgpack, pack, probe,
};
use std::io::{Seek, SeekFrom, Write};

/// What the start of a weight is aligned to inside the weights section.
pub(crate) const WEIGHT_ALIGNMENT: u64 = 64;

/// Where a file keeps a weight's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// In the weight table itself.
    Table,
    /// In the weights section.
    Section,
    /// Nowhere: stripped.
    Missing,
}

impl Placement {
    /// Follows from the file's flags and the weight alone; the reader insists on it.
    pub(crate) fn of(weight: &Weight, flags: EngineFlags) -> Self {
        let strippable = weight.is_strippable() && !flags.is_frozen();
        let len = weight.byte_len();
        let inline = match weight.class {
            WeightClass::Weight => limits::INLINE_BYTES,
            WeightClass::Parameter => limits::PARAMETER_BYTES,
        };
        if strippable && flags.contains(EngineFlags::EXCLUDE_WEIGHTS) {
            Self::Missing
        } else if len == 0 || (!strippable && len <= inline) {
            Self::Table
        } else {
            Self::Section
        }
    }
}

/// Computes a version: a digest over names and digests of the weights in table order.
#[derive(Default)]
pub(crate) struct VersionHasher(Hasher);

impl VersionHasher {
    /// Names are framed by their length, so that no two tables give the same stream.
    pub(crate) fn add(&mut self, name: &str, digest: Digest) {
        self.0.update(&(name.len() as u64).to_le_bytes());
        self.0.update(name.as_bytes());
        self.0.update(&digest.0);
    }

    pub(crate) fn finish(&self) -> Digest {
        self.0.finish()
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The new file's flags.
    pub flags: EngineFlags,
    /// Its length.
    pub length: u64,
    /// The version of its weights; `None` for a stripped file.
    pub version: Option<Digest>,
}

/// The bytes of a weight that is about to be written.
pub(crate) enum Supply<'a, E> {
    /// All of them, with their digest.
    Whole(Bytes, Digest),
    /// Only where they are written as they are.
    Pieces(Pieces<'a, E>),
}

/// A weight that is written without being held in memory.
pub(crate) struct Pieces<'a, E> {
    /// Hands over the pieces in order.
    pub read: Box<ReadPieces<'a, E>>,
    /// Decides on the digest of all that was handed over.
    pub accept: Box<dyn FnOnce(Digest) -> Result<(), E> + 'a>,
}

/// Writes a file with `flags`. `supply` gives the bytes of one stored weight, and their digest, when
/// its turn comes, in table order; nothing is kept of them afterwards.
pub(crate) fn write_file<'a, E: From<FormatError> + Send>(
    parts: &'a EngineParts,
    probes: &[Probe],
    flags: EngineFlags,
    out: &mut (impl Write + Seek),
    mut supply: impl FnMut(usize, &'a Weight) -> Result<Supply<'a, E>, E>,
) -> Result<Written, E> {
    let mut file = File::start(out)?;
    let program = msgpack::encode(&WireProgram::from(parts));
    let mut sections = vec![file.packed_section(SectionKind::Program, &program, flags)?];

    let placed = |weight: &Weight| Placement::of(weight, flags);
    let stored = parts.weights.iter().any(|weight| placed(weight) == Placement::Section);
    let start = if stored { file.pad(SectionKind::Weights.alignment(flags))? } else { 0 };
    let mut version = Some(VersionHasher::default());
    let mut rows = Vec::with_capacity(parts.weights.len());
    for (index, weight) in parts.weights.iter().enumerate() {
        let mut row = row(weight, flags);
        let place = placed(weight);
        if place == Placement::Missing {
            version = None;
        } else {
            let supplied = supply(index, weight)?;
            if place == Placement::Section {
                row.offset = Some(file.pad(WEIGHT_ALIGNMENT)? - start);
            }
            let digest = match supplied {
                Supply::Whole(bytes, digest) if place == Placement::Table => {
                    // A copy of a few bytes, so that the row keeps no source's buffer alive.
                    row.data = Some(Blob(Bytes::copy_from(&bytes)));
                    digest
                }
                Supply::Whole(bytes, digest) => {
                    row.packed = file.weight(&bytes, flags)?;
                    digest
                }
                Supply::Pieces(pieces) => file.pieces(pieces)?,
            };
            if place == Placement::Section {
                row.digest = Some(digest.into());
            }
            if let Some(version) = &mut version {
                version.add(&weight.name, digest);
            }
        }
        rows.push(row);
    }
    if stored {
        let length = file.at - start;
        let kind = SectionKind::Weights;
        let digest = [0; 32];
        sections.push(Section { kind, offset: start, length, unpacked: length, digest });
    }
    let table = msgpack::encode(&WireTable { weights: rows });
    sections.push(file.packed_section(SectionKind::Table, &table, flags)?);
    let probes = if probe::may_be_in(flags) { probes } else { &[] };
    if !probes.is_empty() {
        let packed = msgpack::encode(&WireProbes::from(probes));
        sections.push(file.packed_section(SectionKind::Probes, &packed, flags)?);
    }
    let length = file.finish(minor(parts, probes), flags, sections)?;
    Ok(Written { flags, length, version: version.map(|version| version.finish()) })
}

/// The lowest minor version that has everything the engine uses, so that older readers read what they can.
pub(crate) fn minor(parts: &EngineParts, probes: &[Probe]) -> u16 {
    if !parts.flags.precision().is_empty() {
        return 4;
    }
    let own = |name: &String| parts.weights.binary_search_by(|w| w.name.cmp(name)).is_ok();
    if parts.ignored.iter().any(own) {
        return 3;
    }
    let reshapes = parts.weights.iter().any(|weight| {
        let view =
            |alias: &Alias| matches!(alias, Alias::View(view) if view.reshapes(&weight.info()));
        weight.aliases.iter().any(view)
    });
    if reshapes {
        return 2;
    }
    let view = |alias: &Alias| matches!(alias, Alias::View(_));
    let views = parts.weights.iter().any(|weight| weight.aliases.iter().any(view));
    let ports = parts.inputs.iter().chain(&parts.outputs);
    let forms = ports.clone().any(|port| port.form != Form::Tensor);
    let literals = parts.literals.iter().map(|literal| literal.tensor.dtype());
    let named = parts.source_literals.iter().map(|literal| literal.tensor.dtype());
    let mut types = ports.map(|port| port.dtype).chain(literals).chain(named);
    let strings = types.any(|dtype| dtype == DType::String);
    let parameter = |weight: &Weight| weight.class == WeightClass::Parameter;
    let mut parameters = parts.weights.iter().filter(|weight| parameter(weight));
    if parameters.any(|weight| weight.byte_len() > limits::INLINE_BYTES) {
        return 2;
    }
    u16::from(views || forms || strings || !probes.is_empty())
}

/// A row without the bytes and what describes them.
fn row(weight: &Weight, flags: EngineFlags) -> WireWeight {
    let missing = Placement::of(weight, flags) == Placement::Missing;
    let checked = missing && flags.contains(EngineFlags::REFIT_IDENTICAL);
    WireWeight {
        aliases: weight.aliases.iter().map(WireAlias::from).collect(),
        data: None,
        digest: weight.digest.filter(|_| checked).map(Blob::from),
        dtype: weight.dtype,
        name: weight.name.clone(),
        offset: None,
        packed: None,
        parameter: weight.class == WeightClass::Parameter,
        pinned: weight.pinned.clone(),
        refittable: weight.refittable && flags.contains(EngineFlags::REFIT_INDIVIDUAL),
        shape: wire_shape(&weight.shape),
        value: weight.value,
    }
}

/// A file being written.
struct File<'a, W> {
    out: &'a mut W,
    /// Where the file starts in `out`.
    base: u64,
    /// Bytes written since.
    at: u64,
}

fn io(error: std::io::Error) -> FormatError {
    FormatError::new(FormatErrorKind::Io, "writing an engine file").found(error)
}

impl<'a, W: Write + Seek> File<'a, W> {
    fn start(out: &'a mut W) -> Result<Self, FormatError> {
        let base = out.stream_position().map_err(io)?;
        let mut file = Self { out, base, at: 0 };
        file.put(&[0; PREFIX])?;
        Ok(file)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        self.out.write_all(bytes).map_err(io)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Pads with zeros and returns the new end.
    fn pad(&mut self, alignment: u64) -> Result<u64, FormatError> {
        let padding = align(self.at, alignment) - self.at;
        let zeros = [0; SectionKind::WEIGHT_PAGE];
        self.put(&zeros[..padding as usize])?;
        Ok(self.at)
    }

    fn packed_section(
        &mut self,
        kind: SectionKind,
        raw: &[u8],
        flags: EngineFlags,
    ) -> Result<Section, FormatError> {
        let cap = kind.unpacked_cap();
        if raw.len() as u64 > cap {
            return Err(FormatError::new(FormatErrorKind::LimitExceeded, "section too large")
                .at(kind)
                .expected(format!("at most {cap} bytes"))
                .found(raw.len()));
        }
        let packed = pack::pack_section(raw)?;
        let offset = self.pad(kind.alignment(flags))?;
        self.put(&packed)?;
        Ok(Section {
            kind,
            offset,
            length: packed.len() as u64,
            unpacked: raw.len() as u64,
            digest: Digest::of(&packed).0,
        })
    }

    fn weight(
        &mut self,
        raw: &[u8],
        flags: EngineFlags,
    ) -> Result<Option<WirePacked>, FormatError> {
        if !flags.contains(EngineFlags::COMPRESSED) {
            self.put(raw)?;
            return Ok(None);
        }
        let packed = pack::pack_weight(raw)?;
        self.put(&packed)?;
        let digest = Digest::of(&packed).into();
        Ok(Some(WirePacked { digest, length: packed.len() as u64 }))
    }

    /// Writes a weight as it comes and gives back the digest of what was written.
    fn pieces<E: From<FormatError> + Send>(&mut self, pieces: Pieces<'_, E>) -> Result<Digest, E> {
        let digest = pass_on(pieces.read, |piece| self.put(piece))?;
        (pieces.accept)(digest)?;
        Ok(digest)
    }

    fn finish(
        self,
        minor: u16,
        flags: EngineFlags,
        sections: Vec<Section>,
    ) -> Result<u64, FormatError> {
        let major = header::MAJOR;
        let header = Header { major, minor, flags, file_length: self.at, sections };
        self.out.seek(SeekFrom::Start(self.base)).map_err(io)?;
        self.out.write_all(&header.to_bytes()).map_err(io)?;
        self.out.seek(SeekFrom::Start(self.base + self.at)).map_err(io)?;
        self.out.flush().map_err(io)?;
        Ok(self.at)
    }
}
