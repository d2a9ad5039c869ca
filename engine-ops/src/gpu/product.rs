//! The loop of matrix products over tiles: one text, which products and convolutions give their operands, and the choice of its tiles.

pub(crate) use super::fetch::Along;
use super::fetch::{Brought, Fetch, Patch};
use super::halves::Lying;
use super::thin::{self, Right, Thin};
use super::units::{Halves, Reading, Search, Units};
use super::{Bind, Dispatch, FEW_ROUNDS, GpuCandidate, GpuCtx, GpuLimits, GpuProgram, render};
use crate::OpError;
use std::marker::PhantomData;

/// Sizes of a batch of products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Products.
    pub(crate) items: usize,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// Terms of each sum.
    pub(crate) terms: usize,
    /// Whether it is thin: of a few rows, and the operands lie as the kernel of thin products reads them.
    pub(crate) thin: bool,
    /// What matrix units make of the right operand; `None` if the product is not for them.
    pub(crate) units: Option<Halves>,
}

/// How much of a product a workgroup calculates, how many terms at a time, and how much of it an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    rows: usize,
    cols: usize,
    terms: usize,
    /// Rows and columns of an invocation, in vectors of four.
    each: [usize; 2],
}

/// How a product is calculated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Algorithm {
    name: &'static str,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// In tiles.
    Tiles(Tile),
    /// In tiles, of which several workgroups share the terms.
    Parts(Tile),
    /// The invocations of a workgroup share the terms: for a few columns. Only for left operands that lie along the terms.
    Lanes,
    /// A few rows times a matrix that is read once.
    Thin,
    /// In tiles, by matrix units.
    Units(Units),
}

/// A product whose kernel is this loop: what an operator says of it.
pub(crate) trait Tiled {
    /// Its sizes, if it is calculated so.
    fn sizes(ctx: &GpuCtx<'_>) -> Option<Sizes>;

    /// Its program by this algorithm; `None` where that is none for the device, the types or the sizes.
    fn program(ctx: &GpuCtx<'_>, algorithm: Algorithm) -> Result<Option<GpuProgram>, OpError>;
}

/// The candidates of an operator.
pub(crate) struct Candidates<P>(PhantomData<P>);

impl<P: Tiled> Candidates<P> {
    /// All that are besides [`Algorithm::OWN`].
    pub(crate) const ALL: &'static [GpuCandidate] = &[
        Self::candidate::<0>(),
        Self::candidate::<1>(),
        Self::candidate::<2>(),
        Self::candidate::<3>(),
        Self::candidate::<4>(),
        Self::candidate::<5>(),
    ];

    const fn candidate<const I: usize>() -> GpuCandidate {
        GpuCandidate {
            name: ALGORITHMS[I].name,
            kernel: |ctx| P::program(ctx, ALGORITHMS[I]),
            pays: |ctx| P::sizes(ctx).is_some_and(|sizes| best(sizes, ctx.limits) == ALGORITHMS[I]),
        }
    }
}

const SMALL: Tile = Tile { rows: 64, cols: 64, terms: 16, each: [4, 4] };
const FLAT: Tile = Tile { rows: 32, cols: 128, terms: 16, each: [4, 8] };
const WIDE: Tile = Tile { rows: 64, cols: 128, terms: 16, each: [8, 8] };

const UNITS: Units = Units { rows: 128, cols: 128, terms: 32, subgroups: [2, 4] };

/// What there is besides [`Algorithm::OWN`].
const ALGORITHMS: [Algorithm; 6] = [
    Algorithm { name: "tiles of 64 × 128", how: How::Tiles(WIDE) },
    Algorithm { name: "tiles of 32 × 128", how: How::Tiles(FLAT) },
    Algorithm { name: "sums in parts", how: How::Parts(SMALL) },
    Algorithm { name: "sums by lanes", how: How::Lanes },
    Algorithm { name: "thin", how: How::Thin },
    Algorithm { name: "matrix units", how: How::Units(UNITS) },
];

/// Processors of a large GPU, for which the rule is made: those of an NVIDIA H100 or H200.
const PROCESSORS: usize = 132;

/// Multiplications of a processor in one cycle.
const LANES: f64 = 128.0;

/// Cycles from one dispatch to what depends on it.
const DISPATCH: f64 = 9_000.0;

/// Words that the caches move in one cycle of the processors.
const WORDS: f64 = 2_500.0;

/// Words that its memory gives in one cycle of the processors.
const MEMORY_WORDS: f64 = 560.0;

/// Terms in whose time a workgroup begins and ends.
const ENDS: f64 = 96.0;

/// Invocations that share the terms of a row, and the terms that they take in a round.
const SHARERS: usize = 64;
const ROUND: usize = 4 * SHARERS;

/// Columns up to which each row is worth a workgroup.
const FEW_COLUMNS: usize = 8;

impl Algorithm {
    /// What works on every device.
    pub(crate) const OWN: Self = Self { name: "tiles of 64 × 64", how: How::Tiles(SMALL) };

