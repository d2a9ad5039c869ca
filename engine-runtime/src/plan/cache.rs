//! Plans by what they depend on, the least recently used falling out.

use super::item::{Layout, RunInputs};
use crate::cpu::kernel;
use crate::held::DeviceTensor;
use engine_format::Tensor;
use engine_ops::cpu::TensorMeta;
use std::sync::Arc;

/// How much a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheLimits {
    /// Number of plans.
    pub entries: usize,
    /// Sum of their costs in bytes.
    pub bytes: usize,
}

impl CacheLimits {
    /// What sessions use: shapes in service vary less than this, or the plans are small.
    pub const SESSION: Self = Self { entries: 128, bytes: 256 << 20 };
}

/// What a plan depends on: the plan it follows, how values are made up of the tensors it was given, their types and the contents
/// of some.
#[derive(Debug)]
pub(crate) struct Key {
    after: u64,
    layout: Vec<Layout>,
    tensors: Vec<(TensorMeta, Option<Tensor>)>,
    held: Vec<TensorMeta>,
}

impl Key {
    /// The key of a plan made after plan `after` for what is given; `keyed` says on which tensors' contents it depends.
    pub fn new(after: u64, given: RunInputs<'_>, keyed: &[bool]) -> Self {
        let item = |(t, keyed): (&Tensor, &bool)| (kernel::meta(t), keyed.then(|| t.clone()));
        let tensors = given.tensors.iter().zip(keyed).map(item).collect();
        let held = given.held.iter().map(DeviceTensor::meta).collect();
        Self { after, layout: given.layout.to_vec(), tensors, held }
    }

    fn matches(&self, after: u64, given: RunInputs<'_>) -> bool {
        let RunInputs { tensors, held, layout } = given;
        let same = |((meta, value), t): (&(TensorMeta, Option<Tensor>), &Tensor)| {
            meta.dtype == t.dtype()
                && meta.shape == t.shape()
                && value.as_ref().is_none_or(|value| value.bytes() == t.bytes())
        };
        self.after == after
            && self.layout == layout
            && self.tensors.len() == tensors.len()
            && self.tensors.iter().zip(tensors).all(same)
            && self.held.len() == held.len()
            && self.held.iter().zip(held).all(|(meta, held)| held.is_a(meta))
    }

    fn bytes(&self) -> usize {
        self.tensors.iter().filter_map(|(_, value)| value.as_ref()).map(|v| v.bytes().len()).sum()
    }
}

/// A cache. Finding a plan compares shapes and allocates nothing.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    limits: CacheLimits,
    /// The most recently used last.
    entries: Vec<Entry<T>>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    key: Key,
    item: Arc<T>,
    cost: usize,
}

impl<T> Cache<T> {
    pub fn new(limits: CacheLimits) -> Self {
        Self { limits, entries: Vec::new(), bytes: 0 }
    }

    /// The plan for what is given, if it is here.
    pub fn get(&mut self, after: u64, given: RunInputs<'_>) -> Option<Arc<T>> {
        let at = self.entries.iter().rposition(|e| e.key.matches(after, given))?;
        let last = self.entries.len() - 1;
        if at != last {
            self.entries[at..].rotate_left(1);
        }
        Some(self.entries[last].item.clone())
    }

    /// Adds a plan that takes `cost` bytes. If two threads made it at once, the first one's is kept.
    pub fn insert(&mut self, key: Key, item: Arc<T>, cost: usize, given: RunInputs<'_>) -> Arc<T> {
        if let Some(there) = self.get(key.after, given) {
            return there;
        }
        let cost = cost + key.bytes();
        self.bytes += cost;
        self.entries.push(Entry { key, item: item.clone(), cost });
        let over = |cache: &Self| {
            cache.entries.len() > cache.limits.entries || cache.bytes > cache.limits.bytes
        };
        while over(self) && self.entries.len() > 1 {
            let oldest = self.entries.remove(0);
            self.bytes -= oldest.cost;
        }
        item
    }

    /// The most recently used of the plans made after `after`.
    pub fn latest(&self, after: u64) -> Option<&Arc<T>> {
        let mut entries = self.entries.iter().rev();
        entries.find(|entry| entry.key.after == after).map(|entry| &entry.item)
    }

    /// The plans, the most recently used last.
    pub fn items(&self) -> impl Iterator<Item = &Arc<T>> {
        self.entries.iter().map(|entry| &entry.item)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(n: usize) -> Vec<Tensor> {
        vec![Tensor::from_slice(&[n], &vec![n as i64; n])]
    }

    fn given(tensors: &[Tensor]) -> RunInputs<'_> {
        RunInputs { tensors, held: &[], layout: &[Layout::Tensor] }
    }

    fn put(cache: &mut Cache<usize>, n: usize, keyed: bool) {
        let tensors = shaped(n);
        let given = given(&tensors);
        cache.insert(Key::new(0, given, &[keyed]), Arc::new(n), 100, given);
    }

    #[test]
    fn the_least_recently_used_falls_out() {
        let mut cache = Cache::new(CacheLimits { entries: 2, bytes: 1000 });
        put(&mut cache, 1, false);
        put(&mut cache, 2, false);
        assert_eq!(cache.get(0, given(&shaped(1))).as_deref(), Some(&1));
        put(&mut cache, 3, false);
        assert_eq!(cache.get(0, given(&shaped(2))), None);
        assert_eq!(cache.get(0, given(&shaped(1))).as_deref(), Some(&1));
        assert_eq!(cache.get(0, given(&shaped(3))).as_deref(), Some(&3));
        assert_eq!(cache.latest(0).map(|plan| **plan), Some(3));
        assert_eq!(cache.latest(1), None);
    }

    #[test]
    fn bytes_are_capped_but_the_newest_stays() {
        let mut cache = Cache::new(CacheLimits { entries: 10, bytes: 250 });
        (1..=4).for_each(|n| put(&mut cache, n, false));
        assert_eq!(cache.len(), 2);
        let mut tiny = Cache::new(CacheLimits { entries: 10, bytes: 1 });
        (1..=4).for_each(|n| put(&mut tiny, n, false));
        assert_eq!(tiny.get(0, given(&shaped(4))).as_deref(), Some(&4));
    }

    #[test]
    fn contents_matter_only_where_they_are_keyed() {
        let mut cache = Cache::new(CacheLimits { entries: 10, bytes: 1000 });
        put(&mut cache, 1, false);
        put(&mut cache, 2, true);
        let other = |n: usize| vec![Tensor::from_slice(&[n], &vec![9i64; n])];
        assert!(cache.get(0, given(&other(1))).is_some());
        assert!(cache.get(0, given(&other(2))).is_none());
        assert!(cache.get(0, given(&shaped(2))).is_some());
        assert!(cache.get(1, given(&shaped(2))).is_none(), "it follows another plan");
    }

    #[test]
    fn the_same_tensors_in_another_layout_are_another_plan() {
        let mut cache = Cache::new(CacheLimits { entries: 10, bytes: 1000 });
        put(&mut cache, 1, false);
        let tensors = shaped(1);
        let sequence = [Layout::Sequence(tensors[0].dtype(), 1)];
        assert!(
            cache.get(0, RunInputs { tensors: &tensors, held: &[], layout: &sequence }).is_none()
        );
        assert!(cache.get(0, given(&tensors)).is_some());
    }
}
