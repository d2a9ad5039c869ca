//! The kernel of thin products: a few rows times a matrix, which is read once, as fast as memory gives it.

use super::halves::Lying;
use super::{GpuLimits, render};

/// Rows up to which a product is thin.
pub(crate) const MOST_ROWS: usize = 8;

/// Invocations of a workgroup where neighbouring columns lie side by side.
const INVOCATIONS: usize = 256;

/// Invocations that share a column whose terms lie side by side, and the columns of a workgroup then.
const SHARERS: usize = 64;
const COLUMNS: usize = 4;

/// Terms that an invocation takes at a time where neighbouring columns lie side by side.
const TERMS: usize = 8;

/// Workgroups that keep a large GPU busy.
const BUSY: usize = 256;

/// Vectors of sums of each invocation that are in workgroup memory at a time: 16 KiB in all.
const KEPT: usize = 4;

/// Whether a device has the invocations and the workgroup memory for it.
pub(crate) fn fits(limits: &GpuLimits) -> bool {
    limits.max_invocations as usize >= INVOCATIONS
        && limits.workgroup_memory as usize >= KEPT * INVOCATIONS * 16
}

/// The right operand: a matrix of which an invocation reads a line at a time.
pub(crate) struct Right<'a> {
    /// What is bound, of [`Lying::line_element`].
    pub(crate) binding: &'a str,
    pub(crate) lying: Lying,
    /// Elements of a line ([`Lying::line`]).
    pub(crate) line: usize,
    /// The expression of where the operand begins, from `at`, and of its columns.
    pub(crate) start: &'a str,
    pub(crate) size: &'a str,
    /// The expression of the step from column to column, or from term to term, whichever lie farther apart.
    pub(crate) step: &'a str,
    /// Whether the terms of a column lie side by side.
    pub(crate) by_terms: bool,
}

/// How a thin product is shared out.
pub(crate) struct Thin {
    rows: usize,
    /// Columns of a workgroup.
    columns: usize,
    /// Terms that a workgroup takes in a round.
    round: usize,
    /// Elements of a line.
    line: usize,
    by_terms: bool,
    /// Whether each invocation's terms are all there or none.
    whole: bool,
}

impl Thin {
    /// The shares of a product of so many rows, columns and terms.
    pub(crate) fn new([rows, cols, terms]: [usize; 3], right: &Right<'_>) -> Self {
        let line = right.line;
        // Few texts: rows beyond the last are the last, and dropped.
        let rows = rows.next_power_of_two().min(MOST_ROWS);
        if right.by_terms {
            let round = SHARERS * line;
            return Self { rows, columns: COLUMNS, round, line, by_terms: true, whole: true };
        }
        // So many lines across that there are enough workgroups, each of which reads 64 bytes or more of a term.
        let most = (cols / line / BUSY).clamp(4, 32);
        let lanes = 1 << most.ilog2();
        let round = INVOCATIONS / lanes * TERMS;
        let whole = terms.is_multiple_of(TERMS);
        Self { rows, columns: lanes * line, round, line, by_terms: false, whole }
    }

    /// Workgroups for each product.
    pub(crate) fn groups(&self, cols: usize) -> usize {
        cols.div_ceil(self.columns)
    }

    /// Rounds of its loops.
    pub(crate) fn rounds(&self, terms: usize) -> usize {
        terms.div_ceil(self.round) + self.rows * 16
    }

    /// Vectors of four sums of an invocation.
    fn vectors(&self) -> usize {
        if self.by_terms { self.rows } else { self.rows * self.line / 4 }
    }

    /// The kernel, over the operator's `left` and the matrix.
    pub(crate) fn wgsl(&self, right: &Right<'_>) -> String {
        let (mut places, multiply) = match self.by_terms {
            true => self.by_terms(),
            false => self.by_columns(),
        };
        for row in 0..self.rows {
            line!(places, "    let left_at{row} = left_place(at, {row}u);");
        }
        for i in 0..self.vectors() {
            line!(places, "    var s{i} = vec4<{{{{T}}}}>();");
        }
        let (invocations, lanes) = match self.by_terms {
            true => (SHARERS, 1),
            false => (INVOCATIONS, self.columns / self.line),
        };
        let numbers = [
            ("kept", self.vectors().min(KEPT) * invocations),
            ("invocations", invocations),
            ("columns", self.columns),
            ("lanes", lanes),
            ("each", self.round * lanes / invocations),
            ("round", self.round),
            ("line", self.line),
        ]
        .map(|(key, n)| (key, n.to_string()));
        let put = self.put(invocations, lanes);
        let mut values = vec![
            ("places", places.trim_end()),
            ("multiply", multiply.trim_end()),
            ("put", put.trim_end()),
        ];
        values.extend(numbers.iter().map(|(key, n)| (*key, n.as_str())));
        let text = render(include_str!("thin.wgsl"), &values);
        let line = self.line.to_string();
        let own = [
            ("binding", right.binding),
            ("start", right.start),
            ("size", right.size),
            ("step", right.step),
            ("line", &line),
            ("line_type", right.lying.line_element(right.line)),
        ];
        right.lying.line_reader(right.binding, right.line) + &render(&text, &own)
    }

