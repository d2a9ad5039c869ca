//! PyTorch's archives of a pickle and storages, and the series of pickles and storages that it wrote before.

use super::{MOST, open, pickle, zip};
use crate::choices::Choices;
use crate::damage::damage;

/// A state dict, sound but for its sizes, strides and archive.
pub fn torch(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    const FILES: [&[u8]; 4] = [
        include_bytes!("../../../refit/tests/files/checkpoint.pth"),
        include_bytes!("../../../refit/tests/files/module.bin"),
        include_bytes!("../../../refit/tests/files/state.pt"),
        include_bytes!("../../../refit/tests/files/older.pt"),
    ];
    if choices.once_in(8) {
        let mut file = choices.pick(&FILES).to_vec();
        damage(&mut file, &mut choices, MOST);
        return open(&[("state.pt", &file)]);
    }
    const STORAGES: [&str; 10] = [
        "FloatStorage",
        "DoubleStorage",
        "HalfStorage",
        "BFloat16Storage",
        "LongStorage",
        "IntStorage",
        "CharStorage",
        "ByteStorage",
        "BoolStorage",
        "ComplexFloatStorage",
    ];
    let widths = [4usize, 8, 2, 2, 8, 4, 1, 1, 1, 8];
    let which = choices.below(STORAGES.len());
    let sizes = |choices: &mut Choices<'_>, rank: usize| -> Vec<i64> {
        (0..rank)
            .map(|_| match choices.once_in(4) {
                true => choices.number(),
                false => choices.below(9) as i64,
            })
            .collect()
    };
    let rank = choices.below(4);
    let shape = sizes(&mut choices, rank);
    let strides = match choices.once_in(2) {
        // Those of a tensor that lies in row-major order, however large it says that it is.
        true => {
            (0..rank).map(|i| shape[i + 1..].iter().fold(1i64, |n, &d| n.wrapping_mul(d))).collect()
        }
        false => sizes(&mut choices, rank),
    };
    let program = pickle::dictionary(&[("w", STORAGES[which], &shape, &strides)]);
    let data = vec![1; 64 * widths[which]];
    if choices.once_in(3) {
        let count = if choices.once_in(8) { choices.number() } else { 64 };
        let mut file = pickle::series(&program.concat(), choices.below(3));
        file.extend([count.to_le_bytes().as_slice(), &data].concat());
        return open(&[("state.pt", &file)]);
    }
    let order = if choices.once_in(16) { "big" } else { "little" };
    let pickled = program.concat();
    let members: [(&str, &[u8]); 3] = [
        ("archive/data.pkl", &pickled),
        ("archive/byteorder", order.as_bytes()),
        ("archive/data/0", &data),
    ];
    open(&[("state.pt", &zip::archive(&members, &mut choices))]);
}
