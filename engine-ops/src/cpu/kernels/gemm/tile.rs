//! The innermost loops of matrix multiplication, over any [`Simd`].
//!
//! Every element of a product is one chain `((0 + a₀b₀) + a₁b₁) + …` in the order of `k`, held in a register within a
//! block of `k` and in the output between blocks. So its bits depend neither on how the output is cut into tiles nor on
//! how `k` is cut into blocks. [`dots`] is the exception: lanes of partial sums, for operands that lie along `k`.

use crate::kernels::simd::{Simd, unrolled};

/// A few rows of the left operand times one tile of columns, over one block of `k`.
#[derive(Clone, Copy)]
pub(crate) struct Panel {
    /// Packed left operand: for each `k`, `rows` values.
    pub(crate) a: *const f32,
    /// Rows, at most the table's.
    pub(crate) rows: usize,
    /// Right operand: micro-panels of `micro_panel` columns, `micro_panel_stride` apart, each `k` rows that are `row_stride` apart.
    pub(crate) b: *const f32,
    /// Columns of a micro-panel.
    pub(crate) micro_panel: usize,
    /// Elements from one micro-panel to the next.
    pub(crate) micro_panel_stride: usize,
    /// Elements from one `k` to the next within a micro-panel, unless there are `offsets`.
    pub(crate) row_stride: usize,
    /// For each `k`, elements from the first one of a micro-panel to that of the row; null if rows are `row_stride` apart.
    pub(crate) offsets: *const u32,
    /// Length of the block of `k`.
    pub(crate) k: usize,
    /// The output's first element.
    pub(crate) c: *mut f32,
    /// Elements from one row of the output to the next.
    pub(crate) c_stride: usize,
    /// Columns of the output. Where they are not whole micro-panels, the last micro-panel is readable as a whole one all the same.
    pub(crate) cols: usize,
    /// Whether this is the first block of `k`: the output is written, not added to.
    pub(crate) first: bool,
}

impl Panel {
    /// No work.
    pub(crate) const EMPTY: Self = Self {
        a: std::ptr::null(),
        rows: 1,
        b: std::ptr::null(),
        micro_panel: 1,
        micro_panel_stride: 0,
        row_stride: 0,
        offsets: std::ptr::null(),
        k: 0,
        c: std::ptr::null_mut(),
        c_stride: 0,
        cols: 0,
        first: true,
    };
}

/// Registers in a row of a wide tile: few rows of an unpacked right operand, of which wide tiles read longer runs.
pub(crate) const WIDE: usize = 4;

/// Computes one panel.
///
/// # Safety
/// The CPU has `S`; the pointers of `p` are valid for what its fields say, and no other thread uses the output's elements.
#[inline(always)]
pub(crate) unsafe fn panel<S: Simd>(p: &Panel) {
    // SAFETY: passed on from the caller.
    unsafe {
        match p.offsets.is_null() {
            true => panel_of::<S, _>(p, Even(p.row_stride)),
            false => panel_of::<S, _>(p, Listed(p.offsets)),
        }
    }
}

/// Where the rows of a micro-panel are.
trait Rows: Copy {
    /// Row `k` of the micro-panel that begins at `b`.
    ///
    /// # Safety
    /// The micro-panel has that row.
    unsafe fn row(self, b: *const f32, k: usize) -> *const f32;
}

/// As far apart as this.
#[derive(Clone, Copy)]
struct Even(usize);

impl Rows for Even {
    #[inline(always)]
    unsafe fn row(self, b: *const f32, k: usize) -> *const f32 {
        // SAFETY: passed on from the caller.
        unsafe { b.add(k * self.0) }
    }
}

/// At these offsets.
#[derive(Clone, Copy)]
struct Listed(*const u32);

impl Rows for Listed {
    #[inline(always)]
    unsafe fn row(self, b: *const f32, k: usize) -> *const f32 {
        // SAFETY: passed on from the caller.
        unsafe { b.add(*self.0.add(k) as usize) }
    }
}

