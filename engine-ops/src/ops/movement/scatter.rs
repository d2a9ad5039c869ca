//! What scatters share: how an update meets the element that is there.

use crate::AttrsExt;
use crate::convert::Calc;
use crate::cpu::{TensorMut, TensorRef};
use crate::dtypes::NUMBERS;
use crate::gpu::elementwise::{INT64, PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, GpuCtx, GpuProgram, position_wgsl, render, words};
use crate::memory::filled;
use crate::ops::elementwise::binary::{self, Wgsl};
use crate::ops::elementwise::variadic;
use crate::strided::{Loop, StridedCopy};
use crate::{OpError, for_dtype, for_size};
use engine_format::{Attrs, DType};
use half::{bf16, f16};

/// How an update meets the element that is there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::ops) enum Reduction {
    None,
    Add,
    Mul,
    Max,
    Min,
}

impl Reduction {
    /// The attribute, for elements that it can be done with.
    pub fn of_elements(attrs: &Attrs, dtype: DType) -> Result<Self, OpError> {
        match Self::of(attrs)? {
            Self::None => Ok(Self::None),
            _ if !NUMBERS.contains(&dtype) => Err(OpError::new(format!(
                "reduction {:?} of {dtype}, expected numbers",
                attrs.str("reduction")
            ))),
            reduction => Ok(reduction),
        }
    }

    pub fn of(attrs: &Attrs) -> Result<Self, OpError> {
        Ok(match attrs.str("reduction") {
            "none" => Reduction::None,
            "add" => Reduction::Add,
            "mul" => Reduction::Mul,
            "max" => Reduction::Max,
            "min" => Reduction::Min,
            other => {
                return Err(OpError::new(format!(
                    "reduction {other:?}, expected \"none\", \"add\", \"mul\", \"max\" or \"min\""
                )));
            }
        })
    }
}

impl Reduction {
    /// The arithmetic in WGSL: `a` is what is there, `b` the update.
    fn wgsl(self) -> Wgsl {
        match self {
            Reduction::None => Wgsl::NONE,
            Reduction::Add => binary::SUM,
            Reduction::Mul => binary::PRODUCT,
            Reduction::Max => variadic::LARGEST,
            Reduction::Min => variadic::SMALLEST,
        }
    }
}

/// Arithmetic of the element types; integers wrap, and NaN stays NaN.
trait Number: Copy {
    fn reduce(self, other: Self, reduction: Reduction) -> Self;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Number for $t {
            fn reduce(self, other: Self, reduction: Reduction) -> Self {
                match reduction {
                    Reduction::None => other,
                    Reduction::Add => self.wrapping_add(other),
                    Reduction::Mul => self.wrapping_mul(other),
                    Reduction::Max => self.max(other),
                    Reduction::Min => self.min(other),
                }
            }
        }
    )*};
}
integers!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! floats {
    ($($t:ty),*) => {$(
        impl Number for $t {
            fn reduce(self, other: Self, reduction: Reduction) -> Self {
                match reduction {
                    Reduction::None => other,
                    Reduction::Add => self + other,
                    Reduction::Mul => self * other,
                    Reduction::Max | Reduction::Min if self.is_nan() => self,
                    Reduction::Max if self >= other => self,
                    Reduction::Min if self <= other => self,
                    Reduction::Max | Reduction::Min => other,
                }
            }
        }
    )*};
}
floats!(f32, f64, f16, bf16);

/// Lets update `i` meet the element at the `i`-th place, in order. Sums and products of small floats are kept in `f32` and rounded once.
pub(in crate::ops) fn scatter(
    reduction: Reduction,
    places: impl Iterator<Item = usize> + Clone,
    updates: TensorRef<'_>,
    out: &mut TensorMut<'_>,
) -> Result<(), OpError> {
    if reduction == Reduction::None {
        for_size!(updates.dtype, T => {
            let out = out.raw::<T>();
            for (at, &update) in places.zip(updates.raw::<T>()) {
                out[at] = update;
            }
        });
        return Ok(());
    }
    let adds = matches!(reduction, Reduction::Add | Reduction::Mul);
    if adds && matches!(updates.dtype, DType::F16 | DType::BF16) {
        return in_f32(reduction, places, updates, out);
    }
    for_dtype!(
        updates.dtype,
        [
            F32 => f32, F64 => f64, F16 => f16, BF16 => bf16, I8 => i8, I16 => i16, I32 => i32, I64 => i64,
            U8 => u8, U16 => u16, U32 => u32, U64 => u64,
        ],
        T => {
            let out = out.slice::<T>();
            for (at, &update) in places.zip(updates.slice::<T>()) {
                out[at] = out[at].reduce(update, reduction);
            }
            Ok(())
        }
    )
}

