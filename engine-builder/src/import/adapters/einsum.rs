//! Einsum as transpositions, sums and matrix products, which have kernels that are fast and run on GPUs. Equations that walk
//! along a diagonal, or whose sizes are not known well enough, stay what they are.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, ValueId};
use engine_ops::OpError;
use engine_ops::equation::{Equation, Label};

pub(super) static ROWS: &[Adapter] = &[row("Einsum", (12, ALL.1), einsum)];

/// A value whose axes have labels.
#[derive(Clone)]
struct Term {
    value: ValueId,
    labels: Vec<Label>,
}

impl Term {
    fn has(&self, label: Label) -> bool {
        self.labels.contains(&label)
    }

    /// The labels that a test takes, in order.
    fn those(&self, test: impl Fn(Label) -> bool) -> Vec<Label> {
        self.labels.iter().copied().filter(|&label| test(label)).collect()
    }

    /// Sums over the axes that are not kept.
    fn summed(self, call: &mut Call<'_>, keep: impl Fn(Label) -> bool) -> Result<Self, OpError> {
        let gone = |(i, label): (usize, &Label)| (!keep(*label)).then_some(i as i64);
        let axes: Vec<i64> = self.labels.iter().enumerate().filter_map(gone).collect();
        if axes.is_empty() {
            return Ok(self);
        }
        let axes = call.vector(&axes);
        let value = call.emit("ReduceSum", [self.value, axes], vec![("keepdims", Attr::Int(0))])?;
        let labels = self.those(keep);
        Ok(Self { value, labels })
    }

    /// The axes in another order.
    fn ordered(self, call: &mut Call<'_>, labels: Vec<Label>) -> Result<Self, OpError> {
        if labels == self.labels {
            return Ok(self);
        }
        let place = |label: &Label| self.labels.iter().position(|own| own == label);
        let perm = labels.iter().map(|label| place(label).expect("a reordering") as i64).collect();
        let value = call.emit("Transpose", [self.value], vec![("perm", Attr::Ints(perm))])?;
        Ok(Self { value, labels })
    }
}

fn einsum(call: &mut Call<'_>) -> Result<Last, OpError> {
    let inputs = call.inputs();
    let text = call.str("equation", "")?;
    let Some(equation) = composed(call, text, &inputs)? else {
        let equation = Attr::Str(text.to_owned());
        return call.last("Einsum", inputs, vec![("equation", equation)]);
    };
    let values = inputs.into_iter().flatten().zip(equation.operands);
    let mut terms = values.map(|(value, labels)| Term { value, labels });
    let mut product = terms.next().ok_or_else(|| OpError::new("there are no operands"))?;
    let rest: Vec<Term> = terms.collect();
    for (i, term) in rest.iter().enumerate() {
        let later = &rest[i + 1..];
        let needed = |label| equation.result.contains(&label) || later.iter().any(|t| t.has(label));
        product = multiply(call, product, term.clone(), needed)?;
    }
    let product = product.summed(call, |label| equation.result.contains(&label))?;
    let product = product.ordered(call, equation.result)?;
    call.finish("Identity", [product.value], vec![])
}

/// The equation, if it can be composed: no label twice in a term, what is summed has one size, and the type is one that matrix
/// products take.
fn composed(
    call: &Call<'_>,
    text: &str,
    inputs: &[Option<ValueId>],
) -> Result<Option<Equation>, OpError> {
    let values: Vec<ValueId> = inputs.iter().copied().flatten().collect();
    let shapes = values.iter().map(|&id| call.facts(id).shape.clone()).collect::<Option<Vec<_>>>();
    let Some(shapes) = shapes else { return Ok(None) };
    let taken = [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64];
    if !values.iter().all(|&id| taken.contains(&call.facts(id).dtype)) {
        return Ok(None);
    }
    let ranks: Vec<usize> = shapes.iter().map(Vec::len).collect();
    let equation = Equation::new(text, &ranks)?;
    let all = equation.operands.iter().zip(&shapes);
    let plain = all.clone().all(|(labels, shape)| {
        let twice = |(i, label): (usize, &Label)| labels[..i].contains(label);
        !labels.iter().enumerate().any(twice) && shape.iter().all(|d| d.known() != Some(0))
    });
    let summed: Vec<Label> = equation.operands.iter().flatten().copied().collect();
    let one_size =
        summed.into_iter().filter(|label| !equation.result.contains(label)).all(|label| {
            let size = |(labels, shape): (&Vec<Label>, &Vec<engine_format::Dim>)| {
                labels.iter().position(|l| *l == label).map(|at| shape[at].clone())
            };
            let mut sizes = all.clone().filter_map(size);
            let first = sizes.next();
            sizes.all(|other| Some(&other) == first.as_ref())
        });
    Ok((plain && one_size).then_some(equation))
}

