//! Inputs made up from a seed, for runs that are about agreement and not about meaning.

use crate::comparison::nan_count;
use crate::recipe::{Recipe, invalid};
use engine_format::size::byte_len;
use engine_format::{Bytes, DType, Dim, Port, Tensor};
use engine_runtime::{
    HAS_CLOCK, Inputs, MemoryLimits, Module, Outputs, RunError, RunErrorKind, RunOptions, Value,
    Values,
};
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Sizes for symbols such as `seq`.
pub type Sizes = BTreeMap<String, usize>;

/// The size each symbol of `ports` has in the tensors of `given`.
pub fn sizes_of(ports: &[Port], given: &Values) -> Sizes {
    let mut sizes = Sizes::new();
    for port in ports {
        let found = match given.get(&port.name) {
            Some(Value::Tensor(tensor)) => tensor.shape().to_vec(),
            Some(Value::OnDevice(tensor)) => tensor.shape(),
            _ => continue,
        };
        for (dim, size) in port.shape.iter().flatten().zip(found) {
            if let Some(symbol) = dim.as_symbol() {
                sizes.entry(symbol.to_owned()).or_insert(size);
            }
        }
    }
    sizes
}

/// How inputs are made up where nothing decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freedom {
    /// The size of symbols, except on a first axis, which is a batch and stays 1.
    pub size: usize,
    /// Integers are below this.
    pub integers: u8,
}

impl Freedom {
    /// What to try, in this order. Models with a least size (an audio frame, a picture) refuse the small ones; models with
    /// integers that pick from a short table (the type of a token) refuse all but the smallest integers.
    pub const ATTEMPTS: [Self; 8] = {
        let mut attempts = [Self { size: 8, integers: 10 }; 8];
        let sizes = [8, 64, 256, 576];
        let mut i = 0;
        while i < attempts.len() {
            attempts[i] = Self { size: sizes[i / 2], integers: if i % 2 == 0 { 10 } else { 2 } };
            i += 1;
        }
        attempts
    };
}

/// A run on inputs of which some were made up.
#[derive(Clone, Debug)]
pub struct SeededRun {
    /// All inputs.
    pub inputs: Values,
    /// Those that were made up.
    pub made: Vec<String>,
    /// What the run gave.
    pub outputs: Outputs,
    /// How long it took; zero where the platform has no clock.
    pub time: Duration,
}

/// Runs `module`, making up the inputs that `given` lacks by the first of [`Freedom::ATTEMPTS`] that it takes. Where outputs have elements
/// that are no number, as attention makes them of a mask of nines, smaller integers are tried too.
///
/// # Errors
/// That of the first attempt, if it takes none. An error that other inputs would not change is given at once.
pub fn run_seeded(module: &dyn Module, given: &Values, seed: u64) -> Result<SeededRun, RunError> {
    run_seeded_at(module, given, &Sizes::new(), seed)
}

/// As [`run_seeded`], with these sizes for symbols.
///
/// # Errors
/// As [`run_seeded`].
pub fn run_seeded_at(
    module: &dyn Module,
    given: &Values,
    sizes: &Sizes,
    seed: u64,
) -> Result<SeededRun, RunError> {
    run_made(module, given, &Recipe { seed, sizes: sizes.clone(), ..Recipe::default() })
}

