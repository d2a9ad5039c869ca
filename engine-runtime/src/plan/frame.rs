//! Blocks under way: what a walk is in, and what follows.

use super::item::Val;
use super::program::{Body, Op};
use engine_format::ValueId;
use engine_ops::control::Ties;
use std::sync::Arc;

/// What follows the last node of a block.
#[derive(Clone)]
pub(super) enum Exit {
    /// The end of the program.
    Program,
    /// The node that follows the branch, whose results are called so outside.
    Branch(Vec<Option<ValueId>>),
    /// Another iteration, or the node after the loop.
    Repeat(Box<Repeat>),
}

/// A Loop or Scan under way.
#[derive(Clone)]
pub(super) struct Repeat {
    pub op: Arc<Op>,
    pub ties: Ties,
    /// Iterations at most.
    pub trips: i64,
    /// Iterations finished.
    pub done: i64,
    /// The slices of each operand that is cut, in the order in which they are taken.
    pub slices: Vec<Vec<Val>>,
    /// What each iteration gave, for each result that is stacked and that somebody reads.
    pub stacked: Vec<Option<Vec<Val>>>,
}

impl Exit {
    /// Whether the block may be walked once more from its start.
    pub fn repeats(&self) -> bool {
        matches!(self, Exit::Repeat(_))
    }

    /// Tensors kept beside those of the walk.
    pub fn vals(&self) -> impl Iterator<Item = &Val> {
        let repeat = match self {
            Exit::Repeat(repeat) => Some(repeat),
            Exit::Program | Exit::Branch(_) => None,
        };
        repeat.into_iter().flat_map(|r| r.slices.iter().chain(r.stacked.iter().flatten())).flatten()
    }

    /// Tensors kept beside those of the walk, to be renamed.
    pub fn vals_mut(&mut self) -> impl Iterator<Item = &mut Val> {
        let repeat = match self {
            Exit::Repeat(repeat) => Some(&mut **repeat),
            Exit::Program | Exit::Branch(_) => None,
        };
        repeat.into_iter().flat_map(Repeat::lists_mut).flatten()
    }
}

impl Repeat {
    fn lists_mut(&mut self) -> impl Iterator<Item = &mut Vec<Val>> {
        self.slices.iter_mut().chain(self.stacked.iter_mut().flatten())
    }
}

/// A block being walked.
#[derive(Clone)]
pub(super) struct Frame {
    pub body: Arc<Body>,
    pub next: usize,
    /// What follows its last node.
    pub exit: Exit,
}
