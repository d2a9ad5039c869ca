//! The fixed prefix of a file: version, flags and where the sections are.

use crate::{EngineFlags, FormatError, FormatErrorKind, limits};
use std::fmt;

/// The first eight bytes of every file. The line ends are there to show a transfer in text mode.
pub(crate) const MAGIC: [u8; 8] = *b"\x93REFIT\r\n";
/// The major version written, and the only one read.
pub(crate) const MAJOR: u16 = 1;
/// The newest minor version known. 1 brought views as aliases, ports that are no tensors, probes and strings, 2 views of another shape
/// and parameters of any size, 3 ignored names that are weights' own, 4 the precisions `F16` and `BF16`; a file gets the lowest one that has what it uses.
pub(crate) const MINOR: u16 = 4;
/// Bytes of the prefix in every version.
pub(crate) const PREFIX: usize = 512;
/// Where the prefix's own digest is.
const DIGEST_AT: usize = PREFIX - 32;
/// Where the section table is.
const SECTIONS_AT: usize = 32;
/// Bytes of one entry of the section table.
const ENTRY: usize = 64;
/// Entries for which there is room.
const MAX_SECTIONS: usize = (DIGEST_AT - SECTIONS_AT) / ENTRY;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SectionKind {
    /// Both programs, ports, literals, metadata.
    Program,
    /// Weight bytes.
    Weights,
    /// The weight table.
    Table,
    /// Inputs and outputs to check a device with.
    Probes,
}

impl SectionKind {
    /// What the start of a full file's weights is aligned to: a page, so that they can be mapped.
    pub(crate) const WEIGHT_PAGE: usize = 4096;

    /// Every kind, in the order in which sections stand in a file.
    const ALL: [(SectionKind, u32); 4] = [
        (SectionKind::Program, 1),
        (SectionKind::Weights, 2),
        (SectionKind::Table, 3),
        (SectionKind::Probes, 4),
    ];

    fn code(self) -> u32 {
        Self::ALL.iter().find(|(kind, _)| *kind == self).expect("every kind is listed").1
    }

    fn from_code(code: u32) -> Option<Self> {
        Self::ALL.iter().find(|(_, c)| *c == code).map(|(kind, _)| *kind)
    }

    /// What the start of the section is aligned to. A stripped file, shipped for being small, has no
    /// weights that are worth a page.
    pub(crate) fn alignment(self, flags: EngineFlags) -> u64 {
        let stripped = flags.contains(EngineFlags::EXCLUDE_WEIGHTS);
        if self == SectionKind::Weights && !stripped { Self::WEIGHT_PAGE as u64 } else { 64 }
    }

    /// Whether the section is one zstd frame. Weights are packed each by itself or not at all.
    fn packed(self) -> bool {
        self != SectionKind::Weights
    }

    pub(crate) fn unpacked_cap(self) -> u64 {
        match self {
            SectionKind::Program => limits::PROGRAM_BYTES as u64,
            SectionKind::Weights => limits::TOTAL_BYTES,
            SectionKind::Table => limits::TABLE_BYTES as u64,
            SectionKind::Probes => limits::PROBE_BYTES as u64,
        }
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SectionKind::Program => "program section",
            SectionKind::Weights => "weights section",
            SectionKind::Table => "table section",
            SectionKind::Probes => "probes section",
        })
    }
}

/// One section of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// Where it starts in the file.
    pub offset: u64,
    /// Bytes it takes in the file.
    pub length: u64,
    /// Bytes it unpacks to; `length` for weights.
    pub unpacked: u64,
    /// BLAKE3 of the bytes in the file; zeros for weights, which have their digests in the table.
    pub digest: [u8; 32],
}

impl Section {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// The fixed prefix of an engine file: enough to tell versions, flags and sizes without reading on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Major version of the format.
    pub major: u16,
    /// Minor version of the format.
    pub minor: u16,
    /// What the engine is.
    pub flags: EngineFlags,
    /// Length of the whole file.
    pub file_length: u64,
    /// The sections, in file order, without gaps but for alignment.
    pub sections: Vec<Section>,
}

/// `offset` rounded up to a multiple of `alignment`.
pub(crate) fn align(offset: u64, alignment: u64) -> u64 {
    offset.div_ceil(alignment) * alignment
}

