//! What is done with scores before they are given: transforms, and labels for classes.

use super::check_count;
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, Tensor, ValueId};
use engine_ops::OpError;

/// What `post_transform` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Transform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl Transform {
    /// As the string attribute of the older operators says.
    pub(super) fn read(call: &mut Call<'_>) -> Result<Self, OpError> {
        match call.str("post_transform", "NONE")? {
            "NONE" => Ok(Self::None),
            "SOFTMAX" => Ok(Self::Softmax),
            "LOGISTIC" => Ok(Self::Logistic),
            "SOFTMAX_ZERO" => Ok(Self::SoftmaxZero),
            "PROBIT" => Ok(Self::Probit),
            other => Err(OpError::new(format!(
                "post_transform {other:?}, expected NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT"
            ))),
        }
    }

    /// As TreeEnsemble's number says.
    pub(super) fn of(number: i64) -> Result<Self, OpError> {
        let all = [Self::None, Self::Softmax, Self::Logistic, Self::SoftmaxZero, Self::Probit];
        let found = usize::try_from(number).ok().and_then(|at| all.get(at));
        found
            .copied()
            .ok_or_else(|| OpError::new(format!("post_transform {number}, expected 0 to 4")))
    }
}

/// Scores, a matrix of a row for each example, transformed.
pub(super) fn transformed(
    call: &mut Call<'_>,
    scores: ValueId,
    how: Transform,
) -> Result<ValueId, OpError> {
    match how {
        Transform::None => Ok(scores),
        Transform::Softmax => call.emit("Softmax", [scores], vec![("axis", Attr::Int(1))]),
        Transform::Logistic => call.emit("Sigmoid", [scores], vec![]),
        Transform::SoftmaxZero => softmax_zero(call, scores),
        Transform::Probit => probit(call, scores),
    }
}

/// Scores this close to 0 are taken for it by `SOFTMAX_ZERO`.
const NEARLY_ZERO: f64 = 1e-7;

/// Softmax over the scores that are not 0; one that is stays 0.
fn softmax_zero(call: &mut Call<'_>, scores: ValueId) -> Result<ValueId, OpError> {
    let axis = call.vector(&[1]);
    let max = call.emit("ReduceMax", [scores, axis], vec![])?;
    let below = call.emit("Sub", [scores, max], vec![])?;
    let powers = call.emit("Exp", [below], vec![])?;
    let size = call.emit("Abs", [scores], vec![])?;
    let (limit, zero) = (call.scalar_like(scores, NEARLY_ZERO)?, call.scalar_like(scores, 0.0)?);
    let counts = call.emit("Greater", [size, limit], vec![])?;
    let kept = call.emit("Where", [counts, powers, zero], vec![])?;
    let sum = call.emit("ReduceSum", [kept, axis], vec![])?;
    call.emit("Div", [kept, sum], vec![])
}

/// √2 · erf⁻¹(2p − 1), the inverse by Winitzki's approximation (A handy approximation for the error function and its inverse,
/// 2008) with his a = 0.147, as other runtimes have it.
fn probit(call: &mut Call<'_>, p: ValueId) -> Result<ValueId, OpError> {
    const A: f64 = 0.147;
    let number = |call: &mut Call<'_>, value: f64| call.scalar_like(p, value);
    let (one, two, half) = (number(call, 1.0)?, number(call, 2.0)?, number(call, 0.5)?);
    let doubled = call.emit("Mul", [p, two], vec![])?;
    let y = call.emit("Sub", [doubled, one], vec![])?;
    // ln(1 − y²), in factors that stay exact near ±1.
    let (under, over) = (call.emit("Sub", [one, y], vec![])?, call.emit("Add", [one, y], vec![])?);
    let product = call.emit("Mul", [under, over], vec![])?;
    let log = call.emit("Log", [product], vec![])?;
    let offset = number(call, 2.0 / (std::f64::consts::PI * A))?;
    let halved = call.emit("Mul", [log, half], vec![])?;
    let v = call.emit("Add", [offset, halved], vec![])?;
    let scale = number(call, 1.0 / A)?;
    let scaled = call.emit("Mul", [log, scale], vec![])?;
    let square = call.emit("Mul", [v, v], vec![])?;
    let inside = call.emit("Sub", [square, scaled], vec![])?;
    let root = call.emit("Sqrt", [inside], vec![])?;
    let rest = call.emit("Sub", [root, v], vec![])?;
    let size = call.emit("Sqrt", [rest], vec![])?;
    let sign = call.emit("Sign", [y], vec![])?;
    let inverse = call.emit("Mul", [sign, size], vec![])?;
    let sqrt2 = number(call, std::f64::consts::SQRT_2)?;
    call.emit("Mul", [inverse, sqrt2], vec![])
}

