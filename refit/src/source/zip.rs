//! Zip archives, as far as NumPy and PyTorch write them: stored and deflated members, with and without 64-bit sizes.
//!
//! Format: PKWARE's APPNOTE, sections 4.3 (records) and 4.5.3 (64-bit extra field). The directory at the end is what counts; a
//! member's own header is read only for where its data begins.

use super::file::{FileReader, SourceFile};
use crate::RefitError;
use flate2::Crc;
use flate2::read::DeflateDecoder;
use std::collections::BTreeMap;
use std::io::Read;

/// Bytes that the directory may take.
const MAX_DIRECTORY: u64 = 64 << 20;

/// Bytes that one deflated byte can unpack to, by deflate's longest match and shortest codes.
const MOST_DEFLATED: u64 = 1032;

/// Bytes of the record at the end without its comment, and the most that a comment takes.
const END: usize = 22;
const MAX_COMMENT: u64 = 0xffff;

/// An archive whose directory was read and checked.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) file: SourceFile,
    members: BTreeMap<String, Member>,
}

/// A file inside.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Where its header starts.
    header: u64,
    deflated: bool,
    packed: u64,
    /// Bytes unpacked.
    pub(super) size: u64,
    crc: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Where the directory is.
struct Directory {
    offset: u64,
    len: u64,
    count: u64,
}

impl Archive {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    /// `Io`, or `InvalidSource` that says what is wrong with the archive.
    pub(super) fn of(file: SourceFile) -> Result<Self, RefitError> {
        let members = members(&file).map_err(|why| {
            RefitError::source(format!("not a zip archive that is read here: {why}"))
                .at(file.path().display())
        })?;
        Ok(Self { file, members })
    }

    /// Members by name.
    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(name, member)| (name.as_str(), member))
    }

    /// Whether a member has this name, in whatever folder.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members().any(|(member, _)| member.rsplit('/').next() == Some(name))
    }

    pub(super) fn member(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }

    /// Where the data of a member begins.
    fn data(&self, member: &Member) -> Result<u64, String> {
        let mut header = [0; 30];
        self.file.read_at(member.header, &mut header)?;
        if header[..4] != *b"PK\x03\x04" {
            return Err(format!("no member begins at offset {}", member.header));
        }
        let names = u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        let data = member.header + 30 + names;
        match data.checked_add(member.packed).filter(|&end| end <= self.file.len()) {
            Some(_) => Ok(data),
            None => Err(format!("the member at offset {} reaches out of the file", member.header)),
        }
    }

    /// Where the bytes of a stored member are in the file.
    pub(super) fn stored(&self, member: &Member) -> Result<u64, String> {
        match member.deflated {
            false => self.data(member),
            true => Err("the member is deflated, expected it to be stored".to_owned()),
        }
    }

    /// A reader over the unpacked bytes, as many as the directory says; what it reads is checked by [`Contents::finish`].
    pub(super) fn contents(&self, member: &Member) -> Result<Contents<'_>, String> {
        let start = self.data(member)?;
        let packed = self.file.reader(start, start + member.packed);
        let reader = match member.deflated {
            true => Unpacked::Deflated(Box::new(DeflateDecoder::new(packed))),
            false => Unpacked::Stored(packed),
        };
        Ok(Contents { reader, left: member.size, crc: Crc::new(), expected: member.crc })
    }
}

enum Unpacked<'a> {
    Stored(FileReader<'a>),
    Deflated(Box<DeflateDecoder<FileReader<'a>>>),
}

/// The unpacked bytes of a member.
pub(super) struct Contents<'a> {
    reader: Unpacked<'a>,
    left: u64,
    crc: Crc,
    expected: u32,
}

impl Contents<'_> {
    /// Fills `bytes`.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        let cut = || "the member is shorter than the directory says".to_owned();
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(cut)?;
        let read = match &mut self.reader {
            Unpacked::Stored(reader) => reader.read_exact(bytes),
            Unpacked::Deflated(reader) => reader.read_exact(bytes),
        };
        read.map_err(|error| error.to_string())?;
        self.crc.update(bytes);
        Ok(())
    }

    /// After the last byte: that there are no more and that they have the directory's checksum.
    pub(super) fn finish(self) -> Result<(), String> {
        if self.left > 0 {
            return Err(format!("{} bytes of the member were not read", self.left));
        }
        match self.crc.sum() == self.expected {
            true => Ok(()),
            false => Err(format!(
                "checksum of the member: expected {:08x}, found {:08x}",
                self.expected,
                self.crc.sum()
            )),
        }
    }
}