impl Header {
    /// The first bytes of every engine file.
    pub const MAGIC: [u8; 8] = MAGIC;

    /// Major and minor number of the newest version of the format that this crate knows.
    pub const NEWEST: (u16, u16) = (MAJOR, MINOR);

    /// Bytes that [`Header::parse`] needs: the prefix has this length in every version.
    pub const BYTES: usize = PREFIX;

    /// Reads and checks the prefix at the start of `file`; what follows it is not looked at.
    ///
    /// # Errors
    /// `Corrupt`, `UnsupportedVersion`, `InvalidFlags` or `LimitExceeded`, with offset.
    pub fn parse(file: &[u8]) -> Result<Self, FormatError> {
        let corrupt = |what: &str| FormatError::new(FormatErrorKind::Corrupt, what);
        let seen = file.len().min(MAGIC.len());
        if file[..seen] != MAGIC[..seen] || file.is_empty() {
            return Err(corrupt("not an engine file")
                .at("offset 0")
                .expected(format!("the magic bytes {:02x?}", MAGIC))
                .found(format!("{:02x?}", &file[..seen])));
        }
        let Some(prefix) = file.first_chunk::<PREFIX>() else {
            return Err(corrupt("file cut short in its prefix")
                .at(format!("offset {}", file.len()))
                .expected(format!("at least {PREFIX} bytes"))
                .found(file.len()));
        };
        let fields = Fields { prefix };
        let (major, minor) = (fields.u16(8), fields.u16(10));
        if major != MAJOR {
            return Err(FormatError::new(FormatErrorKind::UnsupportedVersion, "format version")
                .at("offset 8")
                .expected(format!("version {MAJOR}.x"))
                .found(format!("version {major}.{minor}")));
        }
        let digest = blake3::hash(&prefix[..DIGEST_AT]);
        if *digest.as_bytes() != prefix[DIGEST_AT..] {
            return Err(corrupt("the prefix does not match its digest")
                .at(format!("offset {DIGEST_AT}"))
                .expected(digest.to_hex())
                .found(hex(&prefix[DIGEST_AT..])));
        }
        let flags = EngineFlags::from_bits_retain(fields.u64(16));
        let header = Self {
            major,
            minor,
            flags,
            file_length: fields.u64(24),
            sections: fields.sections(minor)?,
        };
        if minor > MINOR && !EngineFlags::all().contains(flags) {
            return Err(FormatError::new(unknown(minor), "flags of a newer version")
                .at("offset 16")
                .found(flags));
        }
        flags.check().map_err(|error| error.at("offset 16"))?;
        header.check_layout()?;
        Ok(header)
    }

    /// The kind of error for what this version does not know.
    pub(crate) fn unknown(&self) -> FormatErrorKind {
        unknown(self.minor)
    }

