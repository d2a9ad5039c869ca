//! Zip archives, sound but for what the choices spoil.

use super::MOST;
use crate::choices::Choices;
use crate::damage::damage;
use flate2::{Compression, Crc, write::DeflateEncoder};
use std::io::Write;

/// An archive with these members.
pub fn archive(members: &[(&str, &[u8])], choices: &mut Choices<'_>) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let mut count = 0u16;
    for (name, bytes) in members {
        let deflated = choices.once_in(4);
        let packed = match deflated {
            true => deflate(bytes),
            false => bytes.to_vec(),
        };
        let mut crc = Crc::new();
        crc.update(bytes);
        let mut sizes = [packed.len() as i64, bytes.len() as i64, out.len() as i64];
        if choices.once_in(12) {
            let at = choices.below(3);
            sizes[at] = choices.near(sizes[at]);
        }
        let [packed_size, size, at] = sizes;
        let wide = choices.once_in(8);
        let narrow = |n: i64| if wide { u32::MAX } else { n as u32 };
        let crc = crc.sum() ^ u32::from(choices.once_in(32));
        // What both headers have: versions, flags, method, time, date, checksum, sizes, length of the name.
        let mut common = vec![20, 0];
        common.extend(u16::from(choices.once_in(64)).to_le_bytes());
        common.extend((if deflated { 8u16 } else { 0 }).to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc.to_le_bytes());
        common.extend(narrow(packed_size).to_le_bytes());
        common.extend(narrow(size).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(0u16.to_le_bytes());
        out.extend(name.as_bytes());
        out.extend(&packed);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend((if wide { 28u16 } else { 0 }).to_le_bytes());
        directory.extend([0; 10]);
        directory.extend(narrow(at).to_le_bytes());
        directory.extend(name.as_bytes());
        if wide {
            directory.extend([1, 0, 24, 0]);
            [size, packed_size, at].iter().for_each(|n| directory.extend(n.to_le_bytes()));
        }
        count += 1;
    }
    if choices.once_in(16) {
        damage(&mut directory, choices, MOST);
    }
    end(&mut out, &directory, count, choices);
    if choices.once_in(16) {
        damage(&mut out, choices, MOST);
    }
    out
}

/// The directory and the records behind it.
fn end(out: &mut Vec<u8>, directory: &[u8], count: u16, choices: &mut Choices<'_>) {
    let mut numbers = [i64::from(count), directory.len() as i64, out.len() as i64];
    if choices.once_in(16) {
        let at = choices.below(3);
        numbers[at] = choices.near(numbers[at]);
    }
    let [count, len, offset] = numbers;
    out.extend(directory);
    let wide = choices.once_in(8);
    if wide {
        let record = out.len() as u64;
        out.extend(b"PK\x06\x06");
        out.extend([0; 20]);
        [count, count, len, offset].iter().for_each(|n| out.extend(n.to_le_bytes()));
        out.extend(b"PK\x06\x07");
        out.extend([0; 4]);
        out.extend(record.to_le_bytes());
        out.extend([0; 4]);
    }
    out.extend(b"PK\x05\x06");
    out.extend([0; 4]);
    let short = |n: i64| if wide { u16::MAX } else { n as u16 }.to_le_bytes();
    let long = |n: i64| if wide { u32::MAX } else { n as u32 }.to_le_bytes();
    out.extend(short(count));
    out.extend(short(count));
    out.extend(long(len));
    out.extend(long(offset));
    out.extend([0; 2]);
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}
