//! The kernel of products by a GPU's matrix units, which multiply halves and add in `f32`.
//!
//! Each operand is split: x = high + low, both halves, and three products are added up: high · high, high · low and low · high. So a
//! product of `f32` keeps about 22 bits of each factor. The units truncate their sums, so those of a few terms are made apart and added
//! with ordinary additions. Rows of the left operand and columns of the right one are brought to the top of the range of halves by powers
//! of two, which a dispatch before finds, and back at the end: both are exact. So no element is off by more than the greater of 2⁻²³ of
//! itself and 2⁻⁴⁰ of the largest of its row or column. What belongs to a row or column with NaN or infinities, and is not
//! finite either, is added up term by term.
//!
//! Sums of many products are less off than those of `f32` term by term. A sum that one product makes up nearly alone is off by up to 2⁻²¹
//! of it, eight times as much: so the rule chooses these kernels where the right operand consists of halves, and is rounded far more.

use super::fetch::{Along, Brought, Fetch, Patch};
use super::halves::Lying;
use super::{GpuLimits, render};

/// How much of a product a workgroup calculates, how many terms at a time, and how many subgroups of [`LANES`] share its rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Units {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) terms: usize,
    pub(crate) subgroups: [usize; 2],
}

/// Invocations of a subgroup, and rows, columns and terms of what it multiplies at once.
const LANES: usize = 32;
const SIDE: usize = 16;

/// Terms of a part over which the largest elements are sought, at least; and parts at most.
const PART: usize = 256;
const PARTS: usize = 16;

/// Rows or columns for which a workgroup seeks the largest elements.
const SOUGHT: usize = 64;

/// How the operands are read, and what is known of the right one's elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) along: [Along; 2],
    pub(crate) halves: Halves,
}

/// What is known of the right operand's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halves {
    /// They take `f32`.
    No,
    /// They are `bf16`: each is one half once it is scaled.
    Scaled,
    /// They are `f16`.
    Exact,
}

impl Halves {
    /// What is known of elements that lie so.
    pub(crate) fn of(lying: Lying) -> Self {
        match lying {
            Lying::Words => Self::No,
            Lying::F16 => Self::Exact,
            Lying::BF16 => Self::Scaled,
        }
    }
}

/// An operand's tile in workgroup memory, in vectors of four halves: lines of neighbouring elements, those of the high parts and then
/// those of the low ones.
struct Lines {
    name: &'static str,
    along: Along,
    /// Elements side by side, and lines.
    inner: usize,
    outer: usize,
    /// Whether there are low parts.
    low: bool,
}

impl Lines {
    /// Vectors from line to line. Two of padding spread the banks.
    fn step(&self) -> usize {
        self.inner / 4 * if self.low { 2 } else { 1 } + 2
    }

    fn size(&self) -> usize {
        self.outer * self.step()
    }

    /// Reads what the vectors of an invocation are scaled by, of which there are so many.
    fn scales(&self, vectors: usize) -> String {
        let name = self.name;
        let each = |i: usize| format!("    let {name}_f{i} = {name}_scale[{name}_s{i}];\n");
        match self.along {
            Along::Terms => (0..vectors).map(each).collect(),
            Along::Side => {
                let each = [0, 1, 2, 3].map(|j| format!("{name}_scale[{name}_s + {j}u]"));
                format!("    let {name}_f = vec4<f32>({});\n", each.join(", "))
            }
        }
    }

    /// Puts a vector there.
    fn store(&self, brought: &Brought, exact: bool) -> String {
        let Brought { i, value, side, term } = brought;
        let (name, step) = (self.name, self.step());
        let (outer, inner, scale) = match self.along {
            Along::Terms => (side, term, format!("{name}_f{i}")),
            Along::Side => (term, side, format!("{name}_f")),
        };
        let v = if exact { value.clone() } else { format!("{value} * {scale}") };
        let at = format!("let at = {outer} * {step}u + {inner} / 4u;");
        if !self.low {
            return format!("        {{ {at} {name}_tile[at] = vec4<f16>({v}); }}\n");
        }
        let low = self.inner / 4;
        format!(
            "        {{ {at} let v = {v}; let h = high(v); {name}_tile[at] = vec4<f16>(h); {name}_tile[at + {low}u] = vec4<f16>(v - h); }}\n"
        )
    }

