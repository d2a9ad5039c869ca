//! What a row says of its operands, and the one place that holds a node to it.

use crate::OpError;
use crate::infer::Facts;
use engine_format::{DType, Dim};

/// One operand.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// Name, as in ONNX.
    pub name: &'static str,
    /// What its contents decide.
    pub role: Role,
    /// May be omitted.
    pub optional: bool,
    /// A constant here is what a layer learns, however small: a filter, a matrix, a bias, a scale, a table.
    pub learned: bool,
    /// May be of `f16` or `bf16` beside operands of `f32`; see [`Self::or_halves`].
    pub halves: bool,
    /// Element types that it may have.
    pub types: Types,
    /// What shapes it may have, as far as that can be said without attributes; see [`Self::shaped`].
    pub shape: Option<&'static str>,
}

/// What an operand's contents decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The values of the results.
    Data,
    /// Shapes, axes or control: the planner must know the contents.
    Shape,
    /// Which elements are read: a constant is a literal, but the planner need not know the contents.
    Index,
    /// Only the operand's dtype and shape are read (Shape, Size): its contents decide nothing.
    Type,
}

/// Element types of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Types {
    /// Every one that the operator's kind of work takes.
    Any,
    /// These.
    Of(&'static [DType]),
    /// That of the operand at this position.
    Like(usize),
}

/// The integers that axes, sizes and positions are given in.
pub(crate) const INTEGERS: &[DType] = &[DType::I64, DType::I32];

/// The shape of an operand of one element, in any number of axes.
pub(crate) const ONE: &str = "1...";

impl Operand {
    const fn new(name: &'static str, role: Role) -> Self {
        Self {
            name,
            role,
            optional: false,
            learned: false,
            halves: false,
            types: Types::Any,
            shape: None,
        }
    }

    /// A required operand that flows into the results.
    pub const fn data(name: &'static str) -> Self {
        Self::new(name, Role::Data)
    }

    /// An optional operand that flows into the results.
    pub const fn opt_data(name: &'static str) -> Self {
        Self::data(name).or_none()
    }

    /// A required operand that decides shapes, axes, indices or control: `i64`, unless [`Self::of`] says otherwise.
    pub const fn shape(name: &'static str) -> Self {
        Self::new(name, Role::Shape).of(&[DType::I64])
    }

    /// An optional operand that decides shapes, axes, indices or control.
    pub const fn opt_shape(name: &'static str) -> Self {
        Self::shape(name).or_none()
    }

    /// Indices of a gather: which elements, not how many. A constant here is part of the program; a run-time
    /// value stays on the device. `i64` or `i32`, unless [`Self::of`] says otherwise.
    pub const fn index(name: &'static str) -> Self {
        Self::new(name, Role::Index).of(INTEGERS)
    }

    /// An operand of which only type, shape or structure is read.
    pub const fn typed(name: &'static str) -> Self {
        Self::new(name, Role::Type)
    }

    /// The same operand, a constant in which a layer learns.
    #[must_use]
    pub const fn learned(self) -> Self {
        Self { learned: true, ..self }
    }

    /// The same operand, which may be omitted.
    #[must_use]
    pub const fn or_none(self) -> Self {
        Self { optional: true, ..self }
    }

    /// The same operand, which may be of `f16` or `bf16` where its type would be `f32`: the elements are multiplied as the `f32` that they
    /// are. This is what an engine of such a precision rounds, and what GPU kernels read as halves where it lies so.
    #[must_use]
    pub const fn or_halves(self) -> Self {
        Self { halves: true, ..self }
    }

    /// Whether the operand comes in halves beside operands of `f32`.
    pub(crate) fn takes_halves(&self, found: DType, beside: DType) -> bool {
        self.halves && beside == DType::F32 && matches!(found, DType::F16 | DType::BF16)
    }

    /// The same operand with one of these element types.
    #[must_use]
    pub const fn of(self, types: &'static [DType]) -> Self {
        Self { types: Types::Of(types), ..self }
    }