/// The product of two terms, summed over what both have and nobody needs any more.
fn multiply(
    call: &mut Call<'_>,
    left: Term,
    right: Term,
    needed: impl Fn(Label) -> bool,
) -> Result<Term, OpError> {
    let left = left.summed(call, |label| needed(label) || right.has(label))?;
    let right = right.summed(call, |label| needed(label) || left.has(label))?;
    let shared = left.those(|label| right.has(label) && needed(label));
    let summed = left.those(|label| right.has(label) && !needed(label));
    let (rows, columns) =
        (left.those(|label| !right.has(label)), right.those(|label| !left.has(label)));
    if summed.is_empty() {
        return outer(call, left, right, [shared, rows, columns]);
    }
    let left = left.ordered(call, [&shared[..], &rows, &summed].concat())?;
    let right = right.ordered(call, [&shared[..], &summed, &columns].concat())?;
    let (before, sizes) = (shared.len(), [rows.len(), summed.len(), columns.len()]);
    let a = matrices(call, left.value, before, sizes[0], sizes[1])?;
    let b = matrices(call, right.value, before, sizes[1], sizes[2])?;
    let mut value = call.emit("MatMul", [a, b], vec![])?;
    let labels = [&shared[..], &rows, &columns].concat();
    if sizes[0] != 1 || sizes[2] != 1 {
        // Sizes of shared axes are the product's own, which may come from either operand.
        let front = call.vector(&vec![0; before]);
        let (from, to) = (before as i64, (before + sizes[0]) as i64);
        let own_rows = call.sizes(left.value, from, to)?;
        let from = (before + sizes[1]) as i64;
        let own_columns = call.sizes(right.value, from, from + sizes[2] as i64)?;
        let shape =
            call.emit("Concat", [front, own_rows, own_columns], vec![("axis", Attr::Int(0))])?;
        value = call.emit("Reshape", [value, shape], vec![])?;
    }
    Ok(Term { value, labels })
}

/// The product of two terms of which nothing is summed: each gets the other's axes, of size 1.
fn outer(
    call: &mut Call<'_>,
    left: Term,
    right: Term,
    [shared, rows, columns]: [Vec<Label>; 3],
) -> Result<Term, OpError> {
    let left = left.ordered(call, [&shared[..], &rows].concat())?;
    let right = right.ordered(call, [&shared[..], &columns].concat())?;
    let wide = |call: &mut Call<'_>, value, from: usize, count: usize| {
        if count == 0 {
            return Ok(value);
        }
        let axes: Vec<i64> = (from..from + count).map(|axis| axis as i64).collect();
        let axes = call.vector(&axes);
        call.emit("Unsqueeze", [value, axes], vec![])
    };
    let a = wide(call, left.value, shared.len() + rows.len(), columns.len())?;
    let b = wide(call, right.value, shared.len(), rows.len())?;
    let value = call.emit("Mul", [a, b], vec![])?;
    Ok(Term { value, labels: [shared, rows, columns].concat() })
}

/// A stack of matrices: behind `before` axes that stay, `rows` axes as one and `columns` axes as one; none is one of size 1.
fn matrices(
    call: &mut Call<'_>,
    mut x: ValueId,
    before: usize,
    rows: usize,
    columns: usize,
) -> Result<ValueId, OpError> {
    if columns != 1 {
        // The last axes as one: those before them keep their sizes.
        let mut shape = vec![0; before + rows];
        shape.push(-1);
        let shape = call.vector(&shape);
        x = call.emit("Reshape", [x, shape], vec![])?;
    }
    if rows != 1 {
        let mut front = vec![0; before];
        front.push(-1);
        let (front, last) = (call.vector(&front), call.sizes(x, -1, i64::MAX)?);
        let shape = call.emit("Concat", [front, last], vec![("axis", Attr::Int(0))])?;
        x = call.emit("Reshape", [x, shape], vec![])?;
    }
    Ok(x)
}