    /// Whether it is the kernel of thin products, which reads the right operand in its own way.
    pub(crate) fn is_thin(self) -> bool {
        self.how == How::Thin
    }

    /// Cycles that it takes, by a model of a GPU whose constants were fitted to the measured times of the products of whole models.
    fn cycles(self, sizes: Sizes) -> f64 {
        let sums = sizes.items as f64 * sizes.rows as f64 * sizes.cols as f64;
        match self.how {
            How::Tiles(tile) => tile.cycles(sizes, 1),
            How::Parts(tile) => match tile.parts(sizes) {
                1 => f64::INFINITY,
                parts => tile.cycles(sizes, parts) + DISPATCH + sums * parts as f64 * 2.0 / WORDS,
            },
            How::Lanes if sizes.cols > FEW_COLUMNS => f64::INFINITY,
            How::Lanes => {
                let groups = sums / sizes.cols.max(1) as f64 * sizes.cols.div_ceil(4) as f64;
                let waves = (groups / (8 * PROCESSORS) as f64).ceil();
                3_000.0 + waves * 500.0 * sizes.terms.div_ceil(ROUND) as f64
            }
            How::Thin if !sizes.thin => f64::INFINITY,
            How::Thin => {
                let words = sizes.items as f64 * sizes.cols as f64 * sizes.terms as f64;
                3_000.0 + words / MEMORY_WORDS
            }
            How::Units(units) => units_cycles(units, sizes),
        }
    }
}

/// Terms in whose time a workgroup of matrix units begins and ends.
const UNITS_ENDS: f64 = 300.0;

/// What matrix units multiply while the other units multiply one, if the right operand consists of halves.
const UNITS_RATE: f64 = 2.0;

/// Terms from which on matrix units are as exact as sums term by term.
const MANY_TERMS: usize = 64;

/// Cycles that products take by matrix units.
fn units_cycles(units: Units, sizes: Sizes) -> f64 {
    let Sizes { items, rows, cols, terms, .. } = sizes;
    // Of sums that one product of `f32` makes up nearly alone, halves keep too little (`units`): such kernels are for those who name them.
    if terms < MANY_TERMS || matches!(sizes.units, None | Some(Halves::No)) {
        return f64::INFINITY;
    }
    let [down, across] = units.grid(rows, cols);
    let groups = items as f64 * down as f64 * across as f64;
    let sought = items as f64 * (rows as f64 + cols as f64) * terms as f64;
    let each =
        (units.rows * units.cols) as f64 * (terms as f64 + UNITS_ENDS) / (LANES * UNITS_RATE);
    DISPATCH + sought / MEMORY_WORDS + (groups / PROCESSORS as f64).ceil() * each
}

/// The algorithm for products of these sizes on a device: the one that takes the least cycles of those that it is fit for.
fn best(sizes: Sizes, limits: &GpuLimits) -> Algorithm {
    let fit = ALGORITHMS.into_iter().filter(|algorithm| algorithm.fits(limits));
    let faster = |best: Algorithm, next: Algorithm| match next.cycles(sizes) < best.cycles(sizes) {
        true => next,
        false => best,
    };
    fit.fold(Algorithm::OWN, faster)
}

impl Tile {
    /// Parts of each sum that workgroups share: so many that every processor has something to do, and none is only beginnings.
    fn parts(self, sizes: Sizes) -> usize {
        let steps = sizes.terms.div_ceil(self.terms);
        let tiles = self.count(sizes).max(1);
        (2 * PROCESSORS).div_ceil(tiles).min(steps / 4).clamp(1, 64)
    }

