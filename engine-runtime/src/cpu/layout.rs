//! The layouts of a segment's values on the CPU: images between convolutions have their channels in blocks.
//!
//! The rewrite follows the steps in order. A convolution leads: its result lies in blocks, whatever it was given. What comes after
//! it follows as long as its row says how ([`layout::blocked`]), and where it cannot, the value is put back into rows once. So between
//! two convolutions there is no reorder, and a chain of them has one at its end.

use crate::plan::{Buffer, Operand, Output, Place, Segment, Step};
use engine_format::{Attr, Attrs};
use engine_ops::OpDef;
use engine_ops::cpu::{CpuShapes, TensorMeta};
use engine_ops::{Blocked, Takes, layout};
use std::collections::HashMap;
use std::sync::Arc;

/// The segment with its values laid out for the kernels, or `None` if they lie well as they are.
pub(super) fn physical(segment: &Segment) -> Option<Segment> {
    let blocked: Vec<Option<Blocked>> = segment.steps.iter().map(blocked).collect();
    if !blocked.iter().flatten().any(|blocked| blocked.leads) {
        return None;
    }
    let mut rewrite = Rewrite {
        values: segment.buffers.iter().map(|b| Value::new(b.meta.clone())).collect(),
        reordered: HashMap::new(),
        steps: Vec::new(),
        buffers: Vec::new(),
    };
    for (step, blocked) in segment.steps.iter().zip(blocked) {
        match blocked.filter(|blocked| blocked.leads || rewrite.follows(step, blocked)) {
            Some(blocked) => rewrite.in_blocks(step, &blocked),
            None => rewrite.in_rows(step),
        }
    }
    let mut kept = |operands: &[Operand]| {
        let read = |operand| {
            let operand = rewrite.rows(operand, "");
            if let Place::Buffer(b) = operand.place {
                rewrite.buffers[b].kept = true;
            }
            operand
        };
        operands.iter().map(read).collect::<Vec<_>>()
    };
    let (host, carry) = (kept(&segment.host), kept(&segment.carry));
    let Rewrite { steps, buffers, .. } = rewrite;
    Some(Segment {
        steps,
        buffers,
        constants: segment.constants.clone(),
        host,
        carry,
        end: segment.end,
    })
}

fn blocked(step: &Step) -> Option<Blocked> {
    let (inputs, outputs) = (step.input_metas(), step.output_metas());
    let (attrs, values) = (&step.attrs, &step.input_values());
    let shapes = CpuShapes { attrs, inputs: &inputs, values, outputs: &outputs };
    layout::blocked(step.def, &step.attrs, &shapes)
}

/// Where a buffer of the segment is now.
struct Value {
    /// As the segment says it is written.
    meta: TensorMeta,
    rows: Option<usize>,
    blocks: Option<usize>,
}

impl Value {
    fn new(meta: TensorMeta) -> Self {
        Self { meta, rows: None, blocks: None }
    }
}

struct Rewrite {
    values: Vec<Value>,
    /// Blocks of what is no buffer, by place and shape.
    reordered: HashMap<(Place, Vec<usize>), usize>,
    steps: Vec<Step>,
    buffers: Vec<Buffer>,
}

impl Rewrite {
    /// Whether a step that is given images in blocks should go on with them.
    fn follows(&self, step: &Step, blocked: &Blocked) -> bool {
        let mut images =
            step.inputs.iter().zip(&blocked.takes).filter(|(_, t)| **t == Takes::Blocks);
        images.any(|(operand, _)| {
            operand.as_ref().is_some_and(|o| self.in_blocks_already(o).is_some())
        })
    }

    /// The buffer that holds an operand in blocks.
    fn in_blocks_already(&self, operand: &Operand) -> Option<usize> {
        let Place::Buffer(b) = operand.place else { return None };
        let value = &self.values[b];
        value.blocks.filter(|_| value.meta == operand.meta)
    }

    fn in_rows(&mut self, step: &Step) {
        let read = |operand: &Option<Operand>| Some(self.rows(operand.as_ref()?, &step.path));
        let inputs = step.inputs.iter().map(read).collect();
        let mut outputs = Vec::new();
        for output in &step.outputs {
            let written = output.as_ref().map(|output| {
                let buffer = self.buffer(output.meta.clone());
                self.values[output.buffer].rows = Some(buffer);
                Output { buffer, meta: output.meta.clone() }
            });
            outputs.push(written);
        }
        self.push(Step { inputs, outputs, ..step.clone() });
    }

