//! The stack machine that a pickle is a program for.

use super::value::{Global, PickledTensor, Storage, Tuple, Value};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Values that one pickle may make, and tuples inside tuples.
const MAX_VALUES: usize = 1 << 22;
const MAX_DEPTH: usize = 32;

/// Dictionaries by their index, with the entries whose keys are strings.
pub(super) type Dicts = Vec<BTreeMap<String, Value>>;

/// What a pickle leaves.
pub(super) struct Left {
    pub(super) root: Value,
    pub(super) dicts: Dicts,
    /// Lists and sets by their index.
    pub(super) lists: Vec<Vec<Value>>,
    /// Bytes for an element of each storage by its key, as the pickle says where it names the storage first; `None` for types whose
    /// size is not known.
    pub(super) widths: BTreeMap<Rc<str>, Option<u64>>,
    /// Bytes that the pickle takes.
    pub(super) len: usize,
}

/// Runs the pickle that `bytes` begin with.
pub(super) fn run(bytes: &[u8]) -> Result<Left, String> {
    let mut machine = Machine { bytes, ..Machine::default() };
    let root = machine.run()?;
    let Machine { dicts, lists, widths, at, .. } = machine;
    Ok(Left { root, dicts, lists, widths, len: at })
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    memo: BTreeMap<u64, Value>,
    dicts: Dicts,
    lists: Vec<Vec<Value>>,
    widths: BTreeMap<Rc<str>, Option<u64>>,
    made: usize,
}

