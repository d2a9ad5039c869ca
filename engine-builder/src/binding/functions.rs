//! Initializers that are a function of one tensor: what an exporter folded of `exp(logit_scale)` or `1 + weight`.
//!
//! The function is calculated in f64 and held against the initializer to a few units of the last place of f32, which is what
//! libraries differ by. A function whose error is not clearly the smallest stays open.

use super::expression::Expression;
use super::index::Index;
use super::pair::{self, Decision, Stands};
use super::recipe::{Computed, Recipe, inverse};
use super::search::{is_plain, orders};
use super::{Initializer, open, unclaimed};
use crate::error::BuildError;
use engine_format::{DType, Tensor, TensorInfo};
use std::collections::BTreeMap;

/// A function that exporters fold.
struct Function {
    /// Its name in maps and reports.
    name: &'static str,
    apply: fn(&[f64], &[usize]) -> Vec<f64>,
    write: fn(Expression) -> Expression,
}

/// An elementwise function: name, formula, operators.
macro_rules! elementwise {
    ($name:literal, $apply:expr, $write:expr) => {
        Function {
            name: $name,
            apply: |values, _| values.iter().map(|&x| ($apply as fn(f64) -> f64)(x)).collect(),
            write: $write,
        }
    };
}

fn unary(op: &'static str, x: Expression) -> Expression {
    Expression::node(op, vec![x])
}

static FUNCTIONS: &[Function] = &[
    elementwise!("exp", f64::exp, |x| unary("Exp", x)),
    elementwise!("-exp", |x| -x.exp(), |x| unary("Neg", unary("Exp", x))),
    elementwise!("1+", |x| 1.0 + x, |x| Expression::node("Add", vec![x, Expression::scalar(1.0)])),
    elementwise!("1-", |x| 1.0 - x, |x| Expression::node("Sub", vec![Expression::scalar(1.0), x])),
    elementwise!("-", |x: f64| -x, |x| unary("Neg", x)),
    elementwise!("sigmoid", |x| 1.0 / (1.0 + (-x).exp()), |x| unary("Sigmoid", x)),
    elementwise!("1-sigmoid", |x| 1.0 / (1.0 + x.exp()), |x| Expression::node(
        "Sub",
        vec![Expression::scalar(1.0), unary("Sigmoid", x)]
    )),
    elementwise!("softplus", |x| x.exp().ln_1p(), |x| unary("Softplus", x)),
    elementwise!("-softplus", |x| -x.exp().ln_1p(), |x| unary("Neg", unary("Softplus", x))),
    elementwise!("tanh", f64::tanh, |x| unary("Tanh", x)),
    elementwise!("1/", |x| 1.0 / x, |x| unary("Reciprocal", x)),
    elementwise!("sqrt", f64::sqrt, |x| unary("Sqrt", x)),
    elementwise!("1/sqrt", |x| 1.0 / x.sqrt(), |x| unary("Reciprocal", unary("Sqrt", x))),
    elementwise!("abs", f64::abs, |x| unary("Abs", x)),
    elementwise!("relu", |x| x.max(0.0), |x| unary("Relu", x)),
    elementwise!("square", |x| x * x, |x| Expression::node("Mul", vec![x.clone(), x])),
    Function {
        name: "square sum",
        apply: |v, s| folded(v, s, |row| row.iter().map(|x| x * x).sum()),
        write: |x| over_rows("ReduceSumSquare", x),
    },
    Function {
        name: "norm",
        apply: |v, s| folded(v, s, |row| row.iter().map(|x| x * x).sum::<f64>().sqrt()),
        write: |x| over_rows("ReduceL2", x),
    },
    Function { name: "softmax", apply: softmax, write: |x| unary("Softmax", x) },
    Function {
        name: "normalised",
        apply: normalised,
        write: |x| {
            let norm = over_rows("ReduceL2", x.clone());
            Expression::node("Div", vec![x, norm])
        },
    },
];

fn over_rows(op: &'static str, x: Expression) -> Expression {
    Expression::node(op, vec![x, last_axis()])
}

/// One number for every row along the last axis.
fn folded(values: &[f64], shape: &[usize], of: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    rows(values, shape, |row| vec![of(row)])
}

