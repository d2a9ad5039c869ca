//! safetensors files, alone and with an index.

use super::{MOST, open};
use crate::choices::Choices;
use crate::damage::damage;

const DTYPES: [&str; 20] = [
    "F32", "F16", "BF16", "I8", "U8", "I64", "BOOL", "F64", "I16", "I32", "U16", "U32", "U64",
    "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "C64", "f32",
];

/// The width of an element, where it is a whole number of bytes.
fn width(dtype: &str) -> usize {
    match dtype {
        "F64" | "I64" | "U64" | "C64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        _ => 1,
    }
}

/// A file with tensors of these names, sound but for what the choices spoil.
pub fn file(names: &[&str], choices: &mut Choices<'_>) -> Vec<u8> {
    let (mut rows, mut data) = (Vec::new(), 0usize);
    for name in names {
        let dtype = if choices.once_in(3) { *choices.pick(&DTYPES) } else { "F32" };
        let mut shape: Vec<i64> = (0..choices.below(4)).map(|_| choices.below(5) as i64).collect();
        if choices.once_in(4) {
            shape = vec![2, 3];
        }
        let bytes = shape.iter().product::<i64>() as usize * width(dtype);
        let mut offsets = [data as i64, (data + bytes) as i64];
        if choices.once_in(8) {
            shape.push(choices.number());
        }
        if choices.once_in(8) {
            let at = choices.below(2);
            offsets[at] = choices.near(offsets[at]);
        }
        data += bytes;
        let shape = shape.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let [begin, end] = offsets;
        let extra = if choices.once_in(16) { ",\"more\":[[[]]]" } else { "" };
        rows.push(format!(
            "\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[{shape}],\"data_offsets\":[{begin},{end}]{extra}}}"
        ));
    }
    if choices.once_in(4) {
        rows.push("\"__metadata__\":{\"format\":\"pt\"}".into());
    }
    if choices.once_in(16) && !rows.is_empty() {
        rows.push(choices.pick(&rows).clone());
    }
    let mut header = format!("{{{}}}", rows.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    if choices.once_in(8) {
        damage(&mut header, choices, MOST);
    }
    let length = match choices.once_in(16) {
        true => choices.near(header.len() as i64) as u64,
        false => header.len() as u64,
    };
    let data = data.min(MOST) + usize::from(choices.once_in(16));
    let data: Vec<u8> = (0..data).map(|i| i as u8).collect();
    [length.to_le_bytes().to_vec(), header, data].concat()
}

/// One file.
pub fn safetensors(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let names = ["a.weight", "b", "", "ü"];
    let bytes = file(&names[..choices.below(5)], &mut choices);
    open(&[("model.safetensors", &bytes)]);
}

/// Two files and an index.
pub fn sharded(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let (one, two) = (file(&["a", "b"], &mut choices), file(&["c"], &mut choices));
    const SHARDS: [&str; 9] =
        ["1.safetensors", "2.safetensors", "3", "../1", "/dev/zero", "", ".", "a/b", "\\u0000"];
    let mut shard = |likely: usize| match choices.once_in(8) {
        true => *choices.pick(&SHARDS),
        false => SHARDS[likely],
    };
    let rows = [("a", shard(0)), ("b", shard(0)), ("c", shard(1))];
    let rows = rows.map(|(name, shard)| format!("\"{name}\":\"{shard}\""));
    let rows = &rows[..3 - usize::from(choices.once_in(16))];
    let mut index =
        format!("{{\"metadata\":{{}},\"weight_map\":{{{}}}}}", rows.join(",")).into_bytes();
    if choices.once_in(8) {
        damage(&mut index, &mut choices, MOST);
    }
    open(&[
        ("model.safetensors.index.json", &index),
        ("1.safetensors", &one),
        ("2.safetensors", &two),
    ]);
}