    /// Places and products where the terms of a column lie side by side: an invocation reads a line of each of a few columns.
    fn by_terms(&self) -> (String, String) {
        let (mut places, mut multiply) = (String::new(), String::new());
        for j in 0..COLUMNS {
            line!(
                places,
                "    let right_at{j} = ({{{{start}}}} + min(col + {j}u, {{{{size}}}} - 1u) * {{{{step}}}}) / {{{{line}}}}u;"
            );
            line!(multiply, "        let b{j} = {{{{binding}}}}[right_at{j} + k / {{{{line}}}}u];");
        }
        for part in 0..self.line / 4 {
            let half = ["low", "high"][part];
            for row in 0..self.rows {
                line!(
                    multiply,
                    "        let a{row}_{part} = left(left_at{row}, k + {}u, end);",
                    part * 4
                );
                let dots = [0, 1, 2, 3]
                    .map(|j| format!("dot(a{row}_{part}, {{{{binding}}}}_{half}(b{j}))"));
                line!(multiply, "        s{row} += vec4<{{{{T}}}}>({});", dots.join(", "));
            }
        }
        (places, multiply)
    }

    /// Likewise where neighbouring columns lie side by side: an invocation reads a line of each of a few terms.
    fn by_columns(&self) -> (String, String) {
        let places =
            "    let right_at = ({{start}} + min(col, {{size}} - {{line}}u)) / {{line}}u;\n";
        let (mut multiply, parts) = (String::new(), self.line / 4);
        for j in 0..TERMS {
            let at =
                format!("{{{{binding}}}}[right_at + (k + {j}u) * ({{{{step}}}} / {{{{line}}}}u)]");
            if self.whole {
                line!(multiply, "        let b{j} = {at};");
            } else {
                line!(multiply, "        var b{j} = {{{{line_type}}}}();");
                line!(multiply, "        if (k + {j}u < end) {{ b{j} = {at}; }}");
            }
        }
        for four in 0..TERMS / 4 {
            for row in 0..self.rows {
                line!(
                    multiply,
                    "        let a{row}_{four} = left(left_at{row}, k + {}u, end);",
                    four * 4
                );
            }
            for (j, lane) in ["x", "y", "z", "w"].iter().enumerate() {
                for part in 0..parts {
                    let (half, term) = (["low", "high"][part], four * 4 + j);
                    line!(
                        multiply,
                        "        let c{term}_{part} = {{{{binding}}}}_{half}(b{term});"
                    );
                    for row in 0..self.rows {
                        let i = row * parts + part;
                        line!(multiply, "        s{i} += a{row}_{four}.{lane} * c{term}_{part};");
                    }
                }
            }
        }
        (places.to_owned(), multiply)
    }

    /// The sums of all invocations, a few vectors at a time.
    fn put(&self, invocations: usize, lanes: usize) -> String {
        let (mut put, parts) = (String::new(), self.vectors() / self.rows);
        let vectors: Vec<usize> = (0..self.vectors()).collect();
        for (n, chunk) in vectors.chunks(KEPT).enumerate() {
            if n > 0 {
                line!(put, "    workgroupBarrier();");
            }
            let places: Vec<usize> = (0..chunk.len()).map(|i| i * invocations).collect();
            for (i, place) in chunk.iter().zip(&places) {
                line!(put, "    kept[{place}u + local] = s{i};");
            }
            line!(
                put,
                "    for (var half = {}u; half > 0u; half /= 2u) {{",
                invocations / lanes / 2
            );
            line!(put, "        workgroupBarrier();");
            line!(put, "        if (slice < half) {{");
            for place in &places {
                line!(
                    put,
                    "            kept[{place}u + local] += kept[{place}u + local + half * {lanes}u];"
                );
            }
            line!(put, "        }}\n    }}\n    workgroupBarrier();");
            // As many invocations as there are vectors write one each.
            line!(put, "    if (local < {}u) {{", chunk.len() * lanes);
            line!(put, "        let i = {}u + local / {lanes}u;", chunk[0]);
            line!(
                put,
                "        let y = kept[local / {lanes}u * {invocations}u + local % {lanes}u];"
            );
            line!(
                put,
                "        put(item, i / {parts}u, first + local % {lanes}u * {}u + i % {parts}u * 4u, y);",
                self.line
            );
            line!(put, "    }}");
        }
        put
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(lying: Lying, by_terms: bool) -> Right<'static> {
        let line = lying.line(|_| true).unwrap();
        Right { binding: "b_in", lying, line, start: "0u", size: "8u", step: "8u", by_terms }
    }

    #[test]
    fn workgroups_cover_all_columns_and_rounds_all_terms() {
        for lying in [Lying::Words, Lying::F16, Lying::BF16] {
            for by_terms in [false, true] {
                let right = right(lying, by_terms);
                for cols in [8, 96, 1000, 4096, 8192, 50_264] {
                    let thin = Thin::new([3, cols, 4096], &right);
                    assert!(thin.groups(cols) * thin.columns >= cols);
                    assert_eq!((thin.rows, 4096 % thin.round), (4, 0));
                }
            }
        }
    }

    #[test]
    fn large_products_have_a_workgroup_or_two_for_every_processor() {
        let groups = |lying, cols| Thin::new([1, cols, cols], &right(lying, false)).groups(cols);
        assert_eq!([groups(Lying::Words, 8192), groups(Lying::F16, 8192)], [256, 256]);
        assert_eq!([groups(Lying::Words, 4096), groups(Lying::F16, 4096)], [256, 128]);
    }
}
