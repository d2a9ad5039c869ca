//! One node on the host: what folding, planning, `prepare` and tests evaluate constants with.

use crate::cpu::{Cpu, CpuCtx, CpuShapes, Draws, TensorMeta, TensorMut, TensorRef};
use crate::infer::{Facts, InferCtx, InferError};
use crate::text::Ranks;
use crate::{Kind, OpDef, OpError, Text};
use engine_format::{AlignedBuf, Attrs, DType, Tensor};
use std::fmt;

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
    // The first result is made whether it is asked for or not.
    let mut results = evaluated(def, attrs, inputs, outputs.max(1))?;
    results.truncate(outputs);
    Ok(results)
}

fn evaluated(
    def: &OpDef,
    attrs: &Attrs,
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Result<Vec<Tensor>, OpError> {
    let results = inferred(def, attrs, inputs, outputs)?;
    let gives_strings = results.iter().flatten().any(|facts| facts.dtype == DType::String);
    let reads_strings = def.reads_strings(inputs.iter().map(|t| t.as_ref().map(Tensor::dtype)));
    if (gives_strings || reads_strings) && def.kind != Kind::View {
        return over_strings(def, attrs, inputs, outputs);
    }
    let refs: Vec<_> = inputs.iter().map(|t| t.as_ref().map(TensorRef::from)).collect();
    if let Cpu::Dynamic(run) = def.cpu {
        let results = made(run, attrs, &refs)?;
        return match results.len() {
            few if few < outputs => Err(too_few(def, few, outputs)),
            _ => Ok(results),
        };
    }
    let results = results.ok_or_else(|| {
        OpError::new(format!("{def:?}: the shapes of its results depend on data"))
    })?;
    let metas = concrete(def, &results, outputs)?;
    if def.kind == Kind::View {
        let (source, meta) = (inputs.first().and_then(Option::as_ref), metas.first());
        let (source, meta) = source
            .zip(meta)
            .ok_or_else(|| OpError::new(format!("{def:?} is a view without an operand")))?;
        let viewed = source.reshaped(&meta.shape).map_err(|e| OpError::new(e.to_string()))?;
        return Ok(vec![viewed]);
    }
    let memory = |bytes: usize, what: &dyn fmt::Display| {
        AlignedBuf::try_zeroed(bytes).map_err(|why| OpError::new(format!("{def:?}: {what}: {why}")))
    };
    let mut buffers =
        metas.iter().map(|meta| memory(meta.byte_len(), meta)).collect::<Result<Vec<_>, _>>()?;
    let mut results: Vec<_> = metas
        .iter()
        .zip(&mut buffers)
        .map(|(m, bytes)| Some(TensorMut { dtype: m.dtype, shape: &m.shape, bytes }))
        .collect();
    let shapes: Vec<_> = inputs.iter().map(|t| t.as_ref().map(TensorMeta::from)).collect();
    let wanted: Vec<_> = metas.iter().cloned().map(Some).collect();
    let shapes = CpuShapes { attrs, inputs: &shapes, values: inputs, outputs: &wanted };
    let kernel = def.ready(&shapes)?;
    let mut scratch = memory(kernel.scratch(), &"scratch")?;
    if !shapes.nothing_to_write() {
        let (inputs, outputs) = (&refs, &mut results);
        kernel.run(&mut CpuCtx {
            attrs,
            inputs,
            outputs,
            scratch: &mut scratch,
            forms: &[],
            draws: Draws::fresh(),
        })?;
    }
    metas.into_iter().zip(buffers).map(|(meta, buffer)| finish(&meta, buffer)).collect()
}

/// A call that takes or gives strings.
fn over_strings(
    def: &OpDef,
    attrs: &Attrs,
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Result<Vec<Tensor>, OpError> {
    let results = match def.text() {
        Text::No => return Err(OpError::new(format!("{} takes no strings", def.name))),
        Text::Ranks => {
            let (ranks, inputs) = Ranks::of(inputs);
            let results = evaluated(def, attrs, &inputs, outputs)?;
            results
                .into_iter()
                .map(|result| ranks.restored(def, result))
                .collect::<Result<_, _>>()?
        }
        Text::Kernel(run) => {
            let inputs: Vec<_> = inputs.iter().map(|t| t.as_ref().map(TensorRef::from)).collect();
            made(run, attrs, &inputs)?
        }
    };
    match results.len() {
        few if few < outputs => Err(too_few(def, few, outputs)),
        _ => Ok(results),
    }
}

/// What a kernel gives that makes its results itself.
fn made(
    run: fn(&CpuCtx<'_>) -> Result<Vec<Tensor>, OpError>,
    attrs: &Attrs,
    inputs: &[Option<TensorRef<'_>>],
) -> Result<Vec<Tensor>, OpError> {
    let (outputs, scratch): (&mut [_], &mut [u8]) = (&mut [], &mut []);
    run(&CpuCtx { attrs, inputs, outputs, scratch, forms: &[], draws: Draws::fresh() })
}

fn too_few(def: &OpDef, found: usize, asked: usize) -> OpError {
    OpError::new(format!("{def:?} has {found} results, {asked} were asked for"))
}

/// What the row says of the results; `None` where that depends on data.
fn inferred(
    def: &OpDef,
    attrs: &Attrs,
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Result<Option<Vec<Facts>>, OpError> {
    let facts: Vec<_> = inputs.iter().map(|t| t.clone().map(Facts::constant)).collect();
    match def.results(&InferCtx { attrs, inputs: &facts, outputs }) {
        Ok(results) => Ok(Some(results)),
        Err(InferError::DataDependent) => Ok(None),
        Err(why) => Err(OpError::new(format!("{def:?}: {why}"))),
    }
}

/// Element types and shapes of the results; everything is known, so a rule that leaves one open has a bug.
fn concrete(def: &OpDef, results: &[Facts], outputs: usize) -> Result<Vec<TensorMeta>, OpError> {
    if results.len() < outputs {
        return Err(too_few(def, results.len(), outputs));
    }
    let meta = |f: &Facts| {
        let shape = f.concrete().ok_or_else(|| {
            OpError::new(format!("{def:?}: result {:?} is not a shape of numbers", f.shape))
        })?;
        Ok(TensorMeta { dtype: f.dtype, shape })
    };
    results.iter().take(outputs).map(meta).collect()
}

fn finish(meta: &TensorMeta, buffer: AlignedBuf) -> Result<Tensor, OpError> {
    debug_assert!(!meta.dtype.is_restricted() || buffer.iter().all(|&b| meta.dtype.is_code(b)));
    Tensor::new(meta.dtype, &meta.shape, buffer.into()).map_err(|e| OpError::new(e.to_string()))
}