/// # Safety
/// As [`panel`].
#[inline(always)]
unsafe fn panel_of<S: Simd, B: Rows>(p: &Panel, of: B) {
    /// Calls the instance for this number of rows.
    macro_rules! rows {
        ($width:expr, $j:expr, $b:expr, $cols:expr, [$($r:literal)*]) => {
            match p.rows {
                // SAFETY: passed on from the caller.
                $($r if $r <= S::ROWS => unsafe { tile::<S, B, $r, $width>(p, of, $b, $j, $cols) },)*
                _ => unreachable!("a panel has at most as many rows as the largest tile"),
            }
        };
    }
    let mut j = 0;
    while j < p.cols {
        // SAFETY: micro-panel `j / micro_panel` begins within the right operand.
        let b = unsafe { p.b.add(j / p.micro_panel * p.micro_panel_stride) };
        let cols = (p.cols - j).min(p.micro_panel);
        match cols.div_ceil(S::LANES) {
            1 => rows!(1, j, b, cols, [1 2 3 4 5 6 7 8 9 10 11 12]),
            2 => rows!(2, j, b, cols, [1 2 3 4 5 6 7 8 9 10 11 12]),
            _ => rows!(4, j, b, cols, [1 2 3 4 5 6]),
        }
        j += p.micro_panel;
    }
}

/// One tile of `R` rows and up to `W` registers of columns, all of whose sums stay in registers.
///
/// # Safety
/// As [`panel`]; columns `j..j + cols` belong to the panel.
#[inline(always)]
unsafe fn tile<S: Simd, B: Rows, const R: usize, const W: usize>(
    p: &Panel,
    of: B,
    b: *const f32,
    j: usize,
    cols: usize,
) {
    // SAFETY: rows and columns are within the panel, reads of `b` within its micro-panels.
    unsafe {
        let c = p.c.add(j);
        let zero = S::splat(0.0);
        let mut sums = [[zero; W]; R];
        if !p.first {
            unrolled!(r < R => {
                unrolled!(w < 4 and W => {
                    let from = c.add(r * p.c_stride + w * S::LANES);
                    sums[r][w] = match cols.saturating_sub(w * S::LANES) {
                        0 => zero,
                        n if n < S::LANES => S::load_first(from, n),
                        _ => S::load(from),
                    };
                });
            });
        }
        let mut a = p.a;
        for k in 0..p.k {
            let b = of.row(b, k);
            let mut columns = [zero; W];
            unrolled!(w < 4 and W => { columns[w] = S::load(b.add(w * S::LANES)); });
            unrolled!(r < R => {
                let x = S::splat(*a.add(r));
                unrolled!(w < 4 and W => { sums[r][w] = S::fma(x, columns[w], sums[r][w]); });
            });
            a = a.add(R);
        }
        unrolled!(r < R => {
            unrolled!(w < 4 and W => {
                let to = c.add(r * p.c_stride + w * S::LANES);
                match cols.saturating_sub(w * S::LANES) {
                    0 => {}
                    n if n < S::LANES => S::store_first(to, n, sums[r][w]),
                    _ => S::store(to, sums[r][w]),
                }
            });
        });
    }
}

/// Products of rows with rows: both operands lie along `k`.
pub(crate) struct Dots {
    /// Left operand.
    pub(crate) a: *const f32,
    /// Elements from one row of the left operand to the next.
    pub(crate) a_stride: usize,
    /// Rows of the left operand.
    pub(crate) rows: usize,
    /// Right operand, a row for each column of the output.
    pub(crate) b: *const f32,
    /// Elements from one row of the right operand to the next.
    pub(crate) b_stride: usize,
    /// Rows of the right operand.
    pub(crate) cols: usize,
    /// Length of the rows.
    pub(crate) k: usize,
    /// The output's first element.
    pub(crate) c: *mut f32,
    /// Elements from one row of the output to the next.
    pub(crate) c_stride: usize,
}

