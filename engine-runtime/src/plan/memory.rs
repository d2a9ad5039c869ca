//! Which buffers share memory.

use super::Segment;
use engine_ops::cpu::TensorMeta;

/// An assignment of buffers to slots such that no two buffers alive at the same step share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// The slot of each buffer of the segment; `None` for buffers that outlive it, which get memory of
    /// their own, and for empty ones.
    pub of: Vec<Option<usize>>,
    /// Bytes of each slot.
    pub sizes: Vec<usize>,
}

/// Packs the buffers of `segment` into slots. `bytes` is what a value of a type takes on the device.
///
/// Buffers are placed by size, largest first, each in the first slot where nothing overlaps its life, so a slot is as
/// large as the first buffer that took it.
pub fn assign(segment: &Segment, bytes: impl Fn(&TensorMeta) -> usize) -> Slots {
    let buffers = &segment.buffers;
    let sizes: Vec<usize> = buffers.iter().map(|b| bytes(&b.meta)).collect();
    let mut order: Vec<usize> =
        (0..buffers.len()).filter(|&i| !buffers[i].kept && sizes[i] > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(sizes[i]), i));
    let mut slots = Slots { of: vec![None; buffers.len()], sizes: Vec::new() };
    let mut lives: Vec<Vec<(usize, usize)>> = Vec::new();
    for i in order {
        let life = (buffers[i].first, buffers[i].last);
        let free = |lives: &Vec<(usize, usize)>| lives.iter().all(|l| l.1 < life.0 || life.1 < l.0);
        let slot = lives.iter().position(free).unwrap_or_else(|| {
            slots.sizes.push(sizes[i]);
            lives.push(Vec::new());
            lives.len() - 1
        });
        lives[slot].push(life);
        slots.of[i] = Some(slot);
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Buffer, End};
    use engine_format::DType;

    fn segment(buffers: &[(usize, usize, usize, bool)]) -> Segment {
        let buffer = |&(len, first, last, kept): &(usize, usize, usize, bool)| Buffer {
            meta: TensorMeta { dtype: DType::U8, shape: vec![len] },
            first,
            last,
            kept,
        };
        Segment {
            steps: Vec::new(),
            buffers: buffers.iter().map(buffer).collect(),
            constants: Vec::new(),
            host: Vec::new(),
            carry: Vec::new(),
            end: End::Done,
        }
    }

    #[test]
    fn a_chain_takes_two_slots() {
        let chain: Vec<_> = (0..10).map(|i| (8, i, i + 1, false)).collect();
        let slots = assign(&segment(&chain), TensorMeta::byte_len);
        assert_eq!(slots.sizes, [8, 8]);
        assert!(slots.of.windows(2).all(|w| w[0] != w[1]));
    }

    #[test]
    fn kept_and_empty_buffers_take_none() {
        let slots = assign(&segment(&[(8, 0, 1, true), (0, 1, 2, false)]), TensorMeta::byte_len);
        assert_eq!(slots, Slots { of: vec![None, None], sizes: vec![] });
    }

    #[test]
    fn overlapping_lives_never_share() {
        // Lives and sizes without a pattern, from a small generator.
        let mut seed = 7u32;
        let mut next = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % n as usize
        };
        let buffers: Vec<_> = (0..200)
            .map(|_| {
                let first = next(100);
                (1 + next(64), first, first + next(20), next(9) == 0)
            })
            .collect();
        let segment = segment(&buffers);
        let slots = assign(&segment, TensorMeta::byte_len);
        for (i, a) in segment.buffers.iter().enumerate() {
            for (j, b) in segment.buffers.iter().enumerate().skip(i + 1) {
                let overlap = a.first <= b.last && b.first <= a.last;
                let shared = slots.of[i].is_some() && slots.of[i] == slots.of[j];
                assert!(!(overlap && shared), "{i} and {j} share a slot");
            }
            if let Some(slot) = slots.of[i] {
                assert!(slots.sizes[slot] >= a.meta.byte_len());
            }
        }
    }
}
