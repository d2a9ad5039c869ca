//! Made-up calls of operators: what no model should hold and a file may. Each follows from its seed alone, so that a call which
//! went wrong can be had again.
//!
//! Most are a case of the row with something about it changed, as only what is nearly right gets past the first check; some
//! are made up altogether.

use crate::case::Case;
use crate::infer::{Facts, Known};
use crate::{AttrDef, AttrKind, Default, OpDef};
use engine_format::{AlignedBuf, Attr, Attrs, DType, Dim, Tensor, size};

/// One application of an operator, right or wrong.
#[derive(Clone, Debug)]
pub struct Call {
    /// Attributes, before defaults are added.
    pub attrs: Attrs,
    /// Operands; omitted ones are `None`.
    pub inputs: Vec<Option<Tensor>>,
    /// Number of results asked for.
    pub outputs: usize,
}

/// Numbers that follow from a seed (SplitMix64; Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Integers at which arithmetic breaks, and small ones that may be right.
const INTS: &[i64] = &[
    0,
    0,
    1,
    1,
    -1,
    2,
    3,
    -2,
    7,
    255,
    1 << 15,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    1 << 32,
    1 << 40,
    1 << 61,
    1 << 62,
    i64::MAX - 1,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];

const FLOATS: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.5,
    -3.75,
    1e-40,
    4.6e18,
    1e30,
    f64::MAX,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

const STRINGS: &[&str] = &[
    "",
    "a",
    "grüße",
    "-1",
    "1e400",
    "NaN",
    "NOTSET",
    "SAME_UPPER",
    "VALID",
    "linear",
    "cubic",
    "nearest",
    "max",
    "add",
    "reverse",
    "bidirectional",
    "(",
    "ij,jk->ik",
    "...i->i",
];

/// Call `seed` of an operator.
pub fn call(def: &OpDef, seed: u64) -> Call {
    let name =
        def.name.bytes().fold(u64::from(def.version), |h, b| h * 31 % (1 << 40) + u64::from(b));
    let mut random = Random::new(seed ^ name << 20);
    let cases = (def.cases)();
    if cases.is_empty() || random.once_in(8) {
        return invented(def, &mut random);
    }
    let case = random.pick(&cases);
    let mut call = Call {
        attrs: case.attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
        inputs: case.inputs.clone(),
        outputs: case.outputs,
    };
    for _ in 0..random.below(4) {
        change(def, &cases, &mut call, &mut random);
    }
    call
}

/// What is known of the operands before a run: of some the contents too, of some not even the rank, of some sizes that no
/// tensor has.
pub fn facts(call: &Call, seed: u64) -> Vec<Option<Facts>> {
    let mut random = Random::new(!seed);
    let known = |tensor: &Option<Tensor>| {
        let mut facts = Facts::constant(tensor.clone()?);
        match random.below(8) {
            0..4 => {}
            4 => facts.value = None,
            5 => facts = Facts::unranked(facts.dtype),
            _ => {
                facts.value = None;
                for dim in facts.shape.iter_mut().flatten() {
                    match random.below(4) {
                        0 => *dim = Dim::symbol(["batch", "s", "t"][random.below(3)]),
                        1 => *dim = Dim::from((*random.pick(INTS)).max(0)),
                        _ => {}
                    }
                }
                let vector =
                    facts.dtype == DType::I64 && facts.shape.as_ref().is_some_and(|s| s.len() == 1);
                if vector && random.once_in(2) {
                    let dims = (0..random.below(5)).map(|_| match random.below(3) {
                        0 => Dim::symbol("s"),
                        1 => &Dim::symbol("t") * &Dim::from(*random.pick(INTS)),
                        _ => Dim::from(*random.pick(INTS)),
                    });
                    let dims: Vec<Dim> = dims.collect();
                    facts.shape = Some(vec![Dim::from(dims.len())]);
                    facts.value = Some(Known::Dims(dims));
                }
            }
        }
        Some(facts)
    };
    call.inputs.iter().map(known).collect()
}

