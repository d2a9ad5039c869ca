//! Pickles of tensor dictionaries, read without executing anything.
//!
//! A pickle is a program for a stack machine that may call any function of any installed package. Here an interpreter knows
//! the opcodes that dictionaries of tensors need and a short list of names; everything else is an error that says which opcode
//! or name stands where. Format: the documentation of Python's `pickletools`; names: `torch.save`.

use engine_format::DType;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Values that one pickle may make, and tuples inside tuples.
const MAX_VALUES: usize = 1 << 22;
const MAX_DEPTH: usize = 32;

/// A tensor: a window onto a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PickledTensor {
    /// Key of the storage in the archive.
    pub(super) storage: String,
    pub(super) dtype: DType,
    /// Elements of the storage, as the pickle says.
    pub(super) elements: u64,
    /// In elements.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<u64>,
}

/// Names that mean something, and what.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(DType),
}

static GLOBALS: &[(&str, &str, Global)] = &[
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
    ("torch._utils", "_rebuild_parameter", Global::RebuildParameter),
    ("torch", "FloatStorage", Global::Storage(DType::F32)),
    ("torch", "DoubleStorage", Global::Storage(DType::F64)),
    ("torch", "HalfStorage", Global::Storage(DType::F16)),
    ("torch", "BFloat16Storage", Global::Storage(DType::BF16)),
    ("torch", "LongStorage", Global::Storage(DType::I64)),
    ("torch", "IntStorage", Global::Storage(DType::I32)),
    ("torch", "ShortStorage", Global::Storage(DType::I16)),
    ("torch", "CharStorage", Global::Storage(DType::I8)),
    ("torch", "ByteStorage", Global::Storage(DType::U8)),
    ("torch", "BoolStorage", Global::Storage(DType::Bool)),
];

#[derive(Clone, Debug)]
enum Value {
    /// Where a tuple, or the items of a dictionary, begin.
    Mark,
    None,
    Bool,
    Float,
    Int(i64),
    Str(Rc<str>),
    Tuple(Rc<Tuple>),
    /// Lists hold nothing that is looked at.
    List,
    /// Index of a dictionary; a memo and a stack may share one that is filled later.
    Dict(usize),
    Global(Global),
    Storage(Rc<Storage>),
    Tensor(Rc<PickledTensor>),
}

#[derive(Debug)]
struct Tuple {
    items: Vec<Value>,
    depth: usize,
}

#[derive(Debug)]
struct Storage {
    key: Rc<str>,
    dtype: DType,
    elements: u64,
}

impl Value {
    fn words(&self) -> &'static str {
        match self {
            Value::Mark => "a mark",
            Value::None => "None",
            Value::Bool => "a bool",
            Value::Float => "a float",
            Value::Int(_) => "an integer",
            Value::Str(_) => "a string",
            Value::Tuple(_) => "a tuple",
            Value::List => "a list",
            Value::Dict(_) => "a dictionary",
            Value::Global(_) => "a name",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }
}

/// The tensors of a pickled dictionary by name: its own, or those of a dictionary in it that is called `state_dict` or `model`.
///
/// # Errors
/// The opcode or name that is not known, with its offset; what is malformed.
pub(super) fn tensors(bytes: &[u8]) -> Result<BTreeMap<String, PickledTensor>, String> {
    let mut machine = Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        memo: BTreeMap::new(),
        dicts: Vec::new(),
        made: 0,
    };
    let root = machine.run()?;
    let Value::Dict(root) = root else {
        return Err(format!("it holds {}, expected a dictionary of tensors", root.words()));
    };
    let own = machine.tensors_of(root);
    if !own.is_empty() {
        return Ok(own);
    }
    for name in ["state_dict", "model"] {
        if let Some(Value::Dict(inner)) = machine.dicts[root].get(name) {
            return Ok(machine.tensors_of(*inner));
        }
    }
    Ok(own)
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: BTreeMap<u32, Value>,
    dicts: Vec<BTreeMap<String, Value>>,
    made: usize,
}

impl<'a> Machine<'a> {
    fn tensors_of(&self, dict: usize) -> BTreeMap<String, PickledTensor> {
        let tensors = self.dicts[dict].iter().filter_map(|(name, value)| match value {
            Value::Tensor(tensor) => Some((name.clone(), (**tensor).clone())),
            _ => None,
        });
        tensors.collect()
    }