/// As [`run_seeded`], with inputs that are made up as `recipe` says.
///
/// # Errors
/// As [`run_seeded`], and `InvalidInputs` for what the inputs are not.
pub fn run_made(
    module: &dyn Module,
    given: &Values,
    recipe: &Recipe,
) -> Result<SeededRun, RunError> {
    let mut first: Option<RunError> = None;
    let mut best: Option<(usize, Freedom, SeededRun)> = None;
    for freedom in Freedom::ATTEMPTS {
        if best.as_ref().is_some_and(|(_, of, _)| of.size != freedom.size) {
            break;
        }
        let mut inputs = made(module.inputs(), given, recipe, freedom)?;
        let made: Vec<String> = inputs.keys().cloned().collect();
        inputs.extend(given.clone());
        let begun = HAS_CLOCK.then(Instant::now);
        match module.run_with(&inputs, &RunOptions::default()) {
            Ok(outputs) => {
                let time = begun.map_or(Duration::ZERO, |begun| begun.elapsed());
                let nan = nan_in(&outputs);
                let is_last = nan == 0 || made.is_empty();
                let run = SeededRun { inputs, made, outputs, time };
                if best.as_ref().is_none_or(|(least, ..)| nan < *least) {
                    best = Some((nan, freedom, run));
                }
                if is_last {
                    break;
                }
            }
            Err(_) if best.is_some() => break,
            Err(error) if made.is_empty() || error.kind() != RunErrorKind::Node => {
                return Err(error);
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    match best {
        Some((_, _, run)) => Ok(run),
        None => Err(first.expect("at least one attempt was made")),
    }
}

/// Elements of all outputs that are no number.
fn nan_in(outputs: &Outputs) -> usize {
    let inner = outputs.structures.values().flat_map(Value::tensors);
    outputs.tensors.values().chain(inner).map(nan_count).sum()
}

/// A value for every port that `given` lacks: floats in −1…1, integers as `free` says, drawn from `seed` and the port's name.
/// Symbols that neither `given` nor `sizes` decides have the size that `free` says, and 1 on a first axis. Sequences have
/// `ELEMENTS` elements, and optional values are there.
///
/// # Errors
/// `OutOfMemory`, where a port asks for more than the machine has.
pub fn seeded(
    ports: &[Port],
    given: &Values,
    sizes: &Sizes,
    free: Freedom,
    seed: u64,
) -> Result<Values, RunError> {
    made(ports, given, &Recipe { seed, sizes: sizes.clone(), ..Recipe::default() }, free)
}

/// As [`seeded`], by a recipe. A symbol whose name is a sum of others and numbers (`past + 1`) has their size.
///
/// # Errors
/// As [`seeded`], and `InvalidInputs` for what the inputs are not.
pub fn made(
    ports: &[Port],
    given: &Values,
    recipe: &Recipe,
    free: Freedom,
) -> Result<Values, RunError> {
    let mut known = recipe.sizes_in(ports, given)?;
    // A symbol that is a first axis anywhere is a batch everywhere.
    let first_axes = ports.iter().filter_map(|port| port.shape.as_ref()?.first()?.as_symbol());
    for batch in first_axes {
        known.entry(batch.to_owned()).or_insert(1);
    }
    let lacking = ports.iter().filter(|port| !given.contains_key(&port.name));
    let mut made = Values::new();
    for port in lacking {
        let dims = port.shape.as_deref().unwrap_or_default();
        let size = |(axis, dim): (usize, &Dim)| match dim.known() {
            Some(n) => usize::try_from(n).unwrap_or(0),
            None => match dim.as_symbol().and_then(|symbol| sum(symbol, &known)) {
                Some(size) => size,
                None if axis == 0 => 1,
                None => free.size,
            },
        };
        let shape = recipe.shapes.get(&port.name).cloned();
        let shape: Vec<usize> =
            shape.unwrap_or_else(|| dims.iter().enumerate().map(size).collect());
        let name_seed = port.name.bytes().fold(recipe.seed, |h, b| mix(h ^ u64::from(b)));
        let most = MemoryLimits::default().tensor;
        let fits = byte_len(port.dtype, &shape).is_some_and(|bytes| bytes as u64 <= most);
        if !fits {
            let (name, dtype) = (&port.name, port.dtype);
            let what = format!(
                "input {name:?} is {dtype}{shape:?}, which this machine has no memory for; give it another size"
            );
            return Err(RunError::new(RunErrorKind::OutOfMemory, what));
        }
        let fill = recipe.fills.get(&port.name).copied().unwrap_or_default();
        let tensor = |i: u64| {
            let made = fill.tensor(port.dtype, &shape, name_seed ^ i, free.integers);
            made.map_err(|why| invalid(&port.name, &why))
        };
        let value = match port.form.is_sequence() {
            true => Value::Sequence((0..ELEMENTS).map(tensor).collect::<Result<_, _>>()?),
            false => Value::Tensor(tensor(0)?),
        };
        made.insert(port.name.clone(), value);
    }
    Ok(made)
}

/// The size of a symbol, or of a sum of symbols and numbers, as exporters call the length of a mask over a cache: `past + 1`.
fn sum(name: &str, known: &Sizes) -> Option<usize> {
    if let Some(&size) = known.get(name) {
        return Some(size);
    }
    let term = |text: &str| known.get(text).copied().or_else(|| text.parse().ok());
    let mut terms = name.split(" + ").map(|text| term(text.trim()));
    terms.try_fold(0usize, |total, term| total.checked_add(term?))
}

/// The same values as tensors; `None` if one is a sequence, absent, or not on the host.
pub fn all_tensors(values: Values) -> Option<Inputs> {
    let tensor = |(name, value)| match value {
        Value::Tensor(tensor) => Some((name, tensor)),
        Value::Sequence(_) | Value::Absent | Value::OnDevice(_) => None,
    };
    values.into_iter().map(tensor).collect()
}

/// Elements of a sequence that is made up.
const ELEMENTS: u64 = 2;

/// A tensor of random elements: floats in −1…1, integers in 0…9, bools, strings of a few hexadecimal digits.
pub fn random(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    random_below(dtype, shape, seed, 10)
}

/// The next 64 random bits.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mix(*state)
}

/// The next random number in −1…1, and 8 bits that have nothing to do with it. 24 bits make every float type's value exact or
/// rounded once.
pub(crate) fn unit_and_digit(state: &mut u64) -> (f32, u8) {
    let bits = next(state);
    ((bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0, (bits >> 32) as u8)
}

pub(crate) fn random_below(dtype: DType, shape: &[usize], seed: u64, integers: u8) -> Tensor {
    let mut state = seed;
    if dtype == DType::String {
        let words: Vec<String> =
            (0..shape.iter().product()).map(|_| format!("{:x}", next(&mut state) >> 40)).collect();
        return Tensor::from_strings(shape, &words);
    }
    let mut bytes = Vec::new();
    for _ in 0..shape.iter().product::<usize>() {
        let (unit, digit) = unit_and_digit(&mut state);
        let digit = digit % integers;
        match dtype {
            DType::F32 => bytes.extend(unit.to_le_bytes()),
            DType::F64 => bytes.extend(f64::from(unit).to_le_bytes()),
            DType::F16 => bytes.extend(f16::from_f32(unit).to_le_bytes()),
            DType::BF16 => bytes.extend(bf16::from_f32(unit).to_le_bytes()),
            restricted if restricted.is_restricted() => bytes.push(digit & 1),
            _ => {
                bytes.push(digit);
                bytes.resize(bytes.len() + dtype.width() - 1, 0);
            }
        }
    }
    Tensor::new(dtype, shape, Bytes::copy_from(&bytes))
        .expect("as many bytes as the shape takes were made")
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Fill;
    use engine_format::{Form, ValueId};

    const FREE: Freedom = Freedom::ATTEMPTS[0];

    fn port(name: &str, shape: &[Dim]) -> Port {
        Port {
            name: name.to_owned(),
            value: ValueId(0),
            form: Form::Tensor,
            dtype: DType::F32,
            shape: Some(shape.to_vec()),
        }
    }

    #[test]
    fn given_inputs_decide_the_symbols_of_the_others() {
        let ports = [
            port("ids", &[Dim::symbol("batch"), Dim::symbol("seq")]),
            port(
                "mask",
                &[Dim::symbol("batch"), Dim::symbol("seq"), Dim::from(3i64), Dim::symbol("other")],
            ),
        ];
        let given = Values::from([("ids".to_owned(), Tensor::zeros(DType::F32, &[2, 5]).into())]);
        let made = seeded(&ports, &given, &Sizes::new(), FREE, 1).unwrap();
        assert_eq!(made.keys().collect::<Vec<_>>(), ["mask"]);
        assert_eq!(made["mask"].tensors()[0].shape(), [2, 5, 3, 8]);
    }

    #[test]
    fn a_symbol_may_be_a_sum_of_others() {
        let past = [Dim::symbol("batch"), Dim::symbol("past"), Dim::from(4i64)];
        let sums = ["past + 1", "past + seq", "past + other", "past"].map(Dim::symbol);
        let ports = [port("cache", &past), port("ids", &[Dim::from(1i64), Dim::symbol("seq")])];
        let masks = sums.iter().enumerate();
        let masks = masks.map(|(i, sum)| port(&i.to_string(), &[Dim::from(1i64), sum.clone()]));
        let ports: Vec<Port> = ports.into_iter().chain(masks).collect();
        let given = [("cache", &[1, 7, 4][..]), ("ids", &[1, 2])];
        let given = given.map(|(name, shape)| {
            (name.to_owned(), Value::Tensor(Tensor::zeros(DType::F32, shape)))
        });
        let made = made(&ports, &given.into(), &Recipe::seeded(1), FREE).unwrap();
        let lengths = made.values().map(|mask| mask.tensors()[0].shape()[1]).collect::<Vec<_>>();
        assert_eq!(lengths, [8, 9, 8, 7], "what is no sum of known sizes has the free one");
    }

    #[test]
    fn a_recipe_decides_shapes_and_contents() {
        let ports = [
            port("x", &[Dim::symbol("batch"), Dim::from(3i64)]),
            port("y", &[Dim::symbol("batch"), Dim::symbol("seq")]),
        ];
        let shapes = [("x".to_owned(), vec![4, 3])].into();
        let fills = [("y".to_owned(), Fill::Constant(3.0))].into();
        let recipe = Recipe { shapes, fills, ..Recipe::seeded(1) };
        let inputs = made(&ports, &Values::new(), &recipe, FREE).unwrap();
        assert_eq!(inputs["x"].tensors()[0].shape(), [4, 3]);
        let y = &inputs["y"].tensors()[0];
        assert_eq!((y.shape(), y.as_slice::<f32>().unwrap()), (&[4, 8][..], &[3.0; 32][..]));

        let wrong = |shapes: &[(&str, &[usize])], given: &Values| {
            let shapes = shapes.iter().map(|(name, dims)| ((*name).to_owned(), dims.to_vec()));
            let recipe = Recipe { shapes: shapes.collect(), ..Recipe::seeded(1) };
            let error = made(&ports, given, &recipe, FREE).unwrap_err();
            assert_eq!(error.kind(), RunErrorKind::InvalidInputs);
            error.to_string()
        };
        let none = Values::new();
        let x = Values::from([("x".to_owned(), Tensor::zeros(DType::F32, &[2, 3]).into())]);
        for (shapes, given, part) in [
            (&[("x", &[4, 3][..]), ("y", &[5, 1])][..], &none, "batch has the size 4 elsewhere"),
            (&[("x", &[4, 2])], &none, "expected [batch, 3], found [4, 2]"),
            (&[("x", &[4])], &none, "another rank"),
            (&[("z", &[4])], &none, "found x, y"),
            (&[("x", &[2, 3])], &x, "given already"),
            (&[("y", &[3, 3])], &x, "batch has the size 2 elsewhere"),
        ] {
            let said = wrong(shapes, given);
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn an_input_that_no_machine_holds_is_an_error() {
        for shape in [[1i64 << 62, 4], [0, i64::MAX], [1 << 24, 1 << 24]] {
            let ports = [port("x", &shape.map(Dim::from))];
            let error = seeded(&ports, &Values::new(), &Sizes::new(), FREE, 1).unwrap_err();
            assert_eq!(error.kind(), RunErrorKind::OutOfMemory, "{error}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_values_and_another_gives_others() {
        for dtype in DType::ALL {
            let (a, b) = (random(dtype, &[4, 9], 1), random(dtype, &[4, 9], 1));
            assert_eq!(a, b);
            assert_ne!(a, random(dtype, &[4, 9], 2), "{dtype}");
        }
        let floats = random(DType::F32, &[1000], 3);
        assert!(floats.as_slice::<f32>().unwrap().iter().all(|v| (-1.0..1.0).contains(v)));
    }
}
