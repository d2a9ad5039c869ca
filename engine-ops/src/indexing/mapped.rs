//! Copies by a table of sources per axis: what Pad and the nearest neighbours of Resize are on the CPU.

use crate::parallel;

/// Fills `to`: along axis `i`, what stands at position `p` of the result stands at `maps[i][p]` of the source, which has
/// shape `shape`; where any axis says `None`, `fill` stands. What runs along the source goes over in one piece: stretches of a row,
/// and all of the last axes if they are as in the source.
pub(crate) fn copy<T: Copy + Send + Sync>(
    from: &[T],
    shape: &[usize],
    to: &mut [T],
    maps: &[Vec<Option<usize>>],
    fill: T,
) {
    if to.is_empty() {
        return;
    }
    let same = |(map, size): &(&Vec<Option<usize>>, &usize)| {
        map.len() == **size && map.iter().enumerate().all(|(at, from)| *from == Some(at))
    };
    let still = maps.iter().zip(shape).rev().take_while(same).count();
    let (moved, unit) = (maps.len() - still, shape[maps.len() - still..].iter().product());
    let Some((columns, rows)) = maps[..moved].split_last() else {
        to.copy_from_slice(&from[..to.len()]);
        return;
    };
    // The longest stretch of the row that runs along the operand.
    let first = columns.iter().position(|c| *c == Some(0)).unwrap_or(0);
    let run = columns[first..].iter().enumerate().take_while(|(i, c)| **c == Some(*i)).count();
    let width = columns.len();
    parallel::rows(to, width * unit, 1, |row, to| {
        let mut rest = row;
        let mut base = Some(0);
        let mut stride = shape[rows.len()] * unit;
        for (map, size) in rows.iter().zip(shape).rev() {
            base = base.zip(map[rest % map.len()]).map(|(base, at)| base + at * stride);
            rest /= map.len();
            stride *= size;
        }
        let Some(base) = base else {
            to.fill(fill);
            return;
        };
        let mut single = |range: std::ops::Range<usize>| match unit {
            1 => range.for_each(|at| to[at] = columns[at].map_or(fill, |c| from[base + c])),
            _ => range.for_each(|at| match columns[at] {
                Some(c) => {
                    to[at * unit..][..unit].copy_from_slice(&from[base + c * unit..][..unit])
                }
                None => to[at * unit..][..unit].fill(fill),
            }),
        };
        single(0..first);
        single(first + run..width);
        to[first * unit..(first + run) * unit].copy_from_slice(&from[base..base + run * unit]);
    });
}
