//! Boxes that do not overlap better ones.

use crate::AttrsExt;
use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::infer::{Facts, InferCtx, InferError};
use crate::memory::collected;
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand};
use engine_format::{DType, Tensor};

pub static NON_MAX_SUPPRESSION: OpDef = OpDef {
    name: "NonMaxSuppression",
    doc: "For each batch and class, the boxes by falling score, without those whose overlap with a better one (intersection \
          over union) is above `iou_threshold`, whose score is not above `score_threshold`, or that come after the first \
          `max_output_boxes_per_class`: rows of batch, class, box.",
    onnx: &[OnnxName::since("NonMaxSuppression", 10)],
    attrs: &[AttrDef::int("center_point_box", 0)],
    inputs: &[
        Operand::data("boxes").of(&[DType::F32]).shaped("batch boxes 4"),
        Operand::data("scores").of(&[DType::F32]).shaped("batch classes boxes"),
        Operand::opt_data("max_output_boxes_per_class").of(&[DType::I64]),
        Operand::opt_data("iou_threshold").of(&[DType::F32]),
        Operand::opt_data("score_threshold").of(&[DType::F32]),
    ],
    outputs: &["selected_indices"],
    infer,
    cpu: Cpu::Dynamic(run),
    cases: || {
        let boxes = [0.0f32, 0.0, 1.0, 1.0, 0.0, 0.1, 1.0, 1.1, 0.0, 10.0, 1.0, 11.0];
        let inputs = vec![
            Tensor::from_slice(&[1, 3, 4], &boxes),
            Tensor::from_slice(&[1, 1, 3], &[0.9f32, 0.75, 0.95]),
            Tensor::from_slice(&[1], &[3i64]),
            Tensor::from_slice(&[1], &[0.5f32]),
            Tensor::from_slice(&[1], &[0.0f32]),
        ];
        vec![
            Case::new("two of three", inputs)
                .expect(vec![Tensor::from_slice(&[2, 3], &[0i64, 0, 2, 0, 0, 0])]),
        ]
    },
    ..OpDef::BASE
};

fn infer(_: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    Err(InferError::DataDependent)
}

/// A box by its lower and upper corner.
struct Corners([f32; 4]);

impl Corners {
    fn new(given: &[f32], centred: bool) -> Self {
        let [a, b, c, d] = [given[0], given[1], given[2], given[3]];
        Self(match centred {
            true => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
            // Any two opposite corners may be given.
            false => [a.min(c), b.min(d), a.max(c), b.max(d)],
        })
    }

    fn area(&self) -> f32 {
        (self.0[2] - self.0[0]) * (self.0[3] - self.0[1])
    }

    fn overlap(&self, other: &Self) -> f32 {
        let (a, b) = (self.0, other.0);
        let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
        let shared = side(0) * side(1);
        let union = self.area() + other.area() - shared;
        if union <= 0.0 { 0.0 } else { shared / union }
    }
}

fn run(ctx: &CpuCtx<'_>) -> Result<Vec<Tensor>, OpError> {
    let (boxes, scores) = (ctx.input(0), ctx.input(1));
    let (&[batches, count, 4], &[_, classes, _]) = (boxes.shape, scores.shape) else {
        return Err(OpError::new(format!(
            "boxes have shape {:?} and scores {:?}, expected [batch, boxes, 4] and [batch, classes, boxes]",
            boxes.shape, scores.shape
        )));
    };
    if scores.shape != [batches, classes, count] {
        return Err(OpError::new(format!(
            "scores have shape {:?}, expected [{batches}, {classes}, {count}]",
            scores.shape
        )));
    }
    let first =
        |i: usize| ctx.opt_input(i).and_then(|t: TensorRef<'_>| t.slice::<f32>().first().copied());
    let most = ctx.opt_input(2).and_then(|t| t.slice::<i64>().first().copied()).unwrap_or(0);
    let (most, least) = (usize::try_from(most).unwrap_or(0), first(4));
    let allowed = first(3).unwrap_or(0.0);
    let centred = ctx.attrs.int("center_point_box") != 0;
    let corners = boxes.slice::<f32>().chunks_exact(4).map(|given| Corners::new(given, centred));
    let corners = collected(corners)?;
    let mut rows = Vec::new();
    for (pair, scores) in scores.slice::<f32>().chunks_exact(count.max(1)).enumerate() {
        let corners = &corners[pair / classes * count..][..count];
        let mut order: Vec<usize> =
            (0..count).filter(|&i| least.is_none_or(|least| scores[i] > least)).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let mut kept: Vec<usize> = Vec::new();
        for i in order {
            if kept.len() == most {
                break;
            }
            if kept.iter().all(|&better| corners[i].overlap(&corners[better]) <= allowed) {
                kept.push(i);
            }
        }
        let place = [(pair / classes) as i64, (pair % classes) as i64];
        rows.extend(kept.into_iter().flat_map(|i| [place[0], place[1], i as i64]));
    }
    Ok(vec![Tensor::from_slice(&[rows.len() / 3, 3], &rows)])
}
