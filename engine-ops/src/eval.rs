//! One node on the host: what folding, planning, `prepare` and tests evaluate constants with.

use crate::cpu::{Cpu, CpuCtx, CpuShapes, TensorMeta, TensorMut, TensorRef};
use crate::infer::{Facts, InferCtx};
use crate::{Kind, OpDef, OpError, text};
use engine_format::{AlignedBuf, Attrs, DType, Tensor};

/// Runs `def` on operands whose contents are known and gives its first `outputs` results.
///
/// Attributes must be normalised ([`OpDef::normalise`]). Operators that the planner handles itself ([`Kind::Control`])
/// are an error; a view gives its operand's bytes under the new shape.
pub fn eval(
    def: &OpDef,
    attrs: &Attrs,
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Result<Vec<Tensor>, OpError> {
    check_operands(def, inputs)?;
    if text::reads(def, inputs) && def.kind != Kind::View {
        return text::run(def, attrs, inputs, outputs);
    }
    let refs: Vec<_> = inputs.iter().map(|t| t.as_ref().map(TensorRef::from)).collect();
    if let Cpu::Dynamic(run) = def.cpu {
        return run(&CpuCtx { attrs, inputs: &refs, outputs: &mut [], scratch: &mut [] });
    }
    let metas = result_types(def, attrs, inputs, outputs)?;
    if metas.iter().any(|meta| meta.dtype == DType::String) && def.kind != Kind::View {
        return text::run(def, attrs, inputs, outputs);
    }
    if def.kind == Kind::View {
        let (source, meta) = (inputs.first().and_then(Option::as_ref), metas.first());
        let (source, meta) = source
            .zip(meta)
            .ok_or_else(|| OpError::new(format!("{def:?} is a view without an operand")))?;
        let viewed = source.reshaped(&meta.shape).map_err(|e| OpError::new(e.to_string()))?;
        return Ok(vec![viewed]);
    }
    let Cpu::Kernel { run, scratch } = def.cpu else {
        return Err(OpError::new(format!("{def:?} is run by the planner, not by a kernel")));
    };
    let mut buffers: Vec<_> = metas.iter().map(|m| AlignedBuf::zeroed(m.byte_len())).collect();
    let mut results: Vec<_> = metas
        .iter()
        .zip(&mut buffers)
        .map(|(m, bytes)| Some(TensorMut { dtype: m.dtype, shape: &m.shape, bytes }))
        .collect();
    let shapes: Vec<_> = inputs.iter().map(|t| t.as_ref().map(TensorMeta::from)).collect();
    let wanted: Vec<_> = metas.iter().cloned().map(Some).collect();
    let mut space =
        AlignedBuf::zeroed(scratch(&CpuShapes { attrs, inputs: &shapes, outputs: &wanted }));
    run(&mut CpuCtx { attrs, inputs: &refs, outputs: &mut results, scratch: &mut space })?;
    metas.into_iter().zip(buffers).map(|(meta, buffer)| finish(&meta, buffer)).collect()
}

fn check_operands(def: &OpDef, inputs: &[Option<Tensor>]) -> Result<(), OpError> {
    if let Some(extra) = (0..inputs.len()).find(|&i| def.operand(i).is_none()) {
        let takes = def.inputs.len();
        return Err(OpError::new(format!("{def:?} was given operand {extra}; takes {takes}")));
    }
    let missing = |i: &usize| inputs.get(*i).and_then(Option::as_ref).is_none();
    match (0..def.inputs.len()).filter(|&i| !def.inputs[i].optional).find(missing) {
        Some(i) => Err(OpError::new(format!("{def:?} lacks operand {}", def.inputs[i].name))),
        None => Ok(()),
    }
}

/// Element types and shapes of the results; everything is known, so a rule that still asks has a bug.
fn result_types(
    def: &OpDef,
    attrs: &Attrs,
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Result<Vec<TensorMeta>, OpError> {
    let facts: Vec<_> = inputs.iter().map(|t| t.clone().map(Facts::constant)).collect();
    let results = def
        .results(&InferCtx { attrs, inputs: &facts, outputs })
        .map_err(|e| OpError::new(format!("{def:?}: {e}")))?;
    if results.len() < outputs {
        let has = results.len();
        return Err(OpError::new(format!("{def:?} has {has} results, {outputs} were asked for")));
    }
    results
        .iter()
        .take(outputs)
        .map(|f| {
            let shape = f.concrete().ok_or_else(|| {
                OpError::new(format!("{def:?}: result {:?} is not a shape of numbers", f.shape))
            })?;
            Ok(TensorMeta { dtype: f.dtype, shape })
        })
        .collect()
}

fn finish(meta: &TensorMeta, buffer: AlignedBuf) -> Result<Tensor, OpError> {
    debug_assert!(!meta.dtype.is_restricted() || buffer.iter().all(|&b| meta.dtype.is_code(b)));
    Tensor::new(meta.dtype, &meta.shape, buffer.into()).map_err(|e| OpError::new(e.to_string()))
}
