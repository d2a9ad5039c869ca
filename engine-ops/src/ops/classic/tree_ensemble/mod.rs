//! Forests of decision trees.

use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::gpu::elementwise::PRELUDE;
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::parallel;
use crate::{AttrDef, OpDef, OpError, Operand, Tolerance, for_dtype};
use crate::{AttrKind, AttrsExt};
use engine_format::{DType, Dim, Element};

mod cases;

/// TreeEnsemble.
///
/// The tree operators of ai.onnx.ml are laid out on import as this one takes them: an inner node is a row `[feature, test,
/// then, else]` of `nodes` with its threshold in `splits`; `then`, `else` and `roots` name a node by its index, or leaf `i` by
/// `−1 − i`; a node comes before those it leads to, so that no walk goes in a circle; leaf `i` has the votes
/// `starts[i]..starts[i + 1]`, each for a target.
pub static TREE_ENSEMBLE: OpDef = OpDef {
    name: "TreeEnsemble",
    doc: "For each row of `X` and each tree, the votes of the leaf that the row comes to, joined by `aggregate` (SUM, AVERAGE over \
          the trees, MIN, MAX) into `n_targets` columns; a target without a vote is 0. `test` is the comparison of a feature with \
          the threshold (0 to 5: ≤, <, ≥, >, =, ≠), plus 8 where NaN goes to `then`.",
    attrs: &[AttrDef::str("aggregate", "SUM"), AttrDef::required("n_targets", AttrKind::Int)],
    inputs: &[
        Operand::data("X").of(&[DType::F32, DType::F64]).shaped("rows features"),
        Operand::index("nodes").of(&[DType::I32]).shaped("inner 4"),
        Operand::index("splits").like(0).shaped("inner"),
        Operand::index("roots").of(&[DType::I32]).shaped("trees"),
        Operand::index("starts").of(&[DType::I32]).shaped("_"),
        Operand::index("targets").of(&[DType::I32]).shaped("votes"),
        Operand::index("votes").like(0).shaped("votes"),
    ],
    infer,
    cpu: Cpu::kernel(
        |ctx| for_dtype!(ctx.input(0).dtype, [F32 => f32, F64 => f64], T => run::<T>(ctx)),
    ),
    gpu: Some(gpu),
    tolerance: Tolerance::SUMS,
    cases: cases::cases,
    ..OpDef::BASE
};

/// Added to a test where NaN goes to `then`.
const MISSING: i32 = 8;

/// Rows that go through one tree before the next: the tree stays in the cache, and so do they.
const ROWS: usize = 32;

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let dtype = ctx.dtype(0)?;
    if !matches!(dtype, DType::F32 | DType::F64) {
        return Err(InferError::invalid(format!("operand X is {dtype}, expected f32 or f64")));
    }
    for (i, name) in [(2, "splits"), (6, "votes")] {
        if ctx.dtype(i)? != dtype {
            let found = ctx.dtype(i)?;
            return Err(InferError::invalid(format!(
                "operand {name} is {found}, expected {dtype} as X is"
            )));
        }
    }
    for (i, name) in [(1, "nodes"), (3, "roots"), (4, "starts"), (5, "targets")] {
        if ctx.dtype(i)? != DType::I32 {
            let found = ctx.dtype(i)?;
            return Err(InferError::invalid(format!("operand {name} is {found}, expected i32")));
        }
    }
    let size = |i: usize, axis: usize| -> Result<Option<i64>, InferError> {
        Ok(ctx.shape(i)?.get(axis).and_then(Dim::known))
    };
    let agree = size(1, 1)? == Some(4)
        && size(1, 0)? == size(2, 0)?
        && size(5, 0)? == size(6, 0)?
        && size(4, 0)?.is_some_and(|starts| starts > 0);
    let targets = ctx.attrs.int("n_targets");
    if !agree || targets < 1 {
        return Err(InferError::invalid(format!(
            "nodes {:?}, splits {:?}, starts {:?}, targets {:?}, votes {:?}, {targets} targets; expected [n, 4], [n], [leaves \
             + 1], [m], [m], at least 1",
            ctx.shape(1)?,
            ctx.shape(2)?,
            ctx.shape(4)?,
            ctx.shape(5)?,
            ctx.shape(6)?
        )));
    }
    let shape = ctx.shape(0)?;
    if shape.len() != 2 {
        return Err(InferError::invalid(format!(
            "X is of shape {shape:?}, expected [rows, features]"
        )));
    }
    aggregate::<f32>(ctx.attrs.str("aggregate"))?;
    Ok(vec![Facts::new(dtype, vec![shape[0].clone(), Dim::from(targets)])])
}