/// A call that has nothing to do with the row's cases but for names of attributes and the number of operands.
fn invented(def: &OpDef, random: &mut Random) -> Call {
    let needed = |attr: &&AttrDef| matches!(attr.default, Default::Required);
    let mut attrs = Attrs::new();
    for attr in def.attrs {
        if needed(&attr) || random.once_in(4) {
            attrs.insert(attr.name.to_owned(), attribute(attr.kind, random));
        }
    }
    let more = usize::from(def.variadic_input) * random.below(3);
    let count = (def.inputs.len() + more).saturating_sub(random.below(2) * random.below(3));
    let dtype = *random.pick(&DType::ALL);
    let operand = |i: usize, random: &mut Random| {
        let optional = def.operand(i).is_some_and(|operand| operand.optional);
        if optional && random.once_in(2) {
            return None;
        }
        let dtype = match random.below(4) {
            0 => *random.pick(&DType::ALL),
            1 => DType::I64,
            _ => dtype,
        };
        let shape: Vec<usize> = (0..random.below(5)).map(|_| random.below(4)).collect();
        Some(filled(dtype, &shape, random))
    };
    let inputs = (0..count).map(|i| operand(i, random)).collect();
    Call { attrs, inputs, outputs: 1 + random.below(def.outputs.len() + 1) }
}

/// One thing about a call, changed.
fn change(def: &OpDef, cases: &[Case], call: &mut Call, random: &mut Random) {
    match random.below(10) {
        0 => call.outputs = random.below(def.outputs.len() + 2),
        1 if random.once_in(2) => {
            call.inputs.pop();
        }
        1 => {
            let shape: Vec<usize> = (0..random.below(3)).map(|_| random.below(3)).collect();
            let dtype = *random.pick(&DType::ALL);
            call.inputs.push(Some(filled(dtype, &shape, random)));
        }
        2..5 => change_attribute(def, cases, call, random),
        _ if call.inputs.is_empty() => {}
        _ => {
            let at = random.below(call.inputs.len());
            call.inputs[at] = match call.inputs[at].take() {
                None => Some(filled(DType::F32, &[random.below(3)], random)),
                Some(_) if random.once_in(12) => None,
                Some(tensor) => Some(changed(&tensor, random)),
            };
        }
    }
}

fn change_attribute(def: &OpDef, cases: &[Case], call: &mut Call, random: &mut Random) {
    if def.attrs.is_empty() {
        return;
    }
    let attr = random.pick(def.attrs);
    // The words that an attribute takes are in the cases.
    let elsewhere: Vec<&Attr> = cases
        .iter()
        .flat_map(|case| &case.attrs)
        .filter(|(name, _)| *name == attr.name)
        .map(|(_, value)| value)
        .collect();
    let value = match (random.below(8), call.attrs.get_mut(attr.name)) {
        (0, _) => {
            call.attrs.remove(attr.name);
            return;
        }
        (1..4, _) if !elsewhere.is_empty() => (*random.pick(&elsewhere)).clone(),
        (4..8, Some(Attr::Ints(list))) if !list.is_empty() => {
            match random.below(4) {
                0 => list.truncate(list.len() - 1),
                1 => list.push(*random.pick(INTS)),
                _ => {
                    let at = random.below(list.len());
                    list[at] = *random.pick(INTS);
                }
            }
            return;
        }
        _ => attribute(attr.kind, random),
    };
    call.attrs.insert(attr.name.to_owned(), value);
}

fn attribute(kind: AttrKind, random: &mut Random) -> Attr {
    let count = random.below(6);
    match kind {
        AttrKind::Int => Attr::Int(*random.pick(INTS)),
        AttrKind::Float => Attr::Float(*random.pick(FLOATS) as f32),
        AttrKind::Str => Attr::Str((*random.pick(STRINGS)).to_owned()),
        AttrKind::Ints => Attr::Ints((0..count).map(|_| *random.pick(INTS)).collect()),
        AttrKind::Floats => Attr::Floats((0..count).map(|_| *random.pick(FLOATS) as f32).collect()),
        AttrKind::Strs => {
            Attr::Strs((0..count).map(|_| (*random.pick(STRINGS)).to_owned()).collect())
        }
        AttrKind::Block => Attr::Int(0),
    }
}

