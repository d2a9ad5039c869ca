//! Recurrent layers on the GPU: a dispatch for every step of every direction, around copies of the states.

use super::activation::Activation;
use super::layer::{B, Cell, INITIAL_C, INITIAL_H, LENS, Layer, P, R, W, X};
use crate::OpError;
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::strided::{Loop, StridedCopy};
use engine_format::DType;
use std::borrow::Cow;

/// Biases, peepholes and lengths.
const EXTRAS: Bind = Bind::Scratch(0);
/// Where Y goes that nobody wants.
const NO_Y: Bind = Bind::Scratch(1);
/// The scratch buffer of the first direction's state.
const STATES: usize = 2;

/// How an invocation ends: with a new state, or with the scaled one.
const STORE: &str = "store(unit, b, h, running, t, row);";
const SCALE: &str = "state[c_at] = h;";

const LSTM: &str = "let i = activate(0u, sum(0u, unit) + peep(0u, unit, state[c_at]));
    var f = 1.0 - i;
    if (!has(32u)) { f = activate(0u, sum(2u, unit) + peep(2u, unit, state[c_at])); }
    let c = f * state[c_at] + i * activate(1u, sum(3u, unit));
    let o = activate(0u, sum(1u, unit) + peep(1u, unit, c));
    state[c_at] = c;
    return o * activate(2u, c);";
const GRU: &str = "let z = activate(0u, sum(0u, unit));
    let reset = activate(0u, sum(1u, unit));
    let new_h = activate(1u, from_inputs(2u, unit) + reset * from_state(2u, unit));
    return (1.0 - z) * new_h + z * h;";
/// A GRU that resets the state before its product with R_h: the scaled state, which lies where an LSTM has its cell, is made by a
/// dispatch of its own.
const RESET: &str = "return activate(0u, sum(1u, unit)) * h;";
/// What meets R_h then.
const SCALED: &str = "select(value, state[2u * cells + b * hidden + k], g == 2u)";
const LATE: &str = "let z = activate(0u, sum(0u, unit));
    let new_h = activate(1u, sum(2u, unit));
    return (1.0 - z) * new_h + z * h;";
const RNN: &str = "return activate(0u, sum(0u, unit));";

pub(super) fn program(ctx: &GpuCtx<'_>, cell: Cell) -> Result<Option<GpuProgram>, OpError> {
    if ctx.input(X).dtype != DType::F32 {
        return Ok(None);
    }
    let layer = Layer::new(cell, ctx.attrs, &ctx.input(X).shape, &ctx.input(R).shape)?;
    if layer.hidden * layer.batch == 0 {
        return Ok(Some(GpuProgram { dispatches: Vec::new(), scratch: Vec::new() }));
    }
    let widest = layer.hidden.max(layer.batch);
    if layer.seq * layer.input == 0 || widest > ctx.limits.max_workgroups as usize {
        return Ok(None);
    }
    let extras = Extras::of(&layer, ctx);
    let state = layer.batch * layer.hidden;
    let mut program = GpuProgram { dispatches: Vec::new(), scratch: vec![extras.len.max(1), 1] };
    program.scratch.resize(STATES + layer.dirs(), 3 * state);
    let mut ok = extras.record(ctx, &mut program);
    for dir in 0..layer.dirs() {
        let own = Bind::Scratch(STATES + dir);
        for (operand, at) in [(INITIAL_H, 0), (INITIAL_C, 2 * state)] {
            if ctx.opt_input(operand).is_some() {
                let copy = layer.state_copy(dir, at, true);
                let binds = (Bind::In(operand), own);
                ok &= copy.record(&mut program, "Recurrent state", DType::F32, binds, ctx.limits);
            }
        }
        layer.steps(dir, &extras, ctx, &mut program);
        for (result, at) in [(1, layer.seq % 2 * state), (2, 2 * state)] {
            if ctx.outputs.get(result).is_some_and(Option::is_some) {
                let copy = layer.state_copy(dir, at, false);
                let binds = (own, Bind::Out(result));
                ok &= copy.record(&mut program, "Recurrent state", DType::F32, binds, ctx.limits);
            }
        }
    }
    Ok(ok.then_some(program))
}

/// Where the parts of the buffer of extras begin.
struct Extras {
    biases: usize,
    peepholes: usize,
    lengths: usize,
    len: usize,
}

impl Extras {
    fn of(layer: &Layer, ctx: &GpuCtx<'_>) -> Self {
        let room = |operand: usize, n: usize| if ctx.opt_input(operand).is_some() { n } else { 0 };
        let peepholes = room(B, layer.dirs() * 2 * layer.gates());
        let lengths = peepholes + room(P, layer.dirs() * 3 * layer.hidden);
        Self { biases: 0, peepholes, lengths, len: lengths + room(LENS, layer.batch) }
    }

