//! Rotary embedding: pairs of elements as points of a plane, turned by angles whose cosines and sines are given (Su et al., 2021).

use crate::case::{Case, ramp};
use crate::cpu::{Cpu, CpuCtx};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram};
use crate::infer::{Facts, InferCtx, InferError};
use crate::parallel;
use crate::{AttrDef, AttrsExt, OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, Attrs, DType, Tensor};

pub static ROTARY: OpDef = OpDef {
    name: "Rotary",
    doc: "Turns pairs of elements along the last axis: `a · cos − b · sin` and `b · cos + a · sin`. A pair are elements half of the axis \
          apart, or neighbours if `interleaved`. The angles have the operand's rank and sizes or 1 on all axes but the last, where \
          they are as many as elements, or one for each pair.",
    attrs: &[AttrDef::int("interleaved", 0)],
    inputs: &[
        Operand::data("x").of(&[DType::F32]),
        Operand::data("cos").of(&[DType::F32]),
        Operand::data("sin").of(&[DType::F32]),
    ],
    infer,
    cpu: Cpu::kernel(cpu),
    gpu: Some(gpu),
    tolerance: Tolerance::ELEMENTWISE,
    cases,
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let x = ctx.facts(0)?;
    if let Some(shape) = x.concrete() {
        for table in [1, 2].into_iter().filter_map(|i| ctx.facts(i).ok()?.concrete()) {
            Turn::new(ctx.attrs, &shape, &table)?;
        }
        let tables = [1, 2].map(|i| ctx.facts(i).ok().and_then(Facts::concrete));
        if let [Some(cos), Some(sin)] = &tables
            && cos != sin
        {
            return Err(InferError::invalid(format!(
                "the cosines have shape {cos:?} and the sines {sin:?}, expected the same"
            )));
        }
    }
    Ok(vec![Facts { value: None, ..x.clone() }])
}

/// Where elements and angles lie.
struct Turn {
    /// Elements along the last axis.
    width: usize,
    /// Angles along it: `width`, or half of that.
    angles: usize,
    /// Sizes of the other axes.
    sizes: Vec<usize>,
    /// Angles from one place on each of these axes to the next: 0 where all have the same ones.
    strides: Vec<usize>,
    interleaved: bool,
}

impl Turn {
    fn new(attrs: &Attrs, x: &[usize], table: &[usize]) -> Result<Self, OpError> {
        let unfit = || {
            OpError::new(format!(
                "angles of shape {table:?}, expected the sizes of {x:?} or 1, and on the last axis, which is even, all or half of it"
            ))
        };
        let ([sizes @ .., width], [rows @ .., angles]) = (x, table) else { return Err(unfit()) };
        let (width, angles) = (*width, *angles);
        let fits = |(&n, &of): (&usize, &usize)| n == 1 || n == of;
        let known = width % 2 == 0 && (angles == width || angles == width / 2);
        if !known || sizes.len() != rows.len() || !rows.iter().zip(sizes).all(fits) {
            return Err(unfit());
        }
        let mut strides = vec![0; rows.len()];
        let mut stride = angles;
        for (place, &n) in strides.iter_mut().zip(rows).rev() {
            if n != 1 {
                *place = stride;
            }
            stride *= n;
        }
        let interleaved = attrs.int("interleaved") != 0;
        Ok(Self { width, angles, sizes: sizes.to_vec(), strides, interleaved })
    }

    /// Where the angles of a row begin.
    fn angles_of(&self, mut row: usize) -> usize {
        let mut at = 0;
        for (size, stride) in self.sizes.iter().zip(&self.strides).rev() {
            at += row % size * stride;
            row /= size;
        }
        at
    }
}

