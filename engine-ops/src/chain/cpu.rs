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
    Pair(&'static Pair, Walk, TensorRef<'a>),
}

/// Where the elements of an operand are.
enum Walk {
    /// In runs, or one for a whole run.
    Runs(Broadcast<1>),
    /// As many over and over along each run; so many runs of a few elements would take longer than what is done to them.
    Cycles(Broadcast<1>, usize),
}

impl Walk {
    fn new(out: &[usize], operand: &[usize]) -> Result<Self, OpError> {
        let walk = Broadcast::new(out, [operand])?;
        Ok(walk.cycled().map_or(Self::Runs(walk), |(walk, period)| Self::Cycles(walk, period)))
    }

    /// Calls `work` with parts of elements `start..start + block.len()` of the result, at most [`BLOCK`], and of the operand, which
    /// has as many or one.
    #[inline(always)]
    fn zip(&self, start: usize, block: &mut [f32], operand: &[f32], work: fn(&mut [f32], &[f32])) {
        let end = start + block.len();
        match self {
            Self::Runs(walk) => {
                let [stride] = walk.axes()[0].strides;
                walk.runs(start, end, |at, len, [from]| {
                    let read = if stride == 0 { 1 } else { len };
                    work(&mut block[at - start..at - start + len], &operand[from..from + read]);
                });
            }
            Self::Cycles(walk, period) => walk.runs(start, end, |at, len, [from]| {
                let (mut cycles, cycle) = ([0.0; BLOCK], &operand[from..from + period]);
                let phase = at % period;
                cycles[..period - phase].copy_from_slice(&cycle[phase..]);
                cycles[period - phase..*period].copy_from_slice(&cycle[..phase]);
                let mut filled = *period;
                while filled < len {
                    let more = filled.min(BLOCK - filled);
                    cycles.copy_within(..more, filled);
                    filled += more;
                }
                work(&mut block[at - start..at - start + len], &cycles[..len]);
            }),
        }
    }
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
                    Bound::Pair(pair, Walk::new(out, operand.shape)?, operand)
                }
            });
        }
        Ok(Some(Self { stages: bound }))
    }

    /// Takes off the first stage if it is this pair and its operand has the same elements for every position of a result in blocks
    /// of channels of this shape, and gives them for every lane.
    pub(crate) fn take_lanes(&mut self, wanted: &str, out: &[usize]) -> Option<&'a [f32]> {
        let [_, blocks, _, _, block] = *out else { return None };
        let Some(Bound::Pair(pair, _, operand)) = &self.stages[0] else { return None };
        let lanes = (pair.name == wanted && *operand.shape == [1, blocks, 1, 1, block])
            .then(|| operand.slice::<f32>())?;
        self.drop_first(1);
        Some(lanes)
    }

    /// Takes off the first stages, as far as they are what kernels do to sums in registers; the bits are the same.
    pub(crate) fn take_activation(&mut self) -> Activation {
        let one = |at: usize, wanted: &str| match self.stages.get(at)?.as_ref()? {
            Bound::Pair(pair, _, operand) if pair.name == wanted => match operand.slice::<f32>() {
                [bound] => Some(*bound),
                _ => None,
            },
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
        self.drop_first(taken);
        activation
    }

    fn drop_first(&mut self, stages: usize) {
        self.stages[..stages].fill_with(|| None);
        self.stages.rotate_left(stages);
    }

    /// Whether no stage is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.stages[0].is_none()
    }

    /// Applies all stages to the elements of the result from number `start` on.
    pub(crate) fn apply(&self, start: usize, run: &mut [f32]) {
        // What a block was is kept beside it; clearing a long block's place would take longer than a short one.
        const SHORT: usize = 32;
        match run.len() <= SHORT {
            true => self.apply_by::<SHORT>(start, run),
            false => self.apply_by::<BLOCK>(start, run),
        }
    }

    /// The same in blocks of `LEN` elements.
    fn apply_by<const LEN: usize>(&self, start: usize, run: &mut [f32]) {
        let mut before = [0.0f32; LEN];
        for (i, block) in run.chunks_mut(LEN).enumerate() {
            let start = start + i * LEN;
            for stage in self.stages.iter().map_while(Option::as_ref) {
                match stage {
                    Bound::Function(_, function, scalars) => {
                        let before = &mut before[..block.len()];
                        before.copy_from_slice(block);
                        function(before, block, *scalars);
                    }
                    Bound::Pair(pair, walk, operand) => {
                        walk.zip(start, block, operand.slice::<f32>(), pair.block);
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

#[cfg(test)]
mod tests {
    use super::*;
    use engine_format::{Attr, DType};

    /// Operands that are repeated along any axes, over runs that begin and end anywhere.
    #[test]
    fn every_element_meets_its_own_element_of_an_operand() {
        let out = [2, 3, 5, 7, 16];
        let len: usize = out.iter().product();
        let data: Vec<f32> = (0..len).map(|i| (i % 1009) as f32).collect();
        let attrs = Attrs::from([("stages".to_owned(), Attr::Strs(vec!["Add".to_owned()]))]);
        for shape in [
            [1, 3, 1, 1, 16],
            [2, 3, 1, 1, 16],
            [1, 1, 1, 1, 16],
            [1, 1, 1, 7, 16],
            [2, 3, 5, 7, 16],
            [1, 3, 5, 1, 1],
            [1, 1, 1, 1, 1],
        ] {
            let read = &data[..shape.iter().product()];
            let bytes = bytemuck::cast_slice(read);
            let operand = TensorRef { dtype: DType::F32, shape: &shape, bytes };
            let chain = Chain::new(&attrs, &[Some(operand)], &out).unwrap().unwrap();
            let expected = |element: usize| {
                let (mut rest, mut at, mut step) = (element, 0, 1);
                for (&size, &dim) in out.iter().zip(&shape).rev() {
                    at += if dim == 1 { 0 } else { rest % size * step };
                    (rest, step) = (rest / size, step * dim);
                }
                read[at] + element as f32
            };
            for (start, end) in [(0, len), (16, 48), (5, 700), (559, 2050), (len - 1, len)] {
                let mut run: Vec<f32> = (start..end).map(|element| element as f32).collect();
                chain.apply(start, &mut run);
                for (element, found) in (start..end).zip(run) {
                    assert_eq!(found, expected(element), "{shape:?}: {element} from {start}");
                }
            }
        }
    }
}
