//! What a run of a segment does on a GPU, in which order, and the memory that it takes.

use super::launch::LaunchList;
use crate::plan::Place;
use std::collections::{BTreeMap, BTreeSet};
use wgpu::Buffer;

/// One thing that a run does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Runs the launches that come after those before it, up to this one.
    Launch(usize),
    /// Brings buffers to the host: what was launched so far is submitted and waited for.
    Fetch(Vec<usize>),
    /// Runs a step on the CPU; results that kernels read go to the device.
    Host(usize),
}

/// Where a buffer of a segment lives on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// Nowhere: no kernel reads or writes it.
    Host,
    /// In memory it shares with buffers of other lives.
    Slot(usize),
    /// In memory of its own: it outlives the segment, is empty, or is written by the host. The host writes before
    /// everything that is not submitted yet, so such memory must not have another use in the same run.
    Own(usize),
}

/// Memory that one run needs, by use, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) slots: Vec<u64>,
    pub(crate) own: Vec<u64>,
    pub(crate) scratch: Vec<u64>,
    /// Of the inputs and carried values that kernels read, where the host has them.
    pub(crate) given: BTreeMap<Place, u64>,
}

impl Memory {
    /// All that a run takes beyond what the runs before it left on the device.
    pub(crate) fn total(&self) -> u64 {
        let lists = self.slots.iter().chain(&self.own).chain(&self.scratch);
        let inputs = self.given.iter().filter(|(place, _)| matches!(place, Place::Input(_)));
        lists.chain(inputs.map(|(_, bytes)| bytes)).fold(0, |sum, &bytes| sum.saturating_add(bytes))
    }
}

/// What is decided once for all runs of a segment.
pub(crate) struct Schedule {
    pub(crate) launches: LaunchList,
    /// The step of each program of `launches`.
    pub(crate) steps: Vec<usize>,
    pub(crate) ops: Vec<Op>,
    pub(crate) locations: Vec<Location>,
    pub(crate) memory: Memory,
    /// The plan's constants that kernels read.
    pub(crate) constants: BTreeMap<usize, Buffer>,
    /// Carried values that the host reads.
    pub(crate) fetch_carried: BTreeSet<usize>,
    /// Which of the segment's results are read back from the device.
    pub(crate) results: Vec<usize>,
}
