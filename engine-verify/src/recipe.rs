//! What made-up inputs look like, where somebody cares.

use crate::inputs::{Sizes, random_below, sizes_of, unit_and_digit};
use engine_format::{Attrs, Bytes, DType, Dim, Port, Tensor};
use engine_ops::{eval, lookup};
use engine_runtime::{RunError, RunErrorKind, Values};
use std::collections::BTreeMap;
use std::str::FromStr;

/// What the elements of a made-up input are. Reads from text: `zeros`, `ones`, `rand`, `randn` or `const:3`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Fill {
    /// Floats in −1…1, small integers, bools, short strings.
    #[default]
    Uniform,
    /// Floats of a normal distribution with mean 0 and deviation 1.
    Normal,
    /// All the same.
    Constant(f64),
}

impl FromStr for Fill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("const:")) {
            ("zeros", _) => Ok(Self::Constant(0.0)),
            ("ones", _) => Ok(Self::Constant(1.0)),
            ("rand", _) => Ok(Self::Uniform),
            ("randn", _) => Ok(Self::Normal),
            (_, Some(number)) => match number.parse() {
                Ok(value) => Ok(Self::Constant(value)),
                Err(_) => Err(format!("{number:?} is no number, expected one as in const:0.5")),
            },
            _ => Err(format!("{text:?}, expected zeros, ones, rand, randn or const:NUMBER")),
        }
    }
}

impl Fill {
    /// A tensor of this; integers that are drawn are below `integers`.
    ///
    /// # Errors
    /// An element type that does not have such elements.
    pub(crate) fn tensor(
        self,
        dtype: DType,
        shape: &[usize],
        seed: u64,
        integers: u8,
    ) -> Result<Tensor, String> {
        match self {
            Self::Uniform => Ok(random_below(dtype, shape, seed, integers)),
            Self::Normal if !dtype.is_float() => {
                Err(format!("randn makes floats, and it is {dtype}"))
            }
            Self::Normal => {
                let values: Vec<f32> = normal(shape.iter().product(), seed);
                cast(&Tensor::from_slice(shape, &values), dtype)
            }
            Self::Constant(value) => constant(dtype, shape, value),
        }
    }
}

/// Normally distributed numbers (Box and Muller, 1958).
fn normal(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let pair = || {
        // In (0, 1], whose logarithm is finite, and in [0, 1).
        let (u, v) = (unit_and_digit(&mut state).0, unit_and_digit(&mut state).0);
        let (u, v) = ((1.0 - f64::from(u)) / 2.0, (f64::from(v) + 1.0) / 2.0);
        let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * v);
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
    };
    std::iter::repeat_with(pair).take(count.div_ceil(2)).flatten().take(count).collect()
}

fn constant(dtype: DType, shape: &[usize], value: f64) -> Result<Tensor, String> {
    let one = cast(&Tensor::from_slice(&[1], &[value]), dtype)?;
    let back = cast(&one, DType::F64)?;
    let is_it = back.as_slice::<f64>().is_ok_and(|back| back == [value]);
    if dtype == DType::String || !dtype.is_float() && !is_it {
        return Err(format!("{value} is no {dtype}"));
    }
    let bytes = one.bytes().repeat(shape.iter().product());
    Tensor::new(dtype, shape, Bytes::from(bytes)).map_err(|error| error.to_string())
}

/// The tensor in another element type.
fn cast(tensor: &Tensor, to: DType) -> Result<Tensor, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("no {to} is made of {tensor}: {error}");
    let def = lookup("CastLike", 1).ok_or_else(|| wrong(&"the table has no CastLike"))?;
    let attrs = def.normalise(Attrs::new()).map_err(|error| wrong(&error))?;
    let operands = [Some(tensor.clone()), Some(Tensor::zeros(to, &[]))];
    let made = eval(def, &attrs, &operands, 1).map_err(|error| wrong(&error))?;
    made.into_iter().next().ok_or_else(|| wrong(&"nothing"))
}

/// How inputs are made up that are not given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// Where random numbers begin.
    pub seed: u64,
    /// Sizes of symbols.
    pub sizes: Sizes,
    /// Shapes of inputs by name; their symbols have these sizes in the other inputs too.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// What inputs hold, by name; [`Fill::Uniform`] where nothing is said.
    pub fills: BTreeMap<String, Fill>,
}

