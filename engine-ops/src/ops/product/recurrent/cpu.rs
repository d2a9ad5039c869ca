//! Recurrent layers on the CPU: the products with the inputs of all steps at once, then step by step those with the state.

use super::activation::{Activation, Real, within};
use super::layer::{B, Cell, INITIAL_C, INITIAL_H, LENS, Layer, P, R, W, X};
use crate::OpError;
use crate::cpu::{CpuCtx, CpuShapes, CpuStep, TensorMut, planned};
use crate::kernels::gemm::Gemm;
use engine_format::DType;

impl Layer {
    /// The products of X with a direction's W.
    fn over_inputs(&self) -> Gemm {
        Gemm { batch: 1, m: self.seq * self.batch, n: self.gates(), k: self.input }
    }

    /// The products of the state with `gates` gates of R.
    fn over_state(&self, gates: usize) -> Gemm {
        Gemm { batch: 1, m: self.batch, n: gates * self.hidden, k: self.hidden }
    }

    /// Elements of each working buffer: inputs' products, state's products, H, C.
    fn buffers(&self) -> [usize; 4] {
        let state = self.batch * self.hidden;
        [self.seq * self.batch * self.gates(), self.batch * self.gates(), state, state]
    }
}

/// The step of a layer over operands of these shapes.
pub(super) fn step(shapes: &CpuShapes<'_>, cell: Cell) -> Result<Box<dyn CpuStep>, OpError> {
    let (x, r) = (shapes.input(X), shapes.input(R));
    let layer = Layer::new(cell, shapes.attrs, &x.shape, &r.shape)?;
    let own: usize = layer.buffers().iter().map(|n| n * x.dtype.width()).sum();
    let gemm = layer.over_inputs().scratch().max(layer.over_state(cell.gates()).scratch());
    let scratch = own.next_multiple_of(8) + gemm;
    let run = match x.dtype {
        DType::F64 => run_in::<f64>,
        _ => run_in::<f32>,
    };
    planned(layer, scratch, run)
}

/// Steps of each sequence of a batch.
struct Lengths<'a> {
    given: Option<&'a [i32]>,
    whole: usize,
}

impl Lengths<'_> {
    fn of(&self, row: usize) -> usize {
        self.given.map_or(self.whole, |given| given[row] as usize)
    }
}

/// What one direction reads.
struct Weights<'a, T> {
    r: &'a [T],
    /// Biases of the inputs' products, then of the state's; empty if there are none.
    bias: &'a [T],
    /// Peepholes of i, o, f; empty if there are none.
    peepholes: &'a [T],
}

/// What changes from step to step.
struct State<'a, T> {
    /// Products of the inputs of all steps with W.
    inputs: &'a mut [T],
    /// Products of the state with R.
    products: &'a mut [T],
    h: &'a mut [T],
    c: &'a mut [T],
    gemm: &'a mut [u8],
}

/// The part of an optional operand that belongs to a direction.
fn part<T>(all: Option<&[T]>, dir: usize, len: usize) -> &[T] {
    all.map_or(&[], |all| &all[dir * len..][..len])
}

fn run_in<T: Real>(layer: &Layer, ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, w, r) = (ctx.input(X), ctx.input(W), ctx.input(R));
    let (gates, hidden) = (layer.gates(), layer.hidden);
    let optional = |i: usize| ctx.opt_input(i).map(|t| t.slice::<T>());
    let (bias, peepholes) = (optional(B), optional(P));
    let initial = [optional(INITIAL_H), optional(INITIAL_C)];
    let lengths = layer.lengths(ctx.opt_input(LENS).map(|t| t.slice::<i32>()))?;
    let mut results = ctx.outputs.iter_mut().map(|t| t.as_mut().map(TensorMut::slice::<T>));
    let mut y = results.next().flatten();
    let mut last = [results.next().flatten(), results.next().flatten()];
    if hidden * layer.batch == 0 {
        return Ok(());
    }
    let sizes = layer.buffers();
    let own: usize = sizes.iter().map(|n| n * size_of::<T>()).sum();
    let (own, gemm) = ctx.scratch.split_at_mut(own.next_multiple_of(8));
    let (inputs, rest) = bytemuck::cast_slice_mut(own).split_at_mut(sizes[0]);
    let (products, rest) = rest.split_at_mut(sizes[1]);
    let (h, rest) = rest.split_at_mut(sizes[2]);
    let mut state = State { inputs, products, h, c: &mut rest[..sizes[3]], gemm };
    for dir in 0..layer.dirs() {
        let w = &w.slice::<T>()[dir * gates * layer.input..][..gates * layer.input];
        T::multiply(layer.over_inputs(), x.slice(), w, state.inputs, state.gemm);
        let weights = Weights {
            r: &r.slice::<T>()[dir * gates * hidden..][..gates * hidden],
            bias: part(bias, dir, 2 * gates),
            peepholes: part(peepholes, dir, 3 * hidden),
        };
        layer.load(dir, &mut state, initial);
        for step in 0..layer.seq {
            layer.step(dir, step, &lengths, &weights, &mut state, y.as_deref_mut());
        }
        layer.store(dir, &state, &mut last);
    }
    Ok(())
}