    /// The section of `kind`, if the file has it.
    pub fn section(&self, kind: SectionKind) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind)
    }

    pub(crate) fn require(&self, kind: SectionKind) -> Result<&Section, FormatError> {
        self.section(kind).ok_or_else(|| {
            FormatError::new(FormatErrorKind::Corrupt, "section missing")
                .at("the section table")
                .expected(kind)
        })
    }

    /// The layout follows from kinds and lengths alone, so that there is no room for overlaps, holes
    /// or bytes at the end.
    fn check_layout(&self) -> Result<(), FormatError> {
        let mut end = PREFIX as u64;
        let mut before = None;
        for (index, section) in self.sections.iter().enumerate() {
            let place = format!("offset {} ({})", SECTIONS_AT + index * ENTRY, section.kind);
            let corrupt = |what: &str| FormatError::new(FormatErrorKind::Corrupt, what).at(&place);
            if before.is_some_and(|before| before >= section.kind) {
                return Err(corrupt("sections out of order, or one twice"));
            }
            before = Some(section.kind);
            let start = align(end, section.kind.alignment(self.flags));
            if section.offset != start {
                return Err(corrupt("section overlaps the one before or leaves a hole")
                    .expected(format!("a start at offset {start}"))
                    .found(section.offset));
            }
            let cap = section.kind.unpacked_cap();
            if section.length > limits::TOTAL_BYTES || section.unpacked > cap {
                return Err(FormatError::new(FormatErrorKind::LimitExceeded, "section too large")
                    .at(&place)
                    .expected(format!("at most {cap} bytes"))
                    .found(section.length.max(section.unpacked)));
            }
            if section.length == 0 {
                return Err(corrupt("empty section").expected("no entry for it"));
            }
            let raw = !section.kind.packed();
            if raw && (section.unpacked != section.length || section.digest != [0; 32]) {
                return Err(corrupt("a raw section has its length twice and a zero digest"));
            }
            end = section.end();
        }
        self.require(SectionKind::Program)?;
        self.require(SectionKind::Table)?;
        if self.file_length != end {
            return Err(FormatError::new(FormatErrorKind::Corrupt, "file length")
                .at("offset 24")
                .expected(format!("{end}, the end of the last section"))
                .found(self.file_length));
        }
        Ok(())
    }

    /// The bytes of the prefix.
    pub(crate) fn to_bytes(&self) -> [u8; PREFIX] {
        let mut out = [0; PREFIX];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &self.major.to_le_bytes());
        put(10, &self.minor.to_le_bytes());
        put(12, &(self.sections.len() as u32).to_le_bytes());
        put(16, &self.flags.bits().to_le_bytes());
        put(24, &self.file_length.to_le_bytes());
        for (index, section) in self.sections.iter().enumerate() {
            let at = SECTIONS_AT + index * ENTRY;
            put(at, &section.kind.code().to_le_bytes());
            put(at + 4, &u32::from(section.kind.packed()).to_le_bytes());
            put(at + 8, &section.offset.to_le_bytes());
            put(at + 16, &section.length.to_le_bytes());
            put(at + 24, &section.unpacked.to_le_bytes());
            put(at + 32, &section.digest);
        }
        let digest = blake3::hash(&out[..DIGEST_AT]);
        out[DIGEST_AT..].copy_from_slice(digest.as_bytes());
        out
    }
}

fn unknown(minor: u16) -> FormatErrorKind {
    if minor > MINOR { FormatErrorKind::UnsupportedVersion } else { FormatErrorKind::Corrupt }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Little-endian fields of the prefix.
struct Fields<'a> {
    prefix: &'a [u8; PREFIX],
}

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.prefix[at..].first_chunk().expect("fields are inside the prefix")
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn sections(&self, minor: u16) -> Result<Vec<Section>, FormatError> {
        let count = self.u32(12) as usize;
        if count > MAX_SECTIONS {
            return Err(FormatError::new(FormatErrorKind::LimitExceeded, "section count")
                .at("offset 12")
                .expected(format!("at most {MAX_SECTIONS}"))
                .found(count));
        }
        let unused = SECTIONS_AT + count * ENTRY;
        check_zero(&self.prefix[unused..DIGEST_AT], unused as u64)?;
        (0..count).map(|index| self.section(SECTIONS_AT + index * ENTRY, minor)).collect()
    }

    fn section(&self, at: usize, minor: u16) -> Result<Section, FormatError> {
        let code = self.u32(at);
        let kind = SectionKind::from_code(code).ok_or_else(|| {
            FormatError::new(unknown(minor), "unknown section")
                .at(format!("offset {at}"))
                .expected("kind 1, 2, 3 or 4")
                .found(code)
        })?;
        let encoding = self.u32(at + 4);
        if encoding != u32::from(kind.packed()) {
            return Err(FormatError::new(unknown(minor), format!("encoding of the {kind}"))
                .at(format!("offset {}", at + 4))
                .expected(u32::from(kind.packed()))
                .found(encoding));
        }
        Ok(Section {
            kind,
            offset: self.u64(at + 8),
            length: self.u64(at + 16),
            unpacked: self.u64(at + 24),
            digest: self.array(at + 32),
        })
    }
}