/// How a vote meets what a target has so far, NaN being nothing.
type Join<T> = fn(T, T) -> T;

fn aggregate<T: Real>(name: &str) -> Result<Join<T>, OpError> {
    match name {
        "SUM" | "AVERAGE" => Ok(|all, vote| if all.is_missing() { vote } else { all + vote }),
        "MIN" => Ok(|all, vote| if all < vote { all } else { vote }),
        "MAX" => Ok(|all, vote| if all > vote { all } else { vote }),
        other => {
            Err(OpError::new(format!("aggregate {other:?}, expected SUM, AVERAGE, MIN or MAX")))
        }
    }
}

/// What trees calculate in.
trait Real: Element + PartialOrd + std::ops::Add<Output = Self> + std::ops::Div<Output = Self> {
    const NAN: Self;
    fn of(count: usize) -> Self;
    fn is_missing(self) -> bool;
}

impl Real for f32 {
    const NAN: Self = f32::NAN;
    fn of(count: usize) -> Self {
        count as f32
    }
    fn is_missing(self) -> bool {
        self.is_nan()
    }
}

impl Real for f64 {
    const NAN: Self = f64::NAN;
    fn of(count: usize) -> Self {
        count as f64
    }
    fn is_missing(self) -> bool {
        self.is_nan()
    }
}

/// The operands but for `X`.
struct Forest<'a, T> {
    nodes: &'a [[i32; 4]],
    splits: &'a [T],
    roots: &'a [i32],
    starts: &'a [i32],
    targets: &'a [i32],
    votes: &'a [T],
}

impl<'a, T: Real> Forest<'a, T> {
    fn new(operand: impl Fn(usize) -> TensorRef<'a>) -> Self {
        Self {
            nodes: bytemuck::cast_slice(operand(1).slice::<i32>()),
            splits: operand(2).slice(),
            roots: operand(3).slice(),
            starts: operand(4).slice(),
            targets: operand(5).slice(),
            votes: operand(6).slice(),
        }
    }

    /// The votes of the leaf that a row comes to.
    fn leaf(&self, root: i32, row: &[T]) -> Result<std::ops::Range<usize>, OpError> {
        let mut at = root;
        while let Ok(index) = usize::try_from(at) {
            let node =
                self.nodes.get(index).ok_or_else(|| outside("node", index, self.nodes.len()))?;
            let feature = usize::try_from(node[0]).ok().and_then(|feature| row.get(feature));
            let &value = feature.ok_or_else(|| outside("feature", node[0], row.len()))?;
            let next = if passes(node[1], value, self.splits[index]) { node[2] } else { node[3] };
            if (0..=at).contains(&next) {
                return Err(OpError::new(format!(
                    "node {at} leads to node {next}, expected one that comes after it, or a leaf"
                )));
            }
            at = next;
        }
        let leaf = !at as usize;
        let bound = |i: usize| usize::try_from(*self.starts.get(i)?).ok();
        let votes = bound(leaf).zip(bound(leaf + 1)).map(|(from, to)| from..to);
        let votes = votes.filter(|votes| votes.start <= votes.end && votes.end <= self.votes.len());
        votes.ok_or_else(|| outside("leaf", leaf, self.starts.len() - 1))
    }