fn last_axis() -> Expression {
    Expression::Literal(Tensor::from_slice(&[1], &[-1i64]))
}

/// Along the last axis.
fn softmax(values: &[f64], shape: &[usize]) -> Vec<f64> {
    rows(values, shape, |row| {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
        row.iter().map(|x| (x - most).exp() / sum).collect()
    })
}

/// Divided by its length along the last axis.
fn normalised(values: &[f64], shape: &[usize]) -> Vec<f64> {
    rows(values, shape, |row| {
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter().map(|x| x / length).collect()
    })
}

fn rows(values: &[f64], shape: &[usize], of: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    values.chunks(shape.last().copied().unwrap_or(1).max(1)).flat_map(of).collect()
}

/// What libraries differ by: about three units of the last place; sums differ by more.
const CLOSE: f64 = 4e-7;

/// The largest relative error, if it is no more than what libraries differ by.
fn error(of: &[f32], expected: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut worst = 0.0f64;
    for (&found, expected) in of.iter().zip(expected) {
        let error = (f64::from(found) - expected).abs() / expected.abs().max(f64::MIN_POSITIVE);
        let equal = f64::from(found) == expected;
        match equal || error <= CLOSE {
            true if !equal => worst = worst.max(error),
            true => {}
            false => return None,
        }
    }
    Some(worst)
}

/// Looks for open initializers among functions of tensors, first of those that nothing else is made of: `1 − weight` may stand beside
/// the weight itself.
pub(super) fn find(
    initializers: &[Initializer],
    decisions: &mut [Decision],
    index: &Index<'_>,
) -> Result<(), BuildError> {
    for all in [false, true] {
        let tensors: Vec<(&str, &TensorInfo)> = match all {
            true => index.infos().collect(),
            false => with_equals(unclaimed(index, decisions), index),
        };
        among(&tensors, all, initializers, decisions, index)?;
    }
    Ok(())
}

/// Tensors with those that are equal to them: which of equal ones a function was taken of is not told by what is left over.
fn with_equals<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a TensorInfo)>,
    index: &'a Index<'_>,
) -> Vec<(&'a str, &'a TensorInfo)> {
    let mut all = BTreeMap::new();
    for (name, info) in tensors {
        all.insert(name, info);
        for equal in index.equals(name) {
            all.extend(index.info(equal).map(|info| (equal.as_str(), info)));
        }
    }
    all.into_iter().collect()
}

fn among(
    tensors: &[(&str, &TensorInfo)],
    claimed: bool,
    initializers: &[Initializer],
    decisions: &mut [Decision],
    index: &Index<'_>,
) -> Result<(), BuildError> {
    let open: Vec<usize> = open(decisions)
        .into_iter()
        .filter(|&i| initializers[i].tensor.dtype() == DType::F32)
        .filter(|&i| !is_plain(&initializers[i].tensor))
        .collect();
    let mut found: Vec<Vec<Recipe>> = vec![Vec::new(); initializers.len()];
    for (name, info) in tensors.iter().filter(|(_, info)| info.dtype == DType::F32) {
        let sizes = sizes(&info.shape);
        let fitting = |&i: &usize| sizes.contains(&initializers[i].tensor.len());
        let fitting: Vec<usize> = open.iter().copied().filter(fitting).collect();
        if fitting.is_empty() {
            continue;
        }
        let tensor = index.tensor(name)?;
        for i in fitting {
            // Plain numbers are functions of many others.
            if is_plain(&tensor) {
                continue;
            }
            let mut recipes = recipes(&initializers[i].tensor, name, &tensor, None);
            recipes.retain(|recipe| !(claimed && recipe.has_factor()));
            found[i].extend(recipes);
        }
    }
    for (i, recipes) in found.into_iter().enumerate() {
        match recipes.as_slice() {
            [] => {}
            [only] => decisions[i] = Decision::Stands(Stands::everywhere(only.clone())),
            several => decisions[i] = pair::decide(&initializers[i], several),
        }
    }
    Ok(())
}

/// How many elements the functions of a tensor of this shape have.
fn sizes(shape: &[usize]) -> [usize; 2] {
    let size: usize = shape.iter().product();
    [size, size / shape.last().copied().unwrap_or(1).max(1)]
}