/// Another type, shape or contents.
fn changed(tensor: &Tensor, random: &mut Random) -> Tensor {
    let mut shape = tensor.shape().to_vec();
    match random.below(10) {
        0 | 1 => return filled(*random.pick(&DType::ALL), &shape, random),
        2..5 => return filled(tensor.dtype(), &shape, random),
        5 => return one_changed(tensor, random),
        6 => shape.insert(random.below(shape.len() + 1), 1 + random.below(2)),
        7 if !shape.is_empty() => {
            shape.remove(random.below(shape.len()));
        }
        8 if !shape.is_empty() => {
            let at = random.below(shape.len());
            shape[at] = match random.below(4) {
                0 => 0,
                1 => shape[at] + 1,
                2 => shape[at].saturating_sub(1),
                _ => shape[at] * 2,
            };
        }
        _ if !shape.is_empty() => {
            // Without elements, of a size that none could have.
            let at = random.below(shape.len());
            shape[at] = 1 << random.pick(&[31, 40, 59]);
            let none = random.below(shape.len());
            match none == at {
                true => shape.push(0),
                false => shape[none] = 0,
            }
        }
        _ => shape = vec![0],
    }
    filled(tensor.dtype(), &shape, random)
}

/// The same with one element changed, of a type whose bytes all stand for elements.
fn one_changed(tensor: &Tensor, random: &mut Random) -> Tensor {
    let (dtype, shape) = (tensor.dtype(), tensor.shape());
    let (Some(size), false) = (dtype.size(), tensor.is_empty()) else { return tensor.clone() };
    let one = filled(dtype, &[1], random);
    let mut bytes = tensor.bytes().to_vec();
    let at = random.below(tensor.len()) * size;
    bytes[at..at + size].copy_from_slice(one.bytes());
    made(dtype, shape, &bytes)
}

fn made(dtype: DType, shape: &[usize], bytes: &[u8]) -> Tensor {
    let mut buffer = AlignedBuf::zeroed(bytes.len());
    buffer.copy_from_slice(bytes);
    Tensor::new(dtype, shape, buffer.into())
        .unwrap_or_else(|error| panic!("elements of {dtype}{shape:?} were made: {error}"))
}

/// A tensor of numbers at which things break; of sizes that do not fit, a scalar.
fn filled(dtype: DType, shape: &[usize], random: &mut Random) -> Tensor {
    const MOST: usize = 1 << 16;
    let shape = match size::byte_len(dtype, shape) {
        Some(bytes) if bytes <= MOST => shape,
        _ => &[],
    };
    let count = shape.iter().product::<usize>();
    if dtype == DType::String {
        let texts: Vec<&str> = (0..count).map(|_| *random.pick(STRINGS)).collect();
        return Tensor::from_strings(shape, &texts);
    }
    // Small numbers throughout, now and then: shapes and indices that may be right.
    let small = random.once_in(2);
    let mut bytes = Vec::new();
    for _ in 0..count {
        let int = if small { random.below(5) as i64 - 1 } else { *random.pick(INTS) };
        let float = if small { int as f64 / 2.0 } else { *random.pick(FLOATS) };
        match dtype {
            DType::F32 => bytes.extend((float as f32).to_le_bytes()),
            DType::F64 => bytes.extend(float.to_le_bytes()),
            DType::F16 => bytes.extend(half::f16::from_f64(float).to_le_bytes()),
            DType::BF16 => bytes.extend(half::bf16::from_f64(float).to_le_bytes()),
            DType::Bool => bytes.push(u8::from(int & 1 != 0)),
            DType::F4E2M1 | DType::U4 => bytes.push(int as u8 & 15),
            DType::U2 => bytes.push(int as u8 & 3),
            DType::I4 => bytes.push((((int << 4) as i8) >> 4) as u8),
            DType::I2 => bytes.push((((int << 6) as i8) >> 6) as u8),
            _ => bytes.extend(&int.to_le_bytes()[..dtype.width()]),
        }
    }
    made(dtype, shape, &bytes)
}
