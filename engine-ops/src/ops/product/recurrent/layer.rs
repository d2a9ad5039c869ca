//! A layer over operands of known shapes.

use super::activation::Activation;
use crate::{AttrsExt, OpError};
use engine_format::Attrs;

/// Positions of the operands.
pub(super) const X: usize = 0;

pub(super) const W: usize = 1;

pub(super) const R: usize = 2;

pub(super) const B: usize = 3;

pub(super) const LENS: usize = 4;

pub(super) const INITIAL_H: usize = 5;

pub(super) const INITIAL_C: usize = 6;

pub(super) const P: usize = 7;

/// What a step computes. The numbers are the shader's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell {
    Lstm = 0,
    Gru = 1,
    Rnn = 2,
}

impl Cell {
    pub(super) fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Rnn => 1,
        }
    }

    /// The activation functions of one direction, where the node names none.
    pub(super) fn activations(self) -> &'static [&'static str] {
        match self {
            Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Cell::Gru => &["Sigmoid", "Tanh"],
            Cell::Rnn => &["Tanh"],
        }
    }
}

pub(super) fn directions(attrs: &Attrs) -> Result<&'static [bool], OpError> {
    match attrs.str("direction") {
        "forward" => Ok(&[false]),
        "reverse" => Ok(&[true]),
        "bidirectional" => Ok(&[false, true]),
        other => Err(OpError::new(format!(
            "direction {other:?}, expected \"forward\", \"reverse\" or \"bidirectional\""
        ))),
    }
}

/// A layer over operands of known shapes.
pub(super) struct Layer {
    pub(super) cell: Cell,
    pub(super) seq: usize,
    pub(super) batch: usize,
    pub(super) input: usize,
    pub(super) hidden: usize,
    /// Per direction, whether it runs backwards.
    pub(super) reversed: &'static [bool],
    /// Axes of X and Y begin with the batch.
    pub(super) batch_first: bool,
    pub(super) clip: Option<f32>,
    /// Activations of all directions.
    pub(super) activations: Vec<Activation>,
    pub(super) linear_before_reset: bool,
    pub(super) input_forget: bool,
}

impl Layer {
    pub(super) fn new(
        cell: Cell,
        attrs: &Attrs,
        x: &[usize],
        r: &[usize],
    ) -> Result<Self, OpError> {
        let reversed = directions(attrs)?;
        let batch_first = attrs.int("layout") != 0;
        let (seq, batch) = if batch_first { (x[1], x[0]) } else { (x[0], x[1]) };
        Ok(Self {
            cell,
            seq,
            batch,
            input: x[2],
            hidden: r[2],
            reversed,
            batch_first,
            clip: attrs.contains_key("clip").then(|| attrs.float("clip")),
            activations: Activation::all(attrs, cell.activations(), reversed.len())?,
            linear_before_reset: attrs.opt_int("linear_before_reset").unwrap_or(0) != 0,
            input_forget: attrs.opt_int("input_forget").unwrap_or(0) != 0,
        })
    }

    pub(super) fn dirs(&self) -> usize {
        self.reversed.len()
    }

    /// Rows of a direction's weights.
    pub(super) fn gates(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    /// Activations of a direction.
    pub(super) fn activations(&self, dir: usize) -> &[Activation] {
        let n = self.activations.len() / self.dirs();
        &self.activations[dir * n..][..n]
    }

    /// Which row of X holds step `t` of sequence `b`.
    pub(super) fn row(&self, t: usize, b: usize) -> usize {
        if self.batch_first { b * self.seq + t } else { t * self.batch + b }
    }

    /// Where the state of step `t` of sequence `b` begins in Y.
    pub(super) fn y_at(&self, t: usize, dir: usize, b: usize) -> usize {
        let row = if self.batch_first {
            (b * self.seq + t) * self.dirs() + dir
        } else {
            (t * self.dirs() + dir) * self.batch + b
        };
        row * self.hidden
    }

    /// Where the state of sequence `b` begins in initial_h, Y_h and their likes.
    pub(super) fn state_at(&self, dir: usize, b: usize) -> usize {
        let row = if self.batch_first { b * self.dirs() + dir } else { dir * self.batch + b };
        row * self.hidden
    }
}
