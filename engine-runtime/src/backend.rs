//! What a device does for a session: keep constants, lower segments, run them.

use crate::error::RunError;
use crate::options::RunOptions;
use crate::placement::Placement;
use crate::plan::Segment;
use engine_format::{Tensor, ValueId};
use engine_ops::cpu::Draws;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Constants of a program by value: the weights it reads directly and the prepared values.
pub type Constants = BTreeMap<ValueId, Tensor>;

/// A device, as sessions see it. Everything it gives out is immutable or locks for itself, so that runs of one
/// session may overlap.
pub trait Backend: Send + Sync + 'static {
    /// Constants made resident.
    type Resident: Send + Sync;
    /// A segment made ready to run: kernels chosen, memory planned.
    type Lowered: Send + Sync;
    /// A value kept on the device between two segments of one run.
    type Carried: Send + Sync;

    /// Whether some nodes may run on the device and others on the host, so that it is worth saying which.
    const CHOOSES: bool;

    /// Makes `constants` resident. `previous` is what a refit replaces: a tensor of it that still has the very same
    /// bytes (the same memory) need not be moved again.
    fn load(
        &self,
        constants: &Constants,
        previous: Option<(&Constants, &Self::Resident)>,
    ) -> Result<Self::Resident, RunError>;

    /// What runs of a lowered segment would make of `resident` on their way and keep with it, as pieces of work that can be done
    /// sooner or beside them. A piece that is dropped is left to the runs.
    fn forms(
        &self,
        _lowered: &Self::Lowered,
        _resident: &Arc<Self::Resident>,
    ) -> Vec<Box<dyn FnOnce() + Send>> {
        Vec::new()
    }

    /// Makes `segment` ready to run. It may be run many times and by several threads at once.
    fn lower(&self, segment: &Arc<Segment>) -> Result<Self::Lowered, RunError>;

    /// Bytes of memory that a lowered segment holds on to while it is cached.
    fn cost(&self, lowered: &Self::Lowered) -> usize;

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

/// Whether two tensors are one: the same host memory under the same type.
pub(crate) fn same(a: &Tensor, b: &Tensor) -> bool {
    let (x, y) = (a.bytes(), b.bytes());
    a.dtype() == b.dtype() && x.as_ptr() == y.as_ptr() && x.len() == y.len()
}