    /// Cycles that products take whose sums are shared so.
    fn cycles(self, sizes: Sizes, parts: usize) -> f64 {
        let groups = self.count(sizes).saturating_mul(parts);
        let (busy, alone) = self.rates();
        // One workgroup cannot keep a processor busy: up to some number of them take as long as one.
        let waves = (groups.div_ceil(PROCESSORS) as f64).max(busy / alone);
        let terms = sizes.terms.div_ceil(parts).next_multiple_of(self.terms) as f64 + ENDS;
        waves * (self.rows * self.cols) as f64 * terms / (LANES * busy)
    }

    /// Shares of a processor's multiplications: of as many workgroups as there is room for, and of one alone.
    fn rates(self) -> (f64, f64) {
        match self {
            WIDE => (0.84, 0.28),
            FLAT => (0.72, 0.20),
            _ => (0.67, 0.46),
        }
    }

    const fn invocations(self) -> usize {
        self.rows / self.each[0] * (self.cols / self.each[1])
    }

    /// Tiles down and across a product.
    fn grid(self, sizes: Sizes) -> [usize; 2] {
        [sizes.rows.div_ceil(self.rows), sizes.cols.div_ceil(self.cols)]
    }

    /// Tiles of all products.
    fn count(self, sizes: Sizes) -> usize {
        let [down, across] = self.grid(sizes);
        down.saturating_mul(across).saturating_mul(sizes.items)
    }

    /// Vectors of a term of an operand in workgroup memory.
    const fn line(side: usize) -> usize {
        side / 4 + 1
    }

    /// Whether a device has the workgroup memory and the invocations for it.
    fn fits(self, limits: &GpuLimits) -> bool {
        let bytes = self.terms * (Self::line(self.rows) + Self::line(self.cols)) * 16;
        bytes <= limits.workgroup_memory as usize
            && self.invocations() <= limits.max_invocations as usize
    }
}

impl Tile {
    /// How an operand comes to workgroup memory: for each term its rows (columns) side by side.
    fn fetch(self, (name, start, side): (&str, &str, usize), along: Along) -> Fetch {
        let (terms, invocations) = (self.terms, self.invocations());
        let tile = Patch { name, start, side, terms, invocations, along };
        Fetch::new(tile, &|Brought { value, side, term, .. }| match along {
            Along::Side => format!("        {name}_tile[{term}][{side} / 4u] = {value};\n"),
            Along::Terms => {
                let lanes = ["x", "y", "z", "w"].iter().enumerate();
                let each = lanes.map(|(j, lane)| {
                    let line = format!("{name}_tile[{term} + {j}u]");
                    format!("        {line}[{side} / 4u][{side} % 4u] = {value}.{lane};\n")
                });
                each.collect()
            }
        })
    }