impl Layer {
    /// The length of every sequence.
    fn lengths<'a>(&self, given: Option<&'a [i32]>) -> Result<Lengths<'a>, OpError> {
        let fits = |n: i32| usize::try_from(n).is_ok_and(|n| n <= self.seq);
        match given.unwrap_or_default().iter().find(|&&n| !fits(n)) {
            Some(n) => Err(OpError::new(format!("sequence length {n}, expected 0..={}", self.seq))),
            None => Ok(Lengths { given, whole: self.seq }),
        }
    }

    /// Sets the state to the initial one.
    fn load<T: Real>(&self, dir: usize, state: &mut State<'_, T>, initial: [Option<&[T]>; 2]) {
        for (to, from) in [&mut *state.h, &mut *state.c].into_iter().zip(initial) {
            for (b, to) in to.chunks_mut(self.hidden).enumerate() {
                match from {
                    Some(from) => to.copy_from_slice(&from[self.state_at(dir, b)..][..to.len()]),
                    None => to.fill(T::ZERO),
                }
            }
        }
    }

    /// Writes the state to the results that want it.
    fn store<T: Real>(
        &self,
        dir: usize,
        state: &State<'_, T>,
        results: &mut [Option<&mut [T]>; 2],
    ) {
        for (to, from) in results.iter_mut().zip([&*state.h, &*state.c]) {
            let Some(to) = to else { continue };
            for (b, from) in from.chunks(self.hidden).enumerate() {
                to[self.state_at(dir, b)..][..from.len()].copy_from_slice(from);
            }
        }
    }

    /// The step of X that sequence `b` of this length takes now; `None` once it is over.
    fn time(&self, dir: usize, step: usize, length: usize) -> Option<usize> {
        let t = if self.reversed[dir] { length.checked_sub(1 + step)? } else { step };
        (step < length).then_some(t)
    }

    fn step<T: Real>(
        &self,
        dir: usize,
        step: usize,
        lengths: &Lengths<'_>,
        weights: &Weights<'_, T>,
        state: &mut State<'_, T>,
        mut y: Option<&mut [T]>,
    ) {
        let hidden = self.hidden;
        // A reset before the product with R_h needs the gate first: that product is made second.
        let late = self.cell == Cell::Gru && !self.linear_before_reset;
        let early = if late { 2 } else { self.cell.gates() };
        let (products, resets) = state.products.split_at_mut(self.batch * early * hidden);
        let r = &weights.r[..early * hidden * hidden];
        T::multiply(self.over_state(early), state.h, r, products, state.gemm);
        let inputs = &*state.inputs;
        let row = |b: usize, t: usize| Row {
            layer: self,
            activations: self.activations(dir),
            inputs: &inputs[self.row(t, b) * self.gates()..][..self.gates()],
            products: &products[b * early * hidden..][..early * hidden],
            bias: weights.bias,
        };
        if late {
            // A GRU has no cell: the scaled state takes its place.
            state.c.fill(T::ZERO);
            for (b, length) in (0..self.batch).map(|b| (b, lengths.of(b))) {
                if let Some(t) = self.time(dir, step, length) {
                    let at = b * hidden..(b + 1) * hidden;
                    row(b, t).reset(&state.h[at.clone()], &mut state.c[at]);
                }
            }
            let r_h = &weights.r[2 * hidden * hidden..];
            let resets = &mut resets[..self.batch * hidden];
            T::multiply(self.over_state(1), state.c, r_h, resets, state.gemm);
        }
        for (b, length) in (0..self.batch).map(|b| (b, lengths.of(b))) {
            let at = b * hidden..(b + 1) * hidden;
            let h = &mut state.h[at.clone()];
            let time = self.time(dir, step, length);
            if let Some(row) = time.map(|t| row(b, t)) {
                match self.cell {
                    Cell::Lstm => row.lstm(h, &mut state.c[at], weights.peepholes),
                    Cell::Gru if late => row.gru_late(h, &resets[at]),
                    Cell::Gru => row.gru(h),
                    Cell::Rnn => row.rnn(h),
                }
            }
            if let Some(y) = y.as_deref_mut() {
                let y = &mut y[self.y_at(time.unwrap_or(step), dir, b)..][..hidden];
                match time {
                    Some(_) => y.copy_from_slice(h),
                    None => y.fill(T::ZERO),
                }
            }
        }
    }
}

