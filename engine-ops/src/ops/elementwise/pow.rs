//! Powers.

use super::binary::broadcast_of;
use crate::OpError;
use crate::broadcast::Broadcast;
use crate::case::{Case, ramp};
use crate::convert::{Calc, cast, zip_blocks};
use crate::cpu::{Cpu, CpuCtx, CpuShapes, TensorMut, TensorRef};
use crate::dtypes::NUMBERS;
use crate::gpu::elementwise::{Formula, INT64, PRELUDE, element_type, program, rounded};
use crate::gpu::{GpuCtx, GpuProgram};
use crate::{OnnxName, OpDef, Operand, Tolerance};
use engine_format::{DType, Tensor};

pub static POW: OpDef = OpDef {
    name: "Pow",
    doc: "`x^y` with broadcasting, in the type of `x`; the exponent may have another. A negative number to a power that is \
          no integer is NaN; integers to negative powers are cut towards zero (0 to one is 0) and wrap otherwise.",
    onnx: &[OnnxName::since("Pow", 7)],
    inputs: &[
        Operand::data("X").of(&[
            DType::F32,
            DType::F64,
            DType::F16,
            DType::BF16,
            DType::I32,
            DType::I64,
        ]),
        Operand::data("Y").of(NUMBERS),
    ],
    outputs: &["Z"],
    infer: |ctx| broadcast_of(ctx, ctx.dtype(0)?),
    elementwise: true,
    cpu: Cpu::Kernel { run, scratch },
    gpu: Some(gpu),
    // WGSL's pow is 2^(y log2 x), whose error grows with the result's exponent.
    tolerance: Tolerance { atol: 1e-6, rtol: 1e-4 },
    cases,
    ..OpDef::BASE
};

/// The type that exponents are read as: the calculating type of floats, else whole or broken numbers of 64 bits.
fn exponent(x: DType, y: DType) -> DType {
    match (x, y) {
        (DType::F64, _) => DType::F64,
        (x, _) if x.is_float() => DType::F32,
        (_, y) if y.is_float() => DType::F64,
        _ => DType::I64,
    }
}

fn scratch(shapes: &CpuShapes<'_>) -> usize {
    match (&shapes.inputs[0], &shapes.inputs[1]) {
        (Some(x), Some(y)) => y.len() * exponent(x.dtype, y.dtype).width(),
        _ => 0,
    }
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, y) = (ctx.input(0), ctx.input(1));
    let dtype = exponent(x.dtype, y.dtype);
    let bytes = &mut ctx.scratch[..y.len() * dtype.width()];
    cast(y, &mut TensorMut { dtype, shape: y.shape, bytes });
    let y = TensorRef { dtype, shape: y.shape, bytes };
    let z = ctx.outputs[0].as_mut().expect("the first result is never omitted");
    match dtype {
        DType::F32 => powers::<f32>(x, y, z, power_f32),
        DType::F64 if x.dtype == DType::F64 => powers::<f64>(x, y, z, libm::pow),
        DType::F64 => whole(x, y, z, |x: i64, y: f64| libm::pow(x as f64, y) as i64),
        _ => whole(x, y, z, power_i64),
    }
}

/// Floats. Squares are what layer norms are written with: one exponent of 2 is a loop of its own, with the same result.
fn powers<W>(
    x: TensorRef<'_>,
    y: TensorRef<'_>,
    z: &mut TensorMut<'_>,
    power: fn(W, W) -> W,
) -> Result<(), OpError>
where
    W: Calc + From<f32> + PartialEq + std::ops::Mul<Output = W>,
{
    let two = W::from(2.0);
    if y.slice::<W>() == [two] {
        return zip_blocks(x, y, z, &|x: &[W], _: &[W], z: &mut [W]| {
            x.iter().zip(z).for_each(|(&x, z)| *z = x * x);
        });
    }
    zip_blocks(x, y, z, &|x: &[W], y: &[W], z: &mut [W]| {
        let pairs = x.iter().zip(y).zip(z);
        pairs.for_each(|((&x, &y), z)| *z = if y == two { x * x } else { power(x, y) });
    })
}

fn power_f32(x: f32, y: f32) -> f32 {
    match y {
        3.0 => x * x * x,
        _ => libm::powf(x, y),
    }
}

/// Integers, one after the other: no model does this to more than a shape.
fn whole<E: Calc>(
    x: TensorRef<'_>,
    y: TensorRef<'_>,
    z: &mut TensorMut<'_>,
    power: fn(i64, E) -> i64,
) -> Result<(), OpError> {
    let walk = Broadcast::new(z.shape, [x.shape, y.shape])?;
    let [sx, sy] = walk.axes()[0].strides;
    let size = z.dtype.width();
    let exponents = y.slice::<E>();
    walk.runs(0, z.bytes.len() / size, |at, len, [ox, oy]| {
        for i in 0..len {
            let mut base = [0i64];
            i64::load(x.dtype, x.bytes, ox + i * sx, &mut base);
            let value = power(base[0], exponents[oy + i * sy]);
            i64::store(z.dtype, &[value], &mut z.bytes[(at + i) * size..(at + i + 1) * size]);
        }
    });
    Ok(())
}

