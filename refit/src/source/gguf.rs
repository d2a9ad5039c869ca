//! GGUF files: tensors as they are in f32, f16 and bf16, and of the quantised forms q8_0 and q4_0, which are read as f32.
//!
//! Format: the GGUF specification of ggml, versions 2 and 3: magic, version, counts, key-value pairs, tensor descriptions, then the
//! data at a multiple of `general.alignment`.

use super::file::{FileReader, SourceFile};
use super::{PIECE, unreadable};
use crate::{RefitError, RefitErrorKind};
use engine_format::{AlignedBuf, DType, SourceError, Tensor, TensorInfo, WeightSource, size};
use half::f16;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// The tensors of a GGUF file, whose sizes are listed from the slowest to the fastest axis here, as everywhere else.
#[derive(Debug)]
pub struct GgufSource {
    file: SourceFile,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    kind: u32,
    /// `None` for kinds that are not read here.
    form: Option<&'static Form>,
    shape: Vec<usize>,
    /// From the start of the file.
    offset: u64,
}

/// Writes the elements of a block as f32.
type Unpack = fn(&[u8], &mut [f32]);

/// How elements are stored.
#[derive(Debug)]
struct Form {
    kind: u32,
    /// What they are read as.
    dtype: DType,
    /// Elements of a block, and its bytes.
    elements: usize,
    bytes: usize,
    /// `None` where elements are stored as they are read.
    unpack: Option<Unpack>,
}

static FORMS: [Form; 5] = [
    Form { kind: 0, dtype: DType::F32, elements: 1, bytes: 4, unpack: None },
    Form { kind: 1, dtype: DType::F16, elements: 1, bytes: 2, unpack: None },
    Form { kind: 2, dtype: DType::F32, elements: 32, bytes: 18, unpack: Some(q4_0) },
    Form { kind: 8, dtype: DType::F32, elements: 32, bytes: 34, unpack: Some(q8_0) },
    Form { kind: 30, dtype: DType::BF16, elements: 1, bytes: 2, unpack: None },
];

/// The scale in front of a block.
fn scale(block: &[u8]) -> f32 {
    f16::from_le_bytes([block[0], block[1]]).to_f32()
}

/// A scale and 32 signed bytes.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let scale = scale(block);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(q as i8) * scale;
    }
}

/// A scale and 32 numbers of four bits, 8 standing for 0; the first half of the block is in the low bits.
fn q4_0(block: &[u8], out: &mut [f32]) {
    let scale = scale(block);
    let (low, high) = out.split_at_mut(16);
    for ((low, high), &q) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = f32::from((q & 15) as i8 - 8) * scale;
        *high = f32::from((q >> 4) as i8 - 8) * scale;
    }
}

/// Caps of a header, against files that announce more than they hold.
const MAX_TENSORS: u64 = 1 << 20;
const MAX_PAIRS: u64 = 1 << 20;
const MAX_NAME: u64 = 4096;
const MAX_NESTING: usize = 4;

impl GgufSource {
    /// Opens a file and checks that every tensor lies inside it, over no other.
    ///
    /// # Errors
    /// `Io`, or `InvalidSource`.
    pub fn open(path: &Path) -> Result<Self, RefitError> {
        Self::of(SourceFile::open(path)?)
    }

