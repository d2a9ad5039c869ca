//! What a device does for a session: keep constants, lower segments, run them.

use crate::error::{RunError, RunErrorKind};
use crate::held::DeviceTensor;
use crate::options::RunOptions;
use crate::placement::Placement;
use crate::plan::Segment;
use engine_format::{Tensor, ValueId};
use engine_ops::cpu::Draws;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Constants of a program by value: the weights it reads directly and the prepared values.
pub type Constants = BTreeMap<ValueId, Tensor>;

/// A device, as sessions see it. Everything it gives out is immutable or locks for itself, so that runs of one
/// session may overlap.
pub trait Backend: Send + Sync + 'static {
    /// A constant where the device reads it. Clones are one and the same.
    type Constant: Clone + Send + Sync;
    /// The constants of one version.
    type Resident: Send + Sync;
    /// A segment made ready to run: kernels chosen, memory planned.
    type Lowered: Send + Sync;
    /// A value kept on the device between two segments of one run, or between two runs.
    type Carried: Send + Sync;

    /// Whether some nodes may run on the device and others on the host, so that it is worth saying which.
    const CHOOSES: bool;

    /// Moves a constant to the device, of which only kernels read that take `halves` if it is. Constants are moved by many threads at
    /// once.
    fn constant(&self, tensor: &Tensor, halves: bool) -> Result<Self::Constant, RunError>;

    /// Moves several, of which those of `halves` are read so.
    fn moved(
        &self,
        constants: &[(ValueId, &Tensor)],
        halves: &BTreeSet<ValueId>,
    ) -> Result<BTreeMap<ValueId, Self::Constant>, RunError> {
        let constant = |&(id, tensor)| Ok((id, self.constant(tensor, halves.contains(&id))?));
        constants.iter().map(constant).collect()
    }

    /// A constant which the host has in the memory of `tensor` from now on, with the same bytes.
    fn relocated(&self, constant: &Self::Constant, tensor: &Tensor) -> Self::Constant;

    /// A constant that keeps no more memory of the host alive than it needs: no engine file of which it is a part.
    fn compact(&self, constant: &Self::Constant) -> Self::Constant;

    /// The constant as the host has it, if it does.
    #[cfg(test)]
    fn on_host(&self, constant: &Self::Constant) -> Option<Tensor>;

    /// All constants of a version. `previous` is the version that it follows, of which it has all constants but those of these values.
    fn resident(
        &self,
        constants: BTreeMap<ValueId, Self::Constant>,
        previous: Option<(&Self::Resident, &BTreeSet<ValueId>)>,
    ) -> Result<Self::Resident, RunError>;

    /// What a version is made of.
    fn constants<'r>(&self, resident: &'r Self::Resident) -> &'r BTreeMap<ValueId, Self::Constant>;

    /// What runs of a lowered segment would make of `resident` on their way and keep with it, as pieces of work that can be done
    /// sooner or beside them. A piece that is dropped is left to the runs.
    fn forms(
        &self,
        _lowered: &Self::Lowered,
        _resident: &Arc<Self::Resident>,
    ) -> Vec<Box<dyn FnOnce() + Send>> {
        Vec::new()
    }

    /// A value that a run leaves on the device, for whoever asked for it.
    fn leave(&self, carried: Self::Carried) -> Result<DeviceTensor, RunError>;

    /// A value that an earlier run left, for a run that is given it.
    ///
    /// # Errors
    /// `InvalidInputs` if it lies on another device.
    fn take(&self, value: &DeviceTensor) -> Result<Self::Carried, RunError>;

    /// Makes `segment` ready to run, over constants of which those of `halves` were moved so. It may be run many times and by several
    /// threads at once. What was chosen for `like`, a segment of the same program for other shapes, holds for steps that are the same.
    fn lower(
        &self,
        segment: &Arc<Segment>,
        halves: &BTreeSet<ValueId>,
        like: Option<&Self::Lowered>,
    ) -> Result<Self::Lowered, RunError>;

    /// Bytes of memory that a lowered segment holds on to while it is cached.
    fn cost(&self, lowered: &Self::Lowered) -> usize;

    /// Bytes of a constant on the host, and on the device where that is another place.
    fn bytes(&self, constant: &Self::Constant) -> [u64; 2];

    /// Bytes of forms that stand for constants of the version and of these segments.
    fn form_bytes(&self, _resident: &Self::Resident, _lowered: &[&Self::Lowered]) -> u64 {
        0
    }

    /// Bytes kept from runs of these segments for the next ones.
    fn kept(&self, lowered: &[&Self::Lowered]) -> u64;

    /// Gives up what [`Self::kept`] counts.
    fn trim(&self, lowered: &[&Self::Lowered]);

    /// Bytes that one run of a lowered segment holds at once, without what it is given.
    fn memory(&self, segment: &Segment, lowered: &Self::Lowered) -> u64;

    /// Where the steps of a lowered segment run; empty unless [`Self::CHOOSES`].
    fn placement(&self, _lowered: &Self::Lowered) -> Vec<Placement> {
        Vec::new()
    }

    /// Runs a segment.
    fn run(&self, run: Run<'_, Self>) -> Result<Finished<Self::Carried>, RunError>;
}

/// One run of one segment.
pub struct Run<'a, B: Backend + ?Sized> {
    /// The segment.
    pub segment: &'a Segment,
    /// Its lowered form.
    pub lowered: &'a B::Lowered,
    /// What [`crate::plan::Place::Resident`] means.
    pub resident: &'a B::Resident,
    /// What [`crate::plan::Place::Input`] means.
    pub inputs: &'a [Tensor],
    /// What [`crate::plan::Place::Carried`] means.
    pub carried: &'a [B::Carried],
    /// Whether it was cancelled is asked between steps, or before work is handed to the device.
    pub options: &'a RunOptions,
    /// Where draws begin that have no seed.
    pub draws: &'a Draws,
}

/// What a segment leaves.
pub struct Finished<C> {
    /// The values of [`Segment::host`], in its order.
    pub host: Vec<Tensor>,
    /// The values of [`Segment::carry`], in its order.
    pub carry: Vec<C>,
}

/// The error of a value that lies on another device than the one that is given it.
pub(crate) fn foreign(value: &DeviceTensor, device: &impl fmt::Display) -> RunError {
    let what = format!(
        "{value}, expected one that lies on {device} or on the host (DeviceTensor::to_host brings it there)"
    );
    RunError::new(RunErrorKind::InvalidInputs, what)
}