fn cpu(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, cos, sin) = (ctx.input(0), ctx.input(1), ctx.input(2));
    let turn = Turn::new(ctx.attrs, x.shape, cos.shape)?;
    let (x, cos, sin) = (x.slice::<f32>(), cos.slice::<f32>(), sin.slice::<f32>());
    let (width, half) = (turn.width, turn.width / 2);
    parallel::rows(ctx.output().slice::<f32>(), width, 4, |row, y| {
        let x = &x[row * width..][..width];
        let at = turn.angles_of(row);
        let (cos, sin) = (&cos[at..][..turn.angles], &sin[at..][..turn.angles]);
        if turn.interleaved {
            let pairs = x.chunks_exact(2).zip(y.chunks_exact_mut(2)).enumerate();
            for (i, (x, y)) in pairs {
                let [low, high] = if turn.angles == width { [2 * i, 2 * i + 1] } else { [i; 2] };
                y[0] = x[0] * cos[low] - x[1] * sin[low];
                y[1] = x[1] * cos[high] + x[0] * sin[high];
            }
            return;
        }
        let ((a, b), (low, high)) = (x.split_at(half), y.split_at_mut(half));
        // Where there is one angle for a pair, both halves have the same ones.
        let second = turn.angles - half;
        let first = (&cos[..half], &sin[..half]);
        for (((y, a), b), (cos, sin)) in
            low.iter_mut().zip(a).zip(b).zip(first.0.iter().zip(first.1))
        {
            *y = a * cos - b * sin;
        }
        let angles = cos[second..].iter().zip(&sin[second..]);
        for (((y, a), b), (cos, sin)) in high.iter_mut().zip(a).zip(b).zip(angles) {
            *y = b * cos + a * sin;
        }
    });
    Ok(())
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let x = ctx.input(0);
    let turn = Turn::new(ctx.attrs, &x.shape, &ctx.input(1).shape)?;
    // Up to three axes stand before the last one.
    let [sizes, strides] = [(&turn.sizes, 1), (&turn.strides, 0)].map(|(given, neutral)| {
        let missing = 3usize.checked_sub(given.len())?;
        Some([vec![neutral; missing], given.clone()].concat())
    });
    let (Some(sizes), Some(strides)) = (sizes, strides) else { return Ok(None) };
    let pairs = x.len() / 2;
    let numbers = [pairs, turn.width / 2, sizes[1], sizes[2], turn.angles]
        .into_iter()
        .chain([turn.interleaved.into()])
        .chain(strides);
    let Ok(params) = numbers.map(u32::try_from).collect::<Result<Vec<_>, _>>() else {
        return Ok(None);
    };
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: 0,
        label: "Rotary".into(),
        wgsl: include_str!("rotary.wgsl").into(),
        binds: vec![Bind::In(0), Bind::In(1), Bind::In(2), Bind::Out(0)],
        params,
        groups: ctx.limits.linear(pairs, 64),
    })))
}

fn cases() -> Vec<Case> {
    let f32s = |shape: &[usize], values: &[f32]| Tensor::from_slice(shape, values);
    // A quarter turn takes (a, b) to (−b, a), half a turn to (−a, −b).
    let (cos, sin) = (f32s(&[1, 2], &[0.0, -1.0]), f32s(&[1, 2], &[1.0, 0.0]));
    let x = || f32s(&[2, 4], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    let turned = |name, interleaved: i64, expected: &[f32]| {
        Case::new(name, vec![x(), cos.clone(), sin.clone()])
            .attr("interleaved", Attr::Int(interleaved))
            .expect(vec![f32s(&[2, 4], expected)])
    };
    let angles = |shape: &[usize]| {
        let angles = ramp(shape);
        let of = |f: fn(f32) -> f32| -> Vec<f32> {
            angles.as_slice::<f32>().expect("a ramp is of floats").iter().map(|&v| f(v)).collect()
        };
        [f32s(shape, &of(libm::cosf)), f32s(shape, &of(libm::sinf))]
    };
    let along = |name, x: &[usize], table: &[usize], interleaved: i64| {
        let [cos, sin] = angles(table);
        Case::new(name, vec![ramp(x), cos, sin]).attr("interleaved", Attr::Int(interleaved))
    };
    let nan = f32s(&[1, 4], &[f32::NAN, 1.0, f32::INFINITY, 2.0]);
    vec![
        turned("halves", 0, &[-3.0, -2.0, 1.0, -4.0, -7.0, -6.0, 5.0, -8.0]),
        turned("neighbours", 1, &[-2.0, 1.0, -3.0, -4.0, -6.0, 5.0, -7.0, -8.0]),
        Case::new(
            "an angle for each element",
            vec![
                f32s(&[1, 4], &[1.0, 2.0, 3.0, 4.0]),
                f32s(&[1, 4], &[1.0, 2.0, 3.0, 4.0]),
                f32s(&[1, 4], &[5.0, 6.0, 7.0, 8.0]),
            ],
        )
        .expect(vec![f32s(&[1, 4], &[-14.0, -20.0, 16.0, 32.0])]),
        along("heads share angles", &[2, 3, 5, 8], &[1, 1, 5, 8], 0),
        along("an angle for each pair", &[2, 3, 5, 8], &[2, 1, 5, 4], 0),
        along("neighbours share an angle", &[2, 3, 5, 8], &[2, 1, 5, 4], 1),
        along("neighbours with one each", &[2, 3, 5, 8], &[1, 1, 5, 8], 1),
        along("more than a workgroup", &[1, 7, 9, 64], &[1, 1, 9, 64], 0),
        along("one axis", &[6], &[3], 0),
        Case::new("numbers that are none", vec![nan, cos, sin]),
        along("empty", &[2, 0, 4], &[1, 1, 4], 0),
    ]
}
