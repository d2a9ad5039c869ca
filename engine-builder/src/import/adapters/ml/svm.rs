//! Support vector machines, as LIBSVM fits them.

use super::scores::{Labels, Other, Transform, pair, transformed};
use super::{ALL, check_count, columns, floats, matrix, row};
use crate::import::adapters::Adapter;
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, Tensor, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] =
    &[row("SVMClassifier", ALL, classifier), row("SVMRegressor", ALL, regressor)];

/// How examples are compared with support vectors.
enum Kernel {
    Linear,
    Polynomial,
    Radial,
    Sigmoid,
}

/// A kernel with its three parameters.
struct Comparison {
    kernel: Kernel,
    gamma: f64,
    offset: f64,
    degree: f64,
}

impl Comparison {
    fn read(call: &mut Call<'_>) -> Result<Self, OpError> {
        let kernel = match call.str("kernel_type", "LINEAR")? {
            "LINEAR" => Kernel::Linear,
            "POLY" => Kernel::Polynomial,
            "RBF" => Kernel::Radial,
            "SIGMOID" => Kernel::Sigmoid,
            other => {
                return Err(OpError::new(format!(
                    "kernel_type {other:?}, expected LINEAR, POLY, RBF or SIGMOID"
                )));
            }
        };
        let parameters = call.floats("kernel_params")?.unwrap_or_default();
        let [gamma, offset, degree] = match *parameters {
            [] => [0.0; 3],
            [gamma, offset, degree] => [gamma, offset, degree],
            _ => return Err(OpError::new("kernel_params, expected gamma, coef0 and degree")),
        };
        let [gamma, offset, degree] = [gamma, offset, degree].map(f64::from);
        Ok(Self { kernel, gamma, offset, degree })
    }

    /// The kernel of every row of `x` with every support vector, `[rows, vectors]`.
    fn of(
        &self,
        call: &mut Call<'_>,
        x: ValueId,
        vectors: &[f32],
        count: usize,
    ) -> Result<ValueId, OpError> {
        let features = columns("support_vectors", vectors.len(), count)?;
        let gamma = call.scalar_like(x, self.gamma)?;
        if let Kernel::Radial = self.kernel {
            // Distances are taken apart from each other: from products they would lose what is close.
            let (row, last) = (call.vector(&[1]), call.vector(&[-1]));
            let x = call.emit("Unsqueeze", [x, row], vec![])?;
            let vectors = floats(call, &[count, features], vectors);
            let apart = call.emit("Sub", [x, vectors], vec![])?;
            let flat = vec![("keepdims", Attr::Int(0))];
            let distance = call.emit("ReduceSumSquare", [apart, last], flat)?;
            let nearer = call.scalar_like(distance, -self.gamma)?;
            let power = call.emit("Mul", [distance, nearer], vec![])?;
            return call.emit("Exp", [power], vec![]);
        }
        let transposed: Vec<f32> = (0..features)
            .flat_map(|f| (0..count).map(move |v| vectors[v * features + f]))
            .collect();
        let transposed = floats(call, &[features, count], &transposed);
        let product = call.emit("MatMul", [x, transposed], vec![])?;
        if let Kernel::Linear = self.kernel {
            return Ok(product);
        }
        let scaled = call.emit("Mul", [product, gamma], vec![])?;
        let offset = call.scalar_like(scaled, self.offset)?;
        let moved = call.emit("Add", [scaled, offset], vec![])?;
        match self.kernel {
            Kernel::Polynomial => {
                let degree = call.scalar_like(moved, self.degree)?;
                call.emit("Pow", [moved, degree], vec![])
            }
            _ => call.emit("Tanh", [moved], vec![]),
        }
    }
}

/// `x · w + b` for a literal `w` of `[rows, columns]` and a literal row `b`.
fn gemm(
    call: &mut Call<'_>,
    x: ValueId,
    shape: [usize; 2],
    w: &[f32],
    b: &[f32],
) -> Result<ValueId, OpError> {
    let (w, b) = (floats(call, &shape, w), floats(call, &[b.len()], b));
    call.emit("Gemm", [x, w, b], vec![])
}

fn regressor(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (how, comparison) = (Transform::read(call)?, Comparison::read(call)?);
    let coefficients = call.required_floats("coefficients")?;
    let rho = call.required_floats("rho")?;
    check_count("rho", rho.len(), 1)?;
    let count = usize::try_from(call.int("n_supports", 0)?)
        .map_err(|_| OpError::new("n_supports is negative"))?;
    let vectors = call.floats("support_vectors")?.unwrap_or_default();
    let mut features = matrix(call)?;
    if count > 0 {
        check_count("coefficients", coefficients.len(), count)?;
        features = comparison.of(call, features, vectors, count)?;
    }
    let y = gemm(call, features, [coefficients.len(), 1], coefficients, rho)?;
    if call.int("one_class", 0)? == 0 {
        let y = transformed(call, y, how)?;
        return call.finish("Identity", [y], vec![]);
    }
    let (zero, one) = (call.scalar_like(y, 0.0)?, call.scalar_like(y, 1.0)?);
    let other = call.scalar_like(y, -1.0)?;
    let inside = call.emit("Greater", [y, zero], vec![])?;
    call.finish("Where", [inside, one, other], vec![])
}

