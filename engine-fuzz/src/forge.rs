//! Engine files by a forger: changed behind their digests, which are computed anew. Layout as `docs/FORMAT.md` has it.

use crate::choices::Choices;
use crate::damage::damage;
use engine_format::{DType, Digest, Header, SectionKind};
use rmpv::Value;

/// Bytes a section may grow to.
const MOST: usize = 1 << 16;

/// A file taken apart.
#[derive(Clone, Debug)]
pub struct Forgery {
    minor: u16,
    flags: u64,
    program: Value,
    table: Value,
    probes: Option<Value>,
    weights: Vec<u8>,
}

impl Forgery {
    /// Takes an intact file apart.
    pub fn of(file: &[u8]) -> Option<Self> {
        let header = Header::parse(file).ok()?;
        let bytes = |kind| {
            let section = header.section(kind)?;
            let (from, len) = (section.offset as usize, section.length as usize);
            file.get(from..from + len)
        };
        let tree = |kind| {
            let raw = zstd::decode_all(bytes(kind)?).ok()?;
            rmpv::decode::read_value(&mut raw.as_slice()).ok()
        };
        Some(Self {
            minor: header.minor,
            flags: header.flags.bits(),
            program: tree(SectionKind::Program)?,
            table: tree(SectionKind::Table)?,
            probes: tree(SectionKind::Probes),
            weights: bytes(SectionKind::Weights).unwrap_or_default().to_vec(),
        })
    }

    /// Changes something; mostly one field, row or number of the program or the table.
    pub fn change(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 16 {
            0 => self.flags ^= 1 << choices.below(8),
            1 => self.minor = choices.byte().into(),
            2 => damage(&mut self.weights, choices, MOST),
            3..=6 => change(&mut self.table, choices),
            7 if self.probes.is_some() => {
                self.probes.iter_mut().for_each(|probes| change(probes, choices));
            }
            _ => change(&mut self.program, choices),
        }
    }

    /// The file, with lengths, offsets and digests that are right. `digests` says whether those of weights are made right too.
    pub fn file(&mut self, digests: bool) -> Vec<u8> {
        if digests {
            self.digest_weights();
        }
        let packed = |tree: &Value| {
            let mut raw = Vec::new();
            rmpv::encode::write_value(&mut raw, tree).ok()?;
            Some((zstd::encode_all(raw.as_slice(), 1).ok()?, raw.len()))
        };
        let weights = (!self.weights.is_empty()).then(|| (self.weights.clone(), 0));
        let sections = [
            (1, packed(&self.program)),
            (2, weights),
            (3, packed(&self.table)),
            (4, self.probes.as_ref().and_then(packed)),
        ];
        let sections = sections.into_iter().filter_map(|(kind, bytes)| Some((kind, bytes?)));
        layout(self.minor, self.flags, sections)
    }

    /// Makes the digests of the weights whose bytes are in the weights section those of the bytes.
    fn digest_weights(&mut self) {
        let Some(rows) = field(&mut self.table, "weights").and_then(|rows| match rows {
            Value::Array(rows) => Some(rows),
            _ => None,
        }) else {
            return;
        };
        for row in rows {
            let Some(offset) = number(row, "offset") else { continue };
            let length = match field(row, "packed") {
                Some(packed) => number(packed, "length"),
                None => bytes_of(row),
            };
            let range = length.and_then(|length| Some(offset..offset.checked_add(length)?));
            let Some(bytes) = range.and_then(|range| self.weights.get(range)) else { continue };
            let digest = Value::Binary(Digest::of(bytes).0.to_vec());
            let holder = match field(row, "packed").is_some() {
                true => field(row, "packed"),
                false => Some(row),
            };
            if let Some(slot) = holder.and_then(|holder| field(holder, "digest")) {
                *slot = digest;
            }
        }
    }
}

/// Bytes that the type and shape of a row ask for.
fn bytes_of(row: &mut Value) -> Option<usize> {
    let dtype = field(row, "dtype")?.as_str()?.to_owned();
    let dtype = DType::ALL.into_iter().find(|known| known.name() == dtype)?;
    let Value::Array(shape) = field(row, "shape")? else { return None };
    shape.iter().try_fold(dtype.size()?, |n, d| n.checked_mul(usize::try_from(d.as_u64()?).ok()?))
}

fn field<'a>(map: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let Value::Map(pairs) = map else { return None };
    pairs.iter_mut().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value)
}

fn number(map: &mut Value, name: &str) -> Option<usize> {
    usize::try_from(field(map, name)?.as_u64()?).ok()
}

