//! Damage to bytes that know no structure.

use crate::choices::Choices;

/// Changes `bytes` in one to four places, never beyond `most` bytes.
pub fn damage(bytes: &mut Vec<u8>, choices: &mut Choices<'_>, most: usize) {
    for _ in 0..=choices.below(4) {
        once(bytes, choices);
    }
    bytes.truncate(most);
}

fn once(bytes: &mut Vec<u8>, choices: &mut Choices<'_>) {
    let at = choices.below(bytes.len());
    if bytes.is_empty() {
        bytes.push(choices.byte());
        return;
    }
    match choices.byte() % 8 {
        0 => bytes[at] ^= 1 << choices.below(8),
        1 => bytes[at] = choices.byte(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..at + choices.below((bytes.len() - at).min(64)))),
        4 => bytes.insert(at, choices.byte()),
        // A length, an offset or a count, wherever one is.
        5 | 6 => {
            let width = 1 << choices.below(4);
            let number = choices.number().to_le_bytes();
            for (slot, byte) in bytes[at..].iter_mut().zip(&number[..width]) {
                *slot = *byte;
            }
        }
        _ => {
            let from = choices.below(bytes.len());
            let piece = bytes[from..].iter().take(1 + choices.below(32)).copied();
            let piece: Vec<u8> = piece.collect();
            bytes.splice(at..at, piece);
        }
    }
}