    /// Runs to the end and gives what is left.
    fn run(&mut self) -> Result<Value, String> {
        loop {
            let at = self.at;
            let opcode = self.take(1)?[0];
            if opcode == b'.' {
                let root = self.pop()?;
                return match self.stack.is_empty() && self.at == self.bytes.len() {
                    true => Ok(root),
                    false => Err(format!("something is left after the end at offset {at}")),
                };
            }
            self.step(opcode)
                .map_err(|why| format!("opcode {opcode:#04x} at offset {at}: {why}"))?;
            if self.made > MAX_VALUES {
                return Err(format!("more than {MAX_VALUES} values at offset {at}"));
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            // PROTO, FRAME: nothing depends on them.
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            b'(' => self.push(Value::Mark),
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            b'G' => self.take(8).map(drop).and_then(|()| self.push(Value::Float)),
            b'K' => self.int(1),
            b'M' => self.int(2),
            b'J' => {
                let bytes = self.take(4)?.try_into().expect("four bytes");
                self.push(Value::Int(i64::from(i32::from_le_bytes(bytes))))
            }
            0x8a => self.long(),
            b'X' => self.text(4),
            0x8c => self.text(1),
            b']' => self.push(Value::List),
            b'}' => self.dict(),
            b')' => self.tuple(Vec::new()),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let from = self.stack.len().checked_sub(count).ok_or("the stack is too short")?;
                let items = self.stack.split_off(from);
                self.tuple(items)
            }
            b't' => self.marked().and_then(|items| self.tuple(items)),
            b'q' => self.number(1).and_then(|slot| self.remember(slot)),
            b'r' => self.number(4).and_then(|slot| self.remember(slot)),
            0x94 => self.remember(u32::try_from(self.memo.len()).expect("fewer than the cap")),
            b'h' => self.number(1).and_then(|slot| self.recall(slot)),
            b'j' => self.number(4).and_then(|slot| self.recall(slot)),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.global(&module, &name)
            }
            b'Q' => self.persistent(),
            b'R' => self.reduce(),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])
            }
            b'u' => self.marked().and_then(|items| self.set(items)),
            b'a' => self.pop().and_then(|_| self.top_is_list()),
            b'e' => self.marked().and_then(|_| self.top_is_list()),
            // BUILD gives a dictionary attributes; `_metadata` of a state dict is one, and is not looked at.
            b'b' => match (self.pop()?, self.stack.last()) {
                (Value::Dict(_), Some(Value::Dict(_))) => Ok(()),
                (_, other) => Err(format!("it sets attributes of {}", words(other))),
            },
            _ => Err("it is not one that dictionaries of tensors need, and is not executed".into()),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let (taken, _) =
            rest.split_at_checked(len).ok_or_else(|| format!("cut short at offset {}", self.at))?;
        self.at += len;
        Ok(taken)
    }

    fn number(&mut self, width: usize) -> Result<u32, String> {
        Ok(self.take(width)?.iter().rev().fold(0, |n, &byte| n << 8 | u32::from(byte)))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| byte == b'\n').ok_or("a name without an end")?;
        let line = self.take(len + 1)?;
        std::str::from_utf8(&line[..len]).map_err(|_| "a name that is not text".to_owned())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.made += 1;
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn pop_text(&mut self) -> Result<Rc<str>, String> {
        match self.pop()? {
            Value::Str(text) => Ok(text),
            other => Err(format!("expected a string, found {}", other.words())),
        }
    }

    /// What lies above the topmost mark, which goes too.
    fn marked(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark));
        let items = self.stack.split_off(mark.ok_or("there is no mark")? + 1);
        self.stack.pop();
        Ok(items)
    }

    fn int(&mut self, width: usize) -> Result<(), String> {
        let number = self.number(width)?;
        self.push(Value::Int(i64::from(number)))
    }

    /// A number of up to eight bytes, two's complement.
    fn long(&mut self) -> Result<(), String> {
        let len = self.take(1)?[0];
        if len > 8 {
            return Err(format!("a number of {len} bytes"));
        }
        let bytes = self.take(usize::from(len))?;
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn text(&mut self, width: usize) -> Result<(), String> {
        let len = self.number(width)?;
        let bytes = self.take(usize::try_from(len).map_err(|_| "a string that is too long")?)?;
        let text = std::str::from_utf8(bytes).map_err(|_| "a string that is not UTF-8")?;
        self.push(Value::Str(text.into()))
    }

    fn dict(&mut self) -> Result<(), String> {
        self.dicts.push(BTreeMap::new());
        self.push(Value::Dict(self.dicts.len() - 1))
    }

    fn tuple(&mut self, items: Vec<Value>) -> Result<(), String> {
        let inside = items.iter().map(|item| match item {
            Value::Tuple(tuple) => tuple.depth,
            _ => 0,
        });
        let depth = inside.max().unwrap_or(0) + 1;
        if depth > MAX_DEPTH || items.iter().any(|item| matches!(item, Value::Mark)) {
            return Err("a tuple of nothing that a tensor needs".to_owned());
        }
        self.push(Value::Tuple(Rc::new(Tuple { items, depth })))
    }

    fn remember(&mut self, slot: u32) -> Result<(), String> {
        let value = self.stack.last().ok_or("the stack is empty")?;
        self.memo.insert(slot, value.clone());
        self.made += 1;
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        let value = self.memo.get(&slot).ok_or_else(|| format!("nothing is kept as {slot}"))?;
        self.push(value.clone())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let row = GLOBALS.iter().find(|(m, n, _)| *m == module && *n == name);
        match row {
            Some((.., global)) => self.push(Value::Global(*global)),
            None => Err(format!("the name {module}.{name} is not one of a tensor dictionary")),
        }
    }

    /// A storage: `('storage', type, key, device, elements)`.
    fn persistent(&mut self) -> Result<(), String> {
        let found = self.pop()?;
        if let Value::Tuple(tuple) = &found
            && let [
                Value::Str(kind),
                Value::Global(Global::Storage(dtype)),
                Value::Str(key),
                _,
                Value::Int(n),
            ] = tuple.items.as_slice()
            && &**kind == "storage"
            && let Ok(elements) = u64::try_from(*n)
        {
            let storage = Storage { key: key.clone(), dtype: *dtype, elements };
            return self.push(Value::Storage(Rc::new(storage)));
        }
        Err(format!("expected the five items of a storage, found {}", found.words()))
    }

    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Global(function)) = (&arguments, &function) else {
            return Err(format!("a call of {} with {}", function.words(), arguments.words()));
        };
        match (function, arguments.items.as_slice()) {
            (Global::OrderedDict, []) => self.dict(),
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => {
                self.push(tensor.clone())
            }
            (
                Global::RebuildTensor,
                [Value::Storage(s), Value::Int(at), Value::Tuple(shape), Value::Tuple(strides), ..],
            ) => {
                let tensor = PickledTensor {
                    storage: s.key.to_string(),
                    dtype: s.dtype,
                    elements: s.elements,
                    offset: u64::try_from(*at).map_err(|_| "a negative offset")?,
                    shape: numbers(shape)?.into_iter().map(|n| n as usize).collect(),
                    strides: numbers(strides)?,
                };
                self.push(Value::Tensor(Rc::new(tensor)))
            }
            (function, items) => {
                let items: Vec<_> = items.iter().map(Value::words).collect();
                Err(format!("a call of {function:?} with {}", items.join(", ")))
            }
        }
    }

    /// Sets pairs of keys and values in the dictionary on top. Keys that are no strings name no tensors.
    fn set(&mut self, items: Vec<Value>) -> Result<(), String> {
        let Some(&Value::Dict(dict)) = self.stack.last() else {
            return Err(format!("items for {}", words(self.stack.last())));
        };
        if !items.len().is_multiple_of(2) {
            return Err("a key without a value".to_owned());
        }
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            if let Value::Str(key) = key {
                self.dicts[dict].insert(key.to_string(), value);
            }
        }
        Ok(())
    }

    fn top_is_list(&self) -> Result<(), String> {
        match self.stack.last() {
            Some(Value::List) => Ok(()),
            other => Err(format!("items for {}", words(other))),
        }
    }
}

