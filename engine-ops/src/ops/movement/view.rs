//! The same bytes under another shape: Reshape, Squeeze, Unsqueeze, Flatten, Identity. Nothing is copied on any device.

use crate::AttrsExt;
use crate::case::{Case, ints, ramp};
use crate::infer::{Facts, InferCtx, InferError, Known, axis};
use crate::{AttrDef, Kind, OnnxName, OpDef, Operand};
use engine_format::{Attr, Dim, size};

/// Reshape.
pub static RESHAPE: OpDef = OpDef {
    name: "Reshape",
    doc: "The elements of `data` under the shape `shape`, where -1 (at most once) stands for what is left and 0 for \
          the operand's own dimension there (with `allowzero`: for zero).",
    onnx: &[OnnxName::since("Reshape", 5)],
    attrs: &[AttrDef::int("allowzero", 0)],
    inputs: &[Operand::data("data"), Operand::shape("shape")],
    kind: Kind::View,
    infer: reshape,
    cases: reshape_cases,
    ..OpDef::BASE
};

/// Squeeze.
pub static SQUEEZE: OpDef = OpDef {
    name: "Squeeze",
    doc: "Removes the axes `axes`, each of size 1; without `axes`, or where it lists none, every axis of size 1.",
    onnx: &[OnnxName::since("Squeeze", 13)],
    inputs: &[Operand::data("data"), Operand::opt_shape("axes")],
    kind: Kind::View,
    infer: squeeze,
    cases: squeeze_cases,
    ..OpDef::BASE
};

/// Unsqueeze.
pub static UNSQUEEZE: OpDef = OpDef {
    name: "Unsqueeze",
    doc: "Adds axes of size 1 where `axes` says, counted in the result.",
    onnx: &[OnnxName::since("Unsqueeze", 13)],
    inputs: &[Operand::data("data"), Operand::shape("axes")],
    kind: Kind::View,
    infer: unsqueeze,
    cases: unsqueeze_cases,
    ..OpDef::BASE
};

/// Flatten.
pub static FLATTEN: OpDef = OpDef {
    name: "Flatten",
    doc: "A matrix: the axes before `axis` are its rows, the others its columns.",
    onnx: &[OnnxName::since("Flatten", 1)],
    attrs: &[AttrDef::int("axis", 1)],
    inputs: &[Operand::data("input")],
    kind: Kind::View,
    infer: flatten,
    cases: flatten_cases,
    ..OpDef::BASE
};

/// Identity.
pub static IDENTITY: OpDef = OpDef {
    name: "Identity",
    doc: "The operand itself.",
    onnx: &[OnnxName::since("Identity", 1)],
    inputs: &[Operand::data("input")],
    kind: Kind::View,
    infer: |ctx| Ok(vec![ctx.facts(0)?.clone()]),
    cases: || vec![Case::new("matrix", vec![ramp(&[3, 5])]).expect(vec![ramp(&[3, 5])])],
    ..OpDef::BASE
};

/// Facts of `x` under another shape; contents that are known stay known.
fn viewed(x: &Facts, shape: Vec<Dim>) -> Facts {
    let mut facts = Facts::new(x.dtype, shape);
    facts.value = match (&x.value, facts.concrete()) {
        (Some(Known::Tensor(t)), Some(shape)) => t.reshaped(&shape).ok().map(Known::Tensor),
        (Some(Known::Dims(dims)), Some(shape)) if shape.len() <= 1 => {
            Some(Known::Dims(dims.clone()))
        }
        _ => None,
    };
    facts
}

fn reshape(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let target = ctx.dims(1)?;
    let keeps_zero = ctx.attrs.int("allowzero") != 0;
    let mut out = Vec::with_capacity(target.len());
    let mut rest = None;
    for (i, dim) in target.iter().enumerate() {
        out.push(match dim.known() {
            Some(0) if !keeps_zero => ctx.shape(0)?.get(i).cloned().ok_or_else(|| {
                InferError::invalid(format!("shape {target:?} copies dimension {i} of {x}"))
            })?,
            Some(-1) if rest.is_none() => {
                rest = Some(i);
                Dim::from(1)
            }
            Some(n) if n < 0 => {
                return Err(InferError::invalid(format!(
                    "shape {target:?}, expected sizes with at most one -1"
                )));
            }
            _ => dim.clone(),
        });
    }
    if let Some(at) = rest {
        out[at] = quotient(ctx.shape(0)?, &out).ok_or_else(|| mismatch(x, &target))?;
    } else if let (Some(from), Some(to)) =
        (x.concrete(), Facts::new(x.dtype, out.clone()).concrete())
        && size::elements(&from) != size::elements(&to)
    {
        return Err(mismatch(x, &target));
    }
    Ok(vec![viewed(x, out)])
}