fn members(file: &SourceFile) -> Result<BTreeMap<String, Member>, String> {
    let directory = directory(file)?;
    let end = directory.offset.checked_add(directory.len).filter(|&end| end <= file.len());
    if end.is_none() || directory.len > MAX_DIRECTORY {
        return Err(format!(
            "a directory of {} bytes at offset {} of {}",
            directory.len,
            directory.offset,
            file.len()
        ));
    }
    let mut bytes = vec![0; usize::try_from(directory.len).expect("below the cap")];
    file.read_at(directory.offset, &mut bytes)?;
    let mut members = BTreeMap::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (name, member, after) = entry(rest)?;
        if members.insert(name.clone(), member).is_some() {
            return Err(format!("two members are called {name:?}"));
        }
        rest = after;
    }
    match members.len() as u64 == directory.count {
        true => Ok(members),
        false => Err(format!("{} members, the end says {}", members.len(), directory.count)),
    }
}

/// Finds the record at the end, and the 64-bit one in front of it where that is needed.
fn directory(file: &SourceFile) -> Result<Directory, String> {
    let tail = file.len().min(END as u64 + MAX_COMMENT);
    let start = file.len() - tail;
    let mut bytes = vec![0; usize::try_from(tail).expect("at most 64 KiB")];
    file.read_at(start, &mut bytes)?;
    let comment_fits = |&at: &usize| {
        bytes[at..at + 4] == *b"PK\x05\x06"
            && usize::from(u16_at(&bytes, at + 20)) == bytes.len() - at - END
    };
    let starts = 0..(bytes.len() + 1).saturating_sub(END);
    let at = starts.rev().find(comment_fits).ok_or("it has no end record")?;
    let small = Directory {
        offset: u64::from(u32_at(&bytes, at + 16)),
        len: u64::from(u32_at(&bytes, at + 12)),
        count: u64::from(u16_at(&bytes, at + 10)),
    };
    let marked = small.offset == 0xffff_ffff || small.len == 0xffff_ffff || small.count == 0xffff;
    let Some(locator) = at.checked_sub(20).filter(|_| marked) else { return Ok(small) };
    if bytes[locator..locator + 4] != *b"PK\x06\x07" {
        return Ok(small);
    }
    let mut record = [0; 56];
    file.read_at(u64_at(&bytes, locator + 8), &mut record)?;
    if record[..4] != *b"PK\x06\x06" {
        return Err("its 64-bit end record is not where the locator says".to_owned());
    }
    Ok(Directory {
        offset: u64_at(&record, 48),
        len: u64_at(&record, 40),
        count: u64_at(&record, 32),
    })
}

/// The first entry of the directory, and what follows it.
fn entry(bytes: &[u8]) -> Result<(String, Member, &[u8]), String> {
    const HEADER: usize = 46;
    let cut = || "the directory is cut short".to_owned();
    if bytes.len() < HEADER || bytes[..4] != *b"PK\x01\x02" {
        return Err(cut());
    }
    let [name_len, extra_len, comment_len] = [28, 30, 32].map(|at| usize::from(u16_at(bytes, at)));
    let (names, rest) =
        bytes[HEADER..].split_at_checked(name_len + extra_len + comment_len).ok_or_else(cut)?;
    let name = std::str::from_utf8(&names[..name_len])
        .map_err(|_| "a member's name is not UTF-8".to_owned())?;
    let failed = |why: String| format!("member {name:?}: {why}");
    if u16_at(bytes, 8) & 1 != 0 {
        return Err(failed("it is encrypted".to_owned()));
    }
    let deflated = match u16_at(bytes, 10) {
        0 => false,
        8 => true,
        other => return Err(failed(format!("packed by method {other}, expected 0 or 8"))),
    };
    let mut wide = Wide::of(&names[name_len..name_len + extra_len]);
    let size = wide.or(u32_at(bytes, 24)).map_err(&failed)?;
    let packed = wide.or(u32_at(bytes, 20)).map_err(&failed)?;
    let header = wide.or(u32_at(bytes, 42)).map_err(&failed)?;
    let most = if deflated { packed.saturating_mul(MOST_DEFLATED) } else { packed };
    if size > most || (!deflated && size != packed) {
        return Err(failed(format!("{packed} bytes are said to unpack to {size}")));
    }
    let member = Member { header, deflated, packed, size, crc: u32_at(bytes, 16) };
    Ok((name.to_owned(), member, rest))
}

/// The 64-bit numbers of an entry that did not fit, in the order of the fields they replace.
struct Wide<'a>(&'a [u8]);

impl<'a> Wide<'a> {
    fn of(mut extra: &'a [u8]) -> Self {
        while extra.len() >= 4 {
            let (kind, len) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
            let Some((field, rest)) = extra[4..].split_at_checked(len) else { break };
            if kind == 1 {
                return Self(field);
            }
            extra = rest;
        }
        Self(&[])
    }

    /// The field, or the next wide number if the field says so.
    fn or(&mut self, field: u32) -> Result<u64, String> {
        if field != u32::MAX {
            return Ok(u64::from(field));
        }
        let (number, rest) =
            self.0.split_at_checked(8).ok_or("a 64-bit size or offset is not there")?;
        self.0 = rest;
        Ok(u64_at(number, 0))
    }
}