/// The recipe of a function that the caller names; `None` if it gives something else.
pub(super) fn named(
    initializer: &Initializer,
    tensor: &str,
    function: &str,
    index: &Index<'_>,
) -> Result<Option<Recipe>, BuildError> {
    let Some(known) = FUNCTIONS.iter().find(|known| known.name == function) else {
        let names: Vec<&str> = FUNCTIONS.iter().map(|known| known.name).collect();
        return Err(BuildError::options(format!(
            "{:?} = {function:?} of {tensor:?}: the functions are {}",
            initializer.name,
            names.join(", ")
        )));
    };
    match index.read(tensor)? {
        None => Err(BuildError::options(format!("{} has no tensor {tensor:?}", index.origin()))),
        Some(found) => {
            Ok(recipes(&initializer.tensor, tensor, &found, Some(known)).into_iter().next())
        }
    }
}

/// How `initializer` is a function of `tensor`: the functions whose error is the smallest.
fn recipes(
    initializer: &Tensor,
    name: &str,
    tensor: &Tensor,
    only: Option<&Function>,
) -> Vec<Recipe> {
    let Ok(source) = tensor.as_slice::<f32>() else { return Vec::new() };
    if initializer.dtype() != DType::F32 || !sizes(tensor.shape()).contains(&initializer.len()) {
        return Vec::new();
    }
    let wide: Vec<f64> = source.iter().map(|&x| f64::from(x)).collect();
    let functions = || FUNCTIONS.iter().filter(|f| only.is_none_or(|only| only.name == f.name));
    let mut found: Vec<(f64, Recipe)> = Vec::new();
    for order in orders(initializer.shape()) {
        let form = initializer.permuted(&order);
        let Ok(values) = form.as_slice::<f32>() else { continue };
        // The recipe from a function's result to the initializer.
        let placed = |made: Expression| made.reshaped(form.shape()).permuted(&inverse(&order));
        for function in functions() {
            // Most functions differ at the first element.
            let first = (function.apply)(
                &wide[..tensor.shape().last().map_or(1, |&n| n.min(wide.len()))],
                tensor.shape(),
            );
            if first.len() > values.len() || error(&values[..first.len()], first).is_none() {
                continue;
            }
            let made = (function.apply)(&wide, tensor.shape());
            if made.len() != values.len() {
                continue;
            }
            if let Some(error) = error(values, made) {
                let expression = placed((function.write)(Expression::tensor(name)));
                found.push((
                    error,
                    Recipe::computed(format!("{name} | {}", function.name), expression),
                ));
            }
        }
        if let (None, Some(factor)) = (only, factor(values, source)) {
            let scaled =
                Expression::node("Mul", vec![Expression::tensor(name), Expression::scalar(factor)]);
            let label = format!("{name} times {factor}");
            let computed = Computed { label, expression: placed(scaled), factor: true };
            found.push((0.0, Recipe::Computed(computed)));
        }
    }
    let best = found.iter().map(|(error, _)| *error).fold(f64::INFINITY, f64::min);
    found.retain(|(error, _)| *error <= 2.0 * best + 6e-8);
    found.into_iter().map(|(_, recipe)| recipe).collect()
}

/// The number by which all of `from` was multiplied to give `to`, every element of it rounded to f32; `None` if there is none, or
/// few elements speak for it.
fn factor(to: &[f32], from: &[f32]) -> Option<f32> {
    const ENOUGH: usize = 4;
    if to.len() != from.len() {
        return None;
    }
    let largest = (0..from.len()).max_by(|&a, &b| from[a].abs().total_cmp(&from[b].abs()))?;
    let ratio = (f64::from(to[largest]) / f64::from(from[largest])) as f32;
    let near = [ratio, ratio.next_up(), ratio.next_down()];
    let gives = |factor: &f32| to.iter().zip(from).all(|(to, from)| from * factor == *to);
    let different = from.iter().any(|x| x.abs() != from[largest].abs());
    let plain = ratio == 1.0 || ratio == -1.0 || !ratio.is_normal();
    (from.len() >= ENOUGH && different && !plain).then(|| near.into_iter().find(gives)).flatten()
}