fn power_i64(x: i64, y: i64) -> i64 {
    match (x, u32::try_from(y)) {
        (_, Ok(y)) => x.wrapping_pow(y),
        (1, _) => 1,
        (-1, _) => 1 - 2 * (y & 1),
        // Below any whole number, or beyond u32 where all that is left of it is zeros.
        _ => 0,
    }
}

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0).dtype, ctx.input(1).dtype);
    let (Some(base), Some(_)) = (element_type(x), element_type(y)) else { return Ok(None) };
    // Integers to broken powers take the precision of f64 to be cut rightly.
    if !x.is_float() && y.is_float() {
        return Ok(None);
    }
    let exponent = match y {
        DType::I64 if x.is_float() => "i64_to_f32(b)",
        DType::U64 if x.is_float() => "u64_to_f32(b)",
        _ if x.is_float() => "f32(b)",
        DType::I64 | DType::U64 => "b",
        DType::I8 | DType::I16 | DType::I32 => "vec2<u32>(bitcast<u32>(b), u32(b >> 31u))",
        _ => "vec2<u32>(b, 0u)",
    };
    let power = match base {
        "f32" => "power",
        "i32" => "power_i32",
        _ => "power_i64",
    };
    let functions = &[PRELUDE, INT64, include_str!("cast.wgsl"), include_str!("pow.wgsl")];
    let y = rounded(x, &format!("{power}(a, {exponent})"));
    program(ctx, &Formula { label: "Pow", operands: [0, 1], functions, y: &y, params: [0; 3] })
}

fn cases() -> Vec<Case> {
    let floats = |v: &[f32]| Tensor::from_slice(&[v.len()], v);
    let ints = |v: &[i64]| Tensor::from_slice(&[v.len()], v);
    let (n, inf) = (f32::NAN, f32::INFINITY);
    vec![
        Case::new("squares", vec![floats(&[3.0, -1.5, n, -inf]), floats(&[2.0])])
            .expect(vec![floats(&[9.0, 2.25, n, inf])]),
        Case::new(
            "signs and zeros",
            vec![
                floats(&[-2.0, -2.0, -8.0, 0.0, 0.0, 5.0, 2.0, n, 4.0]),
                floats(&[3.0, 2.0, 0.5, 0.0, 1.5, 0.0, -2.0, 2.0, 0.5]),
            ],
        )
        .expect(vec![floats(&[-8.0, 4.0, n, 1.0, 0.0, 1.0, 0.25, n, 2.0])]),
        Case::new(
            "special values",
            vec![
                floats(&[
                    1.0, 1.0, 1.0, n, n, -1.0, -1.0, 2.0, 2.0, -2.0, 0.5, 0.5, -0.5, 0.0, 0.0,
                ]),
                floats(&[
                    n, inf, -inf, 0.0, -0.0, inf, -inf, inf, -inf, inf, inf, -inf, -inf, inf, -inf,
                ]),
            ],
        )
        .expect(vec![floats(&[
            1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, inf, 0.0, inf, 0.0, inf, inf, 0.0, inf,
        ])]),
        Case::new(
            "zeros and infinities to odd, even and broken powers",
            vec![
                floats(&[
                    -0.0, -0.0, -0.0, -0.0, 0.0, 0.0, -inf, -inf, -inf, -inf, -inf, inf, inf, inf,
                ]),
                floats(&[
                    -1.0, -5.0, -4.0, -0.5, -5.0, -0.5, 5.0, 4.0, 0.5, -5.0, -0.5, 0.5, -0.5, 5.0,
                ]),
            ],
        )
        .expect(vec![floats(&[
            -inf, -inf, inf, inf, inf, inf, -inf, inf, inf, 0.0, 0.0, inf, 0.0, inf,
        ])]),
        Case::new(
            "whole exponents beyond 2^24 are even",
            vec![
                floats(&[-1.0, -1.0, -1.0, -0.5]),
                floats(&[16_777_215.0, 16_777_216.0, -4e9, 3e9]),
            ],
        )
        .expect(vec![floats(&[-1.0, 1.0, 1.0, 0.0])]),
        Case::new(
            "whole exponents",
            vec![floats(&[1.5, -2.0]), Tensor::from_slice(&[2], &[3i32, 3])],
        )
        .expect(vec![floats(&[3.375, -8.0])]),
        Case::new("integers", vec![ints(&[2, -3, 2, -1, 1]), ints(&[10, 3, -1, -3, -9])])
            .expect(vec![ints(&[1024, -27, 0, -1, 1])]),
        Case::new(
            "integers of 32 bits",
            vec![
                Tensor::from_slice(&[6], &[2i32, -3, 2, -1, 3, 0]),
                Tensor::from_slice(&[6], &[10i32, 3, -1, -3, 40, -2]),
            ],
        )
        .expect(vec![Tensor::from_slice(&[6], &[1024, -27, 0, -1, 3i32.wrapping_pow(40), 0])]),
        Case::new("long powers", vec![ints(&[3, -1, 7, 2]), ints(&[39, 1 << 40, 1 << 40, 62])])
            .expect(vec![ints(&[3i64.pow(39), 1, 0, 1 << 62])]),
        Case::new("floats to long powers", vec![floats(&[1.5, -2.0]), ints(&[3, 5])])
            .expect(vec![floats(&[3.375, -32.0])]),
        Case::new("broken power of an integer", vec![ints(&[9, 10]), floats(&[0.5])])
            .expect(vec![ints(&[3, 3])]),
        Case::new(
            "one exponent for each column",
            vec![ramp(&[6, 1]), floats(&[1.0, 2.0, 3.0, 4.0])],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_powers_at_the_edges() {
        assert_eq!(power_i64(0, 0), 1);
        assert_eq!(power_i64(-1, i64::MAX), -1);
        assert_eq!(power_i64(-1, -4), 1);
        assert_eq!(power_i64(2, 64), 0);
        assert_eq!(power_i64(3, 1 << 40), 0);
    }
}