/// How the one score of two classes becomes two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Other {
    /// Probabilities: 1 − s and s.
    Complement,
    /// Distances from a border: −s and s.
    Opposite,
}

/// The scores of two classes from the one, `[n, 1]`, of the second. Transforms across classes say nothing here, and ONNX does
/// not say what they do; other runtimes leave the two as they are.
pub(super) fn pair(
    call: &mut Call<'_>,
    score: ValueId,
    how: Transform,
    other: Other,
) -> Result<ValueId, OpError> {
    let opposite = call.emit("Neg", [score], vec![])?;
    let (first, second) = match (how, other) {
        (Transform::Probit, _) => {
            return Err(OpError::new(
                "post_transform PROBIT of one score for two classes is not defined",
            ));
        }
        (Transform::Logistic, _) => {
            let first = call.emit("Sigmoid", [opposite], vec![])?;
            (first, call.emit("Sigmoid", [score], vec![])?)
        }
        (_, Other::Opposite) => (opposite, score),
        (_, Other::Complement) => {
            let one = call.scalar_like(score, 1.0)?;
            (call.emit("Sub", [one, score], vec![])?, score)
        }
    };
    call.emit("Concat", [first, second], vec![("axis", Attr::Int(1))])
}

/// The names of classes.
pub(super) struct Labels {
    tensor: Tensor,
}

impl Labels {
    /// From either of two attributes, of integers or of strings.
    pub(super) fn read(
        call: &mut Call<'_>,
        ints: &'static str,
        strings: &'static str,
    ) -> Result<Self, OpError> {
        let tensor = match (call.ints(ints)?, call.strs(strings)?) {
            (Some(ints), None) => Tensor::from_slice(&[ints.len()], ints),
            (None, Some(texts)) => Tensor::from_strings(&[texts.len()], texts),
            _ => return Err(OpError::new(format!("there is to be either {ints} or {strings}"))),
        };
        match tensor.is_empty() {
            true => Err(OpError::new("there are no classes")),
            false => Ok(Self { tensor }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tensor.len()
    }

    /// The labels of the greatest scores of each row, the first of equal ones.
    pub(super) fn of_greatest(
        &self,
        call: &mut Call<'_>,
        scores: ValueId,
    ) -> Result<Last, OpError> {
        let at = vec![("axis", Attr::Int(1)), ("keepdims", Attr::Int(0))];
        let index = call.emit("ArgMax", [scores], at)?;
        self.at(call, index)
    }

    /// The second of two labels where a score `[n, 1]` is above `limit`, the first elsewhere.
    pub(super) fn above(
        &self,
        call: &mut Call<'_>,
        score: ValueId,
        limit: f64,
    ) -> Result<Last, OpError> {
        check_count("the list of classes", self.len(), 2)?;
        let limit = call.scalar_like(score, limit)?;
        let above = call.emit("Greater", [score, limit], vec![])?;
        let axis = call.vector(&[1]);
        let above = call.emit("Squeeze", [above, axis], vec![])?;
        let index = call.cast(above, DType::I64)?;
        self.at(call, index)
    }

    /// The labels at `index`, a vector.
    pub(super) fn at(&self, call: &mut Call<'_>, index: ValueId) -> Result<Last, OpError> {
        let labels = call.literal(self.tensor.clone());
        call.finish("Gather", [labels, index], vec![("axis", Attr::Int(0))])
    }
}