    /// The expression of a matrix of the part `low` at rows (columns) from `side` on and terms from `term` on.
    fn load(&self, low: bool, side: &str, term: usize) -> String {
        let (name, step) = (self.name, self.step());
        let from = if low { self.inner / 4 } else { 0 };
        let at = match self.along {
            Along::Terms => format!("({side}) * {step}u + {}u", term / 4 + from),
            Along::Side => format!("{}u + ({side}) / 4u", term * step + from),
        };
        let (role, by_rows) = match self.name {
            "left" => ("A", self.along == Along::Terms),
            _ => ("B", self.along == Along::Side),
        };
        let call = if by_rows { "coopLoadT" } else { "coopLoad" };
        format!("{call}<coop_mat16x16<f16, {role}>>(&{name}_tile[{at}], {step}u)")
    }
}

impl Units {
    pub(crate) const fn invocations(self) -> usize {
        self.subgroups[0] * self.subgroups[1] * LANES
    }

    /// The operands' tiles.
    fn lines(self, Reading { along: [left, right], halves }: Reading) -> [Lines; 2] {
        let lines = |name, along, side, low| match along {
            Along::Terms => Lines { name, along, inner: self.terms, outer: side, low },
            Along::Side => Lines { name, along, inner: side, outer: self.terms, low },
        };
        let low = halves == Halves::No;
        [lines("left", left, self.rows, true), lines("right", right, self.cols, low)]
    }

    /// Whether a device has the matrix units, and room for the tiles however they lie.
    pub(crate) fn fits(self, limits: &GpuLimits) -> bool {
        let both = [Along::Terms, Along::Side];
        let bytes = |along| {
            let tiles: usize =
                self.lines(Reading { along, halves: Halves::No }).iter().map(Lines::size).sum();
            tiles * 8 + (self.rows + self.cols) * 4 + self.invocations() / LANES * SIDE * SIDE * 4
        };
        let most = both.iter().flat_map(|&l| both.map(|r| bytes([l, r]))).max();
        limits.matrix_units
            && most.is_some_and(|most| most <= limits.workgroup_memory as usize)
            && self.invocations() <= limits.max_invocations as usize
    }

    /// Tiles down and across a product.
    pub(crate) fn grid(self, rows: usize, cols: usize) -> [usize; 2] {
        [rows.div_ceil(self.rows), cols.div_ceil(self.cols)]
    }

    /// What the text of the kernel begins with.
    pub(crate) const HEAD: &'static str = "enable f16;\nenable wgpu_cooperative_matrix;\n";

