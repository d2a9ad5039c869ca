//! Pickles: programs of the opcodes that dictionaries of tensors need, and of all others.

use super::{open, zip};
use crate::choices::Choices;

fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// `{NAME: <a tensor of storage 0>, …}` as `torch.save` writes it, one opcode with its operands each.
pub fn dictionary(tensors: &[(&str, &str, &[i64], &[i64])]) -> Vec<Vec<u8>> {
    let mut out = vec![b"\x80\x02".to_vec(), b"}".to_vec(), b"q\x00".to_vec(), b"(".to_vec()];
    for (name, storage, shape, strides) in tensors {
        out.push(text(name));
        out.push(b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec());
        out.extend([b"(".to_vec(), b"(".to_vec(), text("storage")]);
        out.push(format!("ctorch\n{storage}\n").into_bytes());
        out.extend([text("0"), text("cpu"), b"K\x40".to_vec(), b"t".to_vec(), b"Q".to_vec()]);
        out.push(b"K\x00".to_vec());
        for list in [shape, strides] {
            out.push(b"(".to_vec());
            out.extend(list.iter().map(|&n| integer(n)));
            out.push(b"t".to_vec());
        }
        out.push(b"\x89".to_vec());
        out.extend([b"ccollections\nOrderedDict\n".to_vec(), b")".to_vec(), b"R".to_vec()]);
        out.extend([b"t".to_vec(), b"R".to_vec()]);
    }
    out.extend([b"u".to_vec(), b".".to_vec()]);
    out
}

/// The pickles around `object` as PyTorch wrote them before it took archives; the last says that storage 0 follows `storages` times.
pub fn series(object: &[u8], storages: usize) -> Vec<u8> {
    let mark = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    let keys = text("0").repeat(storages);
    [mark.as_slice(), object, b"\x80\x02](", &keys, b"e."].concat()
}

fn integer(n: i64) -> Vec<u8> {
    match n {
        0..=255 => vec![b'K', n as u8],
        _ => [[0x8a, 8].as_slice(), &n.to_le_bytes()].concat(),
    }
}

/// An opcode with operands.
fn opcode(choices: &mut Choices<'_>) -> Vec<u8> {
    const NAMES: [&str; 12] = [
        "torch._utils\n_rebuild_tensor_v2",
        "torch._utils\n_rebuild_tensor_v3",
        "torch._utils\n_rebuild_parameter",
        "collections\nOrderedDict",
        "torch\nFloatStorage",
        "torch\nBFloat16Storage",
        "torch.storage\nUntypedStorage",
        "torch\nfloat32",
        "numpy\ndtype",
        "numpy._core.multiarray\nscalar",
        "posix\nsystem",
        "builtins\ngetattr",
    ];
    const WORDS: [&str; 8] = ["storage", "0", "cpu", "state_dict", "model", "ema", "w", "/../0"];
    match choices.byte() % 12 {
        0 => integer(choices.number()),
        1 | 2 => text(choices.pick::<&str>(&WORDS)),
        3 => format!("c{}\n", choices.pick(&NAMES)).into_bytes(),
        4 => vec![b'q', choices.byte() % 4],
        5 => vec![b'h', choices.byte() % 4],
        6 => vec![0x94],
        7 => vec![choices.byte()],
        8 => {
            let len = choices.below(12);
            [vec![0x8a, len as u8], (0..len).map(|_| choices.byte()).collect()].concat()
        }
        9 => {
            let length = choices.number() as u32;
            [b"X".as_slice(), &length.to_le_bytes(), b"short"].concat()
        }
        _ => vec![*choices.pick(b"()tuRQsb]}ae0N\x85\x86\x87\x88\x89\x93.")],
    }
}

/// Drops, doubles, swaps and adds opcodes.
pub fn change(program: &mut Vec<Vec<u8>>, choices: &mut Choices<'_>) {
    for _ in 0..choices.below(6) {
        let at = choices.below(program.len());
        match choices.byte() % 6 {
            0 if at < program.len() => drop(program.remove(at)),
            1 if at < program.len() => {
                let opcode = program[at].clone();
                program.insert(at, opcode);
            }
            2 if at < program.len() => {
                let other = choices.below(program.len());
                program.swap(at, other);
            }
            3 if at < program.len() => program[at] = opcode(choices),
            4 => {
                // The same opcodes over and over: what is inside something else may be deep.
                let piece: Vec<_> = program[at..].iter().take(3).cloned().collect();
                let times = 1 + choices.below(200);
                program.splice(at..at, piece.iter().cycle().take(piece.len() * times).cloned());
            }
            _ => program.insert(at, opcode(choices)),
        }
    }
}

/// A state dict whose pickle was changed.
pub fn pickle(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let mut program =
        dictionary(&[("w", "FloatStorage", &[2, 3], &[1, 2]), ("v", "FloatStorage", &[4], &[1])]);
    change(&mut program, &mut choices);
    let pickle = program.concat();
    let members: [(&str, &[u8]); 2] =
        [("archive/data.pkl", &pickle), ("archive/data/0", &[7; 256])];
    // No choices are left: the archive is sound.
    open(&[("state.pt", &zip::archive(&members, &mut Choices::new(&[])))]);
}