    /// The loop, over elements of a type that is still to be put in.
    fn wgsl(self, [left, right]: [Along; 2], split: bool) -> String {
        let [high, wide] = self.each.map(|n| n / 4);
        let [down, across] = [self.rows / self.each[0], self.cols / self.each[1]];
        let left = self.fetch(("left", "row0", self.rows), left);
        let right = self.fetch(("right", "col0", self.cols), right);
        let (mut sums, mut multiply, mut put) = (String::new(), String::new(), String::new());
        for k in 0..self.terms {
            line!(multiply, "        {{");
            for i in 0..high {
                line!(multiply, "            let a{i} = left_tile[{k}][hi + {}u];", i * down);
            }
            for j in 0..wide {
                line!(multiply, "            let b{j} = right_tile[{k}][lo + {}u];", j * across);
            }
            for row in 0..high * 4 {
                let (i, lane) = (row / 4, ["x", "y", "z", "w"][row % 4]);
                for j in 0..wide {
                    line!(multiply, "            s{row}_{j} += a{i}.{lane} * b{j};");
                }
            }
            line!(multiply, "        }}");
        }
        let store = if split { "keep(all % params.parts, " } else { "put(" };
        for row in 0..high * 4 {
            let place = format!("row0 + (hi + {}u) * 4u + {}u", row / 4 * down, row % 4);
            for j in 0..wide {
                line!(sums, "    var s{row}_{j} = vec4<{{{{T}}}}>();");
                let right = format!("col0 + (lo + {}u) * 4u", j * across);
                line!(put, "    {store}item, {place}, {right}, s{row}_{j});");
            }
        }
        // Blocks of 32 invocations are 8 wide where there are so many across.
        let block = across.min(8);
        let numbers = [
            ("rows", self.rows),
            ("cols", self.cols),
            ("terms", self.terms),
            ("left_line", Self::line(self.rows)),
            ("right_line", Self::line(self.cols)),
            ("invocations", self.invocations()),
            ("blocks", across / block),
            ("wide", block),
            ("high", 32 / block),
        ]
        .map(|(key, n)| (key, n.to_string()));
        let mut values: Vec<(&str, &str)> =
            numbers.iter().map(|(key, n)| (*key, n.as_str())).collect();
        let each = format!("{} × {}", self.each[0], self.each[1]);
        let places = left.places + &right.places + sums.as_str();
        let stored = left.store + &right.store;
        let load = left.load + &right.load;
        let part = "all % params.parts * params.part";
        values.extend([
            ("each", each.as_str()),
            ("places", places.trim_end()),
            ("store", stored.trim_end()),
            ("load", load.trim_end()),
            ("multiply", multiply.trim_end()),
            ("put", put.trim_end()),
            ("parts", if split { "params.parts" } else { "1u" }),
            ("first", if split { part } else { "0u" }),
            ("end", if split { "min(first + params.part, at.terms)" } else { "at.terms" }),
        ]);
        render(include_str!("product.wgsl"), &values)
    }
}

/// WGSL by which an operand that lies in memory at steps from row to row (column to column) and from term to term is read: the functions
/// `{name}_place` and `{name}`.
pub(crate) struct Strided<'a> {
    /// `left` or `right`.
    pub(crate) name: &'a str,
    /// What is bound: of vectors of four elements if `quads` ([`Lying::element`]).
    pub(crate) binding: &'a str,
    pub(crate) lying: Lying,
    /// The expression of where the operand begins, from `at`, and of its rows (columns).
    pub(crate) start: &'a str,
    pub(crate) size: &'a str,
    /// Expressions of the steps from row to row (column to column), and from term to term.
    pub(crate) steps: [&'a str; 2],
    pub(crate) along: Along,
    /// Whether every vector of four elements is whole and begins at a multiple of four.
    pub(crate) quads: bool,
}

impl Strided<'_> {
    /// The functions. Rows and columns beyond the last are the last.
    pub(crate) fn wgsl(&self) -> String {
        let text = match (self.along, self.quads) {
            (Along::Terms, true) => {
                "fn {{name}}_place(at: Operands, side: u32) -> u32 {
    return ({{start}} + min(side, {{size}} - 1u) * {{step}}) / 4u;
}
fn {{name}}(place: u32, k: u32, end: u32) -> vec4<{{T}}> {
    if (k < end) { return {{binding}}_at(place + k / 4u); }
    return vec4<{{T}}>();
}"
            }
            (Along::Side, true) => {
                "fn {{name}}_place(at: Operands, side: u32) -> u32 {
    return ({{start}} + min(side, {{size}} - 4u)) / 4u;
}
fn {{name}}(place: u32, k: u32, end: u32) -> vec4<{{T}}> {
    if (k < end) { return {{binding}}_at(place + k * ({{term}} / 4u)); }
    return vec4<{{T}}>();
}"
            }
            (Along::Terms, false) => {
                "fn {{name}}_place(at: Operands, side: u32) -> u32 {
    return {{start}} + min(side, {{size}} - 1u) * {{step}};
}
fn {{name}}_one(place: u32, k: u32, end: u32) -> {{T}} {
    if (k < end) { return {{binding}}_at(place + k * {{term}}); }
    return {{T}}(0);
}
fn {{name}}(place: u32, k: u32, end: u32) -> vec4<{{T}}> {
    return vec4<{{T}}>(
        {{name}}_one(place, k, end), {{name}}_one(place, k + 1u, end),
        {{name}}_one(place, k + 2u, end), {{name}}_one(place, k + 3u, end));
}"
            }
            (Along::Side, false) => {
                "fn {{name}}_place(at: Operands, side: u32) -> vec4<u32> {
    let last = vec4<u32>({{size}} - 1u);
    return {{start}} + min(side + vec4<u32>(0u, 1u, 2u, 3u), last) * {{step}};
}
fn {{name}}(place: vec4<u32>, k: u32, end: u32) -> vec4<{{T}}> {
    if (k < end) {
        let i = place + k * {{term}};
        return vec4<{{T}}>(
            {{binding}}_at(i.x), {{binding}}_at(i.y), {{binding}}_at(i.z), {{binding}}_at(i.w));
    }
    return vec4<{{T}}>();
}"
            }
        };
        let values = [
            ("name", self.name),
            ("binding", self.binding),
            ("start", self.start),
            ("size", self.size),
            ("step", self.steps[0]),
            ("term", self.steps[1]),
        ];
        self.lying.reader(self.binding, self.quads) + "\n" + &render(text, &values)
    }
}