/// Checks that padding that starts at `offset` of the file is zero.
pub(crate) fn check_zero(padding: &[u8], offset: u64) -> Result<(), FormatError> {
    match padding.iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => Err(FormatError::new(FormatErrorKind::Corrupt, "padding is not zero")
            .at(format!("offset {}", offset + at as u64))
            .expected(0)
            .found(padding[at])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let section = |kind, offset, length, unpacked, digest| Section {
            kind,
            offset,
            length,
            unpacked,
            digest: [digest; 32],
        };
        Header {
            major: MAJOR,
            minor: MINOR,
            flags: EngineFlags::REFIT,
            file_length: 4096 + 128 + 20,
            sections: vec![
                section(SectionKind::Program, 512, 30, 99, 7),
                section(SectionKind::Weights, 4096, 100, 100, 0),
                section(SectionKind::Table, 4096 + 128, 20, 40, 9),
            ],
        }
    }

    /// The error of a header that was changed before its digest was computed.
    fn refused(change: impl FnOnce(&mut Header)) -> FormatError {
        let mut header = header();
        change(&mut header);
        Header::parse(&header.to_bytes()).unwrap_err()
    }

    #[test]
    fn a_header_is_read_back() {
        assert_eq!(Header::parse(&header().to_bytes()), Ok(header()));
    }

    #[test]
    fn future_versions() {
        let error = refused(|h| (h.major, h.minor) = (2, 0));
        assert_eq!(error.kind(), FormatErrorKind::UnsupportedVersion);
        let message = "format version at offset 8: expected version 1.x, found version 2.0";
        assert_eq!(error.to_string(), message);
        // A newer minor version is read unless it uses what is unknown.
        let mut newer = header();
        newer.minor = 9;
        assert_eq!(Header::parse(&newer.to_bytes()).unwrap(), newer);
        newer.flags |= EngineFlags::from_bits_retain(1 << 20);
        let error = Header::parse(&newer.to_bytes()).unwrap_err();
        assert_eq!(error.kind(), FormatErrorKind::UnsupportedVersion);
        assert!(error.to_string().contains("bit 20"), "{error}");
    }

    /// A field of the section table that this version does not know is of a newer one, or wrong.
    #[test]
    fn unknown_sections_and_encodings_are_newer_or_corrupt() {
        for (at, what) in [(0, "unknown section"), (4, "encoding of the")] {
            for (minor, kind) in [
                (MINOR, FormatErrorKind::Corrupt),
                (MINOR + 1, FormatErrorKind::UnsupportedVersion),
            ] {
                let mut header = header();
                header.minor = minor;
                let mut bytes = header.to_bytes();
                bytes[SECTIONS_AT + ENTRY + at] = 9;
                let digest = blake3::hash(&bytes[..DIGEST_AT]);
                bytes[DIGEST_AT..].copy_from_slice(digest.as_bytes());
                let error = Header::parse(&bytes).unwrap_err();
                assert_eq!(error.kind(), kind, "{error}");
                assert!(error.to_string().starts_with(what), "{error}");
            }
        }
    }

    #[test]
    fn overlaps_holes_and_forged_lengths() {
        type Change = fn(&mut Header);
        let cases: [(Change, &str); 8] = [
            (|h| h.sections[1].offset = 512, "section overlaps the one before or leaves a hole"),
            (|h| h.sections[2].offset += 64, "section overlaps the one before or leaves a hole"),
            (|h| h.sections.swap(0, 2), "section overlaps"),
            (|h| h.sections[0].length = u64::MAX, "section too large"),
            (|h| h.sections[2].unpacked = 1 << 40, "section too large"),
            (|h| h.sections[1].unpacked = 1, "a raw section has its length twice"),
            (|h| h.sections.truncate(2), "section missing at the section table: expected table"),
            (|h| h.file_length += 1, "file length at offset 24"),
        ];
        for (change, message) in cases {
            let error = refused(change).to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn unused_entries_are_zero() {
        let mut bytes = header().to_bytes();
        bytes[300] = 1;
        let digest = blake3::hash(&bytes[..DIGEST_AT]);
        bytes[DIGEST_AT..].copy_from_slice(digest.as_bytes());
        let error = Header::parse(&bytes).unwrap_err().to_string();
        assert_eq!(error, "padding is not zero at offset 300: expected 0, found 1");
    }

    #[test]
    fn what_is_no_engine_says_so() {
        for bytes in [&b""[..], b"PK\x03\x04", b"\x93REFIT\r\r"] {
            let error = Header::parse(bytes).unwrap_err().to_string();
            assert!(error.starts_with("not an engine file at offset 0"), "{error}");
        }
        let error = Header::parse(&MAGIC).unwrap_err().to_string();
        assert!(error.starts_with("file cut short in its prefix at offset 8"), "{error}");
    }
}