    fn in_blocks(&mut self, step: &Step, blocked: &Blocked) {
        let result = step.outputs[0].as_ref().expect("the first result is never omitted");
        let mut inputs = Vec::new();
        for (operand, takes) in step.inputs.iter().zip(&blocked.takes) {
            let read = operand.as_ref().map(|operand| match takes {
                Takes::Rows => self.rows(operand, &step.path),
                Takes::Blocks => self.blocks(operand, &step.path),
                Takes::Either if self.in_blocks_already(operand).is_some() => {
                    self.blocks(operand, &step.path)
                }
                Takes::Either => self.rows(operand, &step.path),
                Takes::Broadcast => self.broadcast(operand, &step.path),
            });
            inputs.push(read);
        }
        let shape = layout::blocks(&result.meta.shape).expect("only images lie in blocks");
        let meta = TensorMeta { dtype: result.meta.dtype, shape };
        let buffer = self.buffer(meta.clone());
        self.values[result.buffer].blocks = Some(buffer);
        self.push(Step {
            def: blocked.def,
            attrs: blocked.attrs.clone(),
            path: step.path.clone(),
            inputs,
            outputs: vec![Some(Output { buffer, meta })],
        });
    }

    /// The operand, row-major.
    fn rows(&mut self, operand: &Operand, path: &str) -> Operand {
        let Place::Buffer(b) = operand.place else { return operand.clone() };
        let Value { meta, rows, blocks } = &self.values[b];
        let at = match (rows, blocks) {
            (Some(rows), _) => *rows,
            (None, Some(blocks)) if layout::same_bytes(&meta.shape) => *blocks,
            (None, Some(blocks)) => {
                let (blocks, meta) = (*blocks, meta.clone());
                let from = Operand {
                    place: Place::Buffer(blocks),
                    meta: self.buffers[blocks].meta.clone(),
                    value: None,
                };
                let channels =
                    Attrs::from([("channels".to_owned(), Attr::Int(meta.shape[1] as i64))]);
                let rows = self.reorder(layout::reorder(false), channels, from, meta, path);
                self.values[b].rows = Some(rows);
                rows
            }
            (None, None) => unreachable!("a buffer is written before it is read"),
        };
        self.reading(Operand { place: Place::Buffer(at), ..operand.clone() })
    }

    /// The operand, an image, in blocks.
    fn blocks(&mut self, operand: &Operand, path: &str) -> Operand {
        let image = with_four_axes(&operand.meta);
        let shape = layout::blocks(&image.shape).expect("an image has four axes");
        let meta = TensorMeta { dtype: image.dtype, shape };
        if let Some(b) = self.in_blocks_already(operand) {
            return self.reading(Operand { place: Place::Buffer(b), meta, value: None });
        }
        if layout::same_bytes(&image.shape) {
            return Operand { meta, value: None, ..self.rows(operand, path) };
        }
        let key = (operand.place, image.shape.clone());
        let at = match self.reordered.get(&key) {
            Some(&at) => at,
            None => {
                let from = Operand { meta: image, value: None, ..self.rows(operand, path) };
                let at =
                    self.reorder(layout::reorder(true), Attrs::new(), from, meta.clone(), path);
                self.reordered.insert(key, at);
                at
            }
        };
        self.reading(Operand { place: Place::Buffer(at), meta, value: None })
    }

    /// The operand as it broadcasts to an image in blocks.
    fn broadcast(&mut self, operand: &Operand, path: &str) -> Operand {
        match with_four_axes(&operand.meta).shape[..] {
            [n, 1, h, w] => {
                let meta = TensorMeta { dtype: operand.meta.dtype, shape: vec![n, 1, h, w, 1] };
                Operand { meta, value: None, ..self.rows(operand, path) }
            }
            _ => self.blocks(operand, path),
        }
    }

    fn reorder(
        &mut self,
        def: &'static OpDef,
        attrs: Attrs,
        from: Operand,
        meta: TensorMeta,
        path: &str,
    ) -> usize {
        let from = self.reading(from);
        let buffer = self.buffer(meta.clone());
        self.push(Step {
            def,
            attrs: Arc::new(attrs),
            path: path.into(),
            inputs: vec![Some(from)],
            outputs: vec![Some(Output { buffer, meta })],
        });
        buffer
    }

    /// A buffer that the next step writes.
    fn buffer(&mut self, meta: TensorMeta) -> usize {
        let step = self.steps.len();
        self.buffers.push(Buffer { meta, first: step, last: step, kept: false });
        self.buffers.len() - 1
    }

    /// Notes that the next step, or one after it, reads the operand.
    fn reading(&mut self, operand: Operand) -> Operand {
        if let Place::Buffer(b) = operand.place {
            let last = &mut self.buffers[b].last;
            *last = (*last).max(self.steps.len());
        }
        operand
    }

    fn push(&mut self, step: Step) {
        let at = self.steps.len();
        for input in step.inputs.iter().flatten() {
            if let Place::Buffer(b) = input.place {
                let last = &mut self.buffers[b].last;
                *last = (*last).max(at);
            }
        }
        for output in step.outputs.iter().flatten() {
            let buffer = &mut self.buffers[output.buffer];
            (buffer.first, buffer.last) = (at, at);
        }
        self.steps.push(step);
    }
}

/// The same elements with axes of one in front, so that there are four.
fn with_four_axes(meta: &TensorMeta) -> TensorMeta {
    let mut shape = vec![1; 4usize.saturating_sub(meta.shape.len())];
    shape.extend(&meta.shape);
    TensorMeta { dtype: meta.dtype, shape }
}
