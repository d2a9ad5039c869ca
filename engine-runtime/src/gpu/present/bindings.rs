//! The bind groups of a context: made anew only where what they bind is another buffer.

use super::resident::{Constant, GpuResident};
use crate::plan::{Place, Segment};
use engine_ops::gpu::Bind;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use wgpu::{BindGroup, Buffer};

/// A value from outside a context's memory that kernels read, and so may lie elsewhere in another run: an input, a constant that a refit
/// replaces, a carried value.
#[derive(Debug)]
pub(crate) struct Outer {
    pub(crate) place: Place,
    /// The launches that read it.
    readers: Vec<usize>,
}

impl Outer {
    /// All that a segment's launches read, in the order of places. A launch is given by its step and what it binds.
    pub(crate) fn all<'a>(
        segment: &Segment,
        launches: impl Iterator<Item = (usize, &'a [Bind])>,
    ) -> Vec<Self> {
        let mut readers: BTreeMap<Place, Vec<usize>> = BTreeMap::new();
        for (launch, (step, binds)) in launches.enumerate() {
            for bind in binds {
                let Bind::In(i) = *bind else { continue };
                let operand = segment.steps[step].inputs.get(i).and_then(Option::as_ref);
                let Some(place) = operand.map(|operand| operand.place) else { continue };
                if matches!(place, Place::Input(_) | Place::Resident(_) | Place::Carried(_)) {
                    let launches = readers.entry(place).or_default();
                    if launches.last() != Some(&launch) {
                        launches.push(launch);
                    }
                }
            }
        }
        readers.into_iter().map(|(place, readers)| Self { place, readers }).collect()
    }
}

/// Bind groups, and the buffers from outside that they were made over.
#[derive(Default)]
pub(crate) struct Bindings {
    /// By launch; those that are missing are to be made.
    pub(crate) groups: Vec<Option<BindGroup>>,
    /// By [`Outer`].
    bound: Vec<Option<Bound>>,
    /// The constants that all of these were last bound to ([`GpuResident::id`]).
    resident: Option<u64>,
}

struct Bound {
    buffer: Buffer,
    /// The constant whose buffer it is.
    constant: Option<Weak<Constant>>,
}

impl Bindings {
    /// None, for so many launches that read so many values from outside.
    pub(crate) fn new(launches: usize, outer: usize) -> Self {
        let bound = std::iter::repeat_with(|| None).take(outer).collect();
        Self { groups: vec![None; launches], bound, resident: None }
    }

    /// The set of constants that these bind groups are over.
    pub(crate) fn resident(&self) -> Option<u64> {
        self.resident
    }

    /// Lets go of the bind groups that read a value which now lies elsewhere, and gives the constants that are new among them.
    pub(crate) fn update<'r>(
        &mut self,
        outer: &[Outer],
        resident: &'r GpuResident,
        place: impl Fn(Place) -> Option<Buffer>,
    ) -> Vec<&'r Arc<Constant>> {
        let mut new = Vec::new();
        for (i, value) in outer.iter().enumerate() {
            let constant = match value.place {
                Place::Resident(_) if self.resident == Some(resident.id) => continue,
                Place::Resident(id) => resident.constant(id),
                _ => None,
            };
            let buffer = match constant {
                Some(constant) => constant.buffer().cloned(),
                None => place(value.place),
            };
            if self.bound[i].as_ref().map(|bound| &bound.buffer) == buffer.as_ref() {
                continue;
            }
            self.unbind(i, value);
            self.bound[i] =
                buffer.map(|buffer| Bound { buffer, constant: constant.map(Arc::downgrade) });
            new.extend(constant);
        }
        self.resident = Some(resident.id);
        new
    }

    /// The buffer that stands for a value from outside.
    pub(crate) fn buffer(&self, outer: &[Outer], place: Place) -> Option<&Buffer> {
        let i = outer.binary_search_by(|value| value.place.cmp(&place)).ok()?;
        self.bound[i].as_ref().map(|bound| &bound.buffer)
    }

    /// Lets go of the bind groups over constants that are gone: they keep buffers, and a refit would otherwise leave the old weights on the
    /// device until every shape was run again.
    pub(crate) fn sweep(&mut self, outer: &[Outer]) {
        let gone = |constant: &Weak<Constant>| constant.strong_count() == 0;
        for (i, value) in outer.iter().enumerate() {
            if self.bound[i].as_ref().and_then(|bound| bound.constant.as_ref()).is_some_and(gone) {
                self.unbind(i, value);
                self.resident = None;
            }
        }
    }

    fn unbind(&mut self, i: usize, value: &Outer) {
        self.bound[i] = None;
        for &launch in &value.readers {
            self.groups[launch] = None;
        }
    }
}