fn in_f32(
    reduction: Reduction,
    places: impl Iterator<Item = usize> + Clone,
    updates: TensorRef<'_>,
    out: &mut TensorMut<'_>,
) -> Result<(), OpError> {
    let size = out.dtype.width();
    let mut wide = filled(out.bytes.len() / size, 0f32)?;
    f32::load(out.dtype, out.bytes, 0, &mut wide);
    for (i, at) in places.clone().enumerate().take(updates.len()) {
        let mut update = [0f32];
        f32::load(updates.dtype, updates.bytes, i, &mut update);
        wide[at] = wide[at].reduce(update[0], reduction);
    }
    // What met no update stays as it was, to the bit.
    for at in places.take(updates.len()) {
        f32::store(out.dtype, &wide[at..=at], &mut out.bytes[at * size..][..size]);
    }
    Ok(())
}

/// The program that only copies the data.
pub(in crate::ops) fn copied(ctx: &GpuCtx<'_>, label: &'static str) -> Option<GpuProgram> {
    let data = ctx.input(0);
    let whole = StridedCopy::new(0, 0, [Loop { size: data.len(), from: 1, to: 1 }]);
    whole.program(label, data.dtype, ctx.limits)
}

/// What a dispatch over the places in the data that indices mean does there, word by word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Act {
    /// Takes the data's word.
    Read,
    /// Puts the update's word in its place.
    Write,
    /// Says that no update has the place.
    Forget,
    /// Says that an update has the place; of several, the last one.
    Claim,
    /// Puts the update's word in its place if it has that.
    WriteOwn,
}

impl Act {
    /// The statement for word `i` of what lies by the indices, which means word `there` of the data.
    fn wgsl(self) -> &'static str {
        match self {
            Act::Read => "y[i] = x[there];",
            Act::Write => "y[there] = x[i];",
            Act::Forget => "atomicStore(&last[there], 0u);",
            Act::Claim => "atomicMax(&last[there], i + 1u);",
            Act::WriteOwn => "if (atomicLoad(&last[there]) == i + 1u) { y[there] = x[i]; }",
        }
    }

    /// The buffers that it takes, the note of indices outside behind them; what is taken or put is of operand `of`.
    fn binds(self, of: usize) -> Vec<Bind> {
        let (x, indices, y, last) = (Bind::In(of), Bind::In(1), Bind::Out(0), Bind::Scratch(0));
        match self {
            Act::Read | Act::Write => vec![x, indices, y, Bind::Outside],
            Act::Forget | Act::Claim => vec![indices, last, Bind::Outside],
            Act::WriteOwn => vec![x, indices, y, last, Bind::Outside],
        }
    }
}

/// A text that finds the places which indices mean, and what it is given.
pub(in crate::ops) struct Places {
    pub text: &'static str,
    /// The operand that is taken or put.
    pub of: usize,
    /// The indices as the text reads them.
    pub indices: &'static str,
    /// WGSL of what notes indices outside, by its binding.
    pub notes: fn(usize) -> String,
    pub params: Vec<u32>,
    /// See [`Dispatch::rounds`].
    pub rounds: usize,
    /// Words that are taken or put.
    pub n: usize,
}

impl Places {
    /// The dispatch that does this at each of them.
    pub fn dispatch(&self, ctx: &GpuCtx<'_>, label: &'static str, act: Act) -> Dispatch {
        let binds = act.binds(self.of);
        let mut bindings = String::new();
        for (i, bind) in binds.iter().enumerate() {
            let variable = match bind {
                Bind::In(1) => self.indices,
                Bind::In(_) => "var<storage, read> x: array<u32>",
                Bind::Out(_) => "var<storage, read_write> y: array<u32>",
                Bind::Scratch(_) => "var<storage, read_write> last: array<atomic<u32>>",
                Bind::Outside => continue,
            };
            bindings += &format!("@group(0) @binding({i}) {variable};\n");
        }
        bindings += &format!("@group(0) @binding({}) var<uniform> params: Params;", binds.len());
        let notes = (self.notes)(binds.len() - 1);
        let parts = [("bindings", &*bindings), ("notes", &notes), ("act", act.wgsl())];
        Dispatch {
            rounds: self.rounds,
            label: label.into(),
            wgsl: render(self.text, &parts).into(),
            binds,
            params: self.params.clone(),
            groups: ctx.limits.linear(self.n, 256),
        }
    }

    /// Puts words in their places in the result that `program` makes, the last one of several as on the CPU, whichever invocation comes first:
    /// so each claims its place before, unless all places are `apart`.
    pub fn replace(
        &self,
        mut program: GpuProgram,
        ctx: &GpuCtx<'_>,
        label: &'static str,
        apart: bool,
    ) -> Option<GpuProgram> {
        let acts: &[Act] = match apart {
            true => &[Act::Write],
            false => &[Act::Forget, Act::Claim, Act::WriteOwn],
        };
        program.dispatches.extend(acts.iter().map(|&act| self.dispatch(ctx, label, act)));
        if !apart {
            let y = ctx.output();
            program.scratch.push(y.len() * words(y.dtype)?);
        }
        Some(program)
    }
}