    /// Adds the votes of every tree for `rows` to `out`, which holds NaN where there is none yet.
    fn vote(
        &self,
        rows: &[T],
        features: usize,
        out: &mut [T],
        columns: usize,
        join: Join<T>,
    ) -> Result<(), OpError> {
        for &root in self.roots {
            for (i, out) in out.chunks_exact_mut(columns).enumerate() {
                for vote in self.leaf(root, &rows[i * features..][..features])? {
                    let target = usize::try_from(self.targets[vote]).ok();
                    let slot = target.and_then(|target| out.get_mut(target));
                    let slot =
                        slot.ok_or_else(|| outside("target", self.targets[vote], columns))?;
                    *slot = join(*slot, self.votes[vote]);
                }
            }
        }
        Ok(())
    }
}

fn outside(what: &str, found: impl std::fmt::Display, count: usize) -> OpError {
    OpError::new(format!("{what} {found} of a tree, but there are {count}"))
}

/// Whether a value passes a node's test. NaN compares as it does everywhere, unless the node says where it goes.
fn passes<T: Real>(test: i32, value: T, split: T) -> bool {
    if test >= MISSING && value.is_missing() {
        return true;
    }
    match test & (MISSING - 1) {
        0 => value <= split,
        1 => value < split,
        2 => value >= split,
        3 => value > split,
        4 => value == split,
        _ => value != split,
    }
}

fn run<T: Real>(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let x = ctx.input(0);
    let features = x.shape[1];
    let forest = Forest::<T>::new(|i| ctx.input(i));
    let name = ctx.attrs.str("aggregate");
    let join = aggregate::<T>(name)?;
    let trees = T::of(if name == "AVERAGE" { forest.roots.len().max(1) } else { 1 });
    let columns = usize::try_from(ctx.attrs.int("n_targets")).expect("the rule takes at least 1");
    let rows = x.slice::<T>();
    let y = ctx.output().slice::<T>();
    let nothing = T::of(0);
    parallel::try_each(y.chunks_mut(ROWS * columns).enumerate(), |(chunk, out)| {
        out.fill(T::NAN);
        forest.vote(&rows[chunk * ROWS * features..], features, out, columns, join)?;
        out.iter_mut().for_each(|y| *y = if y.is_missing() { nothing } else { *y / trees });
        Ok(())
    })
}

/// One invocation for each row and target: it walks through all trees and joins the votes for its own target.
fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    // Forests of leaves alone have operands of no elements, which are not bound.
    let empty = ctx.inputs.iter().flatten().any(|operand| operand.is_empty());
    if x.dtype != DType::F32 || (empty && !y.is_empty()) {
        return Ok(None);
    }
    let name = ctx.attrs.str("aggregate");
    aggregate::<f32>(name)?;
    let join = match name {
        "MIN" => "select(vote, all, !is_nan(vote) && all < vote)",
        "MAX" => "select(vote, all, !is_nan(vote) && all > vote)",
        _ => "all + vote",
    };
    let trees = ctx.input(3).len();
    let divisor = if name == "AVERAGE" { trees as f32 } else { 1.0 };
    let (nodes, votes) = (ctx.input(2).len(), ctx.input(6).len());
    let sizes = [y.len(), x.shape[1], y.shape[1], trees, nodes, votes];
    let mut params = sizes.map(|n| n as u32).to_vec();
    params.push(divisor.to_bits());
    let keys = [("functions", PRELUDE), ("join", join)];
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: trees + nodes + votes,
        label: "TreeEnsemble".into(),
        wgsl: render(include_str!("walk.wgsl"), &keys).into(),
        binds: (0..7).map(Bind::In).chain([Bind::Out(0)]).collect(),
        params,
        groups: ctx.limits.linear(y.len(), 64),
    })))
}
