//! Steps of optimisers (`ai.onnx.preview.training`), as arithmetic.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::ValueId;
use engine_ops::OpError;

const DOMAIN: &str = "ai.onnx.preview.training";

pub(super) static ROWS: &[Adapter] = &[
    Adapter { domain: DOMAIN, ..row("Momentum", ALL, momentum) },
    Adapter { domain: DOMAIN, ..row("Adagrad", ALL, adagrad) },
    Adapter { domain: DOMAIN, ..row("Adam", ALL, adam) },
];

/// A step: its operands are the rate, the count of steps so far, and for each kind of state as many tensors as there are
/// parameters.
struct Step<'c, 'a> {
    call: &'c mut Call<'a>,
    rate: ValueId,
    count: ValueId,
    kinds: usize,
    parameters: usize,
}

impl<'c, 'a> Step<'c, 'a> {
    /// A step whose operands are of `kinds` kinds: parameters, gradients, moments.
    fn new(call: &'c mut Call<'a>, kinds: usize) -> Result<Self, OpError> {
        let (rate, count, given) = (call.input(0)?, call.input(1)?, call.inputs().len());
        let parameters = given.saturating_sub(2) / kinds;
        if parameters == 0 || given != 2 + parameters * kinds {
            return Err(OpError::new(format!(
                "{given} operands, expected the rate, the count and {kinds} for each parameter"
            )));
        }
        Ok(Self { call, rate, count, kinds, parameters })
    }

    /// The tensor of a kind for a parameter.
    fn state(&self, kind: usize, parameter: usize) -> Result<ValueId, OpError> {
        self.call.input(2 + kind * self.parameters + parameter)
    }

    fn binary(&mut self, op: &'static str, a: ValueId, b: ValueId) -> Result<ValueId, OpError> {
        self.call.emit(op, [a, b], vec![])
    }

    /// A value times a number.
    fn scaled(&mut self, x: ValueId, by: f64) -> Result<ValueId, OpError> {
        let by = self.call.scalar_like(x, by)?;
        self.binary("Mul", x, by)
    }

    /// A value plus a number.
    fn shifted(&mut self, x: ValueId, by: f64) -> Result<ValueId, OpError> {
        let by = self.call.scalar_like(x, by)?;
        self.binary("Add", x, by)
    }

    /// `g + norm · x`.
    fn gradient(&mut self, parameter: usize, norm: f64) -> Result<ValueId, OpError> {
        let (x, g) = (self.state(0, parameter)?, self.state(1, parameter)?);
        let pull = self.scaled(x, norm)?;
        self.binary("Add", pull, g)
    }

    /// `later` once a step was made before, `first` until then.
    fn once_begun(&mut self, later: ValueId, first: ValueId) -> Result<ValueId, OpError> {
        let zero = self.call.scalar_like(self.count, 0.0)?;
        let begun = self.binary("Greater", self.count, zero)?;
        self.call.emit("Where", [begun, later, first], vec![])
    }

    /// Gives the results: for each kind in order, those of all parameters.
    fn finish(self, results: &[Vec<ValueId>]) -> Result<Last, OpError> {
        for (i, &value) in results.concat().iter().enumerate().skip(1) {
            self.call.give(i, value);
        }
        debug_assert!(results.len() < self.kinds, "the gradient has no new value");
        self.call.finish("Identity", [results[0][0]], vec![])
    }
}

fn momentum(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (alpha, beta) = (call.float("alpha", 0.0)?, call.float("beta", 0.0)?);
    let norm = f64::from(call.float("norm_coefficient", 0.0)?);
    let nesterov = match call.str("mode", "standard")? {
        "standard" => false,
        "nesterov" => true,
        other => {
            return Err(OpError::new(format!("mode {other:?}, expected standard or nesterov")));
        }
    };
    let mut step = Step::new(call, 3)?;
    let (mut xs, mut vs) = (Vec::new(), Vec::new());
    for i in 0..step.parameters {
        let (x, v) = (step.state(0, i)?, step.state(2, i)?);
        let gradient = step.gradient(i, norm)?;
        // The first step takes the whole gradient.
        let (beta, one) = (step.call.scalar_like(x, beta.into())?, step.call.scalar_like(x, 1.0)?);
        let share = step.once_begun(beta, one)?;
        let push = step.binary("Mul", share, gradient)?;
        let kept = step.scaled(v, alpha.into())?;
        let v = step.binary("Add", kept, push)?;
        let direction = if nesterov {
            let ahead = step.scaled(v, alpha.into())?;
            step.binary("Add", gradient, ahead)?
        } else {
            v
        };
        let way = step.binary("Mul", step.rate, direction)?;
        xs.push(step.binary("Sub", x, way)?);
        vs.push(v);
    }
    step.finish(&[xs, vs])
}