    /// The kernel of the products. Elements are `f32`.
    pub(crate) fn wgsl(self, reading: Reading) -> String {
        let [left, right] = self.lines(reading);
        let exact = reading.halves == Halves::Exact;
        let [high, wide] = [self.rows / self.subgroups[0], self.cols / self.subgroups[1]];
        let patch = |name, start, side, along| Patch {
            name,
            start,
            side,
            terms: self.terms,
            invocations: self.invocations(),
            along,
        };
        let fetch_left =
            Fetch::new(patch("left", "row0", self.rows, left.along), &|b| left.store(b, false));
        let fetch_right =
            Fetch::new(patch("right", "col0", self.cols, right.along), &|b| right.store(b, exact));
        let (mut sums, mut start) = (String::new(), String::new());
        let (mut multiply, mut put) = (String::new(), String::new());
        // All sums of a term before the next one, so that one need not wait for the other; what is small first.
        for k in (0..self.terms).step_by(SIDE) {
            for r in 0..high / SIDE {
                let side = format!("hi + {}u", r * SIDE);
                line!(multiply, "        let a{r}_{k} = {};", left.load(false, &side, k));
                line!(multiply, "        let e{r}_{k} = {};", left.load(true, &side, k));
            }
            for j in 0..wide / SIDE {
                let side = format!("lo + {}u", j * SIDE);
                let add = |a: &str, b: &str| -> String {
                    let each = (0..high / SIDE).map(|r| {
                        let call = format!("coopMultiplyAdd({a}{r}_{k}, {b}{j}_{k}, s{r}_{j})");
                        format!("        s{r}_{j} = {call};\n")
                    });
                    each.collect()
                };
                line!(multiply, "        let b{j}_{k} = {};", right.load(false, &side, k));
                if right.low {
                    line!(multiply, "        let f{j}_{k} = {};", right.load(true, &side, k));
                    multiply += &add("a", "f");
                }
                multiply += &(add("e", "b") + &add("a", "b"));
            }
        }
        for r in 0..high / SIDE {
            for j in 0..wide / SIDE {
                line!(sums, "    var c{r}_{j} = coop_mat16x16<f32, C>();");
                line!(start, "        var s{r}_{j} = coop_mat16x16<f32, C>();");
                line!(multiply, "        c{r}_{j} = c{r}_{j} + s{r}_{j};");
                let n = r * (wide / SIDE) + j;
                let store = "coopStoreT(v, &kept[kept_at], step);";
                line!(put, "        if (n == {n}u) {{ let v = c{r}_{j}; {store} }}");
            }
        }
        let multiply = start + &multiply;
        let vectors = |side: usize| side * self.terms / 4 / self.invocations();
        let scales = left.scales(vectors(self.rows)) + &right.scales(vectors(self.cols));
        let numbers = [
            ("rows", self.rows),
            ("cols", self.cols),
            ("terms", self.terms),
            ("left_size", left.size()),
            ("right_size", right.size()),
            ("patch_size", self.invocations() / LANES * SIDE * SIDE / 4),
            ("invocations", self.invocations()),
            ("across", self.subgroups[1]),
            ("patches", high / SIDE * (wide / SIDE)),
            ("patches_across", wide / SIDE),
            ("high", high),
            ("wide", wide),
        ]
        .map(|(key, n)| (key, n.to_string()));
        let places = fetch_left.places + &fetch_right.places + &sums;
        let store = fetch_left.store + &fetch_right.store;
        let load = fetch_left.load + &fetch_right.load;
        let plain = plain(reading.along);
        let mut values: Vec<(&str, &str)> = vec![
            ("places", places.trim_end()),
            ("scales", scales.trim_end()),
            ("store", store.trim_end()),
            ("load", load.trim_end()),
            ("multiply", multiply.trim_end()),
            ("put", put.trim_end()),
            ("plain", plain.trim_end()),
            ("exact", if exact { "true" } else { "false" }),
        ];
        values.extend(numbers.iter().map(|(key, n)| (*key, n.as_str())));
        render(include_str!("units.wgsl"), &values)
    }
}

/// The sums of four neighbouring elements of a row, term by term: lines of a function of `at`, `row` and `col`.
fn plain([left, right]: [Along; 2]) -> String {
    let (mut text, lanes) = (String::new(), ["x", "y", "z", "w"]);
    match left {
        Along::Terms => {
            line!(text, "    let left_at = left_place(at, row);");
        }
        Along::Side => {
            line!(text, "    let left_at = left_place(at, row - row % 4u);");
        }
    }
    match right {
        Along::Side => {
            line!(text, "    let right_at = right_place(at, col);");
        }
        Along::Terms => {
            for j in 0..4 {
                line!(text, "    let right_at{j} = right_place(at, col + {j}u);");
            }
        }
    }
    line!(text, "    for (var k = 0u; k < at.terms; k += 4u) {{");
    match left {
        Along::Terms => {
            line!(text, "        let a = left(left_at, k, at.terms);");
        }
        Along::Side => {
            let each = [0, 1, 2, 3].map(|j| format!("left(left_at, k + {j}u, at.terms)[row % 4u]"));
            line!(text, "        let a = vec4<f32>({});", each.join(", "));
        }
    }
    match right {
        Along::Side => {
            for (j, lane) in lanes.iter().enumerate() {
                line!(text, "        sum += a.{lane} * right(right_at, k + {j}u, at.terms);");
            }
        }
        Along::Terms => {
            for (j, lane) in lanes.iter().enumerate() {
                line!(text, "        let b{j} = a * right(right_at{j}, k, at.terms);");
                line!(text, "        sum.{lane} += b{j}.x + b{j}.y + b{j}.z + b{j}.w;");
            }
        }
    }
    line!(text, "    }}");
    text
}

/// How the largest elements of rows and columns are sought: in parts of so many terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Search {
    pub(crate) parts: usize,
    pub(crate) part: usize,
}

impl Search {
    pub(crate) fn new(terms: usize) -> Self {
        let part = terms.div_ceil(PARTS).max(PART).next_multiple_of(SOUGHT);
        Self { parts: terms.div_ceil(part).max(1), part }
    }

