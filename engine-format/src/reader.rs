//! The validating reader. Order: prefix, layout, digests, MessagePack, rows, weights, engine.

use crate::header::{Header, PREFIX, Section, SectionKind, align, check_zero};
use crate::wire::{WireProbes, WireProgram, WireTable, WireWeight, usable_shape};
use crate::writer::{self, Placement, WEIGHT_ALIGNMENT};
use crate::{
    Bytes, Digest, EngineFlags, EngineParts, FormatError, FormatErrorKind, Probe, Weight,
    WeightClass, WeightData, limits, msgpack, pack, size,
};
use serde::{Serialize, de::DeserializeOwned};

/// Reads a whole file into parts whose weights' lengths and digests are checked. What the parts mean
/// is for [`crate::validate`].
pub(crate) fn read(file: &Bytes) -> Result<(EngineParts, Vec<Probe>), FormatError> {
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
    let parts = program.into_parts(header.flags, rows)?;
    let probes = match header.section(SectionKind::Probes) {
        Some(_) => message::<WireProbes>(file, &header, SectionKind::Probes)?.into_probes()?,
        None => Vec::new(),
    };
    if header.section(SectionKind::Probes).is_some() && probes.is_empty() {
        return Err(FormatError::new(FormatErrorKind::Corrupt, "a probes section without probes"));
    }
    let needed = writer::minor(&parts, &probes);
    if header.minor < needed {
        return Err(FormatError::new(
            FormatErrorKind::Corrupt,
            "uses what a newer version brought",
        )
        .at("offset 10")
        .expected(format!("version {}.{needed} or newer", header.major))
        .found(format!("version {}.{}", header.major, header.minor)));
    }
    Ok((parts, probes))
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
            aliases: row
                .aliases
                .into_iter()
                .map(|alias| alias.alias(&place))
                .collect::<Result<_, _>>()?,
            value: row.value,
            dtype: row.dtype,
            shape: usable_shape(&row.shape, &place)?,
            class: if row.parameter { WeightClass::Parameter } else { WeightClass::Weight },
            pinned: row.pinned.clone(),
            refittable: if individual { row.refittable } else { !self.flags.is_frozen() },
            digest: row.digest.as_ref().map(|digest| digest.digest(&place)).transpose()?,
            data: WeightData::Missing,
        };
        if row.dtype.size().is_none() {
            return Err(corrupt("a weight of strings")
                .expected("a literal: strings are part of the program"));
        }
        let bytes = size::byte_len(row.dtype, &weight.shape);
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
            let packed = row
                .packed
                .map(|p| Ok::<_, FormatError>((p.length, p.digest.digest(&place)?)))
                .transpose()?;
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
        let aligned = raw.as_ptr().align_offset(weight.dtype.width()) == 0;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::MINOR;
    use crate::wire::{Blob, WirePacked};
    use crate::{Block, DType, Engine, Form, Port, SerializeFlags, ValueId};
    use std::collections::BTreeMap;

    /// An engine with two weights, of which the first ends on no alignment, and a parameter.
    fn engine() -> Engine {
        let weight = |name: &str, value, count: usize| {
            let bytes: Vec<u8> = (0..count * 4).map(|i| i as u8).collect();
            Weight {
                name: name.to_owned(),
                aliases: Vec::new(),
                value: ValueId(value),
                dtype: DType::I32,
                shape: vec![count],
                class: WeightClass::Weight,
                pinned: None,
                refittable: true,
                digest: Some(Digest::of(&bytes)),
                data: WeightData::Stored(Bytes::copy_from(&bytes)),
            }
        };
        let mut weights = vec![weight("a", 1, 20), weight("b", 2, 30), weight("c", 3, 1)];
        weights[2].class = WeightClass::Parameter;
        let port = Port {
            name: "x".to_owned(),
            value: ValueId(0),
            dtype: DType::F32,
            form: Form::Tensor,
            shape: None,
        };
        Engine::new(EngineParts {
            flags: EngineFlags::REFIT,
            metadata: BTreeMap::new(),
            inputs: vec![port.clone()],
            outputs: vec![port],
            values: 4,
            literals: Vec::new(),
            weights,
            prepare: Block::default(),
            execute: Block { outputs: vec![ValueId(0)], ..Block::default() },
            source_literals: Vec::new(),
            ignored: Vec::new(),
        })
        .unwrap()
    }

    fn file(options: SerializeFlags) -> Vec<u8> {
        engine().serialize(options).unwrap()
    }

    /// A file with another section `kind`, all digests and lengths right.
    fn with_section(file: &[u8], kind: SectionKind, raw: &[u8], minor: u16) -> Vec<u8> {
        let mut header = Header::parse(file).unwrap();
        header.minor = minor;
        let mut out = vec![0; PREFIX];
        for section in &mut header.sections {
            let mut bytes = file[section.offset as usize..section.end() as usize].to_vec();
            if section.kind == kind {
                bytes = pack::pack_section(raw).unwrap();
                section.unpacked = raw.len() as u64;
                section.digest = Digest::of(&bytes).0;
            }
            out.resize(align(out.len() as u64, section.kind.alignment(header.flags)) as usize, 0);
            section.offset = out.len() as u64;
            section.length = bytes.len() as u64;
            out.extend(bytes);
        }
        header.file_length = out.len() as u64;
        out[..PREFIX].copy_from_slice(&header.to_bytes());
        out
    }

    fn unpacked(file: &[u8], kind: SectionKind) -> Vec<u8> {
        let header = Header::parse(file).unwrap();
        let section = header.require(kind).unwrap();
        let packed = &file[section.offset as usize..section.end() as usize];
        pack::unpack(packed, section.unpacked as usize, "test").unwrap().to_vec()
    }

    /// The error of a file whose table was changed by someone who computes digests.
    fn forged(options: SerializeFlags, change: impl FnOnce(&mut Vec<WireWeight>)) -> FormatError {
        let file = file(options);
        let raw = unpacked(&file, SectionKind::Table);
        let mut table: WireTable = rmp_serde::from_slice(&raw).unwrap();
        change(&mut table.weights);
        let raw = msgpack::encode(&table);
        Engine::read(with_section(&file, SectionKind::Table, &raw, 0).into()).unwrap_err()
    }

    const FULL: SerializeFlags = SerializeFlags::INCLUDE_REFIT;
    const PACKED: SerializeFlags = FULL.union(SerializeFlags::COMPRESS);

    #[test]
    fn an_unchanged_forgery_is_the_file() {
        for options in [FULL, PACKED, SerializeFlags::EXCLUDE_WEIGHTS] {
            let file = file(options);
            let raw = unpacked(&file, SectionKind::Table);
            assert_eq!(with_section(&file, SectionKind::Table, &raw, 0), file);
        }
    }

    #[test]
    fn weights_that_overlap_leave_holes_or_reach_out() {
        type Change = fn(&mut Vec<WireWeight>);
        let rows: [(Change, &str); 8] = [
            (
                |w| w[1].offset = Some(0),
                "weight overlaps the one before or leaves a hole at weight \"b\", offset 4176: \
                 expected 128 from the start of the section, found 0",
            ),
            (|w| w[1].offset = Some(192), "weight overlaps the one before or leaves a hole"),
            (|w| w[1].offset = Some(u64::MAX), "weight overlaps the one before or leaves a hole"),
            (
                |w| w[1].shape = vec![31],
                "weight reaches beyond the weights section at weight \"b\"",
            ),
            (|w| w[1].shape = vec![1 << 50], "weight reaches beyond the weights section"),
            (|w| w[1].shape = vec![29], "bytes do not match their digest at weight \"b\""),
            (|w| w.truncate(1), "bytes that belong to no weight at offset 4176"),
            (|w| w[1].shape = vec![1 << 40, 1 << 40], "weight too large at weight \"b\""),
        ];
        for (change, message) in rows {
            let error = forged(FULL, change).to_string();
            assert!(error.starts_with(message), "{message}\n{error}");
        }
    }

    #[test]
    fn rows_that_do_not_go_with_flags_or_class() {
        let blob = || Some(Blob(Bytes::copy_from(&[0; 4])));
        let contradiction = "data, digest, offset and packed do not go with the weight";
        let strip = SerializeFlags::EXCLUDE_WEIGHTS;
        for error in [
            forged(FULL, |w| w[0].offset = None),
            forged(FULL, |w| w[0].data = blob()),
            forged(FULL, |w| w[0].digest = None),
            forged(FULL, |w| w[2].data = None),
            forged(FULL, |w| w[2].parameter = false),
            forged(FULL, |w| {
                w[0].packed = Some(WirePacked { digest: Digest([0; 32]).into(), length: 1 })
            }),
            forged(PACKED, |w| w[0].packed = None),
            forged(strip, |w| w[0].digest = Some(Digest([0; 32]).into())),
            forged(strip, |w| w[2].data = None),
        ] {
            assert!(error.to_string().starts_with(contradiction), "{error}");
        }
        let error = forged(FULL, |w| w[0].refittable = true).to_string();
        assert!(error.starts_with("a refittable mark outside REFIT_INDIVIDUAL"), "{error}");
        let error = forged(FULL, |w| w[0].digest = blob()).to_string();
        assert!(
            error.starts_with("length of a digest at weight \"a\": expected 32 bytes"),
            "{error}"
        );
        let error = forged(FULL, |w| w[2].shape = vec![2]).to_string();
        assert!(error.starts_with("length of a weight in the table at weight \"c\""), "{error}");
    }

    #[test]
    fn packed_weights_unpack_to_what_the_table_says() {
        // A shape that asks for 4 TiB: nothing of that size is allocated.
        let error = forged(PACKED, |w| w[0].shape = vec![1 << 40]).to_string();
        assert!(error.starts_with("zstd frame unpacks to less than it should"), "{error}");
        let error = forged(PACKED, |w| w[0].shape = vec![19]).to_string();
        assert!(error.starts_with("zstd frame unpacks to more than it should"), "{error}");
        let error = forged(PACKED, |w| w[0].digest = w[1].digest.take()).to_string();
        assert!(error.starts_with("bytes do not match their digest"), "{error}");
    }

    #[test]
    fn unknown_fields_are_newer_or_corrupt() {
        let file = file(FULL);
        let mut raw = unpacked(&file, SectionKind::Table);
        // A second field behind `weights`, the only one of the map.
        assert_eq!(raw[0], 0x81);
        raw[0] = 0x82;
        raw.extend(msgpack::encode(&"zebra"));
        raw.push(1);
        for (minor, kind) in
            [(MINOR, FormatErrorKind::Corrupt), (MINOR + 1, FormatErrorKind::UnsupportedVersion)]
        {
            let forged = with_section(&file, SectionKind::Table, &raw, minor);
            let error = Engine::read(forged.into()).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains("zebra"), "{error}");
        }
        // A newer minor version that uses nothing new is read.
        let same = unpacked(&file, SectionKind::Table);
        let newer = with_section(&file, SectionKind::Table, &same, MINOR + 1);
        assert_eq!(Engine::read(newer.into()).unwrap().parts(), engine().parts());
    }

    #[test]
    fn large_parameters_are_in_the_table_of_a_newer_version() {
        let mut parts = engine().parts().clone();
        let bytes = vec![7u8; 200];
        let weight = &mut parts.weights[2];
        (weight.dtype, weight.shape) = (crate::DType::U8, vec![200]);
        weight.digest = Some(crate::Digest::of(&bytes));
        weight.data = WeightData::Stored(bytes.into());
        let file = Engine::new(parts.clone()).unwrap().serialize(FULL).unwrap();
        assert_eq!(Header::parse(&file).unwrap().minor, 2);
        assert_eq!(Engine::read(file.clone().into()).unwrap().parts(), &parts);
        let stripped = Engine::new(parts).unwrap().serialize(SerializeFlags::EXCLUDE_WEIGHTS);
        let stripped = Engine::read(stripped.unwrap().into()).unwrap();
        assert!(stripped.parts().weights[2].tensor().is_some(), "parameters are never stripped");
        let same = unpacked(&file, SectionKind::Table);
        let older = Engine::read(with_section(&file, SectionKind::Table, &same, 1).into());
        assert_eq!(older.unwrap_err().kind(), FormatErrorKind::Corrupt);
    }

    #[test]
    fn strings_in_a_file_of_an_older_version_are_refused() {
        let mut parts = engine().parts().clone();
        parts.inputs[0].dtype = DType::String;
        let file = Engine::new(parts).unwrap().serialize(FULL).unwrap();
        assert_eq!(Header::parse(&file).unwrap().minor, 1);
        let same = unpacked(&file, SectionKind::Program);
        let forged = with_section(&file, SectionKind::Program, &same, 0);
        let error = Engine::read(forged.into()).unwrap_err();
        let expected = "uses what a newer version brought at offset 10: expected version 1.1 or newer, \
                        found version 1.0";
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (FormatErrorKind::Corrupt, expected)
        );
    }

    #[test]
    fn an_empty_field_that_could_be_left_out_is_not_canonical() {
        let file = file(FULL);
        let mut raw = unpacked(&file, SectionKind::Program);
        // The last field, `values: 4`, and before it a `source_literals: []` that nobody writes.
        let values = msgpack::encode(&"values");
        let at = raw.windows(values.len()).rposition(|window| window == values).unwrap();
        let mut extra = msgpack::encode(&"source_literals");
        extra.push(0x90);
        raw.splice(at..at, extra);
        raw[0] += 1;
        let error =
            Engine::read(with_section(&file, SectionKind::Program, &raw, 0).into()).unwrap_err();
        assert!(
            error.to_string().starts_with("non-canonical MessagePack in the program section"),
            "{error}"
        );
    }

    #[test]
    fn a_frame_that_claims_more_than_it_holds_is_refused() {
        let file = file(FULL);
        let raw = unpacked(&file, SectionKind::Program);
        let mut forged = with_section(&file, SectionKind::Program, &raw, 0);
        let mut header = Header::parse(&forged).unwrap();
        header.sections[0].unpacked = limits::PROGRAM_BYTES as u64;
        forged[..PREFIX].copy_from_slice(&header.to_bytes());
        let error = Engine::read(forged.into()).unwrap_err().to_string();
        assert!(error.starts_with("zstd frame unpacks to less than it should"), "{error}");
    }

    /// Damage by someone who computes digests: whatever is still accepted is a whole engine.
    #[test]
    fn any_change_inside_a_section_is_an_error_or_an_engine() {
        let file = include_bytes!("../tests/files/v1.0-full.engine");
        let mut accepted = 0;
        for kind in [SectionKind::Program, SectionKind::Table] {
            let raw = unpacked(file, kind);
            for at in 0..raw.len() {
                for mask in [0x01, 0x20, 0x80, 0xff] {
                    let mut changed = raw.clone();
                    changed[at] ^= mask;
                    let forged = with_section(file, kind, &changed, 0);
                    if let Ok(engine) = Engine::read(forged.clone().into()) {
                        assert_eq!(engine.serialize(FULL).unwrap(), forged, "{kind} {at}");
                        accepted += 1;
                    }
                }
            }
        }
        // Names, symbols, attribute values: there is no telling that these changed.
        assert!(accepted > 100, "{accepted}");
    }
}
