//! Collecting the steps of a segment: what is not needed falls out, what is gets its place.

use super::item::{Call, Origin, Val};
use super::{Buffer, Constant, End, Operand, Output, Place, Segment, Step};
use crate::limits::MemoryLimits;
use engine_format::ValueId;
use engine_ops::cpu::TensorMeta;
use std::collections::BTreeMap;

/// A segment being collected.
pub(crate) struct Builder {
    limits: MemoryLimits,
    steps: Vec<Draft>,
    /// The step that writes each buffer, and the type it writes.
    buffers: Vec<(usize, TensorMeta)>,
}

struct Draft {
    step: Step,
    inputs: Vec<Option<Val>>,
    outputs: Vec<Option<usize>>,
}

impl Builder {
    pub fn new(limits: MemoryLimits) -> Self {
        Self { limits, steps: Vec::new(), buffers: Vec::new() }
    }

    /// What results may take.
    pub fn limits(&self) -> MemoryLimits {
        self.limits
    }

    /// Number of steps so far, also of those that nothing may need.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Adds a kernel call and gives its results. The first is written even if nobody asked for it.
    pub fn step(
        &mut self,
        call: &Call<'_>,
        inputs: Vec<Option<Val>>,
        results: Vec<TensorMeta>,
    ) -> Vec<Option<Val>> {
        let index = self.steps.len();
        let mut vals = Vec::new();
        let mut outputs = Vec::new();
        for (i, meta) in results.into_iter().take(call.asked.len().max(1)).enumerate() {
            let asked = i == 0 || call.asked[i];
            outputs.push(asked.then_some(self.buffers.len()));
            vals.push(asked.then(|| Val::new(Origin::Buffer(self.buffers.len()), meta.clone())));
            if asked {
                self.buffers.push((index, meta));
            }
        }
        let step = Step {
            def: call.def,
            attrs: call.attrs.clone(),
            path: call.path.clone(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        self.steps.push(Draft { step, inputs, outputs });
        vals
    }

    /// Keeps the steps that lead to `host` or `carry` and plans the buffers' lives.
    pub fn finish(self, host: &[Val], carry: &[Val], suspended: bool) -> Segment {
        let needed = self.needed(host.iter().chain(carry));
        let mut out = Finisher {
            at: vec![None; self.buffers.len()],
            constants: Vec::new(),
            interned: BTreeMap::new(),
            buffers: Vec::new(),
        };
        let mut steps = Vec::new();
        for draft in self.steps {
            if !draft.outputs.iter().flatten().any(|&b| needed[b]) {
                continue;
            }
            let index = steps.len();
            let inputs = draft.inputs.iter().map(|i| i.as_ref().map(|v| out.read(v, Some(index))));
            let inputs = inputs.collect();
            let mut outputs = Vec::new();
            // Those that nobody reads keep their places: an operator may count its results.
            for (i, buffer) in draft.outputs.iter().enumerate() {
                let kept = buffer.filter(|&b| i == 0 || needed[b]);
                outputs.push(kept.map(|b| out.write(b, self.buffers[b].1.clone(), index)));
            }
            steps.push(Step { inputs, outputs, ..draft.step });
        }
        let host = host.iter().map(|v| out.read(v, None)).collect();
        let carry = carry.iter().map(|v| out.read(v, None)).collect();
        let end = if suspended { End::Suspend } else { End::Done };
        Segment { steps, buffers: out.buffers, constants: out.constants, host, carry, end }
    }

    /// Which buffers lead to `roots`.
    fn needed<'a>(&self, roots: impl Iterator<Item = &'a Val>) -> Vec<bool> {
        let mut needed = vec![false; self.buffers.len()];
        let mark = |needed: &mut Vec<bool>, val: &Val| {
            if let Origin::Buffer(b) = val.origin {
                needed[b] = true;
            }
        };
        roots.for_each(|val| mark(&mut needed, val));
        for draft in self.steps.iter().rev() {
            if draft.outputs.iter().flatten().any(|&b| needed[b]) {
                draft.inputs.iter().flatten().for_each(|val| mark(&mut needed, val));
            }
        }
        needed
    }
}

struct Finisher {
    /// Where a collected buffer went.
    at: Vec<Option<usize>>,
    constants: Vec<Constant>,
    /// Constants by the memory they share: views of one constant are one constant.
    interned: BTreeMap<(usize, usize), usize>,
    buffers: Vec<Buffer>,
}

impl Finisher {
    /// The operand `val`, read by a step or, without one, at the end.
    fn read(&mut self, val: &Val, step: Option<usize>) -> Operand {
        let place = match val.origin {
            Origin::Input(i) => Place::Input(i),
            Origin::Resident(id) => Place::Resident(id),
            Origin::Carried(i) => Place::Carried(i),
            Origin::Known(literal) => Place::Constant(self.constant(literal, val)),
            Origin::Buffer(b) => {
                let b = self.at[b].expect("a buffer is written by a needed step before it is read");
                let buffer = &mut self.buffers[b];
                match step {
                    Some(step) => buffer.last = step,
                    None => buffer.kept = true,
                }
                Place::Buffer(b)
            }
        };
        Operand { place, meta: val.meta.clone(), value: val.value.clone() }
    }

    fn constant(&mut self, literal: Option<ValueId>, val: &Val) -> usize {
        let tensor = val.value.as_ref().expect("a known value has contents");
        let key = (tensor.bytes().as_ptr().addr(), tensor.bytes().len());
        *self.interned.entry(key).or_insert_with(|| {
            self.constants.push(Constant { literal, tensor: tensor.clone() });
            self.constants.len() - 1
        })
    }

    fn write(&mut self, buffer: usize, meta: TensorMeta, step: usize) -> Output {
        let index = self.buffers.len();
        self.at[buffer] = Some(index);
        self.buffers.push(Buffer { meta: meta.clone(), first: step, last: step, kept: false });
        Output { buffer: index, meta }
    }
}
