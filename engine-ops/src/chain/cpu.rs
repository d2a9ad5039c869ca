//! Stages on the CPU, over blocks that stay in the first cache.

use super::{MOST_STAGES, Pair, Stage, stages};
use crate::OpError;
use crate::broadcast::Broadcast;
use crate::cpu::TensorRef;
use crate::kernels::nchwc::Activation;
use crate::wide::{Loop, wide};
use engine_format::Attrs;

/// Elements that all stages are applied to before the next ones are looked at.
const BLOCK: usize = 512;

/// A stage with its operand.
#[expect(
    clippy::large_enum_variant,
    reason = "a chain is on the stack for one call; boxes would allocate"
)]
enum Bound<'a> {
    Function(&'static str, fn(&[f32], &mut [f32], [f32; 3]), [f32; 3]),
    Pair(&'static Pair, Broadcast<1>, &'a [f32]),
}

/// The stages of one call. Every element goes through the same operations wherever the runs that it is part of begin and
/// end, so that results depend neither on threads nor on tiles.
pub(crate) struct Chain<'a> {
    stages: [Option<Bound<'a>>; MOST_STAGES],
}

impl<'a> Chain<'a> {
    /// The stages of a node whose result has the shape `out`, or `None` if it has none. `operands` are those after the
    /// operator's own.
    pub(crate) fn new(
        attrs: &Attrs,
        operands: &[Option<TensorRef<'a>>],
        out: &[usize],
    ) -> Result<Option<Self>, OpError> {
        let stated = stages(attrs)?;
        if stated[0].is_none() {
            return Ok(None);
        }
        let mut bound = [const { None }; MOST_STAGES];
        for (slot, stage) in bound.iter_mut().zip(stated.into_iter().flatten()) {
            *slot = Some(match stage {
                Stage::Function(name, function, scalars) => {
                    Bound::Function(name, function.block, scalars)
                }
                Stage::Pair(pair, at) => {
                    let operand = operands.get(at).copied().flatten();
                    let operand = operand.ok_or_else(|| {
                        OpError::new(format!("operand {at} of the stages is missing"))
                    })?;
                    let walk = Broadcast::new(out, [operand.shape])?;
                    Bound::Pair(pair, walk, operand.slice::<f32>())
                }
            });
        }
        Ok(Some(Self { stages: bound }))
    }

    /// Takes off the first stages, as far as they are what kernels do to sums in registers; the bits are the same.
    pub(crate) fn take_activation(&mut self) -> Activation {
        let one = |at: usize, wanted: &str| match self.stages.get(at)?.as_ref()? {
            Bound::Pair(pair, _, [bound]) if pair.name == wanted => Some(*bound),
            _ => None,
        };
        let (activation, taken) = match (&self.stages[0], one(0, "AtLeast"), one(0, "AtMost")) {
            (Some(Bound::Function("Relu", ..)), ..) => (Activation::Clamp(0.0, f32::INFINITY), 1),
            (Some(Bound::Function("HardSwish", ..)), ..) => (Activation::HardSwish, 1),
            (_, Some(low), _) => match one(1, "AtMost") {
                Some(high) => (Activation::Clamp(low, high), 2),
                None => (Activation::Clamp(low, f32::INFINITY), 1),
            },
            (_, _, Some(high)) => (Activation::Clamp(f32::NEG_INFINITY, high), 1),
            _ => (Activation::Identity, 0),
        };
        self.stages[..taken].fill_with(|| None);
        self.stages.rotate_left(taken);
        activation
    }

    /// Whether no stage is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.stages[0].is_none()
    }

    /// Applies all stages to the elements of the result from number `start` on.
    pub(crate) fn apply(&self, start: usize, run: &mut [f32]) {
        let mut before = [0.0f32; BLOCK];
        for (i, block) in run.chunks_mut(BLOCK).enumerate() {
            let start = start + i * BLOCK;
            for stage in self.stages.iter().map_while(Option::as_ref) {
                match stage {
                    Bound::Function(_, function, scalars) => {
                        let before = &mut before[..block.len()];
                        before.copy_from_slice(block);
                        function(before, block, *scalars);
                    }
                    Bound::Pair(pair, walk, operand) => {
                        let [stride] = walk.axes()[0].strides;
                        walk.runs(start, start + block.len(), |at, len, [from]| {
                            let read = if stride == 0 { 1 } else { len };
                            let part = &mut block[at - start..at - start + len];
                            (pair.block)(part, &operand[from..from + read]);
                        });
                    }
                }
            }
        }
    }
}

/// Changes elements by an operand that has as many, or one.
struct Change<'a, F> {
    x: &'a mut [f32],
    b: &'a [f32],
    f: F,
}

impl<F: Fn(f32, f32) -> f32> Loop for Change<'_, F> {
    #[inline(always)]
    fn run(self) {
        match *self.b {
            [b] => self.x.iter_mut().for_each(|x| *x = (self.f)(*x, b)),
            _ => self.x.iter_mut().zip(self.b).for_each(|(x, &b)| *x = (self.f)(*x, b)),
        }
    }
}

/// Declares the loop of a pair.
macro_rules! pair {
    ($name:ident, |$x:ident, $b:ident| $y:expr) => {
        pub(super) fn $name(x: &mut [f32], b: &[f32]) {
            wide(Change { x, b, f: |$x: f32, $b: f32| $y });
        }
    };
}
pair!(add, |x, b| x + b);
pair!(sub, |x, b| x - b);
pair!(sub_from, |x, b| b - x);
pair!(mul, |x, b| x * b);
pair!(div, |x, b| x / b);
pair!(div_into, |x, b| b / x);
pair!(prelu, |x, b| if x < 0.0 { b * x } else { x });
pair!(at_least, |x, b| if x < b { b } else { x });
pair!(at_most, |x, b| if x > b { b } else { x });
pair!(replace, |x, b| if b.is_nan() { x } else { b });