    /// The same operand with the element type of the operand at position `i`.
    #[must_use]
    pub const fn like(self, i: usize) -> Self {
        Self { types: Types::Like(i), ..self }
    }

    /// The same operand with a shape of this pattern: its axes, with blanks between them. A word stands for a size and for the
    /// same one in every operand of the row, a number for itself, `_` for any size; with `...` behind it an axis stands for
    /// any number of axes like it, without a name, and `...` alone for any axes. So `"N C ..."` and `"C"` are an image of any
    /// rank and one number for each of its channels, `""` is a scalar.
    #[must_use]
    pub const fn shaped(self, pattern: &'static str) -> Self {
        Self { shape: Some(pattern), ..self }
    }
}

/// Holds what is known of a node's operands to what its row says of them. `operand` gives the row's operand at a position.
///
/// # Errors
/// The first operand that has another type or shape.
pub(crate) fn check(
    operand: impl Fn(usize) -> Option<&'static Operand>,
    inputs: &[Option<Facts>],
) -> Result<(), OpError> {
    let mut sizes = Sizes::default();
    for (i, facts) in inputs.iter().enumerate() {
        let (Some(operand), Some(facts)) = (operand(i), facts) else { continue };
        check_type(operand, facts.dtype, inputs)?;
        let named = |why: OpError| OpError::new(format!("operand {} {why}", operand.name));
        facts.check_size().map_err(named)?;
        if let (Some(pattern), Some(shape)) = (operand.shape, &facts.shape) {
            sizes.check(operand.name, pattern, shape).map_err(|why| {
                let name = operand.name;
                OpError::new(format!("operand {name} is {facts}, expected [{pattern}]{why}"))
            })?;
        }
    }
    Ok(())
}

fn check_type(operand: &Operand, found: DType, inputs: &[Option<Facts>]) -> Result<(), OpError> {
    let name = operand.name;
    match operand.types {
        Types::Any => Ok(()),
        Types::Of(types) if types.contains(&found) => Ok(()),
        Types::Of(types) => {
            let types: Vec<&str> = types.iter().map(|dtype| dtype.name()).collect();
            let types = types.join(", ");
            Err(OpError::new(format!("operand {name} is {found}, expected {types}")))
        }
        Types::Like(i) => match inputs.get(i).and_then(Option::as_ref) {
            Some(other) if other.dtype != found && !operand.takes_halves(found, other.dtype) => {
                let other = other.dtype;
                Err(OpError::new(format!(
                    "operand {name} is {found}, expected {other} as operand {i} is"
                )))
            }
            _ => Ok(()),
        },
    }
}

/// Sizes that words of patterns stand for, and by which operand.
#[derive(Default)]
struct Sizes(Vec<(&'static str, Dim, &'static str)>);

impl Sizes {
    /// What is wrong with the shape of an operand, as an addition to a sentence.
    fn check(
        &mut self,
        operand: &'static str,
        pattern: &'static str,
        shape: &[Dim],
    ) -> Result<(), String> {
        let axes: Vec<&'static str> = pattern.split_whitespace().collect();
        let Some(open) = axes.iter().position(|axis| axis.ends_with("...")) else {
            if axes.len() != shape.len() {
                return Err(String::new());
            }
            return self.check_axes(operand, &axes, shape);
        };
        let (front, behind) = (&axes[..open], &axes[open + 1..]);
        let Some(between) = shape.len().checked_sub(front.len() + behind.len()) else {
            return Err(String::new());
        };
        let (before, rest) = shape.split_at(front.len());
        let (repeated, after) = rest.split_at(between);
        self.check_axes(operand, front, before)?;
        if let Ok(size) = axes[open].trim_end_matches("...").parse::<i64>()
            && repeated.iter().any(|dim| dim.known().is_some_and(|found| found != size))
        {
            return Err(String::new());
        }
        self.check_axes(operand, behind, after)
    }

