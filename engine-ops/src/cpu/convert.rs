//! Elements of any type as one of four calculating types, a block at a time.
//!
//! Kernels are compiled for `f32` as it lies in memory; other types go through these blocks, which keeps one compiled loop
//! per calculating type instead of one per element type.

use crate::OpError;
use crate::broadcast::Broadcast;
use crate::cpu::{TensorMut, TensorRef};
use crate::parallel::pieces;
use crate::small_float::{Rounding, decode, encode};
use crate::wide::{Loop, wide};
use engine_format::{DType, Element};
use half::{bf16, f16};

/// Elements of a block; small enough for the stack and the first cache.
const BLOCK: usize = 512;

/// A type that kernels calculate in.
pub(crate) trait Calc: Element + Default {
    /// Reads elements `from..` of a slice of `dtype` into `out`.
    fn load(dtype: DType, bytes: &[u8], from: usize, out: &mut [Self]);
    /// Writes elements to a slice of `dtype`: floats are rounded, integers wrap.
    fn store(dtype: DType, values: &[Self], bytes: &mut [u8]);
}

fn read<T: Element, W>(bytes: &[u8], from: usize, out: &mut [W], widen: impl Fn(T) -> W) {
    let values = &bytemuck::cast_slice::<u8, T>(bytes)[from..from + out.len()];
    out.iter_mut().zip(values).for_each(|(o, &v)| *o = widen(v));
}

fn write<T: Element, W: Copy>(bytes: &mut [u8], values: &[W], narrow: impl Fn(W) -> T) {
    let out = bytemuck::cast_slice_mut::<u8, T>(bytes);
    out.iter_mut().zip(values).for_each(|(o, &v)| *o = narrow(v));
}

/// Declares how a calculating type reads and writes the element types that it stands for.
macro_rules! calc {
    ($w:ty: $($d:ident => $t:ty, $widen:expr, $narrow:expr;)*) => {
        impl Calc for $w {
            fn load(dtype: DType, bytes: &[u8], from: usize, out: &mut [Self]) {
                match dtype {
                    $(DType::$d => read::<$t, $w>(bytes, from, out, $widen),)*
                    other => unreachable!("{other} is not calculated in {}", stringify!($w)),
                }
            }
            fn store(dtype: DType, values: &[Self], bytes: &mut [u8]) {
                match dtype {
                    $(DType::$d => write::<$t, $w>(bytes, values, $narrow),)*
                    other => unreachable!("{other} is not calculated in {}", stringify!($w)),
                }
            }
        }
    };
}

calc!(f32:
    F32 => f32, |v| v, |v| v;
    F16 => f16, f16::to_f32, f16::from_f32;
    BF16 => bf16, bf16::to_f32, bf16::from_f32;
    F8E4M3FN => u8, |c| decode(DType::F8E4M3FN, c), |v| encode(DType::F8E4M3FN, v.into(), Rounding::SATURATING);
    F8E4M3FNUZ => u8, |c| decode(DType::F8E4M3FNUZ, c), |v| encode(DType::F8E4M3FNUZ, v.into(), Rounding::SATURATING);
    F8E5M2 => u8, |c| decode(DType::F8E5M2, c), |v| encode(DType::F8E5M2, v.into(), Rounding::SATURATING);
    F8E5M2FNUZ => u8, |c| decode(DType::F8E5M2FNUZ, c), |v| encode(DType::F8E5M2FNUZ, v.into(), Rounding::SATURATING);
    F8E8M0 => u8, |c| decode(DType::F8E8M0, c), |v| encode(DType::F8E8M0, v.into(), Rounding::SATURATING);
    F4E2M1 => u8, |c| decode(DType::F4E2M1, c), |v| encode(DType::F4E2M1, v.into(), Rounding::SATURATING);
);
calc!(f64:
    F64 => f64, |v| v, |v| v;
    F32 => f32, f64::from, |v| v as f32;
    F16 => f16, f16::to_f64, f16::from_f64;
    BF16 => bf16, bf16::to_f64, bf16::from_f64;
);
calc!(i64:
    I64 => i64, |v| v, |v| v;
    I32 => i32, i64::from, |v| v as i32;
    I16 => i16, i64::from, |v| v as i16;
    I8 => i8, i64::from, |v| v as i8;
    U32 => u32, i64::from, |v| v as u32;
    U16 => u16, i64::from, |v| v as u16;
    U8 => u8, i64::from, |v| v as u8;
    Bool => u8, i64::from, |v| u8::from(v != 0);
    I4 => i8, i64::from, i4;
    U4 => u8, i64::from, u4;
    I2 => i8, i64::from, i2;
    U2 => u8, i64::from, u2;
);
calc!(u64:
    U64 => u64, |v| v, |v| v;
    U32 => u32, u64::from, |v| v as u32;
    U16 => u16, u64::from, |v| v as u16;
    U8 => u8, u64::from, |v| v as u8;
);
calc!(u8:
    U8 => u8, |v| v, |v| v;
    Bool => u8, |v| v, |v| v;
);