fn mismatch(x: &Facts, target: &[Dim]) -> InferError {
    InferError::invalid(format!("{x} has no shape {target:?}"))
}

/// The elements of `whole` divided by those of `part`; `None` where that is known not to come out even.
pub(in crate::ops) fn quotient(whole: &[Dim], part: &[Dim]) -> Option<Dim> {
    // Equal dimensions cancel first, so that products of symbols need not be divided.
    let mut whole = whole.to_vec();
    let mut left = Vec::new();
    for dim in part {
        match whole.iter().position(|w| w == dim && dim.known() != Some(0)) {
            Some(at) => drop(whole.swap_remove(at)),
            None => left.push(dim),
        }
    }
    let product = |dims: &mut dyn Iterator<Item = &Dim>| dims.fold(Dim::from(1), |a, b| &a * b);
    let (above, below) = (product(&mut whole.iter()), product(&mut left.into_iter()));
    match (above.known(), below.known()) {
        (Some(0), Some(0)) => Some(Dim::from(0)),
        (_, Some(0)) => None,
        (Some(a), Some(b)) if a % b != 0 => None,
        _ => Some(above.floor_div(&below)),
    }
}

fn squeeze(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let axes = match ctx.opt(1) {
        Some(_) => ctx.ints(1)?,
        None => Vec::new(),
    };
    if axes.is_empty() {
        let shape = ctx.shape(0)?;
        // A symbol may turn out to be 1, so nothing is known of the rank.
        if shape.iter().any(|d| d.known().is_none()) {
            return Ok(vec![Facts::unranked(x.dtype)]);
        }
        let kept = shape.iter().filter(|d| d.known() != Some(1)).cloned().collect();
        return Ok(vec![viewed(x, kept)]);
    }
    let shape = ctx.shape(0)?;
    let mut removed = vec![false; shape.len()];
    for a in axes {
        let a = axis(a, shape.len())?;
        if shape[a].known().is_some_and(|d| d != 1) {
            return Err(InferError::invalid(format!(
                "axis {a} of shape {shape:?} has size {}, expected 1",
                shape[a]
            )));
        }
        removed[a] = true;
    }
    let kept = shape.iter().zip(&removed).filter(|&(_, &r)| !r).map(|(d, _)| d.clone()).collect();
    Ok(vec![viewed(x, kept)])
}

fn unsqueeze(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let axes = ctx.ints(1)?;
    let shape = ctx.shape(0)?;
    let rank = shape.len() + axes.len();
    let mut added = vec![false; rank];
    for a in axes {
        if std::mem::replace(&mut added[axis(a, rank)?], true) {
            return Err(InferError::invalid(format!("axis {a} is added twice")));
        }
    }
    let mut own = shape.iter().cloned();
    let out = added.iter().map(|&a| if a { Some(Dim::from(1)) } else { own.next() });
    let out = out.collect::<Option<Vec<_>>>().expect("as many axes are left as the operand has");
    Ok(vec![viewed(x, out)])
}

fn flatten(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    let shape = ctx.shape(0)?;
    let at = ctx.attrs.int("axis");
    let rank = shape.len();
    let at = if at == rank as i64 { rank } else { axis(at, rank)? };
    let product = |dims: &[Dim]| dims.iter().fold(Dim::from(1), |a, b| &a * b);
    Ok(vec![viewed(x, vec![product(&shape[..at]), product(&shape[at..])])])
}

/// A case whose result is the operand's elements under `shape`.
fn view(name: &'static str, from: &[usize], decided_by: Option<&[i64]>, to: &[usize]) -> Case {
    let x = ramp(from);
    let y = x.reshaped(to).expect("the case keeps the number of elements");
    let case = Case::new(name, vec![x]);
    let case = match decided_by {
        Some(values) => case.input(Some(ints(values))),
        None => case,
    };
    case.expect(vec![y])
}