    fn check_axes(
        &mut self,
        operand: &'static str,
        axes: &[&'static str],
        shape: &[Dim],
    ) -> Result<(), String> {
        axes.iter().zip(shape).try_for_each(|(axis, dim)| self.check_axis(operand, axis, dim))
    }

    fn check_axis(
        &mut self,
        operand: &'static str,
        axis: &'static str,
        dim: &Dim,
    ) -> Result<(), String> {
        if axis == "_" {
            return Ok(());
        }
        if let Ok(size) = axis.parse::<i64>() {
            let fits = dim.known().is_none_or(|found| found == size);
            return if fits { Ok(()) } else { Err(String::new()) };
        }
        match self.0.iter_mut().find(|(name, ..)| *name == axis) {
            None => self.0.push((axis, dim.clone(), operand)),
            Some((_, size, by)) => match (size.known(), dim.known()) {
                (Some(a), Some(b)) if a != b => {
                    return Err(format!(", where {axis} is {a} by operand {by}"));
                }
                (None, Some(_)) => (*size, *by) = (dim.clone(), operand),
                _ => {}
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(dtype: DType, shape: &[i64]) -> Option<Facts> {
        Some(Facts::new(dtype, shape.iter().map(|&n| Dim::from(n)).collect()))
    }

    static ROW: [Operand; 4] = [
        Operand::data("X").of(&[DType::F32, DType::F16]).shaped("N C ..."),
        Operand::data("B").like(0).shaped("C"),
        Operand::opt_shape("k").shaped(ONE),
        Operand::opt_data("T").shaped("... C 4"),
    ];

    fn checked(inputs: &[Option<Facts>]) -> Result<(), String> {
        check(|i| ROW.get(i), inputs).map_err(|error| error.to_string())
    }

    #[test]
    fn operands_that_fit_pass() {
        let f32 = DType::F32;
        let s = Dim::symbol("s");
        for inputs in [
            vec![facts(f32, &[2, 3]), facts(f32, &[3])],
            vec![facts(f32, &[2, 3, 5, 5]), facts(f32, &[3]), facts(DType::I64, &[])],
            vec![facts(f32, &[2, 3]), facts(f32, &[3]), facts(DType::I64, &[1, 1])],
            vec![facts(f32, &[2, 3]), facts(f32, &[3]), None, facts(f32, &[7, 3, 4])],
            vec![Some(Facts::unranked(f32)), facts(f32, &[3])],
            vec![Some(Facts::new(f32, vec![s.clone(), s.clone()])), facts(f32, &[3])],
        ] {
            assert_eq!(checked(&inputs), Ok(()), "{inputs:?}");
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_named() {
        let f32 = DType::F32;
        let s = || Some(Facts::new(f32, vec![Dim::from(2), Dim::symbol("s")]));
        for (inputs, message) in [
            (vec![facts(DType::I8, &[2, 3])], "operand X is i8, expected f32, f16"),
            (vec![facts(f32, &[2])], "operand X is f32[2], expected [N C ...]"),
            (
                vec![facts(f32, &[2, 3]), facts(DType::F16, &[3])],
                "operand B is f16, expected f32 as operand 0 is",
            ),
            (
                vec![facts(f32, &[2, 3]), facts(f32, &[4])],
                "operand B is f32[4], expected [C], where C is 3 by operand X",
            ),
            (vec![facts(f32, &[2, 3]), facts(f32, &[])], "operand B is f32[], expected [C]"),
            (
                vec![s(), facts(f32, &[3]), None, facts(f32, &[9, 4])],
                "operand T is f32[9, 4], expected [... C 4], where C is 3 by operand B",
            ),
            (
                vec![s(), None, facts(DType::I64, &[1, 0])],
                "operand k is i64[1, 0], expected [1...]",
            ),
            (vec![s(), None, facts(DType::I32, &[1])], "operand k is i32, expected i64"),
        ] {
            assert_eq!(checked(&inputs), Err(message.to_owned()));
        }
    }
}