/// The lowest bits of an integer, as a signed or unsigned number of so many.
const fn i4(v: i64) -> i8 {
    ((v << 4) as i8) >> 4
}

const fn u4(v: i64) -> u8 {
    v as u8 & 0xf
}

const fn i2(v: i64) -> i8 {
    ((v << 6) as i8) >> 6
}

const fn u2(v: i64) -> u8 {
    v as u8 & 0x3
}

/// Writes values of a calculating type to a slice of any element type, as [`cast`] says.
type Narrow<W> = fn(DType, &[W], &mut [u8], Rounding);

/// Declares the conversion from one calculating type to every element type. `as` between numbers does what is wanted:
/// it saturates from floats to integers and wraps between integers.
macro_rules! cast_from {
    ($name:ident, $w:ty, $zero:expr) => {
        fn $name(dtype: DType, values: &[$w], bytes: &mut [u8], rounding: Rounding) {
            match dtype {
                DType::F32 => write(bytes, values, |v| v as f32),
                DType::F64 => write(bytes, values, |v| v as f64),
                DType::F16 => write(bytes, values, |v| f16::from_f64(v as f64)),
                DType::BF16 => write(bytes, values, |v| bf16::from_f64(v as f64)),
                DType::I8 => write(bytes, values, |v| v as i8),
                DType::I16 => write(bytes, values, |v| v as i16),
                DType::I32 => write(bytes, values, |v| v as i32),
                DType::I64 => write(bytes, values, |v| v as i64),
                DType::U8 => write(bytes, values, |v| v as u8),
                DType::U16 => write(bytes, values, |v| v as u16),
                DType::U32 => write(bytes, values, |v| v as u32),
                DType::U64 => write(bytes, values, |v| v as u64),
                DType::Bool => write(bytes, values, |v| u8::from(v != $zero)),
                DType::I4 => write(bytes, values, |v| i4(v as i64)),
                DType::U4 => write(bytes, values, |v| u4(v as i64)),
                DType::I2 => write(bytes, values, |v| i2(v as i64)),
                DType::U2 => write(bytes, values, |v| u2(v as i64)),
                small => write(bytes, values, |v| encode(small, v as f64, rounding)),
            }
        }
    };
}
cast_from!(from_f32, f32, 0.0);
cast_from!(from_f64, f64, 0.0);
cast_from!(from_i64, i64, 0);
cast_from!(from_u64, u64, 0);

/// Converts elements to the type of `y`, which has as many: floats are rounded to nearest even, to integers they are cut
/// towards zero and saturate (NaN gives 0), integers wrap, everything but 0 is true. To integers of 4 and 2 bits floats wrap
/// too, as in the implementation that the standard is tested with.
pub(crate) fn cast(x: TensorRef<'_>, y: &mut TensorMut<'_>) {
    cast_rounded(x, y, Rounding::SATURATING);
}

/// [`cast`] with a choice of what does not fit a float of 8 or 4 bits becomes.
pub(crate) fn cast_rounded(x: TensorRef<'_>, y: &mut TensorMut<'_>, rounding: Rounding) {
    fn through<W: Calc>(
        x: TensorRef<'_>,
        y: &mut TensorMut<'_>,
        rounding: Rounding,
        narrow: Narrow<W>,
    ) {
        let dtype = y.dtype;
        blocks(y, &|start, n, block| {
            let mut values = [W::default(); BLOCK];
            W::load(x.dtype, x.bytes, start, &mut values[..n]);
            narrow(dtype, &values[..n], block, rounding);
        });
    }
    use DType::{Bool, F32, I32, I64, U8};
    match (x.dtype, y.dtype) {
        (Bool | U8, F32) => return straight(x, y, |v: u8| f32::from(v)),
        (I32, F32) => return straight(x, y, |v: i32| v as f32),
        (I64, F32) => return straight(x, y, |v: i64| v as f32),
        (F32, I32) => return straight(x, y, |v: f32| v as i32),
        (F32, I64) => return straight(x, y, |v: f32| v as i64),
        (I32, I64) => return straight(x, y, |v: i32| i64::from(v)),
        (I64, I32) => return straight(x, y, |v: i64| v as i32),
        _ => {}
    }
    match x.dtype {
        same if same == y.dtype => y.bytes.copy_from_slice(x.bytes),
        DType::F64 => through(x, y, rounding, from_f64),
        DType::U64 => through(x, y, rounding, from_u64),
        DType::I4 | DType::U4 | DType::I2 | DType::U2 => through(x, y, rounding, from_i64),
        float if float.is_float() || float.is_compact() => through(x, y, rounding, from_f32),
        _ => through(x, y, rounding, from_i64),
    }
}

/// Converts between two types that are common enough for a loop of their own.
fn straight<X: Element, Y: Element>(
    x: TensorRef<'_>,
    y: &mut TensorMut<'_>,
    f: impl Fn(X) -> Y + Sync,
) {
    let x = x.slice::<X>();
    pieces(y.slice::<Y>(), 1, 1, |start, y| {
        wide(Each { x: &x[start..start + y.len()], y, f: &f });
    });
}

