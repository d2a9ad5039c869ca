//! GGUF files, sound but for what the choices spoil.

use super::{MOST, open};
use crate::choices::Choices;
use crate::damage::damage;

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// A value of the metadata, an array in an array a few deep.
fn value(out: &mut Vec<u8>, kind: u32, choices: &mut Choices<'_>, depth: usize) {
    match kind {
        0 | 1 | 7 => out.push(choices.byte()),
        2 | 3 => out.extend([0; 2]),
        4..=6 => out.extend(choices.float().to_le_bytes()),
        8 => string(out, "text"),
        9 if depth < 6 => {
            let inner = u32::from(choices.byte() % 14);
            let count = if choices.once_in(8) { choices.number() as u64 } else { 2 };
            out.extend(inner.to_le_bytes());
            out.extend(count.to_le_bytes());
            (0..2).for_each(|_| value(out, inner, choices, depth + 1));
        }
        _ => out.extend([0; 8]),
    }
}

/// One file.
pub fn gguf(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let mut out = b"GGUF".to_vec();
    let version = if choices.once_in(16) { choices.number() as u32 } else { 3 };
    let (tensors, pairs) = (choices.below(3), choices.below(4));
    let mut counts = [tensors as i64, pairs as i64];
    if choices.once_in(16) {
        let at = choices.below(2);
        counts[at] = choices.near(counts[at]);
    }
    out.extend(version.to_le_bytes());
    counts.iter().for_each(|n| out.extend(n.to_le_bytes()));
    let mut alignment = 32u64;
    for pair in 0..pairs {
        if pair == 0 && choices.once_in(2) {
            alignment = if choices.once_in(4) { choices.number() as u64 } else { 64 };
            string(&mut out, "general.alignment");
            out.extend(4u32.to_le_bytes());
            out.extend((alignment as u32).to_le_bytes());
            continue;
        }
        let kind = u32::from(choices.byte() % 14);
        string(&mut out, &format!("key{pair}"));
        out.extend(kind.to_le_bytes());
        value(&mut out, kind, &mut choices, 0);
    }
    let alignment = usize::try_from(alignment).unwrap_or(32).clamp(1, 4096);
    let mut data = Vec::new();
    for tensor in 0..tensors {
        // Kinds, elements of a block, and its bytes.
        let forms = [(0u32, 1, 4), (1, 1, 2), (2, 32, 18), (8, 32, 34), (30, 1, 2), (3, 32, 20)];
        let (kind, elements, bytes) = *choices.pick(&forms);
        let mut shape = vec![elements as i64 * (1 + choices.below(3) as i64)];
        shape.extend((0..choices.below(3)).map(|_| choices.below(4) as i64));
        let len = shape.iter().product::<i64>() as usize / elements * bytes;
        let mut offset = data.len() as i64;
        if choices.once_in(8) {
            let at = choices.below(shape.len());
            shape[at] = choices.near(shape[at]);
        }
        if choices.once_in(12) {
            offset = choices.near(offset);
        }
        let rank = if choices.once_in(16) { choices.number() as u32 } else { shape.len() as u32 };
        string(&mut out, if choices.once_in(16) { "t0" } else { ["t0", "t1"][tensor % 2] });
        out.extend(rank.to_le_bytes());
        shape.iter().for_each(|d| out.extend(d.to_le_bytes()));
        out.extend(kind.to_le_bytes());
        out.extend(offset.to_le_bytes());
        data.extend((0..len).map(|i| i as u8));
        data.resize(data.len().next_multiple_of(alignment), 0);
    }
    out.resize(out.len().next_multiple_of(alignment), 0);
    out.extend(data);
    if choices.once_in(8) {
        damage(&mut out, &mut choices, MOST);
    }
    open(&[("model.gguf", &out)]);
}
