//! NumPy's arrays, alone and in archives.

use super::{MOST, open, zip};
use crate::choices::Choices;
use crate::damage::damage;
use engine_format::Bytes;

/// An array, sound but for what the choices spoil.
fn array(choices: &mut Choices<'_>) -> Vec<u8> {
    const TYPES: [(&str, usize); 16] = [
        ("<f4", 4),
        ("<f8", 8),
        ("<f2", 2),
        ("|i1", 1),
        ("<i8", 8),
        ("|b1", 1),
        ("=u2", 2),
        ("<U3", 12),
        ("<U0", 0),
        (">f4", 4),
        ("|O", 8),
        ("<c8", 8),
        ("<U4611686018427387904", 4),
        ("|V2", 2),
        ("'", 1),
        ("<M8[ns]", 8),
    ];
    let (descr, width) = match choices.once_in(3) {
        true => *choices.pick(&TYPES),
        false => TYPES[0],
    };
    let mut shape: Vec<i64> = (0..choices.below(4)).map(|_| choices.below(5) as i64).collect();
    let bytes = shape.iter().product::<i64>() as usize * width;
    if choices.once_in(8) {
        let at = choices.below(shape.len() + 1);
        shape.insert(at, choices.number());
    }
    let order = if choices.once_in(6) { "True" } else { "False" };
    let list: String = shape.iter().map(|d| format!("{d}, ")).collect();
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({list}), }}")
            .into_bytes();
    if choices.once_in(8) {
        damage(&mut header, choices, MOST);
    }
    header.resize((10 + header.len() + 1).next_multiple_of(64) - 11, b' ');
    header.push(b'\n');
    let version = if choices.once_in(8) { choices.byte() } else { 1 };
    let length = match choices.once_in(16) {
        true => choices.near(header.len() as i64),
        false => header.len() as i64,
    };
    let mut out = b"\x93NUMPY".to_vec();
    out.extend([version, 0]);
    match version {
        1 => out.extend((length as u16).to_le_bytes()),
        _ => out.extend((length as u32).to_le_bytes()),
    }
    out.extend(header);
    let bytes = bytes.min(MOST) + usize::from(choices.once_in(32));
    out.extend((0..bytes).map(|i| (i % 2) as u8));
    out
}

/// An array by itself.
pub fn npy(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let mut bytes = array(&mut choices);
    if choices.once_in(8) {
        damage(&mut bytes, &mut choices, MOST);
    }
    let Ok(tensor) = refit::npy::decode(&Bytes::from(bytes)) else { return };
    // Strings with zeros at their end have no form of their own there.
    let Ok(again) = refit::npy::encode(&tensor) else { return };
    assert_eq!(refit::npy::decode(&Bytes::from(again)).as_ref(), Ok(&tensor));
}

/// An archive of arrays.
pub fn npz(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    const FILES: [&[u8]; 2] = [
        include_bytes!("../../../refit/tests/files/deflated.npz"),
        include_bytes!("../../../refit/tests/files/stored.npz"),
    ];
    if choices.once_in(8) {
        let mut file = choices.pick(&FILES).to_vec();
        damage(&mut file, &mut choices, MOST);
        return open(&[("weights.npz", &file)]);
    }
    let (a, b) = (array(&mut choices), array(&mut choices));
    let second = if choices.once_in(16) { "a.npy" } else { "b" };
    let members = [("a.npy", a.as_slice()), (second, b.as_slice())];
    open(&[("weights.npz", &zip::archive(&members, &mut choices))]);
}