/// Elements that are converted one by one.
struct Each<'a, X, Y, F> {
    x: &'a [X],
    y: &'a mut [Y],
    f: &'a F,
}

impl<X: Copy, Y, F: Fn(X) -> Y> Loop for Each<'_, X, Y, F> {
    #[inline(always)]
    fn run(self) {
        self.y.iter_mut().zip(self.x).for_each(|(y, &x)| *y = (self.f)(x));
    }
}

/// Reads elements `start..start + out.len()` of the result's shape from an operand that broadcasts to it.
fn load_range<W: Calc>(walk: &Broadcast<1>, x: TensorRef<'_>, start: usize, out: &mut [W]) {
    let [stride] = walk.axes()[0].strides;
    let end = start + out.len();
    walk.runs(start, end, |at, len, [from]| {
        let out = &mut out[at - start..at - start + len];
        if stride == 0 {
            let mut one = [W::default()];
            W::load(x.dtype, x.bytes, from, &mut one);
            out.fill(one[0]);
        } else {
            W::load(x.dtype, x.bytes, from, out);
        }
    });
}

/// Calls `work(start, bytes)` for blocks of a result.
fn blocks(y: &mut TensorMut<'_>, work: &(dyn Fn(usize, usize, &mut [u8]) + Sync)) {
    let size = y.dtype.width();
    pieces(y.bytes, size, 1, |at, bytes| {
        for (i, block) in bytes.chunks_mut(BLOCK * size).enumerate() {
            work(at / size + i * BLOCK, block.len() / size, block);
        }
    });
}

/// A kernel over a block of two operands.
pub(crate) type Pairs<'a, W, Y> = &'a (dyn Fn(&[W], &[W], &mut [Y]) + Sync);

/// `y = kernel(x)` for operands of any type that `W` stands for; without blocks where they have the types of the kernel.
/// Functions cost some four additions an element.
pub(crate) fn map_blocks<W: Calc, Y: Calc>(
    x: TensorRef<'_>,
    y: &mut TensorMut<'_>,
    kernel: &(dyn Fn(&[W], &mut [Y]) + Sync),
) {
    if x.dtype == W::DTYPE && y.dtype == Y::DTYPE {
        let x = x.slice::<W>();
        return pieces(y.slice::<Y>(), 1, 4, |start, y| kernel(&x[start..start + y.len()], y));
    }
    let dtype = y.dtype;
    blocks(y, &|start, n, block| {
        let (mut xs, mut ys) = ([W::default(); BLOCK], [Y::default(); BLOCK]);
        W::load(x.dtype, x.bytes, start, &mut xs[..n]);
        kernel(&xs[..n], &mut ys[..n]);
        Y::store(dtype, &ys[..n], block);
    });
}

/// `y = kernel(a, b)` with broadcasting, for operands of any type that `W` stands for.
pub(crate) fn zip_blocks<W: Calc, Y: Calc>(
    a: TensorRef<'_>,
    b: TensorRef<'_>,
    y: &mut TensorMut<'_>,
    kernel: Pairs<'_, W, Y>,
) -> Result<(), OpError> {
    let (walk_a, walk_b) =
        (Broadcast::new(y.shape, [a.shape])?, Broadcast::new(y.shape, [b.shape])?);
    let dtype = y.dtype;
    blocks(y, &|start, n, block| {
        let (mut xs, mut zs) = ([W::default(); BLOCK], [W::default(); BLOCK]);
        let mut ys = [Y::default(); BLOCK];
        load_range(&walk_a, a, start, &mut xs[..n]);
        load_range(&walk_b, b, start, &mut zs[..n]);
        kernel(&xs[..n], &zs[..n], &mut ys[..n]);
        Y::store(dtype, &ys[..n], block);
    });
    Ok(())
}

/// Folds operands that broadcast to `y` from the first to the last with `kernel`, then applies `last`.
pub(crate) fn fold_blocks<W: Calc>(
    operands: &[Option<TensorRef<'_>>],
    y: &mut TensorMut<'_>,
    kernel: &(dyn Fn(&mut [W], &[W]) + Sync),
    last: &(dyn Fn(&mut [W]) + Sync),
) -> Result<(), OpError> {
    for x in operands.iter().flatten() {
        Broadcast::new(y.shape, [x.shape])?;
    }
    let (dtype, shape) = (y.dtype, y.shape);
    blocks(y, &|start, n, block| {
        let (mut so_far, mut next) = ([W::default(); BLOCK], [W::default(); BLOCK]);
        for (i, x) in operands.iter().flatten().enumerate() {
            let walk = Broadcast::new(shape, [x.shape]).expect("checked before the first block");
            if i == 0 {
                load_range(&walk, *x, start, &mut so_far[..n]);
            } else {
                load_range(&walk, *x, start, &mut next[..n]);
                kernel(&mut so_far[..n], &next[..n]);
            }
        }
        last(&mut so_far[..n]);
        W::store(dtype, &so_far[..n], block);
    });
    Ok(())
}