fn adagrad(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (decay, epsilon) = (call.float("decay_factor", 0.0)?, call.float("epsilon", 0.0)?);
    let norm = f64::from(call.float("norm_coefficient", 0.0)?);
    let mut step = Step::new(call, 3)?;
    let (mut xs, mut hs) = (Vec::new(), Vec::new());
    for i in 0..step.parameters {
        let (x, h) = (step.state(0, i)?, step.state(2, i)?);
        let dtype = step.call.facts(x).dtype;
        let count = step.call.cast(step.count, dtype)?;
        let slowed = step.scaled(count, decay.into())?;
        let slowed = step.shifted(slowed, 1.0)?;
        let rate = step.binary("Div", step.rate, slowed)?;
        let gradient = step.gradient(i, norm)?;
        let square = step.binary("Mul", gradient, gradient)?;
        let h = step.binary("Add", h, square)?;
        let size = step.call.emit("Sqrt", [h], vec![])?;
        let size = step.shifted(size, epsilon.into())?;
        let way = step.binary("Mul", rate, gradient)?;
        let way = step.binary("Div", way, size)?;
        xs.push(step.binary("Sub", x, way)?);
        hs.push(h);
    }
    step.finish(&[xs, hs])
}

fn adam(call: &mut Call<'_>) -> Result<Last, OpError> {
    let alpha = f64::from(call.float("alpha", 0.9)?);
    let beta = f64::from(call.float("beta", 0.999)?);
    let epsilon = f64::from(call.float("epsilon", 0.0)?);
    let norm = f64::from(call.float("norm_coefficient", 0.0)?);
    let norm_after = f64::from(call.float("norm_coefficient_post", 0.0)?);
    let mut step = Step::new(call, 4)?;
    let [mut xs, mut vs, mut hs] = [Vec::new(), Vec::new(), Vec::new()];
    for i in 0..step.parameters {
        let (x, v, h) = (step.state(0, i)?, step.state(2, i)?, step.state(3, i)?);
        let gradient = step.gradient(i, norm)?;
        let square = step.binary("Mul", gradient, gradient)?;
        let v = blend(&mut step, v, gradient, alpha)?;
        let h = blend(&mut step, h, square, beta)?;
        let size = step.call.emit("Sqrt", [h], vec![])?;
        let size = step.shifted(size, epsilon)?;
        let rate = corrected_rate(&mut step, x, alpha, beta)?;
        let direction = step.binary("Div", v, size)?;
        let way = step.binary("Mul", rate, direction)?;
        let moved = step.binary("Sub", x, way)?;
        xs.push(step.scaled(moved, 1.0 - norm_after)?);
        vs.push(v);
        hs.push(h);
    }
    step.finish(&[xs, vs, hs])
}

/// `share · old + (1 − share) · new`.
fn blend(
    step: &mut Step<'_, '_>,
    old: ValueId,
    new: ValueId,
    share: f64,
) -> Result<ValueId, OpError> {
    let (old, new) = (step.scaled(old, share)?, step.scaled(new, 1.0 - share)?);
    step.binary("Add", old, new)
}

/// The rate, corrected for moments that began at 0: `r · √(1 − beta^t) / (1 − alpha^t)` from the second step on.
fn corrected_rate(
    step: &mut Step<'_, '_>,
    x: ValueId,
    alpha: f64,
    beta: f64,
) -> Result<ValueId, OpError> {
    let dtype = step.call.facts(x).dtype;
    let count = step.call.cast(step.count, dtype)?;
    let one = step.call.scalar_of(dtype, 1.0)?;
    let rest = |step: &mut Step<'_, '_>, base: f64| {
        let base = step.call.scalar_of(dtype, base)?;
        let power = step.binary("Pow", base, count)?;
        step.binary("Sub", one, power)
    };
    let (of_beta, of_alpha) = (rest(step, beta)?, rest(step, alpha)?);
    let root = step.call.emit("Sqrt", [of_beta], vec![])?;
    let corrected = step.binary("Mul", step.rate, root)?;
    let corrected = step.binary("Div", corrected, of_alpha)?;
    step.once_begun(corrected, step.rate)
}