    /// Copies them there; false if they cannot be.
    fn record(&self, ctx: &GpuCtx<'_>, program: &mut GpuProgram) -> bool {
        let parts = [(B, self.biases), (P, self.peepholes), (LENS, self.lengths)];
        let mut ok = true;
        for (operand, at) in parts {
            let Some(meta) = ctx.opt_input(operand) else { continue };
            let copy = StridedCopy::new(0, at, [Loop { size: meta.len(), from: 1, to: 1 }]);
            let binds = (Bind::In(operand), EXTRAS);
            ok &= copy.record(program, "Recurrent extras", meta.dtype, binds, ctx.limits);
        }
        ok
    }
}

impl Layer {
    /// The copy of a direction's part of an initial state to `at` of its buffer, or from there to a result.
    fn state_copy(&self, dir: usize, at: usize, inwards: bool) -> StridedCopy {
        let outside = if self.batch > 1 {
            self.state_at(dir, 1) - self.state_at(dir, 0)
        } else {
            self.hidden
        };
        let unit = Loop { size: self.hidden, from: 1, to: 1 };
        let (own, first) = (self.hidden, self.state_at(dir, 0));
        if inwards {
            let rows = Loop { size: self.batch, from: outside as isize, to: own };
            StridedCopy::new(first as isize, at, [rows, unit])
        } else {
            let rows = Loop { size: self.batch, from: own as isize, to: outside };
            StridedCopy::new(at as isize, first, [rows, unit])
        }
    }

    /// The shaders of one step, in order.
    fn texts(&self) -> Vec<String> {
        let text = |gates: &str, cell: &str, value: &str, end: &str| {
            let keys = [("gates", gates), ("cell", cell), ("value", value), ("end", end)];
            render(include_str!("step.wgsl"), &keys)
        };
        match self.cell {
            Cell::Lstm => vec![text("4", LSTM, "value", STORE)],
            Cell::Gru if self.linear_before_reset => vec![text("3", GRU, "value", STORE)],
            Cell::Gru => {
                vec![text("3", RESET, "value", SCALE), text("3", LATE, SCALED, STORE)]
            }
            Cell::Rnn => vec![text("1", RNN, "value", STORE)],
        }
    }

    fn steps(&self, dir: usize, extras: &Extras, ctx: &GpuCtx<'_>, program: &mut GpuProgram) {
        let texts = self.texts();
        let wants_y = ctx.outputs.first().is_some_and(Option::is_some);
        let y = if wants_y { Bind::Out(0) } else { NO_Y };
        let steps = (0..self.seq).flat_map(|step| texts.iter().map(move |text| (step, text)));
        for (step, text) in steps {
            program.dispatches.push(Dispatch {
                rounds: FEW_ROUNDS + 5 * (self.input + self.hidden).div_ceil(64),
                label: "Recurrent step".into(),
                wgsl: Cow::Owned(text.clone()),
                binds: vec![
                    Bind::In(X),
                    Bind::In(W),
                    Bind::In(R),
                    EXTRAS,
                    Bind::Scratch(STATES + dir),
                    y,
                ],
                params: self.params(dir, step, extras, ctx),
                groups: [self.hidden as u32, self.batch as u32, 1],
            });
        }
    }

    fn params(&self, dir: usize, step: usize, extras: &Extras, ctx: &GpuCtx<'_>) -> Vec<u32> {
        let given = |operand: usize| ctx.opt_input(operand).is_some();
        let flags = [
            given(INITIAL_H),
            given(INITIAL_C),
            given(B),
            given(P),
            given(LENS),
            self.input_forget,
            ctx.outputs.first().is_some_and(Option::is_some),
            self.batch_first,
            self.clip.is_some(),
        ];
        let flags = flags.iter().enumerate().map(|(bit, &on)| u32::from(on) << bit).sum();
        let number = |n: usize| n as u32;
        let mut params: Vec<u32> =
            [self.seq, self.batch, self.input, self.hidden, step].map(number).to_vec();
        params.extend([u32::from(self.reversed[dir]), flags, number(dir), number(self.dirs())]);
        params.extend([
            number(extras.biases + dir * 2 * self.gates()),
            number(extras.peepholes + dir * 3 * self.hidden),
            number(extras.lengths),
            self.clip.unwrap_or(0.0).to_bits(),
            0,
            0,
            0,
        ]);
        for Activation { function, alpha, beta } in self.activations(dir) {
            params.extend([*function as u32, alpha.to_bits(), beta.to_bits(), 0]);
        }
        params.resize(16 + 3 * 4, 0);
        params
    }
}
