//! Unique: each element, or slice, once.

use super::order::{Ordered, for_ordered};
use crate::AttrsExt;
use crate::case::{Case, ints};
use crate::cpu::{Cpu, CpuCtx};
use crate::infer::{Facts, InferCtx, InferError, axis};
use crate::memory::{collected, filled, room};
use crate::{AttrDef, AttrKind, Default, OnnxName, OpDef, OpError, Operand, Text};
use engine_format::{Attr, DType, Element, Tensor};
use std::cmp::Ordering;

/// Unique.
pub static UNIQUE: OpDef = OpDef {
    name: "Unique",
    doc: "The different slices along `axis` (the different elements, if it is absent), in ascending order or, where `sorted` is 0, as they \
          first appear; where each first appears, which of them every slice is, and how often each appears.",
    onnx: &[OnnxName::since("Unique", 11)],
    attrs: &[
        AttrDef { name: "axis", kind: AttrKind::Int, default: Default::Absent },
        AttrDef::int("sorted", 1),
    ],
    inputs: &[Operand::data("X")],
    outputs: &["Y", "indices", "inverse_indices", "counts"],
    infer,
    text: Text::Ranks,
    cpu: Cpu::Dynamic(unique),
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let places = Facts::unranked(DType::I64);
    let mut out = vec![Facts::unranked(ctx.dtype(0)?), places.clone(), places.clone(), places];
    out.truncate(ctx.outputs);
    Ok(out)
}

fn unique(ctx: &CpuCtx<'_>) -> Result<Vec<Tensor>, OpError> {
    let x = ctx.input(0);
    let line = [x.len()];
    let (shape, at) = match ctx.attrs.opt_int("axis") {
        Some(at) => (x.shape, axis(at, x.shape.len())?),
        None => (&line[..], 0),
    };
    let sorted = ctx.attrs.int("sorted") != 0;
    if x.is_empty() {
        return alike(x.dtype, shape, at);
    }
    for_ordered!(x.dtype, T => {
        let slices = Slices { x: x.slice::<T>(), shape, at };
        let groups = slices.groups(sorted)?;
        let y = slices.joined(&groups)?;
        // Bools are told apart as bytes.
        let y = Tensor::new(x.dtype, y.shape(), y.bytes().clone())
            .map_err(|e| OpError::new(e.to_string()))?;
        let mut inverse = filled(shape[at], 0)?;
        for (i, group) in groups.iter().enumerate() {
            group.iter().for_each(|&member| inverse[member] = i as i64);
        }
        let first = collected(groups.iter().map(|g| g[0] as i64))?;
        let counts = collected(groups.iter().map(|g| g.len() as i64))?;
        let vector = |v: &[i64]| Tensor::from_slice(&[v.len()], v);
        Ok(vec![y, vector(&first), vector(&inverse), vector(&counts)])
    })
}

/// The results for slices without elements, which are all alike.
fn alike(dtype: DType, shape: &[usize], at: usize) -> Result<Vec<Tensor>, OpError> {
    let slices = shape[at];
    let kinds = slices.min(1);
    let mut one = shape.to_vec();
    one[at] = kinds;
    let zeros = |dtype: DType, shape: &[usize]| {
        Tensor::try_zeros(dtype, shape).map_err(|why| OpError::new(why.to_string()))
    };
    let counts = Tensor::from_slice(&[kinds], &vec![slices as i64; kinds]);
    let inverse = zeros(DType::I64, &[slices])?;
    Ok(vec![zeros(dtype, &one)?, zeros(DType::I64, &[kinds])?, inverse, counts])
}

/// An operand as slices along an axis.
struct Slices<'a, T> {
    x: &'a [T],
    shape: &'a [usize],
    at: usize,
}

impl<T: Element + Ordered> Slices<'_, T> {
    /// The elements of a slice.
    fn slice(&self, i: usize) -> impl Iterator<Item = &T> {
        let inner: usize = self.shape[self.at + 1..].iter().product();
        let outer: usize = self.shape[..self.at].iter().product();
        (0..outer).flat_map(move |o| &self.x[(o * self.shape[self.at] + i) * inner..][..inner])
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let pairs = self.slice(a).zip(self.slice(b));
        pairs.map(|(a, b)| a.order(b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    }

    /// Equal slices, each group in order of appearance.
    fn groups(&self, sorted: bool) -> Result<Vec<Vec<usize>>, OpError> {
        let mut order = collected(0..self.shape[self.at])?;
        order.sort_by(|&a, &b| self.compare(a, b));
        let equal = order.chunk_by(|&a, &b| self.compare(a, b).is_eq());
        let mut groups: Vec<Vec<usize>> = equal.map(<[usize]>::to_vec).collect();
        if !sorted {
            groups.sort_by_key(|group| group[0]);
        }
        Ok(groups)
    }

    /// The first slice of every group.
    fn joined(&self, groups: &[Vec<usize>]) -> Result<Tensor, OpError> {
        let inner: usize = self.shape[self.at + 1..].iter().product();
        let outer: usize = self.shape[..self.at].iter().product();
        let mut out = room(outer * groups.len() * inner)?;
        for o in 0..outer {
            for group in groups {
                let from = (o * self.shape[self.at] + group[0]) * inner;
                out.extend_from_slice(&self.x[from..from + inner]);
            }
        }
        let mut shape = self.shape.to_vec();
        shape[self.at] = groups.len();
        Ok(Tensor::from_slice(&shape, &out))
    }
}

fn cases() -> Vec<Case> {
    let line = || Tensor::from_slice(&[6], &[2f32, 1.0, 1.0, 3.0, 4.0, 3.0]);
    vec![
        Case::new("in order", vec![line()]).expect(vec![
            Tensor::from_slice(&[4], &[1f32, 2.0, 3.0, 4.0]),
            ints(&[1, 0, 3, 4]),
            ints(&[1, 0, 0, 2, 3, 2]),
            ints(&[2, 1, 2, 1]),
        ]),
        Case::new("as they appear", vec![line()]).attr("sorted", Attr::Int(0)).expect(vec![
            Tensor::from_slice(&[4], &[2f32, 1.0, 3.0, 4.0]),
            ints(&[0, 1, 3, 4]),
            ints(&[0, 1, 1, 2, 3, 2]),
            ints(&[1, 2, 2, 1]),
        ]),
        Case::new("columns", vec![Tensor::from_slice(&[2, 3], &[1i64, 0, 1, 5, 7, 5])])
            .attr("axis", Attr::Int(-1))
            .expect(vec![
                Tensor::from_slice(&[2, 2], &[0i64, 1, 7, 5]),
                ints(&[1, 0]),
                ints(&[1, 0, 1]),
                ints(&[1, 2]),
            ]),
        Case::new("strings", vec![Tensor::from_strings(&[4], &["b", "", "a", "b"])]).expect(vec![
            Tensor::from_strings(&[3], &["", "a", "b"]),
            ints(&[1, 2, 0]),
            ints(&[2, 0, 1, 2]),
            ints(&[1, 1, 2]),
        ]),
        Case::new("bools", vec![Tensor::from_bools(&[3], &[true, false, true])]).expect(vec![
            Tensor::from_bools(&[2], &[false, true]),
            ints(&[1, 0]),
            ints(&[1, 0, 1]),
            ints(&[1, 2]),
        ]),
    ]
}
