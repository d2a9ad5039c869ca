//! Operands and their packing.

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

/// A right operand that can be packed into slivers.
pub trait PackB: Sync {
    /// Writes rows `k..k + out.len() / width` of columns `cols`, `width` elements a row; those past `cols` are zero.
    fn pack(&self, k: usize, cols: std::ops::Range<usize>, width: usize, out: &mut [f32]);

    /// The operand as it lies in memory, if it is a matrix.
    fn matrix(&self) -> Option<MatRef<'_>> {
        None
    }

    /// The operand as [`crate::kernels::gemm::PackedB`] holds it, if it was packed before.
    fn packed(&self) -> Option<&[f32]> {
        None
    }
}

impl PackB for MatRef<'_> {
    fn pack(&self, k: usize, cols: std::ops::Range<usize>, width: usize, out: &mut [f32]) {
        let n = cols.len();
        if self.col == 1 {
            for (i, row) in out.chunks_exact_mut(width).enumerate() {
                let from = (k + i) * self.row + cols.start;
                row[..n].copy_from_slice(&self.data[from..from + n]);
                row[n..].fill(0.0);
            }
            return;
        }
        if n < width {
            out.fill(0.0);
        }
        // Along `k` in runs of eight, so that each cache line that is read is used whole.
        for (b, block) in out.chunks_mut(width * 8).enumerate() {
            let rows = block.len() / width;
            for j in 0..n {
                let from = (k + b * 8) * self.row + (cols.start + j) * self.col;
                for i in 0..rows {
                    block[i * width + j] = self.data[from + i * self.row];
                }
            }
        }
    }

    fn matrix(&self) -> Option<MatRef<'_>> {
        Some(*self)
    }
}

/// Packs rows `i..i + rows` of `a`, columns `k..k + len`: for each `k` the values of all rows.
pub(crate) fn pack_a(a: &MatRef<'_>, i: usize, rows: usize, k: usize, out: &mut [f32]) {
    if a.row == 1 {
        for (at, out) in out.chunks_exact_mut(rows).enumerate() {
            let from = (k + at) * a.col + i;
            out.copy_from_slice(&a.data[from..from + rows]);
        }
        return;
    }
    let len = out.len() / rows;
    for r in 0..rows {
        let from = (i + r) * a.row + k * a.col;
        if a.col == 1 {
            for (out, &x) in out[r..].iter_mut().step_by(rows).zip(&a.data[from..from + len]) {
                *out = x;
            }
        } else {
            for (out, x) in
                out[r..].iter_mut().step_by(rows).zip(a.data[from..].iter().step_by(a.col))
            {
                *out = *x;
            }
        }
    }
}