/// The prefix and the sections (kind, bytes in the file, bytes unpacked or 0 for what is not packed).
fn layout(
    minor: u16,
    flags: u64,
    sections: impl Iterator<Item = (u32, (Vec<u8>, usize))>,
) -> Vec<u8> {
    const STRIPPED: u64 = 1 << 3;
    let mut out = vec![0; Header::BYTES];
    let mut table = Vec::new();
    for (kind, (bytes, unpacked)) in sections {
        let packed = kind != 2;
        let page = !packed && flags & STRIPPED == 0;
        out.resize(out.len().next_multiple_of(if page { 4096 } else { 64 }), 0);
        table.extend(kind.to_le_bytes());
        table.extend(u32::from(packed).to_le_bytes());
        let unpacked = if packed { unpacked } else { bytes.len() };
        for number in [out.len(), bytes.len(), unpacked] {
            table.extend((number as u64).to_le_bytes());
        }
        table.extend(if packed { Digest::of(&bytes).0 } else { [0; 32] });
        out.extend(bytes);
    }
    let mut prefix = Header::MAGIC.to_vec();
    prefix.extend(1u16.to_le_bytes());
    prefix.extend(minor.to_le_bytes());
    prefix.extend((table.len() as u32 / 64).to_le_bytes());
    prefix.extend(flags.to_le_bytes());
    prefix.extend((out.len() as u64).to_le_bytes());
    prefix.extend(table);
    prefix.resize(Header::BYTES - 32, 0);
    prefix.extend(Digest::of(&prefix).0);
    out[..Header::BYTES].copy_from_slice(&prefix);
    out
}

/// Changes one value of a tree, or where it stands.
pub fn change(tree: &mut Value, choices: &mut Choices<'_>) {
    let all = count(tree);
    // A copy to be put elsewhere, from the same tree, so that it has a shape that somebody takes.
    let other = nth(tree, &mut choices.below(all)).map(|value| value.clone());
    let Some(value) = nth(tree, &mut choices.below(all)) else { return };
    match (value, choices.byte() % 4) {
        (value, 0) => *value = other.unwrap_or(Value::Nil),
        (Value::Array(items), kind) if !items.is_empty() => {
            let at = choices.below(items.len());
            match kind {
                1 => drop(items.remove(at)),
                2 => {
                    let item = items[at].clone();
                    items.insert(at, item);
                }
                _ => {
                    let other = choices.below(items.len());
                    items.swap(at, other);
                }
            }
        }
        (Value::Map(pairs), kind) if !pairs.is_empty() => {
            let at = choices.below(pairs.len());
            match (kind, other) {
                (1, _) => drop(pairs.remove(at)),
                (2, Some(other)) => pairs[at].1 = other,
                _ => pairs[at].0 = Value::from(name(choices)),
            }
            // Keys out of order are found at once; what lies behind that check is of more interest.
            if !choices.once_in(8) {
                pairs.sort_by(|a, b| a.0.as_str().cmp(&b.0.as_str()));
            }
        }
        (Value::Integer(number), _) => {
            let near = choices.near(number.as_i64().unwrap_or(0));
            *number = match choices.byte() % 8 {
                0 => (near as u64).into(),
                _ => near.into(),
            };
        }
        (Value::String(text), kind) => {
            let mut bytes = text.as_bytes().to_vec();
            match kind {
                1 => bytes = name(choices).as_bytes().to_vec(),
                _ => damage(&mut bytes, choices, MOST),
            }
            *text = String::from_utf8_lossy(&bytes).into_owned().into();
        }
        (Value::Binary(bytes), _) => damage(bytes, choices, MOST),
        (Value::Boolean(value), _) => *value = !*value,
        (Value::F32(value), _) => *value = choices.float(),
        (Value::F64(value), _) => *value = choices.float().into(),
        (value, _) => *value = choices.number().into(),
    }
}

/// A name that means something somewhere in an engine: a field, an operator, an attribute.
fn name(choices: &mut Choices<'_>) -> &'static str {
    const FIELDS: [&str; 24] = [
        "attrs", "inputs", "outputs", "name", "op", "version", "value", "dtype", "shape", "form",
        "data", "tensor", "literals", "nodes", "int", "ints", "float", "floats", "str", "strs",
        "block", "f32", "i64", "string",
    ];
    let def = *choices.pick(engine_ops::TABLE);
    match choices.byte() % 4 {
        0 => choices.pick::<&str>(&FIELDS),
        1 if !def.attrs.is_empty() => choices.pick(def.attrs).name,
        2 => choices.pick(&DType::ALL).name(),
        _ => def.name,
    }
}

/// Values in a tree, itself among them.
fn count(tree: &Value) -> usize {
    1 + match tree {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Map(pairs) => pairs.iter().map(|(_, value)| count(value)).sum(),
        _ => 0,
    }
}

/// The value at place `left`, in the order in which they are written.
fn nth<'a>(tree: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(tree);
    }
    *left -= 1;
    match tree {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, left)),
        Value::Map(pairs) => pairs.iter_mut().find_map(|(_, value)| nth(value, left)),
        _ => None,
    }
}
