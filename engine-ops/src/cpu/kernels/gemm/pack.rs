//! Operands and their packing.

use super::tile::Transpose;
use crate::kernels::instances::kernels;
use std::ops::Range;

/// A matrix in memory: element `(i, j)` is `data[i * row + j * col]`.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    /// Elements, the first being `(0, 0)`.
    pub data: &'a [f32],
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one column to the next.
    pub col: usize,
}

impl<'a> MatRef<'a> {
    /// A dense matrix with rows of `cols` elements.
    pub fn rows(data: &'a [f32], cols: usize) -> Self {
        Self { data, row: cols, col: 1 }
    }

    /// The transpose, without moving data.
    #[must_use]
    pub fn t(self) -> Self {
        Self { data: self.data, row: self.col, col: self.row }
    }

    /// Whether every element of a `rows × cols` matrix is within the data.
    pub(crate) fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

/// Where a block of a right operand goes: side by side micro-panels of `WIDTH` columns, each a row for every `k`.
pub struct MicroPanels<'a, const WIDTH: usize> {
    /// Rows of all micro-panels, micro-panel by micro-panel.
    pub rows: &'a mut [[f32; WIDTH]],
    /// Rows of one micro-panel.
    pub height: usize,
}

/// A right operand that can be packed into micro-panels.
pub trait PackB: Sync {
    /// Writes rows `k..k + height` of columns `cols`; what is past `cols` in the last micro-panel becomes zero.
    fn pack<const WIDTH: usize>(&self, k: usize, cols: Range<usize>, out: MicroPanels<'_, WIDTH>);

    /// The operand as it lies in memory, if it is a matrix.
    fn matrix(&self) -> Option<MatRef<'_>> {
        None
    }

    /// The operand as [`crate::kernels::gemm::PackedB`] holds it, if it was packed before.
    fn packed(&self) -> Option<&[f32]> {
        None
    }
}

/// Packs `height` rows into `out`, which has whole micro-panels of `width` columns.
pub(crate) fn pack_b<B: PackB>(
    b: &B,
    width: usize,
    (k, height): (usize, usize),
    cols: Range<usize>,
    out: &mut [f32],
) {
    fn of<const WIDTH: usize>(out: &mut [f32], height: usize) -> MicroPanels<'_, WIDTH> {
        MicroPanels { rows: out.as_chunks_mut().0, height }
    }
    match width {
        8 => b.pack(k, cols, of::<8>(out, height)),
        16 => b.pack(k, cols, of::<16>(out, height)),
        32 => b.pack(k, cols, of::<32>(out, height)),
        other => unreachable!("no table has micro_panels of {other} columns"),
    }
}

/// Elements of a cache line.
const LINE: usize = 16;

/// Rows from the one that is copied to the one that is asked for.
const AHEAD: usize = 8;

impl MatRef<'_> {
    /// Columns are neighbours: whole rows are read, and dealt out to the micro-panels.
    fn pack_rows<const W: usize>(&self, k: usize, cols: Range<usize>, out: MicroPanels<'_, W>) {
        for i in 0..out.height {
            let from = (k + i) * self.row + cols.start;
            let row = &self.data[from..][..cols.len()];
            // Short parts of long rows are too far apart for memory to see what comes next.
            let ahead = self.data.get(from + AHEAD * self.row..).unwrap_or_default();
            ahead.iter().take(cols.len()).step_by(LINE).for_each(fetch);
            let (whole, rest) = row.as_chunks::<W>();
            for (s, chunk) in whole.iter().enumerate() {
                out.rows[s * out.height + i] = *chunk;
            }
            if !rest.is_empty() {
                let last = &mut out.rows[whole.len() * out.height + i];
                *last = [0.0; W];
                last[..rest.len()].copy_from_slice(rest);
            }
        }
    }

    /// Any strides.
    fn pack_columns<const W: usize>(&self, k: usize, cols: Range<usize>, out: MicroPanels<'_, W>) {
        for (s, micro_panel) in out.rows.chunks_exact_mut(out.height).enumerate() {
            let first = cols.start + s * W;
            let used = W.min(cols.end - first);
            if used < W {
                micro_panel.fill([0.0; W]);
            }
            let from = k * self.row + first * self.col;
            if self.row == 1 {
                transpose(
                    &self.data[from..],
                    self.col,
                    (used, micro_panel.len()),
                    micro_panel.as_flattened_mut(),
                    W,
                );
                continue;
            }
            for (i, row) in micro_panel.iter_mut().enumerate() {
                for (j, out) in row[..used].iter_mut().enumerate() {
                    *out = self.data[from + i * self.row + j * self.col];
                }
            }
        }
    }
}

