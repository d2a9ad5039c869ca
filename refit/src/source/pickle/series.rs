//! Files that PyTorch wrote before it took archives: a series of pickles, then the storages.
//!
//! The pickles are a mark, a version, sizes of types of the machine that wrote it, the object, and the keys of the storages in the order
//! in which these follow: the number of elements in 64 bits, then the elements, little-endian. `torch.save` still writes it with
//! `_use_new_zipfile_serialization=False`.

use super::machine::{self, Left};
use super::value::Value;
use super::{StateDict, state_dict};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The number that the first pickle holds, with the opcode in front.
const MARK: [u8; 12] = *b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19";

/// The version that the second pickle holds.
const VERSION: i64 = 1001;

/// What the pickles of a file say.
#[derive(Debug)]
pub(in crate::source) struct Series {
    pub(in crate::source) state: StateDict,
    /// The keys of the storages in their order, with the bytes of an element.
    pub(in crate::source) storages: Vec<(String, u64)>,
    /// Where the first storage begins.
    pub(in crate::source) end: u64,
}

/// Whether a file that begins so is one.
pub(in crate::source) fn is_series(start: &[u8]) -> bool {
    // A frame may stand between the protocol and the number.
    let window = &start[..start.len().min(MARK.len() + 16)];
    start.first() == Some(&0x80) && window.windows(MARK.len()).any(|found| found == MARK)
}

impl Series {
    /// Reads the pickles that `bytes` begin with, and looks for the state dict as [`super::state_dict`] does.
    ///
    /// # Errors
    /// Which of the pickles cannot be read, and why.
    pub(in crate::source) fn read(bytes: &[u8], key: Option<&str>) -> Result<Self, String> {
        let mut at = 0;
        let mut next = |what: &str| -> Result<Left, String> {
            let left = machine::run(&bytes[at..])
                .map_err(|why| format!("the pickle of {what} at offset {at}: {why}"))?;
            at += left.len;
            Ok(left)
        };
        next("the mark")?;
        match next("the version")?.root {
            Value::Int(VERSION) => {}
            Value::Int(other) => return Err(format!("version {other}, expected {VERSION}")),
            other => return Err(format!("the version is {}", other.words())),
        }
        next("the types")?;
        let object = next("the object")?;
        let keys = next("the storages")?;
        let state = state_dict::find(&object.root, &object.dicts, key)?;
        let storages = storages(&keys, &object.widths)?;
        Ok(Self { state, storages, end: at as u64 })
    }
}

/// The storages that a list of keys names, each once.
fn storages(
    keys: &Left,
    widths: &BTreeMap<Rc<str>, Option<u64>>,
) -> Result<Vec<(String, u64)>, String> {
    let Value::List(list) = keys.root else {
        return Err(format!("the storages are {}, expected a list", keys.root.words()));
    };
    let storage = |key: &Value| {
        let Value::Str(key) = key else {
            return Err(format!("a storage is called {}, expected a string", key.words()));
        };
        match widths.get(key) {
            Some(Some(width)) => Ok((key.to_string(), *width)),
            Some(None) => Err(format!("storage {key:?} is of a type whose size is not known")),
            None => Err(format!("storage {key:?} belongs to no tensor")),
        }
    };
    keys.lists[list].iter().map(storage).collect()
}