    /// Workgroups for each product.
    pub(crate) fn workgroups(self, rows: usize, cols: usize) -> usize {
        (rows.div_ceil(SOUGHT).saturating_add(cols.div_ceil(SOUGHT))).saturating_mul(self.parts)
    }

    /// Words of what is found.
    pub(crate) fn words(self, items: usize, rows: usize, cols: usize) -> Option<usize> {
        let words = rows.checked_add(cols)?.checked_mul(self.parts)?.checked_mul(items)?;
        u32::try_from(words).is_ok().then_some(words)
    }

    /// The kernel.
    pub(crate) fn wgsl(self, [left, right]: [Along; 2]) -> String {
        let (left, right) = (Self::side("left", left), Self::side("right", right));
        render(include_str!("units_search.wgsl"), &[("left", &left), ("right", &right)])
    }

    /// Lines that leave in `kept`, for each invocation, the largest of four rows or columns.
    fn side(name: &str, along: Along) -> String {
        let mut text = String::new();
        match along {
            Along::Side => {
                line!(text, "        let place = {name}_place(at, side0 + local % 16u * 4u);");
                line!(text, "        for (var k = first + local / 16u; k < end; k += 16u) {{");
                line!(text, "            found = max(found, magnitudes({name}(place, k, end)));");
                line!(text, "        }}");
            }
            Along::Terms => {
                for i in 0..4 {
                    line!(
                        text,
                        "        let place{i} = {name}_place(at, side0 + local % 16u * 4u + {i}u);"
                    );
                    line!(text, "        var m{i} = vec4<u32>();");
                }
                line!(text, "        for (var k = first + local / 16u * 4u; k < end; k += 64u) {{");
                for i in 0..4 {
                    line!(
                        text,
                        "            m{i} = max(m{i}, magnitudes({name}(place{i}, k, end)));"
                    );
                }
                line!(text, "        }}");
                let each = [0, 1, 2, 3].map(|i| format!("largest(m{i})"));
                line!(text, "        found = vec4<u32>({});", each.join(", "));
            }
        }
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    /// What matrix units make of sums: the terms of a step are added exactly and what is below the last bit of `f32` is cut off.
    fn cut(sum: f64) -> f32 {
        let near = sum as f32;
        match f64::from(near).abs() > sum.abs() {
            true => f32::from_bits(near.to_bits() - 1),
            false => near,
        }
    }

    /// The shader's `scale_of` and `high`.
    fn scale(values: &[f32]) -> f32 {
        let bits = values.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().unwrap();
        f32::from_bits((268u32.saturating_sub(bits >> 23)).min(254) << 23)
    }

    fn split(v: f32) -> [f64; 2] {
        let high = f32::from_bits((v.to_bits() + 0x1000) & 0xffff_e000);
        [high, v - high].map(|part| f16::from_f32(part).to_f64())
    }

    fn by_units(a: &[f32], b: &[f32]) -> f32 {
        let (x, y) = (scale(a), scale(b));
        let halves = |values: &[f32], by: f32| -> Vec<[f64; 2]> {
            values.iter().map(|&v| split(v * by)).collect()
        };
        let (a, b) = (halves(a, x), halves(b, y));
        let mut sum = 0f32;
        for (a, b) in a.chunks(32).zip(b.chunks(32)) {
            let mut s = 0f32;
            for (a, b) in a.chunks(SIDE).zip(b.chunks(SIDE)) {
                for [i, j] in [[0, 1], [1, 0], [0, 0]] {
                    let products = a.iter().zip(b).map(|(a, b)| a[i] * b[j]);
                    s = cut(f64::from(s) + products.sum::<f64>());
                }
            }
            sum += s;
        }
        (f64::from(sum) / f64::from(x) / f64::from(y)) as f32
    }

    /// What an element is, by its term and a number in −1..1.
    type Fill = fn(usize, f32) -> f32;

    /// Errors as shares of the magnitudes that are added up, root of the mean square: by units, and by sums term by term.
    fn errors(terms: usize, fill: Fill) -> [f64; 2] {
        let mut state = terms as u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        };
        let mut squares = [0.0; 2];
        for _ in 0..200 {
            let mut operand = || -> Vec<f32> { (0..terms).map(|k| fill(k, next())).collect() };
            let (a, b) = (operand(), operand());
            let products = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b));
            let [exact, size] =
                products.fold([0.0, 0.0], |[sum, size], x| [sum + x, size + f64::abs(x)]);
            let plain = a.iter().zip(&b).fold(0f32, |sum, (&a, &b)| a.mul_add(b, sum));
            for (square, found) in squares.iter_mut().zip([by_units(&a, &b), plain]) {
                *square += ((f64::from(found) - exact) / size).powi(2) / 200.0;
            }
        }
        squares.map(f64::sqrt)
    }

    #[test]
    fn split_products_are_off_by_at_most_twice_what_plain_sums_are() {
        let fills: [(&str, Fill); 7] = [
            ("of one size", |_, x| x),
            ("small", |_, x| 1e-6 * x),
            ("large", |_, x| 1e6 * x),
            ("far beyond halves", |_, x| 1e15 * x),
            ("of one sign", |_, x| 1.0 + x),
            ("outliers", |k, x| if k % 2 == 0 { 1e6 * x } else { x }),
            ("zeros", |k, x| if k % 3 == 0 { 0.0 } else { x }),
        ];
        for terms in [64, 100, 768, 4096] {
            for (name, fill) in fills {
                let [units, plain] = errors(terms, fill);
                assert!(
                    units <= 2.0 * plain,
                    "{terms} terms {name}: {units:.1e}, plain {plain:.1e}"
                );
            }
        }
    }

    /// Of one product that is all there is, no sum hides what the halves lack: eight times what plain sums are off by.
    #[test]
    fn a_product_that_dominates_keeps_21_bits() {
        let [units, plain] = errors(64, |k, x| if k == 0 { 1e6 * x } else { x });
        assert!(units > 2.0 * plain && units < 2f64.powi(-21), "{units:.1e}, plain {plain:.1e}");
    }

    #[test]
    fn elements_keep_22_bits_or_40_below_the_largest() {
        for x in (0..60).map(|n| 2f32.powi(14 - n) * 1.777_777_8) {
            let [high, low] = split(x);
            let (off, x) = ((high + low - f64::from(x)).abs(), f64::from(x));
            assert!(off <= f64::max(x * 2f64.powi(-23), 2f64.powi(-25)), "{x:e}: {high:e} {low:e}");
        }
        assert_eq!(scale(&[3.0, -5.0]) * 5.0, 20_480.0);
        assert_eq!(scale(&[0.0]), 2f32.powi(127));
        assert_eq!(scale(&[f32::MAX]), 2f32.powi(-113));
    }

    #[test]
    fn tiles_fit_large_gpus_however_operands_lie_and_no_others() {
        let large = GpuLimits {
            workgroup_memory: 49_152,
            max_invocations: 1024,
            matrix_units: true,
            ..GpuLimits::BASELINE
        };
        let units = Units { rows: 128, cols: 128, terms: 32, subgroups: [2, 4] };
        assert!(units.fits(&large));
        assert!(!units.fits(&GpuLimits { matrix_units: false, ..large.clone() }));
        assert!(!units.fits(&GpuLimits { workgroup_memory: 32_768, ..large }));
    }

    /// Nothing checks where matrix units read.
    #[test]
    fn matrices_lie_within_their_tiles() {
        let units = Units { rows: 128, cols: 128, terms: 32, subgroups: [2, 4] };
        let both = [Along::Terms, Along::Side];
        for along in both.iter().flat_map(|&left| both.map(|right| [left, right])) {
            for halves in [Halves::No, Halves::Exact] {
                for lines in units.lines(Reading { along, halves }) {
                    // The last vector of the last matrix, of the low parts where there are some.
                    let low = if lines.low { lines.inner / 4 } else { 0 };
                    let last = (lines.outer - 1) * lines.step() + low + (lines.inner - 1) / 4;
                    assert!(last < lines.size(), "{along:?} {halves:?}");
                    assert_eq!((lines.inner % SIDE, lines.outer % SIDE), (0, 0));
                }
            }
        }
    }

    #[test]
    fn parts_of_the_search_have_all_terms() {
        for terms in [1, 64, 255, 256, 257, 768, 4096, 100_000] {
            let search = Search::new(terms);
            assert!(search.parts * search.part >= terms && search.parts <= PARTS, "{terms}");
        }
    }
}