/// Where a kernel finds its results for a part of the sums.
const KEEP: &str =
    "@group(0) @binding({{parts_binding}}) var<storage, read_write> parts_out: array<{{T}}>;
fn keep(part: u32, item: u32, row: u32, col: u32, sums: vec4<{{T}}>) {
    if (row >= rows()) { return; }
    let i = ((part * items() + item) * rows() + row) * cols() + col;
    if (col < cols()) { parts_out[i] = sums.x; }
    if (col + 1u < cols()) { parts_out[i + 1u] = sums.y; }
    if (col + 2u < cols()) { parts_out[i + 2u] = sums.z; }
    if (col + 3u < cols()) { parts_out[i + 3u] = sums.w; }
}
";

/// Where what parts there are is read.
const PARTS: &str =
    "@group(0) @binding({{parts_binding}}) var<storage, read_write> parts_in: array<{{T}}>;\n";

/// What the loop takes of a dispatch's parameters: tiles down and across, parts, and terms of a part.
pub(crate) type Share = [u32; 4];

/// An operator's own share of a program.
pub(crate) struct Body<'a> {
    /// Names the operator.
    pub(crate) label: &'static str,
    pub(crate) sizes: Sizes,
    /// How the operands are read.
    pub(crate) along: [Along; 2],
    /// Text and parameters around the loop, from what it takes: with the keys `product` for the loop, `loaders` for what only that calls,
    /// and `uniform` for the binding of the parameters; what is bound before that; and the values of all other keys.
    pub(crate) text: &'a str,
    pub(crate) loaders: &'a str,
    /// The right operand for the kernel of thin products, if that is asked for.
    pub(crate) matrix: Option<Right<'a>>,
    pub(crate) values: &'a [(&'a str, &'a str)],
    pub(crate) binds: Vec<Bind>,
    pub(crate) params: &'a dyn Fn(Share) -> Vec<u32>,
}

impl Algorithm {
    /// Whether a device is fit for it.
    pub(crate) fn fits(self, limits: &GpuLimits) -> bool {
        match self.how {
            How::Tiles(tile) | How::Parts(tile) => tile.fits(limits),
            How::Lanes => true,
            How::Thin => thin::fits(limits),
            How::Units(units) => units.fits(limits),
        }
    }