    pub(super) fn of(file: SourceFile) -> Result<Self, RefitError> {
        let mut reader = Header { reader: file.reader(0, file.len()) };
        match reader.tensors(file.len()) {
            Ok(tensors) => Ok(Self { file, tensors }),
            Err(Problem::Io(error)) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                Err(unreadable(file.path(), &error))
            }
            Err(Problem::Io(_)) => Err(invalid("it is cut short", file.path())),
            Err(Problem::Invalid(why)) => Err(invalid(&why, file.path())),
        }
    }

    /// Reads blocks and hands over their elements, a piece at a time.
    fn blocks(&self, entry: &Entry, sink: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        let kind = entry.kind;
        let form = entry.form.ok_or_else(|| format!("its type {kind} is not read here"))?;
        let len = entry.shape.iter().product::<usize>() / form.elements * form.bytes;
        let Some(unpack) = form.unpack else { return self.file.stream(entry.offset, len, sink) };
        let step = PIECE / 4 / form.elements * form.bytes;
        let (mut packed, mut out) = (vec![0; step.min(len)], Vec::new());
        for at in (0..len).step_by(step) {
            let packed = &mut packed[..step.min(len - at)];
            self.file.read_at(entry.offset + at as u64, packed)?;
            out.resize(packed.len() / form.bytes * form.elements, 0.0f32);
            let blocks = packed.chunks_exact(form.bytes).zip(out.chunks_exact_mut(form.elements));
            blocks.for_each(|(block, out)| unpack(block, out));
            sink(bytemuck::cast_slice(&out));
        }
        Ok(())
    }

    fn load(&self, entry: &Entry) -> Result<Tensor, String> {
        let dtype = entry.form.map_or(DType::F32, |form| form.dtype);
        let size = match entry.form {
            Some(_) => entry.shape.iter().product::<usize>() * dtype.width(),
            None => 0,
        };
        let mut bytes = AlignedBuf::try_zeroed(size).map_err(|error| error.to_string())?;
        let mut at = 0;
        self.blocks(entry, &mut |piece| {
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        })?;
        Tensor::new(dtype, &entry.shape, bytes.into()).map_err(|error| error.to_string())
    }

    fn failed(&self, name: &str, why: String) -> SourceError {
        SourceError { name: name.to_owned(), origin: self.origin(), why }
    }
}

fn invalid(why: &str, path: &Path) -> RefitError {
    RefitError::new(
        RefitErrorKind::InvalidSource,
        format!("not a GGUF file that is read here: {why}"),
    )
    .at(path.display())
}

/// Why a header was not read.
enum Problem {
    Io(std::io::Error),
    Invalid(String),
}

impl From<std::io::Error> for Problem {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<String> for Problem {
    fn from(why: String) -> Self {
        Self::Invalid(why)
    }
}

/// Reads the part in front of the data.
struct Header<'a> {
    reader: FileReader<'a>,
}

impl Header<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, Problem> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, Problem> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn count(&mut self, what: &str, cap: u64) -> Result<u64, Problem> {
        match self.u64()? {
            n if n <= cap => Ok(n),
            n => Err(format!("{n} {what}, expected at most {cap}").into()),
        }
    }

    fn name(&mut self) -> Result<String, Problem> {
        let len = self.count("bytes of a name", MAX_NAME)?;
        let mut bytes = vec![0; usize::try_from(len).expect("below the cap")];
        self.reader.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| "a name is not UTF-8".to_owned().into())
    }

    fn skip(&mut self, len: u64) -> Result<(), Problem> {
        let skipped = std::io::copy(&mut (&mut self.reader).take(len), &mut std::io::sink())?;
        match skipped == len {
            true => Ok(()),
            false => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
        }
    }

    /// Passes over a value of this type.
    fn skip_value(&mut self, kind: u32, depth: usize) -> Result<(), Problem> {
        match (fixed_size(kind), kind) {
            (Some(size), _) => self.skip(size),
            (None, 8) => self.u64().and_then(|len| self.skip(len)),
            (None, 9) if depth < MAX_NESTING => {
                let (kind, len) = (self.u32()?, self.u64()?);
                match fixed_size(kind) {
                    Some(size) => self.skip(len.saturating_mul(size)),
                    None => (0..len).try_for_each(|_| self.skip_value(kind, depth + 1)),
                }
            }
            (None, other) => Err(format!("a value of type {other}").into()),
        }
    }

    fn tensors(&mut self, len: u64) -> Result<BTreeMap<String, Entry>, Problem> {
        if self.bytes()? != *b"GGUF" {
            return Err("the first four bytes are not GGUF".to_owned().into());
        }
        match self.u32()? {
            2 | 3 => {}
            other => return Err(format!("version {other}, expected 2 or 3").into()),
        }
        let count = self.count("tensors", MAX_TENSORS)?;
        let pairs = self.count("key-value pairs", MAX_PAIRS)?;
        let mut alignment = 32;
        for _ in 0..pairs {
            let (key, kind) = (self.name()?, self.u32()?);
            match (key.as_str(), kind) {
                ("general.alignment", 4) => alignment = u64::from(self.u32()?),
                _ => self.skip_value(kind, 0)?,
            }
        }
        if !alignment.is_power_of_two() {
            return Err(format!("an alignment of {alignment}").into());
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..count {
            let (name, entry) = self.tensor()?;
            if tensors.insert(name.clone(), entry).is_some() {
                return Err(format!("two tensors are called {name:?}").into());
            }
        }
        place(&mut tensors, self.reader.position().next_multiple_of(alignment), alignment, len)?;
        Ok(tensors)
    }

    fn tensor(&mut self) -> Result<(String, Entry), Problem> {
        let name = self.name()?;
        let rank = self.u32()?;
        if rank as usize > engine_format::limits::RANK {
            return Err(format!("tensor {name:?} has {rank} axes").into());
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            let size = usize::try_from(self.u64()?);
            shape.insert(0, size.map_err(|_| format!("tensor {name:?} is too large"))?);
        }
        let (kind, offset) = (self.u32()?, self.u64()?);
        let form = FORMS.iter().find(|form| form.kind == kind);
        Ok((name, Entry { kind, form, shape, offset }))
    }
}