/// One step of one sequence.
struct Row<'a, T> {
    layer: &'a Layer,
    activations: &'a [Activation],
    inputs: &'a [T],
    products: &'a [T],
    bias: &'a [T],
}

impl<T: Real> Row<'_, T> {
    /// The bias of a row of W, or of R.
    fn bias(&self, of_state: bool, gate: usize, unit: usize) -> T {
        let at =
            (usize::from(of_state) * self.layer.cell.gates() + gate) * self.layer.hidden + unit;
        self.bias.get(at).copied().unwrap_or(T::ZERO)
    }

    /// What an input gives to a gate.
    fn input(&self, gate: usize, unit: usize) -> T {
        self.inputs[gate * self.layer.hidden + unit] + self.bias(false, gate, unit)
    }

    /// What the state gives to a gate.
    fn state(&self, gate: usize, unit: usize) -> T {
        self.products[gate * self.layer.hidden + unit] + self.bias(true, gate, unit)
    }

    /// Activation `i` of this direction.
    fn activate(&self, i: usize, x: T) -> T {
        let x = self.layer.clip.map(T::of).map_or(x, |c| within(x, -c, c));
        self.activations[i].apply(x)
    }

    fn lstm(&self, h: &mut [T], c: &mut [T], peepholes: &[T]) {
        let hidden = self.layer.hidden;
        for (unit, (h, c)) in h.iter_mut().zip(c).enumerate() {
            let peep =
                |i: usize, c: T| peepholes.get(i * hidden + unit).map_or(T::ZERO, |&p| p * c);
            let gate = |i: usize| self.input(i, unit) + self.state(i, unit);
            let i = self.activate(0, gate(0) + peep(0, *c));
            let f = match self.layer.input_forget {
                true => T::ONE - i,
                false => self.activate(0, gate(2) + peep(2, *c)),
            };
            *c = f * *c + i * self.activate(1, gate(3));
            let o = self.activate(0, gate(1) + peep(1, *c));
            *h = o * self.activate(2, *c);
        }
    }

    fn gru(&self, h: &mut [T]) {
        for (unit, h) in h.iter_mut().enumerate() {
            let z = self.activate(0, self.input(0, unit) + self.state(0, unit));
            let r = self.activate(0, self.input(1, unit) + self.state(1, unit));
            let new = self.activate(1, self.input(2, unit) + r * self.state(2, unit));
            *h = (T::ONE - z) * new + z * *h;
        }
    }

    /// The state scaled by the reset gate.
    fn reset(&self, h: &[T], scaled: &mut [T]) {
        for (unit, (scaled, h)) in scaled.iter_mut().zip(h).enumerate() {
            let r = self.activate(0, self.input(1, unit) + self.state(1, unit));
            *scaled = r * *h;
        }
    }

    /// As [`Row::gru`], where `resets` is the product of R_h with the scaled state.
    fn gru_late(&self, h: &mut [T], resets: &[T]) {
        for (unit, (h, reset)) in h.iter_mut().zip(resets).enumerate() {
            let z = self.activate(0, self.input(0, unit) + self.state(0, unit));
            let new = self.activate(1, self.input(2, unit) + *reset + self.bias(true, 2, unit));
            *h = (T::ONE - z) * new + z * *h;
        }
    }

    fn rnn(&self, h: &mut [T]) {
        for (unit, h) in h.iter_mut().enumerate() {
            *h = self.activate(0, self.input(0, unit) + self.state(0, unit));
        }
    }
}
