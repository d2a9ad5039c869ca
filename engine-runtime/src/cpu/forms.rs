//! Forms of constants, made beside what runs.

use engine_format::{AlignedBuf, DType, Tensor};
use engine_ops::cpu::TensorMeta;
use engine_ops::form::Form;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The forms of constants that are named by `K`. A form is made by who is first to claim it: a refit, for what runs read so far,
/// or the first run that would read it. Until it is there, runs make do without.
#[derive(Debug)]
pub(super) struct Forms<K: Ord + Copy>(Mutex<BTreeMap<(K, Form), Slot>>);

/// What an operand reads of a constant: its first bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) constant: &'a Tensor,
    pub(super) dtype: DType,
    pub(super) len: usize,
}

impl<'a> View<'a> {
    pub(super) fn of(constant: &'a Tensor, meta: &TensorMeta) -> Self {
        Self { constant, dtype: meta.dtype, len: meta.byte_len() }
    }
}

#[derive(Clone, Debug)]
enum Slot {
    Making,
    Ready(Arc<AlignedBuf>),
}

impl Slot {
    fn ready(&self) -> Option<Arc<AlignedBuf>> {
        match self {
            Self::Ready(made) => Some(made.clone()),
            Self::Making => None,
        }
    }
}

impl<K: Ord + Copy> Default for Forms<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Copy> Forms<K> {
    /// The form of a constant, which is made if nobody else is at it. `None` where it is not there yet, or
    /// there is no memory for it.
    pub fn get(&self, key: K, form: Form, view: View<'_>) -> Option<Arc<AlignedBuf>> {
        if let Some(slot) = self.slots().get(&(key, form)) {
            return slot.ready();
        }
        if self.claim(key, form) { self.make(key, form, view) } else { None }
    }

    /// Whether the form is now the caller's to make. Who claims one calls [`Self::make`] or [`Self::give_up`].
    pub fn claim(&self, key: K, form: Form) -> bool {
        match self.slots().entry((key, form)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(Slot::Making);
                true
            }
        }
    }

    /// Makes a form that was claimed. Without memory for it, it is free again.
    pub fn make(&self, key: K, form: Form, view: View<'_>) -> Option<Arc<AlignedBuf>> {
        let made = make(form, view);
        if made.is_some() {
            // From now on the form is read in its place.
            view.constant.bytes().release();
        }
        match &made {
            Some(made) => self.slots().insert((key, form), Slot::Ready(made.clone())),
            None => self.slots().remove(&(key, form)),
        };
        made
    }

    /// Frees a form that was claimed and not made.
    pub fn give_up(&self, key: K, form: Form) {
        if let Entry::Occupied(slot) = self.slots().entry((key, form))
            && slot.get().ready().is_none()
        {
            slot.remove();
        }
    }

    /// Takes over the forms of constants that `kept` says are the same here.
    pub fn adopt(&self, previous: &Self, kept: impl Fn(K) -> bool) {
        let ready: Vec<_> = {
            let slots = previous.slots();
            let ready = slots
                .iter()
                .filter(|((key, _), slot)| matches!(slot, Slot::Ready(_)) && kept(*key));
            ready.map(|(key, slot)| (*key, slot.clone())).collect()
        };
        self.slots().extend(ready);
    }

    /// Bytes of those that are there.
    pub fn bytes(&self) -> u64 {
        self.slots().values().filter_map(Slot::ready).map(|made| made.len() as u64).sum()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<(K, Form), Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make(form: Form, view: View<'_>) -> Option<Arc<AlignedBuf>> {
    let mut made = AlignedBuf::try_zeroed(form.len().checked_mul(size_of::<f32>())?).ok()?;
    let bytes = &view.constant.bytes()[..view.len];
    form.make(view.dtype, bytes, bytemuck::cast_slice_mut(&mut made));
    Some(Arc::new(made))
}