    /// The program of a product; `None` if it is not for operands that lie so, or for its sizes.
    pub(crate) fn program(self, ctx: &GpuCtx<'_>, body: Body<'_>) -> Option<GpuProgram> {
        let (sizes, along) = (body.sizes, body.along);
        let linear = |n: usize| ctx.limits.linear(n, 1);
        match self.how {
            How::Tiles(tile) => {
                let [down, across] = tile.grid(sizes);
                let share = [down, across, 1, sizes.terms];
                let rounds = sizes.terms.div_ceil(tile.terms);
                let wgsl = tile.wgsl(along, false);
                let groups = linear(tile.count(sizes));
                Some(GpuProgram::one(body.dispatch(&wgsl, false, share, groups, rounds)))
            }
            How::Parts(tile) => {
                let parts = tile.parts(sizes);
                // Words of indices hold what parts there are.
                let kept = [sizes.items, sizes.rows, sizes.cols, parts]
                    .iter()
                    .try_fold(1usize, |all, &n| all.checked_mul(n))
                    .filter(|&kept| parts > 1 && u32::try_from(kept).is_ok())?;
                let part = sizes.terms.div_ceil(parts).next_multiple_of(tile.terms);
                let [down, across] = tile.grid(sizes);
                let share = [down, across, parts, part];
                let wgsl = KEEP.to_owned() + &tile.wgsl(along, true);
                let groups = linear(tile.count(sizes).saturating_mul(parts));
                let product = body.dispatch(&wgsl, true, share, groups, part / tile.terms);
                let quads = sizes.items * sizes.rows * sizes.cols.div_ceil(4);
                let groups = ctx.limits.linear(quads, 64);
                let wgsl = PARTS.to_owned() + include_str!("product_parts.wgsl");
                let add = body.dispatch(&wgsl, true, share, groups, parts);
                Some(GpuProgram { dispatches: vec![product, add], scratch: vec![kept] })
            }
            How::Lanes if along[0] == Along::Side => None,
            How::Lanes => {
                let wgsl = lanes(along[1]);
                let groups = linear(sizes.items * sizes.rows * sizes.cols.div_ceil(4));
                let rounds = sizes.terms.div_ceil(ROUND);
                Some(GpuProgram::one(body.dispatch(&wgsl, false, [1; 4], groups, rounds)))
            }
            How::Thin => {
                let right = body.matrix.as_ref().filter(|_| sizes.thin)?;
                let Sizes { items, rows, cols, terms, .. } = sizes;
                let thin = Thin::new([rows, cols, terms], right);
                let groups = linear(items.saturating_mul(thin.groups(cols)));
                let (wgsl, rounds) = (thin.wgsl(right), thin.rounds(terms));
                Some(GpuProgram::one(body.dispatch(&wgsl, false, [1; 4], groups, rounds)))
            }
            How::Units(units) => {
                let Sizes { items, rows, cols, terms, .. } = sizes;
                let reading = Reading { along, halves: sizes.units? };
                let search = Search::new(terms);
                let found = search.words(items, rows, cols)?;
                let [down, across] = units.grid(rows, cols);
                let tiles = items.saturating_mul(down.saturating_mul(across));
                if tiles == 0 {
                    return None;
                }
                let share = [down, across, search.parts, search.part];
                let groups = linear(items.saturating_mul(search.workgroups(rows, cols)));
                let rounds = search.part;
                let search = body.dispatch(&search.wgsl(along), true, share, groups, rounds);
                let groups = linear(tiles);
                // What is not finite is added up term by term, for two vectors of each matrix.
                let rounds = terms.saturating_mul(16);
                let mut product = body.dispatch(&units.wgsl(reading), true, share, groups, rounds);
                product.wgsl = (Units::HEAD.to_owned() + &product.wgsl).into();
                Some(GpuProgram { dispatches: vec![search, product], scratch: vec![found] })
            }
        }
    }
}

impl Body<'_> {
    /// A dispatch of the text around `product`; `kept` if that binds what parts of sums there are.
    fn dispatch(
        &self,
        product: &str,
        kept: bool,
        share: [usize; 4],
        groups: [u32; 3],
        rounds: usize,
    ) -> Dispatch {
        let mut binds = self.binds.clone();
        let parts = binds.len().to_string();
        binds.extend(kept.then_some(Bind::Scratch(0)));
        let uniform = binds.len().to_string();
        let own = [("product", product), ("loaders", self.loaders)];
        let last = [("uniform", uniform.as_str()), ("parts_binding", parts.as_str())];
        let text = render(self.text, &own);
        Dispatch {
            rounds: FEW_ROUNDS + rounds,
            label: self.label.into(),
            wgsl: render(&text, &[self.values, &last].concat()).into(),
            binds,
            params: (self.params)(share.map(|n| n as u32)),
            groups,
        }
    }
}

