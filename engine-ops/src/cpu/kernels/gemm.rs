//! Matrix multiplication of `f32`: `C = A·B`, batched, strided, packed block by block into the caller's scratch.
//!
//! The output is cut into blocks of rows and columns, one task each. A task packs the part of the right operand that
//! it needs into its own slot of the scratch (second-level cache), a few rows of the left operand onto its stack
//! (first-level cache), and leaves the sums to the micro-kernels in `tile`, chosen at run time. How blocks are cut may
//! follow the number of threads, because the order of a sum does not depend on it (see `tile`).

mod pack;
pub(crate) mod tile;

use crate::kernels::instances::{Kernels, kernels};
use crate::parallel::{self, aligned, in_slots};
use engine_format::{DType, Element};
pub use pack::{MatRef, MicroPanels, PackB};
pub(crate) use pack::{Piece, pieces, transpose};
use std::ops::Range;
use tile::{Dots, Panel, WIDE};

/// Block of `k`: a packed micro-panel of rows (12 × 256 × 4 bytes) stays in the first-level cache.
pub(crate) const BLOCK_K: usize = 256;
/// Most columns of a task: its packed block (512 × 256 × 4 bytes) stays in the second-level cache. Fewer columns leave room for
/// more terms, see [`Cut::depth`].
const BLOCK_N: usize = 512;
/// Most rows of a task.
const BLOCK_M: usize = 384;
/// Block of `k` where the right operand is read in place by few rows: as many memory streams as it has rows.
const BLOCK_K_STREAM: usize = 8;
/// Most columns of a task then: long streams.
const BLOCK_N_STREAM: usize = 4096;
/// Elements of a right operand that is read in place by any number of rows: it stays in the first or second level cache.
const SMALL: usize = 16 * 1024;
/// Multiplications below which starting threads costs more than it saves.
pub(crate) const PARALLEL: usize = 192 * 1024;
/// Most tasks per thread: more make an uneven end short, and pack more often.
const TASKS_PER_THREAD: usize = 4;
/// Most blocks of rows that are looked at, beside those that there have to be.
const MOST_DOWN: usize = 8;
/// Rows (or columns) up to which operands that both lie along `k` are multiplied in place.
pub(crate) const DOTS: usize = 8;

/// What is done to finished elements while they are in the cache: called with batch index, row, first column and a run
/// of elements of that row, once for every element.
pub type Epilogue<'a> = &'a (dyn Fn(usize, usize, usize, &mut [f32]) + Sync);

/// Sizes of a batch of products `m × k` times `k × n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// Products.
    pub batch: usize,
    /// Rows of the left operand and of the output.
    pub m: usize,
    /// Columns of the right operand and of the output.
    pub n: usize,
    /// Terms of each sum.
    pub k: usize,
}

/// How a right operand is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Both operands in place, along `k`.
    Dots,
    /// In place, rows being contiguous; only the last columns are packed.
    Direct,
    /// As [`Mode::Direct`] for so few rows that memory is the limit.
    Stream,
    /// Packed into the task's slot.
    Pack,
    /// Packed before.
    Packed,
}

/// A right operand packed once for many products ([`PackedB::pack`]); the layout is that of this machine's kernels.
#[derive(Clone, Copy, Debug)]
pub struct PackedB<'a> {
    data: &'a [f32],
    k: usize,
    n: usize,
}

impl<'a> PackedB<'a> {
    /// Elements that a packed `k × n` operand takes.
    pub fn len(k: usize, n: usize) -> usize {
        k * n.next_multiple_of(kernels().cols)
    }

    /// Packs a `k × n` operand into `out`, which has [`PackedB::len`] elements.
    pub fn pack(b: &impl PackB, k: usize, n: usize, out: &mut [f32]) {
        let width = kernels().cols;
        assert_eq!(out.len(), Self::len(k, n), "a packed {k} × {n} operand has another length");
        if k > 0 {
            parallel::rows(out, k * width, 1, |s, micro_panel| {
                pack::pack_b(b, width, (0, k), s * width..n.min((s + 1) * width), micro_panel);
            });
        }
    }