fn classifier(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (how, comparison) = (Transform::read(call)?, Comparison::read(call)?);
    let labels = Labels::read(call, "classlabels_ints", "classlabels_strings")?;
    let coefficients = call.required_floats("coefficients")?;
    let rho = call.required_floats("rho")?;
    let (a, b) =
        (call.floats("prob_a")?.unwrap_or_default(), call.floats("prob_b")?.unwrap_or_default());
    let vectors = call.floats("support_vectors")?.unwrap_or_default();
    let counts = call.ints("vectors_per_class")?.unwrap_or_default();
    let x = matrix(call)?;
    let classes = labels.len();
    let Some(pairs) = Pairs::new(classes, counts)? else {
        // Without support vectors it is a linear model with one offset.
        let features = columns("coefficients", coefficients.len(), classes)?;
        let weights = floats(call, &[classes, features], coefficients);
        let offset = rho.first().ok_or_else(|| OpError::new("rho is empty"))?;
        let offset = floats(call, &[classes], &vec![*offset; classes]);
        let scores = call.emit("Gemm", [x, weights, offset], vec![("transB", Attr::Int(1))])?;
        let given = transformed(call, scores, how)?;
        call.give(1, given);
        return labels.of_greatest(call, scores);
    };
    check_count("coefficients", coefficients.len(), (classes - 1) * pairs.vectors)?;
    check_count("rho", rho.len(), pairs.list.len())?;
    let near = comparison.of(call, x, vectors, pairs.vectors)?;
    let weights = pairs.weights(coefficients);
    let scores = gemm(call, near, [pairs.vectors, pairs.list.len()], &weights, rho)?;
    let given = if !a.is_empty() {
        let sure = probabilities(call, scores, a, b, pairs.list.len())?;
        transformed(call, sure, how)?
    } else if classes == 2 {
        let other = if how == Transform::None { Other::Opposite } else { Other::Complement };
        pair(call, scores, how, other)?
    } else {
        transformed(call, scores, how)?
    };
    call.give(1, given);
    let votes = pairs.votes(call, scores, classes)?;
    labels.of_greatest(call, votes)
}

/// Probabilities of classes by Platt's method: those of pairs, 1 / (1 + exp(a·s + b)), coupled.
fn probabilities(
    call: &mut Call<'_>,
    scores: ValueId,
    a: &[f32],
    b: &[f32],
    pairs: usize,
) -> Result<ValueId, OpError> {
    check_count("prob_a", a.len(), pairs)?;
    check_count("prob_b", b.len(), pairs)?;
    let negative = |v: &[f32]| v.iter().map(|v| -v).collect::<Vec<f32>>();
    let (a, b) = (floats(call, &[pairs], &negative(a)), floats(call, &[pairs], &negative(b)));
    let scaled = call.emit("Mul", [scores, a], vec![])?;
    let moved = call.emit("Add", [scaled, b], vec![])?;
    let sure = call.emit("Sigmoid", [moved], vec![])?;
    let bounds = [1e-7f32, 1.0 - 1e-7].map(|bound| call.literal(Tensor::from_slice(&[], &[bound])));
    let sure = call.emit("Clip", [sure, bounds[0], bounds[1]], vec![])?;
    call.emit("PairwiseCoupling", [sure], vec![])
}

/// Pairs of classes, and which support vectors are of which class.
struct Pairs {
    list: Vec<(usize, usize)>,
    /// Where the vectors of each class start, and where the last one's end.
    starts: Vec<usize>,
    vectors: usize,
}

impl Pairs {
    /// `None` if there are no support vectors.
    fn new(classes: usize, counts: &[i64]) -> Result<Option<Self>, OpError> {
        let mut starts = vec![0];
        for &count in counts {
            let count = usize::try_from(count).map_err(|_| {
                OpError::new(format!("vectors_per_class {counts:?}, one is negative"))
            })?;
            starts.push(starts[starts.len() - 1] + count);
        }
        let vectors = starts[starts.len() - 1];
        if vectors == 0 {
            return Ok(None);
        }
        check_count("vectors_per_class", counts.len(), classes)?;
        if classes < 2 {
            return Err(OpError::new("there is one class, expected two or more"));
        }
        let list = (0..classes).flat_map(|i| (i + 1..classes).map(move |j| (i, j))).collect();
        Ok(Some(Self { list, starts, vectors }))
    }

    /// `[vectors, pairs]`: what each vector counts for each pair. `coefficients` has a row for each of the other classes, its own
    /// being left out.
    fn weights(&self, coefficients: &[f32]) -> Vec<f32> {
        let mut out = vec![0f32; self.vectors * self.list.len()];
        for (p, &(i, j)) in self.list.iter().enumerate() {
            for (class, other) in [(i, j - 1), (j, i)] {
                for v in self.starts[class]..self.starts[class + 1] {
                    out[v * self.list.len() + p] = coefficients[other * self.vectors + v];
                }
            }
        }
        out
    }

    /// How many pairs each class wins: the first by a score above 0, else the second.
    fn votes(
        &self,
        call: &mut Call<'_>,
        scores: ValueId,
        classes: usize,
    ) -> Result<ValueId, OpError> {
        let zero = call.scalar_like(scores, 0.0)?;
        let first = call.emit("Greater", [scores, zero], vec![])?;
        let first = call.cast(first, DType::F32)?;
        let (mut change, mut all) = (vec![0f32; self.list.len() * classes], vec![0f32; classes]);
        for (p, &(i, j)) in self.list.iter().enumerate() {
            change[p * classes + i] = 1.0;
            change[p * classes + j] = -1.0;
            all[j] += 1.0;
        }
        gemm(call, first, [self.list.len(), classes], &change, &all)
    }
}