/// Writes `lines` runs of `len` elements of `from`, which begin `stride` apart, as columns into rows `to_stride` apart.
pub(crate) fn transpose(
    from: &[f32],
    stride: usize,
    (lines, len): (usize, usize),
    to: &mut [f32],
    to_stride: usize,
) {
    if lines == 0 || len == 0 {
        return;
    }
    assert!((lines - 1) * stride + len <= from.len(), "lines of {len} elements to be turned");
    assert!(lines <= to_stride && (len - 1) * to_stride + lines <= to.len(), "room for columns");
    let transpose =
        Transpose { from: from.as_ptr(), stride, lines, len, to: to.as_mut_ptr(), to_stride };
    // SAFETY: it was just checked that the slices hold what the fields say, and `to` is borrowed alone.
    unsafe { (kernels().transpose)(&transpose) };
}

impl PackB for MatRef<'_> {
    fn pack<const WIDTH: usize>(&self, k: usize, cols: Range<usize>, out: MicroPanels<'_, WIDTH>) {
        match self.col {
            1 => self.pack_rows(k, cols, out),
            _ => self.pack_columns(k, cols, out),
        }
    }

    fn matrix(&self) -> Option<MatRef<'_>> {
        Some(*self)
    }
}

/// Packs rows `i..i + rows` of `a`, columns `k..k + len`: for each `k` the values of all rows.
fn pack_a(a: &MatRef<'_>, i: usize, rows: usize, k: usize, out: &mut [f32]) {
    if a.row == 1 {
        for (at, out) in out.chunks_exact_mut(rows).enumerate() {
            let from = (k + at) * a.col + i;
            out.copy_from_slice(&a.data[from..from + rows]);
        }
        return;
    }
    let len = out.len() / rows;
    let from = &a.data[i * a.row + k * a.col..];
    if a.col == 1 {
        return transpose(from, a.row, (rows, len), out, rows);
    }
    for r in 0..rows {
        let out = out[r..].iter_mut().step_by(rows);
        out.zip(from[r * a.row..].iter().step_by(a.col)).for_each(|(out, &x)| *out = x);
    }
}

/// Asks for what [`pack_a`] will read, for rows that lie along `k`: the second-level cache has it when it is packed. Without, each
/// few rows begin with waiting for memory.
fn fetch_a(a: &MatRef<'_>, rows: Range<usize>, k: Range<usize>) {
    if a.col != 1 {
        return;
    }
    for i in rows {
        let row = &a.data[i * a.row..][k.clone()];
        row.iter().step_by(LINE).for_each(fetch);
    }
}

/// Asks for the cache line of an element.
#[inline(always)]
fn fetch(x: &f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has SSE, and a hint changes nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(x).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

/// The pieces of a left operand in the order in which they are packed: micro-panels of `rows`, each cut along `k` into parts of `step`,
/// each with the piece after it. Slivers are of as equal heights as possible: low ones waste registers.
pub(crate) fn pieces(
    rows: Range<usize>,
    most_rows: usize,
    k: Range<usize>,
    step: usize,
) -> impl Iterator<Item = (Piece, Option<Piece>)> {
    let micro_panels = rows.len().div_ceil(most_rows);
    let edge = move |s: usize| rows.start + s * rows.len() / micro_panels;
    let parts = k.len().div_ceil(step);
    let piece = move |i: usize| {
        let (micro_panel, part) = (i / parts, k.start + i % parts * step);
        Piece { rows: edge(micro_panel)..edge(micro_panel + 1), k: part..k.end.min(part + step) }
    };
    let count = micro_panels * parts;
    (0..count).map(move |i| (piece(i), (i + 1 < count).then(|| piece(i + 1))))
}

/// A few rows of a left operand, over some terms.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) rows: Range<usize>,
    pub(crate) k: Range<usize>,
}

impl Piece {
    /// Packs the piece, and asks for the one that will be packed after it.
    pub(crate) fn pack<'p>(
        &self,
        a: &MatRef<'_>,
        next: Option<&Piece>,
        out: &'p mut [f32],
    ) -> &'p [f32] {
        let packed = &mut out[..self.rows.len() * self.k.len()];
        pack_a(a, self.rows.start, self.rows.len(), self.k.start, packed);
        if let Some(next) = next {
            fetch_a(a, next.rows.clone(), next.k.clone());
        }
        packed
    }
}