fn words(value: Option<&Value>) -> &'static str {
    value.map_or("nothing", Value::words)
}

/// Sizes or strides: integers that are not negative, no more than tensors have axes.
fn numbers(tuple: &Tuple) -> Result<Vec<u64>, String> {
    if tuple.items.len() > engine_format::limits::RANK {
        return Err(format!("a tensor of {} axes", tuple.items.len()));
    }
    let number = |value: &Value| match value {
        Value::Int(n) => u64::try_from(*n).map_err(|_| format!("the size {n}")),
        other => Err(format!("{} as a size", other.words())),
    };
    tuple.items.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_dictionary_of_tensors() {
        let tensors = tensors(&sample()).unwrap();
        let expected = PickledTensor {
            storage: "7".to_owned(),
            dtype: DType::F16,
            elements: 8,
            offset: 1,
            shape: vec![2, 3],
            strides: vec![1, 2],
        };
        assert_eq!(tensors.into_iter().collect::<Vec<_>>(), [("w".to_owned(), expected)]);
    }

    #[test]
    fn anything_else_is_named_with_its_place() {
        let refused = |bytes: &[u8]| tensors(bytes).unwrap_err();
        let call = b"\x80\x02cposix\nsystem\n(";
        let message =
            "opcode 0x63 at offset 2: the name posix.system is not one of a tensor dictionary";
        assert_eq!(refused(call), message);
        let message = "opcode 0x69 at offset 2: it is not one that dictionaries of tensors need, and is not executed";
        assert_eq!(refused(b"\x80\x02i"), message);
        assert_eq!(refused(b"\x80\x02N."), "it holds None, expected a dictionary of tensors");
        // A storage's type is no function, and a function no storage's type.
        assert!(refused(b"ctorch\nFloatStorage\n)R.").contains("a call of Storage(F32) with"));
        assert!(
            refused(b"(ccollections\nOrderedDict\nNNNNtQ.").contains("five items of a storage")
        );
        assert!(refused(b"}}.").contains("something is left"));
        let deep = [b")".as_slice(), &[0x85; 100], b"."].concat();
        assert!(refused(&deep).contains("a tuple of nothing"), "{}", refused(&deep));
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