impl<'a> Machine<'a> {
    /// Runs to the end and gives what is left.
    fn run(&mut self) -> Result<Value, String> {
        loop {
            let at = self.at;
            let opcode = self.take(1)?[0];
            if opcode == b'.' {
                let root = self.pop()?;
                return match self.stack.is_empty() {
                    true => Ok(root),
                    false => Err(format!("something is left on the stack at offset {at}")),
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
            b'0' => self.pop().map(drop),
            b'1' => self.marked().map(drop),
            b'2' => {
                let top = self.stack.last().ok_or("the stack is empty")?.clone();
                self.push(top)
            }
            b'N' => self.push(Value::None),
            0x88 | 0x89 => self.push(Value::Bool),
            b'G' => self.take(8).map(drop).and_then(|()| self.push(Value::Float)),
            b'K' => self.int(1),
            b'M' => self.int(2),
            b'J' => {
                let bytes = self.take(4)?.try_into().expect("four bytes");
                self.push(Value::Int(i64::from(i32::from_le_bytes(bytes))))
            }
            0x8a => self.long(1),
            0x8b => self.long(4),
            b'X' => self.text(4),
            0x8c => self.text(1),
            0x8d => self.text(8),
            // Strings of Python 2, which are text as torch.load takes them.
            b'U' => self.text(1),
            b'T' => self.text(4),
            b'C' => self.bytes(1),
            b'B' => self.bytes(4),
            0x8e | 0x96 => self.bytes(8),
            b']' | 0x8f => self.list(Vec::new()),
            b'l' | 0x91 => self.marked().and_then(|items| self.list(items)),
            b'}' => self.dict(Vec::new()),
            b'd' => self.marked().and_then(|items| self.dict(items)),
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
            0x94 => self.remember(self.memo.len() as u64),
            b'h' => self.number(1).and_then(|slot| self.recall(slot)),
            b'j' => self.number(4).and_then(|slot| self.recall(slot)),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Global(Global::of(module, name)))
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.push(Value::Global(Global::of(&module, &name)))
            }
            b'Q' => self.persistent(),
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let made = self.called(&function, &arguments)?;
                self.push(made)
            }
            // NEWOBJ and NEWOBJ_EX: an object of a class, which is not made.
            0x81 | 0x92 => {
                let arguments = if opcode == 0x81 { 1 } else { 2 };
                let from = self.stack.len().checked_sub(arguments + 1);
                let items = self.stack.split_off(from.ok_or("the stack is too short")?);
                self.push(Value::not_executed(&format!("an object of {}", items[0].words())))
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])
            }
            b'u' => self.marked().and_then(|items| self.set(items)),
            b'a' => self.pop().and_then(|item| self.append(vec![item])),
            b'e' | 0x90 => self.marked().and_then(|items| self.append(items)),
            // BUILD gives an object its attributes; `_metadata` of a state dict is one, and is not looked at.
            b'b' => match (self.pop()?, self.stack.last()) {
                (_, Some(Value::Dict(_) | Value::Opaque(_) | Value::Unread(_))) => Ok(()),
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

    /// A number of up to eight bytes without a sign.
    fn number(&mut self, width: usize) -> Result<u64, String> {
        Ok(self.take(width)?.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    /// As many bytes as a number in front of them says.
    fn counted(&mut self, width: usize) -> Result<&'a [u8], String> {
        let len = self.number(width)?;
        self.take(usize::try_from(len).map_err(|_| format!("{len} bytes"))?)
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
        self.push(Value::Int(number as i64))
    }

    /// A number in two's complement; one of more than eight bytes is no size of anything.
    fn long(&mut self, width: usize) -> Result<(), String> {
        let bytes = self.counted(width)?;
        if bytes.len() > 8 {
            return self.push(Value::Opaque("a number beyond 64 bits".into()));
        }
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn text(&mut self, width: usize) -> Result<(), String> {
        // What Python writes of a text that is no Unicode, and never the name of a tensor, is replaced.
        let text = String::from_utf8_lossy(self.counted(width)?).into_owned();
        self.push(Value::Str(text.into()))
    }

    fn bytes(&mut self, width: usize) -> Result<(), String> {
        self.counted(width)?;
        self.push(Value::Opaque("bytes".into()))
    }

    /// A new dictionary with pairs of keys and values.
    fn dict(&mut self, items: Vec<Value>) -> Result<(), String> {
        self.dicts.push(BTreeMap::new());
        self.push(Value::Dict(self.dicts.len() - 1))?;
        self.set(items)
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

    fn remember(&mut self, slot: u64) -> Result<(), String> {
        let value = self.stack.last().ok_or("the stack is empty")?;
        self.memo.insert(slot, value.clone());
        self.made += 1;
        Ok(())
    }

    fn recall(&mut self, slot: u64) -> Result<(), String> {
        let value = self.memo.get(&slot).ok_or_else(|| format!("nothing is kept as {slot}"))?;
        self.push(value.clone())
    }

    /// A storage: `('storage', type, key, device, elements)`, and behind them, in files older than the zip form, nothing or the window
    /// of a storage that it is, `(key, offset, elements)`. The class of a module comes with its source text.
    fn persistent(&mut self) -> Result<(), String> {
        let found = self.pop()?;
        let Value::Tuple(tuple) = &found else { return Err(no_storage(&found)) };
        match tuple.items.as_slice() {
            [Value::Str(kind), class, ..] if &**kind == "module" => self.push(class.clone()),
            [
                Value::Str(kind),
                Value::Global(global),
                Value::Str(key),
                _,
                Value::Int(n),
                rest @ ..,
            ] if &**kind == "storage" => {
                let window = match rest {
                    [] | [Value::None] => None,
                    [Value::Tuple(window)] => Some(&**window),
                    _ => return Err(no_storage(&found)),
                };
                let storage =
                    self.storage(global, key, *n, window).ok_or_else(|| no_storage(&found))?;
                self.push(storage)
            }
            _ => Err(no_storage(&found)),
        }
    }

    /// A storage of `elements`, or a window of it.
    fn storage(
        &mut self,
        global: &Global,
        key: &Rc<str>,
        elements: i64,
        window: Option<&Tuple>,
    ) -> Option<Value> {
        let elements = u64::try_from(elements).ok()?;
        let start = match window.map(|window| window.items.as_slice()) {
            None => 0,
            Some([_, Value::Int(offset), Value::Int(len)]) => {
                let (offset, len) = (u64::try_from(*offset).ok()?, u64::try_from(*len).ok()?);
                offset.checked_add(len).filter(|&end| end <= elements)?;
                offset
            }
            Some(_) => return None,
        };
        self.widths.entry(key.clone()).or_insert_with(|| global.width());
        let dtype = match global {
            Global::Storage(dtype) => Some(*dtype),
            Global::Untyped => None,
            other => {
                let words = Value::Global(other.clone()).words();
                return Some(Value::Unread(format!("a tensor in {words}").into()));
            }
        };
        Some(Value::Storage(Rc::new(Storage { key: key.clone(), dtype, elements, start })))
    }

    /// What a call gives. Names that mean something here are dictionaries and tensors; of others it is kept that they were to be called.
    fn called(&mut self, function: &Value, arguments: &Value) -> Result<Value, String> {
        let refused = || Err(format!("a call of {} with {}", function.words(), arguments.words()));
        let (Value::Global(global), Value::Tuple(tuple)) = (function, arguments) else {
            return match function {
                Value::Opaque(what) => Ok(Value::Opaque(what.clone())),
                Value::Global(Global::Unknown(name)) => Ok(Value::not_executed(name)),
                _ => refused(),
            };
        };
        let items = tuple.items.as_slice();
        match (global, items) {
            (Global::Unknown(name), _) if Global::makes_tensor(name) => {
                Ok(Value::Unread(format!("a tensor of {name}").into()))
            }
            (Global::Unknown(name), _) => Ok(Value::not_executed(name)),
            (Global::Dictionary, _) => {
                self.dicts.push(BTreeMap::new());
                Ok(Value::Dict(self.dicts.len() - 1))
            }
            (Global::RebuildParameter, [it @ (Value::Tensor(_) | Value::Unread(_)), ..]) => {
                Ok(it.clone())
            }
            // Tuples have a cap on their depth, and so has this.
            (Global::RebuildFromType, [function, _, arguments, ..]) => {
                self.called(function, arguments)
            }
            (Global::RebuildTensor | Global::RebuildUntyped, [unread @ Value::Unread(_), ..]) => {
                Ok(unread.clone())
            }
            (
                Global::RebuildTensor | Global::RebuildUntyped,
                [Value::Storage(s), Value::Int(at), Value::Tuple(shape), Value::Tuple(strides), ..],
            ) => self.tensor(global, s, *at, [shape, strides], items),
            _ => {
                let words: Vec<_> = items.iter().map(Value::words).collect();
                Err(format!("a call of {global:?} with {}", words.join(", ")))
            }
        }
    }

    /// A tensor, if its element type is known and its elements are what lies in the storage.
    fn tensor(
        &self,
        global: &Global,
        storage: &Storage,
        offset: i64,
        [shape, strides]: [&Tuple; 2],
        items: &[Value],
    ) -> Result<Value, String> {
        let untyped = *global == Global::RebuildUntyped;
        let dtype = match (untyped, items.get(6)) {
            (false, _) => storage.dtype.ok_or("a storage without a type")?,
            (true, Some(Value::Global(Global::DType(dtype)))) => *dtype,
            (true, Some(other)) => {
                return Ok(Value::Unread(format!("a tensor of {}", other.words()).into()));
            }
            (true, None) => return Err("a tensor without an element type".to_owned()),
        };
        let metadata = items.get(if untyped { 7 } else { 6 });
        if let Some(Value::Dict(metadata)) = metadata
            && ["neg", "conj"].iter().any(|view| self.dicts[*metadata].contains_key(*view))
        {
            return Ok(Value::Unread("a negated or conjugated view; save tensor.clone()".into()));
        }
        let elements = match storage.dtype {
            Some(_) => storage.elements,
            None => storage.elements / dtype.width() as u64,
        };
        Ok(Value::Tensor(Rc::new(PickledTensor {
            storage: storage.key.to_string(),
            dtype,
            elements,
            offset: u64::try_from(offset)
                .ok()
                .and_then(|offset| offset.checked_add(storage.start))
                .ok_or("a negative offset")?,
            shape: numbers(shape)?.into_iter().map(|n| n as usize).collect(),
            strides: numbers(strides)?,
        })))
    }

    /// Sets pairs of keys and values in the dictionary on top. Keys that are no strings name no tensors, and what an object holds is
    /// not looked at.
    fn set(&mut self, items: Vec<Value>) -> Result<(), String> {
        let dict = match self.stack.last() {
            Some(&Value::Dict(dict)) => dict,
            Some(Value::Opaque(_)) => return Ok(()),
            other => return Err(format!("items for {}", words(other))),
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

    /// A new list.
    fn list(&mut self, items: Vec<Value>) -> Result<(), String> {
        self.lists.push(items);
        self.push(Value::List(self.lists.len() - 1))
    }

    /// Adds items to the list on top; those of an object are not looked at.
    fn append(&mut self, items: Vec<Value>) -> Result<(), String> {
        match self.stack.last() {
            Some(&Value::List(list)) => self.lists[list].extend(items),
            Some(Value::Opaque(_)) => {}
            other => return Err(format!("items for {}", words(other))),
        }
        Ok(())
    }
}

fn no_storage(found: &Value) -> String {
    format!("expected the items of a storage, found {}", found.words())
}

fn words(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::words)
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