    /// The operand that [`PackedB::pack`] wrote.
    pub fn new(data: &'a [f32], k: usize, n: usize) -> Self {
        assert_eq!(data.len(), Self::len(k, n), "a packed {k} × {n} operand has another length");
        Self { data, k, n }
    }
}

/// The form of a constant that is a right operand `k × n`: as [`PackedB`] holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Panels {
    /// Terms of each sum.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// Whether the constant is `n × k`.
    pub transposed: bool,
}

impl Panels {
    /// Elements of the form; `usize::MAX` if they do not fit.
    pub fn len(&self) -> usize {
        let columns = self.n.checked_next_multiple_of(kernels().cols);
        columns.and_then(|columns| columns.checked_mul(self.k)).unwrap_or(usize::MAX)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn make<T: Element + Into<f32>>(&self, from: &[T], out: &mut [f32]) {
        let Self { k, n, transposed } = *self;
        assert_eq!(from.len(), k * n, "a right operand of {k} × {n}");
        let wide: Vec<f32>;
        let from = match T::DTYPE {
            DType::F32 => bytemuck::cast_slice(from),
            _ => {
                wide = from.iter().map(|&x| x.into()).collect();
                &wide
            }
        };
        let b = if transposed { MatRef::rows(from, k).t() } else { MatRef::rows(from, n) };
        PackedB::pack(&b, k, n, out);
    }
}

impl PackB for PackedB<'_> {
    fn pack<const WIDTH: usize>(&self, k: usize, cols: Range<usize>, out: MicroPanels<'_, WIDTH>) {
        let own = kernels().cols;
        for (s, rows) in out.rows.chunks_exact_mut(out.height).enumerate() {
            for (i, row) in rows.iter_mut().enumerate() {
                row.fill(0.0);
                for (to, j) in row.iter_mut().zip(cols.start + s * WIDTH..cols.end.min(self.n)) {
                    *to = self.data[(j / own * self.k + k + i) * own + j % own];
                }
            }
        }
    }

    fn packed(&self) -> Option<&[f32]> {
        Some(self.data)
    }
}

/// The output, written by tasks in disjoint blocks.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    first: *mut f32,
    len: usize,
}

// SAFETY: tasks write disjoint elements, see the `task` of its users.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    pub(crate) fn new(out: &mut [f32]) -> Self {
        Self { first: out.as_mut_ptr(), len: out.len() }
    }

    /// The element at `index`.
    pub(crate) fn at(self, index: usize) -> *mut f32 {
        assert!(index < self.len, "output {index} of {}", self.len);
        // SAFETY: it was just checked that there is such an element.
        unsafe { self.first.add(index) }
    }
}

impl Gemm {
    /// How many there are.
    pub(crate) fn multiplications(&self) -> u64 {
        [self.batch, self.m, self.n, self.k].iter().fold(1, |all, &n| all.saturating_mul(n as u64))
    }

    /// Bytes of scratch that [`Gemm::run`] wants: a slot for each thread that can have work. With less (one slot at
    /// least) it uses fewer threads.
    pub fn scratch(&self) -> usize {
        let (kernels, threads) = (kernels(), parallel::threads());
        let slots = |mode| {
            let cut = Cut::new(self, kernels, mode, threads);
            cut.tasks(self).clamp(1, threads) * self.slot(kernels, mode, &cut)
        };
        slots(Mode::Pack).max(slots(Mode::Stream)) * size_of::<f32>() + 64
    }

    /// Elements of a task's slot: a few packed rows of the left operand, and what is packed of the right.
    fn slot(&self, kernels: &Kernels, mode: Mode, cut: &Cut) -> usize {
        let cols = match mode {
            Mode::Dots => return 0,
            Mode::Pack => cut.cols,
            Mode::Direct | Mode::Stream => kernels.cols,
            Mode::Packed => 0,
        };
        let depth = self.k.min(cut.depth(mode));
        left_slot(kernels, self.k.min(BLOCK_K)) + (depth * cols).next_multiple_of(16)
    }

