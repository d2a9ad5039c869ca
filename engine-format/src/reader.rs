//! The validating reader. Order: prefix, layout, digests, MessagePack, rows, weights, engine.

use crate::header::{Header, PREFIX, Section, SectionKind, align, check_zero};
use crate::wire::{WireProgram, WireTable, WireWeight, usable_shape};
use crate::writer::{Placement, WEIGHT_ALIGNMENT};
use crate::{
    Bytes, Digest, EngineFlags, EngineParts, FormatError, FormatErrorKind, Weight, WeightClass,
    WeightData, limits, msgpack, pack, tensor,
};
use serde::{Serialize, de::DeserializeOwned};

/// Reads a whole file into parts whose weights' lengths and digests are checked. What the parts mean
/// is for [`crate::validate`].
pub(crate) fn read(file: &Bytes) -> Result<EngineParts, FormatError> {
    let header = Header::parse(file)?;
    if header.file_length != file.len() as u64 {
        let cut = (file.len() as u64) < header.file_length;
        let what = if cut { "file cut short" } else { "bytes after the end of the file" };
        return Err(FormatError::new(FormatErrorKind::Corrupt, what)
            .at(format!("offset {}", header.file_length.min(file.len() as u64)))
            .expected(format!("{} bytes", header.file_length))
            .found(file.len()));
    }
    let mut end = PREFIX;
    for section in &header.sections {
        let start = to_usize(section.offset);
        check_zero(&file[end..start], end as u64)?;
        end = to_usize(section.end());
    }
    let program: WireProgram = message(file, &header, SectionKind::Program)?;
    let table: WireTable = message(file, &header, SectionKind::Table)?;
    if table.weights.len() > limits::WEIGHTS {
        return Err(FormatError::new(FormatErrorKind::LimitExceeded, "number of weights")
            .expected(format!("at most {}", limits::WEIGHTS))
            .found(table.weights.len()));
    }
    let mut weights = Weights::of(file, &header);
    let rows =
        table.weights.into_iter().map(|row| weights.row(row)).collect::<Result<Vec<_>, _>>()?;
    weights.finish()?;
    program.into_parts(header.flags, rows)
}

/// Offsets were checked against the length of a file that is in memory.
fn to_usize(offset: u64) -> usize {
    usize::try_from(offset).expect("an offset inside bytes in memory")
}

fn message<T: Serialize + DeserializeOwned>(
    file: &Bytes,
    header: &Header,
    kind: SectionKind,
) -> Result<T, FormatError> {
    let section = header.require(kind)?;
    let packed = &file[to_usize(section.offset)..to_usize(section.end())];
    let place = || format!("offset {} ({kind})", section.offset);
    check_digest(packed, Digest(section.digest), &place)?;
    let raw = pack::unpack(packed, to_usize(section.unpacked), &place())?;
    msgpack::decode(&raw, &kind.to_string(), header.unknown())
}

fn check_digest(
    bytes: &[u8],
    expected: Digest,
    place: &dyn Fn() -> String,
) -> Result<(), FormatError> {
    let found = Digest::of(bytes);
    if found == expected {
        return Ok(());
    }
    Err(FormatError::new(FormatErrorKind::Corrupt, "bytes do not match their digest")
        .at(place())
        .expected(expected)
        .found(found))
}

/// The weights section while rows are read in order.
struct Weights<'a> {
    file: &'a Bytes,
    flags: EngineFlags,
    section: Option<&'a Section>,
    /// End of the weights read so far, from the start of the section.
    end: u64,
}

impl<'a> Weights<'a> {
    fn of(file: &'a Bytes, header: &'a Header) -> Self {
        let section = header.section(SectionKind::Weights);
        Self { file, flags: header.flags, section, end: 0 }
    }