/// The kernel whose invocations share the terms.
fn lanes(right: Along) -> String {
    let (mut places, mut multiply) = (String::new(), String::new());
    match right {
        Along::Side => {
            line!(places, "    let right_at = right_place(at, col);");
            for (j, lane) in ["x", "y", "z", "w"].iter().enumerate() {
                line!(multiply, "        sum += a.{lane} * right(right_at, k + {j}u, end);");
            }
        }
        Along::Terms => {
            for j in 0..4 {
                line!(places, "    let right_at{j} = right_place(at, col + {j}u);");
                line!(multiply, "        let b{j} = a * right(right_at{j}, k, end);");
            }
            let each = [0, 1, 2, 3].map(|j| format!("b{j}.x + b{j}.y + b{j}.z + b{j}.w"));
            line!(multiply, "        sum += vec4<{{{{T}}}}>({});", each.join(", "));
        }
    }
    let values = [("places", places.trim_end()), ("multiply", multiply.trim_end())];
    render(include_str!("product_lanes.wgsl"), &values)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TILES: [Tile; 3] = [SMALL, FLAT, WIDE];

    #[test]
    fn every_invocation_of_a_tile_has_the_same_to_do() {
        for tile in TILES {
            let [down, across] = [tile.rows / tile.each[0], tile.cols / tile.each[1]];
            let wide = across.min(8);
            assert_eq!((across % wide, down % (32 / wide), tile.terms % 4), (0, 0, 0), "{tile:?}");
            for side in [tile.rows, tile.cols] {
                assert_eq!(side * tile.terms / 4 % tile.invocations(), 0, "{tile:?}");
                assert_eq!(tile.invocations() % (side / 4), 0, "{tile:?}");
                assert_eq!(tile.invocations() % (tile.terms / 4), 0, "{tile:?}");
            }
        }
    }

    #[test]
    fn every_device_is_fit_for_the_rows_own_algorithm() {
        assert!(Algorithm::OWN.fits(&GpuLimits::BASELINE));
        let small = GpuLimits { max_invocations: 128, ..GpuLimits::BASELINE };
        assert!(WIDE.fits(&small) && !SMALL.fits(&small));
    }

    #[test]
    fn sizes_choose_the_tiles() {
        let large =
            GpuLimits { workgroup_memory: 48 << 10, max_invocations: 1024, ..GpuLimits::BASELINE };
        let of = |items, rows, cols, terms| {
            let thin = rows <= thin::MOST_ROWS;
            Sizes { items, rows, cols, terms, thin, units: None }
        };
        let name = |items, rows, cols, terms| best(of(items, rows, cols, terms), &large).name;
        assert_eq!(name(1, 6304, 768, 768), "tiles of 64 × 128");
        assert_eq!(name(1, 512, 49, 4608), "sums in parts", "few tiles, many terms");
        assert_eq!(name(1, 24, 100_352, 96), "tiles of 32 × 128", "few rows");
        assert_eq!(name(1, 1000, 1, 1280), "sums by lanes", "one column");
        assert_eq!(name(1, 1, 8192, 8192), "thin", "one row");
        let units = GpuLimits { matrix_units: true, ..large.clone() };
        let sizes = Sizes { units: Some(Halves::Exact), ..of(1, 6304, 768, 768) };
        assert_eq!(best(sizes, &units).name, "matrix units");
        let single = Sizes { units: Some(Halves::No), ..sizes };
        assert_eq!(best(single, &units).name, "tiles of 64 × 128", "not asked for");
        assert_eq!(best(sizes, &large).name, "tiles of 64 × 128", "none there");
        let few = Sizes { terms: 32, ..sizes };
        assert_ne!(best(few, &units).name, "matrix units", "few terms");
        assert_eq!(name(1, 8, 1000, 2048), "thin", "eight rows");
        assert_eq!(name(12, 1, 512, 64), "thin", "one query of several heads");
        // Sizes do not wrap.
        name(usize::MAX, usize::MAX, usize::MAX, usize::MAX - 64);
        name(0, 0, 0, 0);
    }

    #[test]
    fn parts_share_all_terms() {
        for tile in TILES {
            for terms in [1, 15, 16, 64, 65, 1000, 4608] {
                let sizes = Sizes { items: 1, rows: 64, cols: 49, terms, thin: false, units: None };
                let parts = tile.parts(sizes);
                let part = terms.div_ceil(parts).next_multiple_of(tile.terms);
                assert!(part * parts >= terms, "{tile:?}: {parts} of {terms}");
            }
        }
    }
}