    /// `out[i] = A[i]·B[i]` for every product of the batch; `operands` gives the operands of one. `out` is dense.
    ///
    /// # Panics
    /// If an operand or the output has another size, or the scratch has no room for one slot.
    pub fn run<'a, B: PackB>(
        &self,
        operands: impl Fn(usize) -> (MatRef<'a>, B) + Sync,
        out: &mut [f32],
        scratch: &mut [u8],
        epilogue: Option<Epilogue<'_>>,
    ) {
        self.run_on(kernels(), operands, out, scratch, epilogue);
    }

    fn run_on<'a, B: PackB>(
        &self,
        kernels: &'static Kernels,
        operands: impl Fn(usize) -> (MatRef<'a>, B) + Sync,
        out: &mut [f32],
        scratch: &mut [u8],
        epilogue: Option<Epilogue<'_>>,
    ) {
        assert_eq!(out.len(), self.batch * self.m * self.n, "the output of {self:?}");
        if out.is_empty() {
            return;
        }
        let (a, b) = operands(0);
        let mode = self.mode(kernels, &a, &b);
        let cut = Cut::new(self, kernels, mode, parallel::threads());
        let call = Call { gemm: self, kernels, mode, cut, out: Output::new(out), epilogue };
        let (scratch, slot) = (aligned(scratch), self.slot(kernels, mode, &cut));
        assert!(scratch.len() >= slot, "{} elements of scratch for {self:?}", scratch.len());
        let tasks = cut.tasks(self);
        if tasks == 1 || self.batch * self.m * self.n * self.k.max(1) < PARALLEL {
            let slot = &mut scratch[..slot];
            return (0..tasks).for_each(|task| call.task(task, &operands, slot));
        }
        in_slots(tasks, slot, scratch, |task, slot| call.task(task, &operands, slot));
    }

    /// Bytes of scratch that [`Gemm::run_here`] wants.
    pub(crate) fn scratch_here(&self) -> usize {
        let kernels = kernels();
        let slot = |mode| self.slot(kernels, mode, &Cut::new(self, kernels, mode, 1));
        slot(Mode::Pack).max(slot(Mode::Stream)) * size_of::<f32>() + 64
    }

    /// As [`Gemm::run`], on the calling thread alone: for products that are parts of a task. The bits are the same.
    pub(crate) fn run_here<'a, B: PackB>(
        &self,
        operands: impl Fn(usize) -> (MatRef<'a>, B) + Sync,
        out: &mut [f32],
        scratch: &mut [u8],
    ) {
        assert_eq!(out.len(), self.batch * self.m * self.n, "the output of {self:?}");
        if out.is_empty() {
            return;
        }
        let kernels = kernels();
        let (a, b) = operands(0);
        let mode = self.mode(kernels, &a, &b);
        let cut = Cut::new(self, kernels, mode, 1);
        let out = Output::new(out);
        let call = Call { gemm: self, kernels, mode, cut, out, epilogue: None };
        let (scratch, slot) = (aligned(scratch), self.slot(kernels, mode, &cut));
        (0..cut.tasks(self)).for_each(|task| call.task(task, &operands, &mut scratch[..slot]));
    }

    /// Follows from sizes and layouts alone.
    fn mode(&self, kernels: &Kernels, a: &MatRef<'_>, b: &impl PackB) -> Mode {
        if b.packed().is_some() {
            return Mode::Packed;
        }
        match b.matrix() {
            Some(b) => self.mode_of(kernels, [a.row, a.col], [b.row, b.col]),
            None => Mode::Pack,
        }
    }

