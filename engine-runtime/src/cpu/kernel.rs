//! Calling one CPU kernel over host tensors: for constants of a plan, for nodes whose results' shapes depend on
//! data, and for steps of a GPU plan that have no WGSL.

use crate::error::{RunError, RunErrorKind};
use engine_format::{AlignedBuf, Attrs, Tensor};
use engine_ops::cpu::{CpuCtx, CpuShapes, Draws, TensorMeta, TensorMut, TensorRef};
use engine_ops::{OpDef, OpError};

/// A tensor's type.
pub(crate) fn meta(tensor: &Tensor) -> TensorMeta {
    TensorMeta { dtype: tensor.dtype(), shape: tensor.shape().to_vec() }
}

/// Runs a kernel whose results' types are known. Gives as many results as `outputs` has, where that asks for one; `draws` is where draws
/// without a seed begin.
pub(crate) fn evaluate(
    def: &OpDef,
    attrs: &Attrs,
    inputs: &[Option<Tensor>],
    outputs: &[Option<TensorMeta>],
    draws: &Draws,
) -> Result<Vec<Option<Tensor>>, OpError> {
    let metas: Vec<Option<TensorMeta>> =
        inputs.iter().map(|t| t.as_ref().map(self::meta)).collect();
    let shapes = CpuShapes { attrs, inputs: &metas, values: inputs, outputs };
    let memory = |bytes: usize| {
        AlignedBuf::try_zeroed(bytes).map_err(|why| OpError::out_of_memory(why.to_string()))
    };
    let kernel = def.ready(&shapes)?;
    let mut scratch = memory(kernel.scratch())?;
    let mut buffers = outputs
        .iter()
        .map(|o| o.as_ref().map(|o| memory(o.byte_len())).transpose())
        .collect::<Result<Vec<Option<AlignedBuf>>, _>>()?;
    let inputs: Vec<Option<TensorRef<'_>>> =
        inputs.iter().map(|t| t.as_ref().map(TensorRef::from)).collect();
    if !shapes.nothing_to_write() {
        let mut results: Vec<Option<TensorMut<'_>>> = buffers
            .iter_mut()
            .zip(outputs)
            .map(|(buffer, meta)| {
                let (bytes, meta) = (buffer.as_mut()?, meta.as_ref()?);
                Some(TensorMut { dtype: meta.dtype, shape: &meta.shape, bytes })
            })
            .collect();
        let (inputs, outputs) = (&inputs, &mut results);
        kernel.run(&mut CpuCtx {
            attrs,
            inputs,
            outputs,
            scratch: &mut scratch,
            forms: &[],
            draws,
        })?;
    }
    buffers
        .into_iter()
        .zip(outputs)
        .map(|(buffer, meta)| match (buffer, meta) {
            (Some(buffer), Some(meta)) => tensor(meta, buffer.into()).map(Some),
            _ => Ok(None),
        })
        .collect()
}

/// What a kernel wrote, as a tensor.
pub(crate) fn tensor(meta: &TensorMeta, bytes: engine_format::Bytes) -> Result<Tensor, OpError> {
    Tensor::new(meta.dtype, &meta.shape, bytes).map_err(|why| OpError::new(why.to_string()))
}

/// The error of a node: its path, its operator, what it was given, what is wrong. Where memory is missing that is its kind.
pub(crate) fn node_error(
    kind: RunErrorKind,
    def: &OpDef,
    path: &str,
    inputs: &[Option<TensorMeta>],
    why: &OpError,
) -> RunError {
    let given: Vec<Option<String>> =
        inputs.iter().map(|meta| meta.as_ref().map(TensorMeta::to_string)).collect();
    described_error(kind, def, path, &given, why)
}

/// The error of a node that was given operands of the types that `given` says in words.
pub(crate) fn described_error(
    kind: RunErrorKind,
    def: &OpDef,
    path: &str,
    given: &[Option<String>],
    why: &OpError,
) -> RunError {
    let kind = if why.is_out_of_memory() { RunErrorKind::OutOfMemory } else { kind };
    let given: Vec<&str> = given.iter().map(|text| text.as_deref().unwrap_or("–")).collect();
    let given = given.join(", ");
    RunError::new(kind, format!("node {path:?}, {} v{} of ({given}): {why}", def.name, def.version))
}