/// The program that copies the data and then makes the updates; `None` if either is not for the GPU.
pub(in crate::ops) fn over_data(
    ctx: &GpuCtx<'_>,
    label: &'static str,
    updates: Option<Dispatch>,
) -> Option<GpuProgram> {
    let mut program = copied(ctx, label)?;
    program.dispatches.push(updates?);
    Some(program)
}

/// Axes that the shader of reductions has room for.
const GPU_AXES: usize = 8;

/// Rounds the targets of a worker, after all of their updates.
const FINISH: &str = "for (var n = 0u; n < params.count; n++) {
        let place = goal(starts.y, n);
        if (place / params.unit % params.workers == worker) {
            let there = starts.z + place;
            y[there] = {{rounded}};
        }
    }";

/// Invocations that keep a GPU busy.
const GPU_BUSY: usize = 4096;

/// Updates as lines: those of one line meet elements that no other line's do, one after the other in their order. Distances count
/// elements.
pub(in crate::ops) struct Lines {
    /// Axes over all lines, the innermost first: size, and distances in the updates, the indices and the data.
    pub axes: Vec<[usize; 4]>,
    /// Updates of a line.
    pub count: usize,
    /// From one update of a line to the next.
    pub update_step: usize,
    /// From one tuple of indices of a line to the next.
    pub index_step: usize,
    /// What the indices of a tuple stand for: size of an axis of the data, distance along it.
    pub tuple: Vec<[usize; 2]>,
}

impl Lines {
    /// The dispatch that lets the updates meet what is there. Several invocations share a line where there are few: each follows
    /// all of its updates and makes those of its own targets, so that the order of additions is the CPU's.
    pub fn dispatch(
        &self,
        ctx: &GpuCtx<'_>,
        label: &'static str,
        reduction: Reduction,
    ) -> Option<Dispatch> {
        let (data, updates, which) = (ctx.input(0), ctx.input(2), ctx.input(1));
        let dtype = data.dtype;
        let (word, text) = (element_type(dtype)?, reduction.wgsl().of(dtype)?);
        let largest = data.len().max(updates.len()).max(which.len());
        let full = self.axes.len() > GPU_AXES || self.tuple.len() > GPU_AXES;
        if full || i32::try_from(largest * 2).is_err() {
            return None;
        }
        let lines: usize = self.axes.iter().map(|axis| axis[0]).product();
        let targets: usize = self.tuple.iter().map(|axis| axis[0]).product();
        // Updates without a target are an error, which the CPU gives.
        if [lines, targets, self.count].contains(&0) {
            return None;
        }
        let workers = (GPU_BUSY / lines).clamp(1, targets.min(self.count));
        let unit = self.tuple.iter().map(|axis| axis[1]).min().unwrap_or(1);
        let numbers = [
            lines,
            workers,
            self.count,
            unit,
            self.axes.len(),
            self.update_step,
            self.index_step,
            self.tuple.len(),
            words(which.dtype)?,
            0,
            0,
            0,
        ];
        let mut params = numbers.map(|n| n as u32).to_vec();
        params.extend(self.axes.iter().flatten().map(|&n| n as u32));
        params.resize(numbers.len() + 4 * GPU_AXES, 0);
        let tuple = self.tuple.iter().flat_map(|&[size, distance]| [size, distance, 0, 0]);
        params.extend(tuple.map(|n| n as u32));
        params.resize(numbers.len() + 8 * GPU_AXES, 0);
        let adds = matches!(reduction, Reduction::Add | Reduction::Mul);
        let sums_small = adds && matches!(dtype, DType::F16 | DType::BF16);
        let rounds = self.count * (1 + self.tuple.len());
        let finish = FINISH.replace("{{rounded}}", &rounded(dtype, "y[there]"));
        let wgsl = render(
            include_str!("scatter.wgsl"),
            &[
                ("functions", &[PRELUDE, INT64].concat()),
                ("word", word),
                ("joined", text),
                ("finish", if sums_small { &finish } else { "" }),
                ("position", &position_wgsl(3)),
            ],
        );
        Some(Dispatch {
            rounds: GPU_AXES + rounds * (1 + usize::from(sums_small)),
            label: label.into(),
            wgsl: wgsl.into(),
            binds: vec![Bind::In(2), Bind::In(1), Bind::Out(0), Bind::Outside],
            params,
            groups: ctx.limits.linear(lines * workers, 64),
        })
    }
}