    /// The mode for matrices of these distances between rows and columns.
    fn mode_of(&self, kernels: &Kernels, a: [usize; 2], [b_row, b_col]: [usize; 2]) -> Mode {
        let Gemm { m, n, k, .. } = *self;
        let along_k = a[1] == 1 && b_row == 1;
        if along_k && k >= 2 * kernels.lanes && (n == 1 || b_col != 1) && m.min(n) <= DOTS {
            return Mode::Dots;
        }
        match b_col == 1 && n >= kernels.lanes {
            true if m * WIDE <= kernels.rows * 2 => Mode::Stream,
            true if m <= 2 * kernels.rows || k * n <= SMALL => Mode::Direct,
            _ => Mode::Pack,
        }
    }

    /// Whether a right operand is packed at every run, for matrices of these distances between rows and columns.
    pub(crate) fn packs(&self, a: [usize; 2], b: [usize; 2]) -> bool {
        self.mode_of(kernels(), a, b) == Mode::Pack
    }

    /// Whether the operands of one product have the sizes that they should.
    fn check(&self, kernels: &Kernels, a: &MatRef<'_>, b: &impl PackB) {
        let Gemm { m, n, k, .. } = *self;
        assert!(a.holds(m, k), "the left operand of {self:?} is too short");
        if let Some(packed) = b.packed() {
            assert_eq!(packed.len(), k * n.next_multiple_of(kernels.cols), "a packed operand");
        } else if let Some(b) = b.matrix() {
            assert!(b.holds(k, n), "the right operand of {self:?} is too short");
        }
    }
}

/// Elements of a slot that packed rows of the left operand take.
fn left_slot(kernels: &Kernels, k: usize) -> usize {
    (kernels.rows * k).next_multiple_of(16)
}

/// How the output is cut into tasks.
#[derive(Clone, Copy, Debug)]
struct Cut {
    rows: usize,
    cols: usize,
}

impl Cut {
    fn new(gemm: &Gemm, kernels: &Kernels, mode: Mode, threads: usize) -> Self {
        let widest = if mode == Mode::Stream { BLOCK_N_STREAM } else { BLOCK_N };
        let (m, n) = (gemm.m.max(1), gemm.n.max(1));
        let of = |down: usize, across: usize| Cut {
            rows: m.div_ceil(down).next_multiple_of(kernels.rows).min(m),
            cols: n.div_ceil(across).next_multiple_of(kernels.cols),
        };
        let (down, across) = (m.div_ceil(BLOCK_M), n.div_ceil(widest));
        if threads == 1 {
            return of(down, across);
        }
        // Blocks of two tiles each way at least.
        let most_down = m.div_ceil(2 * kernels.rows).clamp(down, down.max(MOST_DOWN));
        let most_across = n.div_ceil(2 * kernels.cols).max(across);
        let cuts = (down..=most_down).flat_map(|down| {
            (0..=TASKS_PER_THREAD).map(move |each| {
                let wanted = (each * threads).div_ceil(gemm.batch.max(1) * down);
                of(down, wanted.clamp(across, most_across))
            })
        });
        cuts.min_by_key(|cut| cut.time(gemm, mode, threads)).expect("there is one cut at least")
    }

    /// About what the thread takes that ends last, up to a factor.
    fn time(&self, gemm: &Gemm, mode: Mode, threads: usize) -> usize {
        // What it takes to pack an element of the left operand in columns, and to pack or read one of the right in rows.
        let (left, right) = (20, if mode == Mode::Pack { 20 } else { 8 });
        let each = self.rows * (self.cols + left) + self.cols * right;
        let tasks = self.tasks(gemm).div_ceil(threads);
        // Something else may slow a thread down, so that it ends up to a task later than the others.
        tasks.saturating_mul(each).saturating_mul(16) + each
    }

    /// Terms for which the right operand is packed (or read in place) before the next rows of the left one are looked at: as
    /// many as keep it in the second-level cache. The left operand is then read along `k` for long, which memory does well.
    fn depth(&self, mode: Mode) -> usize {
        match mode {
            Mode::Stream => BLOCK_K_STREAM,
            _ => (BLOCK_N / self.cols.max(1)).max(1) * BLOCK_K,
        }
    }