impl Recipe {
    /// Random inputs of whatever sizes the model takes.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// The sizes that symbols of `ports` have, as far as shapes and the tensors of `given` say.
    ///
    /// # Errors
    /// `InvalidInputs` for a name that is no input, or one that is given, and a shape that is not the port's.
    pub(crate) fn sizes_in(&self, ports: &[Port], given: &Values) -> Result<Sizes, RunError> {
        let mut sizes = self.sizes.clone();
        for (symbol, size) in sizes_of(ports, given) {
            sizes.insert(symbol, size);
        }
        for name in self.shapes.keys().chain(self.fills.keys()) {
            if !ports.iter().any(|port| port.name == *name) {
                let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
                return Err(invalid(name, &format!("there is none; found {}", known.join(", "))));
            }
            if given.contains_key(name) {
                return Err(invalid(name, "it is given already"));
            }
        }
        for (port, shape) in ports.iter().filter_map(|p| Some((p, self.shapes.get(&p.name)?))) {
            let Some(dims) = &port.shape else { continue };
            let expected: Vec<String> = dims.iter().map(Dim::to_string).collect();
            let unfit = |why: &str| {
                let expected = expected.join(", ");
                invalid(&port.name, &format!("{why}: expected [{expected}], found {shape:?}"))
            };
            if dims.len() != shape.len() {
                return Err(unfit("a shape of another rank"));
            }
            for (dim, &size) in dims.iter().zip(shape) {
                if dim.known().is_some_and(|known| usize::try_from(known) != Ok(size)) {
                    return Err(unfit("another shape"));
                }
                let Some(symbol) = dim.as_symbol() else { continue };
                if *sizes.entry(symbol.to_owned()).or_insert(size) != size {
                    return Err(unfit(&format!(
                        "{symbol} has the size {} elsewhere",
                        sizes[symbol]
                    )));
                }
            }
        }
        Ok(sizes)
    }
}

/// The error of an input that cannot be made up as asked.
pub(crate) fn invalid(name: &str, why: &str) -> RunError {
    RunError::new(RunErrorKind::InvalidInputs, format!("input {name:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_read_from_text() {
        for (text, fill) in [
            ("zeros", Fill::Constant(0.0)),
            ("ones", Fill::Constant(1.0)),
            ("rand", Fill::Uniform),
            ("randn", Fill::Normal),
            ("const:-2.5", Fill::Constant(-2.5)),
        ] {
            assert_eq!(text.parse(), Ok(fill));
        }
        assert!("const:three".parse::<Fill>().is_err() && "noise".parse::<Fill>().is_err());
    }

    #[test]
    fn constants_are_of_every_type_that_has_them() {
        for dtype in DType::ALL {
            let made = Fill::Constant(1.0).tensor(dtype, &[2, 3], 0, 10);
            if dtype == DType::String {
                assert!(made.is_err());
                continue;
            }
            let ones = cast(&made.unwrap(), DType::F64).unwrap();
            assert_eq!(ones.as_slice::<f64>().unwrap(), [1.0; 6], "{dtype}");
        }
        for (dtype, value) in [(DType::U8, 256.0), (DType::I64, 0.5), (DType::Bool, 2.0)] {
            let error = Fill::Constant(value).tensor(dtype, &[1], 0, 10).unwrap_err();
            assert!(error.contains(dtype.name()), "{error}");
        }
        assert!(Fill::Constant(f64::NAN).tensor(DType::F16, &[1], 0, 10).is_ok());
    }

    #[test]
    fn normal_numbers_have_mean_0_and_deviation_1() {
        let made = Fill::Normal.tensor(DType::F32, &[10_001], 5, 10).unwrap();
        let values: Vec<f64> =
            made.as_slice::<f32>().unwrap().iter().map(|&v| f64::from(v)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert!(Fill::Normal.tensor(DType::I32, &[1], 5, 10).is_err());
        assert!(Fill::Normal.tensor(DType::BF16, &[3], 5, 10).is_ok());
    }
}
