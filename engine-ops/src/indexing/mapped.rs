//! Copies by a table of sources per axis: what Pad and the nearest neighbours of Resize are on the CPU.

use crate::parallel;

/// Fills `to`: along axis `i`, what stands at position `p` of the result stands at `maps[i][p]` of the source, which has
/// shape `shape`; where any axis says `None`, `fill` stands. A stretch of a row that runs along the source goes over in one
/// piece.
pub(crate) fn copy<T: Copy + Send + Sync>(
    from: &[T],
    shape: &[usize],
    to: &mut [T],
    maps: &[Vec<Option<usize>>],
    fill: T,
) {
    let Some((columns, rows)) = maps.split_last() else {
        to[0] = from[0];
        return;
    };
    // The longest stretch of the row that runs along the operand.
    let first = columns.iter().position(|c| *c == Some(0)).unwrap_or(0);
    let run = columns[first..].iter().enumerate().take_while(|(i, c)| **c == Some(*i)).count();
    let width = columns.len();
    parallel::rows(to, width, 1, |row, to| {
        let mut rest = row;
        let mut base = Some(0);
        let mut stride = shape[rows.len()];
        for (map, size) in rows.iter().zip(shape).rev() {
            base = base.zip(map[rest % map.len()]).map(|(base, at)| base + at * stride);
            rest /= map.len();
            stride *= size;
        }
        let Some(base) = base else {
            to.fill(fill);
            return;
        };
        let mut single = |range: std::ops::Range<usize>| {
            for at in range {
                to[at] = columns[at].map_or(fill, |c| from[base + c]);
            }
        };
        single(0..first);
        single(first + run..width);
        to[first..first + run].copy_from_slice(&from[base..base + run]);
    });
}