    fn row(&mut self, row: WireWeight) -> Result<Weight, FormatError> {
        let place = format!("weight {:?}", row.name);
        let corrupt = |what: &str| FormatError::new(FormatErrorKind::Corrupt, what).at(&place);
        let individual = self.flags.contains(EngineFlags::REFIT_INDIVIDUAL);
        if row.refittable && !individual {
            return Err(corrupt("a refittable mark outside REFIT_INDIVIDUAL"));
        }
        let mut weight = Weight {
            name: row.name.clone(),
            aliases: row.aliases.clone(),
            value: row.value,
            dtype: row.dtype,
            shape: usable_shape(&row.shape, &place)?,
            class: if row.parameter { WeightClass::Parameter } else { WeightClass::Weight },
            pinned: row.pinned.clone(),
            refittable: if individual { row.refittable } else { !self.flags.is_frozen() },
            digest: row.digest.as_ref().map(|digest| digest.digest(&place)).transpose()?,
            data: WeightData::Missing,
        };
        let bytes = tensor::elements(&weight.shape).and_then(|n| n.checked_mul(row.dtype.size()));
        if bytes.is_none_or(|bytes| bytes as u64 > limits::TOTAL_BYTES) {
            return Err(FormatError::new(FormatErrorKind::LimitExceeded, "weight too large")
                .at(&place)
                .expected(format!("at most {} bytes", limits::TOTAL_BYTES))
                .found(format!("{} {:?}", weight.dtype, weight.shape)));
        }
        let placement = Placement::of(&weight, self.flags);
        let in_section = placement == Placement::Section;
        let digest_here = in_section
            || (placement == Placement::Missing
                && self.flags.contains(EngineFlags::REFIT_IDENTICAL));
        let consistent = row.data.is_some() == (placement == Placement::Table)
            && row.offset.is_some() == in_section
            && row.digest.is_some() == digest_here
            && row.packed.is_some() == (in_section && self.flags.contains(EngineFlags::COMPRESSED));
        if !consistent {
            return Err(corrupt("data, digest, offset and packed do not go with the weight")
                .expected(format!(
                    "those of a weight stored in {placement:?} under {}",
                    self.flags
                )));
        }
        if let Some(data) = row.data {
            if data.0.len() != weight.byte_len() {
                return Err(corrupt("length of a weight in the table")
                    .expected(weight.byte_len())
                    .found(data.0.len()));
            }
            weight.digest = Some(Digest::of(&data.0));
            weight.data = WeightData::Stored(data.0);
        } else if let (Some(offset), Some(digest)) = (row.offset, weight.digest) {
            let packed =
                row.packed.map(|p| Ok((p.length, p.digest.digest(&place)?))).transpose()?;
            weight.data = WeightData::Stored(self.stored(&weight, offset, digest, packed)?);
        }
        Ok(weight)
    }

    /// The bytes of a weight in the section: right after the one before, padding zero, digest right.
    fn stored(
        &mut self,
        weight: &Weight,
        offset: u64,
        digest: Digest,
        packed: Option<(u64, Digest)>,
    ) -> Result<Bytes, FormatError> {
        let section_start = self.section.map_or(0, |section| section.offset);
        let section_length = self.section.map_or(0, |section| section.length);
        let place = || format!("weight {:?}, offset {}", weight.name, section_start + self.end);
        let corrupt = |what: &str| FormatError::new(FormatErrorKind::Corrupt, what).at(place());
        let start = align(self.end, WEIGHT_ALIGNMENT);
        if offset != start {
            return Err(corrupt("weight overlaps the one before or leaves a hole")
                .expected(format!("{start} from the start of the section"))
                .found(offset));
        }
        let length = packed.map_or(weight.byte_len() as u64, |(length, _)| length);
        let end =
            start.checked_add(length).filter(|&end| end <= section_length).ok_or_else(|| {
                corrupt("weight reaches beyond the weights section")
                    .expected(format!("an end at most {section_length} from its start"))
                    .found(u128::from(start) + u128::from(length))
            })?;
        let padding = to_usize(section_start + self.end)..to_usize(section_start + start);
        check_zero(&self.file[padding], section_start + self.end)?;
        let stored = self.file.slice(to_usize(section_start + start), to_usize(length));
        let raw = match packed {
            None => stored,
            Some((_, packed_digest)) => {
                check_digest(&stored, packed_digest, &place)?;
                pack::unpack(&stored, weight.byte_len(), &place())?.into()
            }
        };
        check_digest(&raw, digest, &place)?;
        self.end = end;
        // Only a buffer that is itself badly aligned brings unaligned weights; views need them aligned.
        let aligned = raw.as_ptr().align_offset(weight.dtype.size()) == 0;
        Ok(if aligned { raw } else { Bytes::copy_from(&raw) })
    }

    fn finish(self) -> Result<(), FormatError> {
        match self.section {
            Some(section) if section.length != self.end => {
                Err(FormatError::new(FormatErrorKind::Corrupt, "bytes that belong to no weight")
                    .at(format!("offset {}", section.offset + self.end))
                    .expected(format!("a weights section of {} bytes", self.end))
                    .found(section.length))
            }
            _ => Ok(()),
        }
    }
}