/// Computes the dot products of every pair of rows.
///
/// # Safety
/// The CPU has `S`; the pointers of `d` are valid for what its fields say, and no other thread uses the output's elements.
#[inline(always)]
pub(crate) unsafe fn dots<S: Simd>(d: &Dots) {
    let mut j = 0;
    while j < d.cols {
        let four = d.cols - j >= 4;
        let mut i = 0;
        while i < d.rows {
            let two = d.rows - i >= 2;
            // SAFETY: rows `i..` and columns `j..` of this step are within the operands.
            unsafe {
                match (two, four) {
                    (true, true) => dot_tile::<S, 2, 4>(d, i, j),
                    (false, true) => dot_tile::<S, 1, 4>(d, i, j),
                    (true, false) => dot_tile::<S, 2, 1>(d, i, j),
                    (false, false) => dot_tile::<S, 1, 1>(d, i, j),
                }
            }
            i += if two { 2 } else { 1 };
        }
        j += if four { 4 } else { 1 };
    }
}

/// `R × C` dot products at once.
///
/// # Safety
/// As [`dots`]; rows `i..i + R` and columns `j..j + C` exist.
#[inline(always)]
unsafe fn dot_tile<S: Simd, const R: usize, const C: usize>(d: &Dots, i: usize, j: usize) {
    // SAFETY: reads stay within `k` elements of a row.
    unsafe {
        let (a, b) = (d.a.add(i * d.a_stride), d.b.add(j * d.b_stride));
        let mut sums = [[S::splat(0.0); C]; R];
        let mut at = 0;
        while at < d.k {
            let rest = d.k - at;
            let mut columns = [S::splat(0.0); C];
            unrolled!(c < 4 and C => { columns[c] = part::<S>(b.add(c * d.b_stride + at), rest); });
            unrolled!(r < 4 and R => {
                let x = part::<S>(a.add(r * d.a_stride + at), rest);
                unrolled!(c < 4 and C => { sums[r][c] = S::fma(x, columns[c], sums[r][c]); });
            });
            at += S::LANES;
        }
        unrolled!(r < 4 and R => {
            unrolled!(c < 4 and C => {
                *d.c.add((i + r) * d.c_stride + j + c) = S::sum(sums[r][c]);
            });
        });
    }
}

/// A register, or what is left of a row.
///
/// # Safety
/// The CPU has `S`, and `rest` values can be read.
#[inline(always)]
unsafe fn part<S: Simd>(from: *const f32, rest: usize) -> S::V {
    // SAFETY: passed on from the caller.
    unsafe { if rest < S::LANES { S::load_first(from, rest) } else { S::load(from) } }
}

/// Lines that are to become columns: packing of an operand that lies the other way.
pub(crate) struct Transpose {
    /// The first line.
    pub(crate) from: *const f32,
    /// Elements from one line to the next.
    pub(crate) stride: usize,
    /// Lines.
    pub(crate) lines: usize,
    /// Elements of a line.
    pub(crate) len: usize,
    /// Where the first elements of all lines go.
    pub(crate) to: *mut f32,
    /// Elements from there to where the second ones go; at least the number of lines.
    pub(crate) to_stride: usize,
}

/// Writes the lines as columns.
///
/// # Safety
/// The CPU has `S`; the pointers of `t` are valid for what its fields say, and no other thread uses what is written.
#[inline(always)]
pub(crate) unsafe fn transpose<S: Simd>(t: &Transpose) {
    for line in (0..t.lines).step_by(S::LANES) {
        let lines = S::LANES.min(t.lines - line);
        let mut at = 0;
        // SAFETY: elements `at..at + LANES` of lines `line..line + lines` are within the operand, and so are their places.
        unsafe {
            let (from, to) = (t.from.add(line * t.stride), t.to.add(line));
            while at + S::LANES <= t.len {
                S::transpose(from.add(at), t.stride, lines, to.add(at * t.to_stride), t.to_stride);
                at += S::LANES;
            }
            for at in at..t.len {
                for line in 0..lines {
                    *to.add(at * t.to_stride + line) = *from.add(line * t.stride + at);
                }
            }
        }
    }
}
