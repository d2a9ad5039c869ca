//! Pickles of checkpoints, read without executing anything.
//!
//! A pickle is a program for a stack machine that may call any function of any installed package. Here an interpreter knows
//! the opcodes that checkpoints need and a short list of names, which stand for dictionaries and tensors. Every other name stands for
//! itself: what would be called or made is kept as that name, and nothing is done. Format: the documentation of Python's
//! `pickletools`; names: `torch.save`.

mod machine;
mod series;
mod state_dict;
mod value;

pub(super) use series::{Series, is_series};
pub(super) use value::PickledTensor;

use std::collections::BTreeMap;

/// The state dict in a pickle.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StateDict {
    /// Keys that lead to it from the outermost dictionary.
    pub(super) path: Vec<String>,
    /// Its tensors by name; of one that is not read here, why.
    pub(super) tensors: BTreeMap<String, Result<PickledTensor, String>>,
    /// What else there is in it and in the dictionaries around it: the keys, and what it is.
    pub(super) others: Vec<(String, String)>,
}

/// The state dict in a pickle: the dictionary at `key`, or the one that a program which saves checkpoints puts its weights in.
///
/// # Errors
/// The opcode that is not known, with its offset; what is malformed; that no dictionary has tensors, or several and nothing says which.
pub(super) fn state_dict(bytes: &[u8], key: Option<&str>) -> Result<StateDict, String> {
    let left = machine::run(bytes)?;
    match left.len == bytes.len() {
        true => state_dict::find(&left.root, &left.dicts, key),
        false => Err(format!("something is left after the end at offset {}", left.len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_format::DType;

    fn text(text: &str) -> Vec<u8> {
        [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
    }

    /// `{'w': <2 × 3, transposed, from element 1 of storage 7>, 'epoch': 3}` as `torch.save` writes it.
    fn sample() -> Vec<u8> {
        [
            b"\x80\x02}q\x00(".to_vec(),
            text("w"),
            b"ctorch._utils\n_rebuild_tensor_v2\nq\x01((".to_vec(),
            text("storage"),
            b"ctorch\nHalfStorage\n".to_vec(),
            text("7"),
            text("cpu"),
            b"K\x08tQK\x01K\x02K\x03\x86K\x01K\x02\x86\x89ccollections\nOrderedDict\n)RtR".to_vec(),
            text("epoch"),
            b"K\x03u.".to_vec(),
        ]
        .concat()
    }

    fn tensors(bytes: &[u8]) -> Result<Vec<(String, PickledTensor)>, String> {
        let state = state_dict(bytes, None)?;
        state.tensors.into_iter().map(|(name, tensor)| Ok((name, tensor?))).collect()
    }

    #[test]
    fn a_dictionary_of_tensors() {
        let state = state_dict(&sample(), None).unwrap();
        let expected = PickledTensor {
            storage: "7".to_owned(),
            dtype: DType::F16,
            elements: 8,
            offset: 1,
            shape: vec![2, 3],
            strides: vec![1, 2],
        };
        let tensors = [("w".to_owned(), Ok(expected))].into();
        let others = vec![("epoch".to_owned(), "an integer".to_owned())];
        assert_eq!(state, StateDict { path: vec![], tensors, others });
    }

    #[test]
    fn what_is_no_checkpoint_is_named_with_its_place() {
        let refused = |bytes: &[u8]| tensors(bytes).unwrap_err();
        let message = "opcode 0x69 at offset 2: it is not one that dictionaries of tensors need, and is not executed";
        assert_eq!(refused(b"\x80\x02i"), message);
        let expected = "expected a dictionary of tensors: save model.state_dict()";
        assert_eq!(refused(b"\x80\x02N."), format!("it holds None, {expected}"));
        assert_eq!(
            refused(b"cposix\nsystem\nX\x02\0\0\0ls\x85R."),
            format!("it holds posix.system, which is not executed, {expected}")
        );
        assert_eq!(
            refused(b"cnet\nNet\n)\x81}X\x01\0\0\0aK\x01sb."),
            format!("it holds an object of net.Net, which is not executed, {expected}")
        );
        // A storage's type is no function, and a function no storage's type.
        assert!(refused(b"ctorch\nFloatStorage\n)R.").contains("a call of Storage(F32) with"));
        let function = b"(X\x07\0\0\0storageccollections\nOrderedDict\nX\x01\0\0\x000NK\x01tQ.";
        assert!(refused(function).contains("it holds a tensor in a name"), "{}", refused(function));
        assert!(refused(b"(NNNNNtQ.").contains("the items of a storage"));
        assert!(refused(b"}}.").contains("something is left"));
        let deep = [b")".as_slice(), &[0x85; 100], b"."].concat();
        assert!(refused(&deep).contains("a tuple of nothing"), "{}", refused(&deep));
        // Dictionaries in one another without an end, and one that holds itself.
        let deep = [b"}".repeat(40), b"X\x01\0\0\0m".to_vec()].concat();
        assert!(tensors(&deep).is_err());
        let round = [b"}q\0".to_vec(), text("model"), b"h\0s.".to_vec()].concat();
        assert_eq!(
            refused(&round),
            "no dictionary holds tensors: \"model\" is a dictionary; save model.state_dict()"
        );
        let tensor = sample();
        let tensor = &tensor[tensor.iter().position(|&byte| byte == b'c').unwrap()..];
        let tensor = &tensor[..tensor.windows(2).rposition(|pair| pair == b"tR").unwrap() + 2];
        let round = [
            b"}q\x09(".to_vec(),
            text("model"),
            b"h\x09".to_vec(),
            text("w"),
            tensor.to_vec(),
            b"u.".to_vec(),
        ];
        assert!(refused(&round.concat()).contains("16 deep"), "{}", refused(&round.concat()));
    }

    #[test]
    fn every_cut_and_every_flip_is_an_error_or_a_dictionary() {
        let sample = sample();
        for cut in 0..sample.len() {
            assert!(tensors(&sample[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..sample.len() {
            for mask in [0x01, 0x20, 0x80, 0xff] {
                let mut changed = sample.clone();
                changed[at] ^= mask;
                let _ = tensors(&changed);
            }
        }
    }
}