fn reshape_cases() -> Vec<Case> {
    vec![
        view("to a matrix", &[2, 3, 4], Some(&[6, 4]), &[6, 4]),
        view("0 copies, -1 is the rest", &[2, 3, 4], Some(&[0, -1]), &[2, 12]),
        view("to a scalar", &[1, 1], Some(&[]), &[]),
        view("empty", &[0, 4], Some(&[2, 0]), &[2, 0]).attr("allowzero", Attr::Int(1)),
        view("empty with -1", &[3, 0], Some(&[3, -1]), &[3, 0]),
    ]
}

fn squeeze_cases() -> Vec<Case> {
    vec![
        view("one axis", &[1, 3, 1], Some(&[0]), &[3, 1]),
        view("from the end", &[1, 3, 1], Some(&[-1, 0]), &[3]),
        view("every axis of size 1", &[1, 3, 1, 2], None, &[3, 2]),
        view("a list of no axes is none", &[1, 3, 1, 2], Some(&[]), &[3, 2]),
    ]
}

fn unsqueeze_cases() -> Vec<Case> {
    vec![
        view("in front", &[3, 4], Some(&[0]), &[1, 3, 4]),
        view("unordered, from the end", &[3, 4], Some(&[-1, 1]), &[3, 1, 4, 1]),
        view("a scalar", &[], Some(&[0]), &[1]),
    ]
}

fn flatten_cases() -> Vec<Case> {
    let at = |axis| Attr::Int(axis);
    vec![
        view("default axis", &[2, 3, 4], None, &[2, 12]),
        view("axis 0", &[2, 3, 4], None, &[1, 24]).attr("axis", at(0)),
        view("axis past the last", &[2, 3, 4], None, &[24, 1]).attr("axis", at(3)),
        view("from the end", &[2, 3, 4], None, &[6, 4]).attr("axis", at(-1)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_format::DType;

    fn infer(op: &OpDef, inputs: &[Facts]) -> Result<Facts, InferError> {
        let attrs = op.normalise(engine_format::Attrs::new()).expect("defaults");
        let inputs: Vec<_> = inputs.iter().cloned().map(Some).collect();
        let facts = (op.infer)(&InferCtx { attrs: &attrs, inputs: &inputs, outputs: 1 })?;
        Ok(facts.into_iter().next().expect("one result"))
    }

    fn symbolic(dims: &[&str]) -> Vec<Dim> {
        dims.iter().map(|d| d.parse().unwrap()).collect()
    }

    #[test]
    fn symbols_cancel_in_a_reshape() {
        let x = Facts::new(DType::F32, symbolic(&["b", "s", "384"]));
        let target = Facts::vector(symbolic(&["b", "s", "-1", "32"]));
        let y = infer(&RESHAPE, &[x, target]).unwrap();
        assert_eq!(y.shape, Some(symbolic(&["b", "s", "12", "32"])));
    }

    #[test]
    fn a_reshape_that_loses_elements_is_refused() {
        let x = Facts::new(DType::F32, symbolic(&["2", "3"]));
        let found = infer(&RESHAPE, &[x.clone(), Facts::constant(ints(&[4, -1]))]);
        assert!(matches!(found, Err(InferError::Invalid(_))), "{found:?}");
        let found = infer(&RESHAPE, &[x, Facts::constant(ints(&[5]))]);
        assert!(matches!(found, Err(InferError::Invalid(_))), "{found:?}");
    }

    #[test]
    fn known_contents_pass_through_views() {
        let size = Facts::scalar(Dim::symbol("b"));
        let y = infer(&UNSQUEEZE, &[size, Facts::constant(ints(&[0]))]).unwrap();
        assert_eq!(y, Facts::vector(symbolic(&["b"])));
    }

    #[test]
    fn squeezing_a_symbol_leaves_the_rank_unknown() {
        let x = Facts::new(DType::F32, symbolic(&["b", "1"]));
        assert_eq!(infer(&SQUEEZE, &[x]).unwrap().shape, None);
    }
}