/// Bytes of a value that is a number or a bool.
fn fixed_size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Turns offsets from the start of the data into those from the start of the file, and checks what they claim.
fn place(
    tensors: &mut BTreeMap<String, Entry>,
    data: u64,
    alignment: u64,
    len: u64,
) -> Result<(), String> {
    let mut ranges = Vec::new();
    for (name, entry) in tensors {
        let failed = |why: &str| format!("tensor {name:?}: {why}");
        let count = size::elements(&entry.shape).ok_or_else(|| failed("it is too large"))?;
        if !entry.offset.is_multiple_of(alignment) {
            return Err(failed("its offset is not aligned"));
        }
        entry.offset =
            entry.offset.checked_add(data).ok_or_else(|| failed("its offset is too large"))?;
        let Some(form) = entry.form else { continue };
        if !entry.shape.last().copied().unwrap_or(1).is_multiple_of(form.elements) {
            return Err(failed("its rows are no whole blocks"));
        }
        let bytes = (count / form.elements).checked_mul(form.bytes);
        let end = bytes.and_then(|bytes| entry.offset.checked_add(bytes as u64));
        // What it is read as fits memory, too.
        let fits = size::byte_len(form.dtype, &entry.shape).is_some();
        match end.filter(|&end| end <= len && fits) {
            Some(end) => ranges.push((entry.offset, end, name.clone())),
            None => return Err(failed("it reaches out of the file")),
        }
    }
    ranges.retain(|(start, end, _)| start < end);
    ranges.sort();
    match ranges.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        Some(pair) => Err(format!("tensors {:?} and {:?} overlap", pair[0].2, pair[1].2)),
        None => Ok(()),
    }
}

impl WeightSource for GgufSource {
    fn origin(&self) -> String {
        self.file.origin()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let entry = self.tensors.get(name)?;
        Some(TensorInfo { dtype: entry.form?.dtype, shape: entry.shape.clone() })
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, SourceError> {
        let Some(entry) = self.tensors.get(name) else { return Ok(None) };
        self.load(entry).map(Some).map_err(|why| self.failed(name, why))
    }

    fn is_resident(&self, _name: &str) -> bool {
        false
    }

    fn stream(&self, name: &str, sink: &mut dyn FnMut(&[u8])) -> Result<bool, SourceError> {
        let Some(entry) = self.tensors.get(name) else { return Ok(false) };
        self.blocks(entry, sink).map_err(|why| self.failed(name, why))?;
        Ok(true)
    }
}