    fn tasks(&self, gemm: &Gemm) -> usize {
        gemm.batch * gemm.m.div_ceil(self.rows) * gemm.n.div_ceil(self.cols)
    }
}

struct Call<'a> {
    gemm: &'a Gemm,
    kernels: &'static Kernels,
    mode: Mode,
    cut: Cut,
    out: Output,
    epilogue: Option<Epilogue<'a>>,
}

/// One block of one product.
struct Block<'a, B> {
    batch: usize,
    a: MatRef<'a>,
    b: &'a B,
    rows: Range<usize>,
    cols: Range<usize>,
}

impl Call<'_> {
    /// Computes task number `task`: no two tasks share an element of the output, and together they have all.
    fn task<'a, B: PackB>(
        &self,
        task: usize,
        operands: &(impl Fn(usize) -> (MatRef<'a>, B) + Sync),
        slot: &mut [f32],
    ) {
        let Gemm { m, n, .. } = *self.gemm;
        let (down, across) = (m.div_ceil(self.cut.rows), n.div_ceil(self.cut.cols));
        let (batch, within) = (task / (down * across), task % (down * across));
        let (row, col) = (within / across * self.cut.rows, within % across * self.cut.cols);
        let (a, b) = operands(batch);
        self.gemm.check(self.kernels, &a, &b);
        let block = Block {
            batch,
            a,
            b: &b,
            rows: row..m.min(row + self.cut.rows),
            cols: col..n.min(col + self.cut.cols),
        };
        match self.mode {
            Mode::Dots => self.dots(&block),
            _ => self.sums(&block, slot),
        }
    }

    /// The output element at a row and column of a product.
    fn at(&self, batch: usize, row: usize, col: usize) -> *mut f32 {
        let Gemm { m, n, .. } = *self.gemm;
        debug_assert!(batch < self.gemm.batch && row < m && col < n);
        self.out.at((batch * m + row) * n + col)
    }

    fn dots<B: PackB>(&self, block: &Block<'_, B>) {
        let b = block.b.matrix().expect("the mode says that the right operand is a matrix");
        let a = &block.a;
        let dots = Dots {
            a: a.data[block.rows.start * a.row..].as_ptr(),
            a_stride: a.row,
            rows: block.rows.len(),
            b: b.data[block.cols.start * b.col..].as_ptr(),
            b_stride: b.col,
            cols: block.cols.len(),
            k: self.gemm.k,
            c: self.at(block.batch, block.rows.start, block.cols.start),
            c_stride: self.gemm.n,
        };
        // SAFETY: the operands' sizes were checked, both lie along `k`, and the block is this task's own.
        unsafe { (self.kernels.dots)(&dots) };
        self.finish(block, block.rows.clone());
    }

    fn sums<B: PackB>(&self, block: &Block<'_, B>, slot: &mut [f32]) {
        let Gemm { k, .. } = *self.gemm;
        let (left, right) = slot.split_at_mut(left_slot(self.kernels, k.min(BLOCK_K)));
        let step = if self.mode == Mode::Stream { BLOCK_K_STREAM } else { BLOCK_K };
        if k == 0 {
            for row in block.rows.clone() {
                self.run_of(block, row).fill(0.0);
            }
            self.finish(block, block.rows.clone());
        }
        let depth = self.cut.depth(self.mode);
        for from in (0..k).step_by(depth) {
            let deep = from..k.min(from + depth);
            let strips = self.strips(block, deep.clone(), right);
            for (piece, next) in pieces(block.rows.clone(), self.kernels.rows, deep.clone(), step) {
                let packed = piece.pack(&block.a, next.as_ref(), left);
                self.panels(block, &piece, from, packed, &strips);
                if piece.k.end == k {
                    self.finish(block, piece.rows);
                }
            }
        }
    }

    /// The terms of a packed piece, over all strips, which begin at term `from`.
    fn panels<B: PackB>(
        &self,
        block: &Block<'_, B>,
        piece: &Piece,
        from: usize,
        packed: &[f32],
        strips: &[Option<Strip>; 3],
    ) {
        for strip in strips.iter().flatten() {
            let skipped = (piece.k.start - from) * strip.panel.row_stride;
            let panel = Panel {
                a: packed.as_ptr(),
                rows: piece.rows.len(),
                // SAFETY: the strip's micro-panels have a row for every term from `from` on, those of the piece among them.
                b: unsafe { strip.panel.b.add(skipped) },
                k: piece.k.len(),
                first: piece.k.start == 0,
                c: self.at(block.batch, piece.rows.start, strip.col),
                c_stride: self.gemm.n,
                ..strip.panel
            };
            // SAFETY: `strips` points at as many micro-panels of rows as it says; the block is this task's own.
            unsafe { (self.kernels.panel)(&panel) };
        }
    }

    /// The right operand over a block of `k`: as at most three strips of micro-panels of one kind.
    fn strips<B: PackB>(
        &self,
        block: &Block<'_, B>,
        k: Range<usize>,
        slot: &mut [f32],
    ) -> [Option<Strip>; 3] {
        let Kernels { cols: width, lanes, .. } = *self.kernels;
        let cols = block.cols.clone();
        if self.mode == Mode::Packed {
            let data = block.b.packed().expect("the mode says that the right operand is packed");
            let from = (cols.start / width * self.gemm.k + k.start) * width;
            let b = data[from..].as_ptr();
            return [Strip::new(cols, b, width, self.gemm.k * width, width), None, None];
        }
        // What is read in place, in whole registers: wide micro-panels, then narrow ones.
        let mut strips = [None, None, None];
        let mut done = cols.start;
        if let (Mode::Stream | Mode::Direct, Some(b)) = (self.mode, block.b.matrix()) {
            let kinds = [(WIDE * lanes, WIDE * lanes), (width, lanes)];
            let wide = usize::from(self.mode == Mode::Direct);
            for (strip, (micro_panel, whole)) in strips.iter_mut().zip(&kinds[wide..]) {
                let end = done + (cols.end - done) / whole * whole;
                if done < end {
                    let data = b.data[k.start * b.row + done..].as_ptr();
                    *strip = Strip::new(done..end, data, *micro_panel, *micro_panel, b.row);
                }
                done = end;
            }
        }
        if done < cols.end {
            let height = k.len();
            let rest = (cols.end - done).next_multiple_of(width) * height;
            pack::pack_b(block.b, width, (k.start, height), done..cols.end, &mut slot[..rest]);
            let data = slot.as_ptr();
            strips[2] = Strip::new(done..cols.end, data, width, width * height, width);
        }
        strips
    }

    /// Runs the epilogue over finished rows of a block.
    fn finish<B>(&self, block: &Block<'_, B>, rows: Range<usize>) {
        let Some(epilogue) = self.epilogue else { return };
        for row in rows {
            epilogue(block.batch, row, block.cols.start, self.run_of(block, row));
        }
    }

    /// A row of a block of the output.
    #[expect(clippy::mut_from_ref, reason = "the block is the calling task's own")]
    fn run_of<B>(&self, block: &Block<'_, B>, row: usize) -> &mut [f32] {
        let from = self.at(block.batch, row, block.cols.start);
        // SAFETY: these elements are this task's own, and the caller holds one such row at a time.
        unsafe { std::slice::from_raw_parts_mut(from, block.cols.len()) }
    }
}

/// Slivers of one kind, side by side.
struct Strip {
    col: usize,
    panel: Panel,
}

impl Strip {
    fn new(
        cols: Range<usize>,
        b: *const f32,
        micro_panel: usize,
        micro_panel_stride: usize,
        row_stride: usize,
    ) -> Option<Self> {
        let panel = Panel {
            b,
            micro_panel,
            micro_panel_stride,
            row_stride,
            cols: cols.len(),
            ..Panel::EMPTY
        };
        (!cols.is_empty()).then_some(Self { col: cols.start, panel })
    }
}

#[cfg(test)]
mod tests;
