//! Planning one application of an operator that has a kernel: folded if all is known, a view, or a step.

use super::item::{Call, Val};
use super::segment::Builder;
use crate::cpu::kernel;
use crate::error::{RunError, RunErrorKind};
use crate::limits::MemoryLimits;
use engine_format::{DType, Dim, Tensor};
use engine_ops::cpu::{Cpu, Draws, TensorMeta};
use engine_ops::infer::{Facts, InferCtx, InferError, Known};
use engine_ops::{Kind, OpError, Role, eval};

/// Results up to this many bytes are computed while planning, if all operands are known.
const FOLDED_RESULT: usize = 64 * 1024;
/// … and no operand is larger than this.
const FOLDED_OPERAND: usize = 1024 * 1024;

/// What became of a call.
pub(super) enum Applied {
    /// Results by position.
    Results(Vec<Option<Val>>),
    /// The contents of this operand must be known first.
    Needs(usize),
    /// The node handles strings, or the shapes of its results depend on data: it runs between two segments.
    OnHost,
}

impl Call<'_> {
    /// Plans the call.
    ///
    /// # Errors
    /// The operator does not take these operands.
    pub(super) fn apply(
        &self,
        inputs: &[Option<Val>],
        builder: &mut Builder,
    ) -> Result<Applied, RunError> {
        // Kernels rely on the contents of such operands too, even where the shape rule does not ask for them.
        if let Some(i) = self.undecided(inputs) {
            return Ok(Applied::Needs(i));
        }
        let metas =
            || inputs.iter().map(|i| i.as_ref().map(|i| i.meta.clone())).collect::<Vec<_>>();
        let fail = |why: &OpError| {
            kernel::node_error(RunErrorKind::Node, self.def, self.path, &metas(), why)
        };
        let facts: Vec<Option<Facts>> = inputs.iter().map(|i| i.as_ref().map(facts_of)).collect();
        let ctx = InferCtx { attrs: self.attrs, inputs: &facts, outputs: self.asked.len() };
        let results = match self.def.results(&ctx) {
            Ok(results) => results,
            Err(InferError::NeedsValue(i)) => {
                let unknown = |v: &Option<Val>| v.as_ref().is_some_and(|v| v.value.is_none());
                if inputs.get(i).is_some_and(unknown) {
                    return Ok(Applied::Needs(i));
                }
                let why = format!("its shape rule cannot use the contents of operand {i}");
                return Err(fail(&OpError::new(why)));
            }
            Err(InferError::DataDependent) => return self.dynamic(inputs),
            Err(InferError::Invalid(why)) => return Err(fail(&why)),
            Err(why @ InferError::NeedsRank(_)) => {
                return Err(fail(&OpError::new(why.to_string())));
            }
        };
        self.within(builder.limits(), &results).map_err(|why| {
            kernel::node_error(RunErrorKind::OutOfMemory, self.def, self.path, &metas(), &why)
        })?;
        if matches!(self.def.cpu, Cpu::Dynamic(_)) || self.has_strings(inputs, &results) {
            return self.dynamic(inputs);
        }
        let results = self.concrete(results).map_err(|why| fail(&why))?;
        if let (Some(Some(origin)), [result]) = (inputs.first(), results.as_slice())
            && self.is_view(&origin.meta, &result.meta)
        {
            let result = view(origin, result).map_err(|why| fail(&why))?;
            return Ok(Applied::Results(vec![Some(result)]));
        }
        if let Some(values) = self.folded(inputs, &results).map_err(|why| fail(&why))? {
            let known = values.into_iter().map(|value| Some(Val::known(None, value?)));
            return Ok(Applied::Results(known.collect()));
        }
        let metas: Vec<TensorMeta> = results.into_iter().map(|r| r.meta).collect();
        Ok(Applied::Results(builder.step(self, inputs.to_vec(), metas)))
    }

    /// Whether the result is the operand's bytes under another shape.
    fn is_view(&self, from: &TensorMeta, to: &TensorMeta) -> bool {
        self.def.kind == Kind::View || (self.def.stays)(self.attrs, from, to)
    }

    /// Whether results that take memory of their own are as large as they may be.
    fn within(&self, limits: MemoryLimits, results: &[Facts]) -> Result<(), OpError> {
        if self.def.kind == Kind::View {
            return Ok(());
        }
        let metas = results.iter().map(|facts| {
            let shape = facts.concrete()?;
            Some(TensorMeta { dtype: facts.dtype, shape })
        });
        metas.enumerate().try_for_each(|(i, meta)| match meta {
            Some(meta) => limits.check_tensor(i, &meta),
            None => Ok(()),
        })
    }

    /// Whether it handles strings, which are on the host only: it runs between two segments, as a node does whose results'
    /// shapes depend on data. What only gives strings another shape is a view still.
    fn has_strings(&self, inputs: &[Option<Val>], results: &[Facts]) -> bool {
        let types = inputs.iter().map(|val| val.as_ref().map(|val| val.meta.dtype));
        let given = results.iter().any(|facts| facts.dtype == DType::String);
        self.def.kind != Kind::View && (given || self.def.reads_strings(types))
    }

    /// An operand that decides shapes or axes and whose contents are not known yet.
    fn undecided(&self, inputs: &[Option<Val>]) -> Option<usize> {
        let shape =
            |i: usize| self.def.operand(i).is_some_and(|operand| operand.role == Role::Shape);
        let unknown = |v: &Option<Val>| v.as_ref().is_some_and(|v| v.value.is_none());
        inputs.iter().enumerate().position(|(i, v)| shape(i) && unknown(v))
    }

    /// A node that handles strings, or whose results' shapes depend on data: done now if all is known, else between two segments.
    fn dynamic(&self, inputs: &[Option<Val>]) -> Result<Applied, RunError> {
        if !inputs.iter().flatten().all(|v| v.value.is_some()) {
            return Ok(Applied::OnHost);
        }
        let tensors: Vec<Option<Tensor>> =
            inputs.iter().map(|v| v.as_ref().and_then(|v| v.value.clone())).collect();
        let results = self.run(&tensors)?;
        let known = results.into_iter().map(|tensor| Some(Val::known(None, tensor)));
        Ok(Applied::Results(known.collect()))
    }

    /// The results of a node whose results' shapes depend on data.
    pub fn run(&self, tensors: &[Option<Tensor>]) -> Result<Vec<Tensor>, RunError> {
        let metas: Vec<_> = tensors.iter().map(|t| t.as_ref().map(kernel::meta)).collect();
        eval(self.def, self.attrs, tensors, self.asked.len()).map_err(|why| {
            kernel::node_error(RunErrorKind::Node, self.def, self.path, &metas, &why)
        })
    }

    fn concrete(&self, results: Vec<Facts>) -> Result<Vec<Concrete>, OpError> {
        if results.len() < self.asked.len().max(1) {
            let wrong =
                format!("its shape rule gave {} of {} results", results.len(), self.asked.len());
            return Err(OpError::new(wrong));
        }
        let known = |(i, facts): (usize, Facts)| {
            let shape = facts.concrete().ok_or_else(|| {
                OpError::new(format!(
                    "the shape of result {i} is {:?}, expected numbers",
                    facts.shape
                ))
            })?;
            let meta = TensorMeta { dtype: facts.dtype, shape };
            let value = match facts.value {
                Some(Known::Tensor(tensor)) => Some(tensor),
                Some(Known::Dims(dims)) => dims_tensor(&meta, &dims),
                None => None,
            };
            Ok(Concrete { meta, value })
        };
        results.into_iter().enumerate().map(known).collect()
    }

    /// The results of a node that need no step: the rule knew them, or all operands are known and small.
    fn folded(
        &self,
        inputs: &[Option<Val>],
        results: &[Concrete],
    ) -> Result<Option<Vec<Option<Tensor>>>, OpError> {
        let asked = |i: usize| self.asked.get(i).copied().unwrap_or(false);
        if results.iter().enumerate().all(|(i, r)| r.value.is_some() || !asked(i)) {
            return Ok(Some(results.iter().map(|r| r.value.clone()).collect()));
        }
        let known = |v: &Val| v.value.is_some() && v.meta.byte_len() <= FOLDED_OPERAND;
        let small = results.iter().map(|r| r.meta.byte_len()).sum::<usize>() <= FOLDED_RESULT;
        if self.def.random || !small || !inputs.iter().flatten().all(known) {
            return Ok(None);
        }
        let tensors: Vec<Option<Tensor>> =
            inputs.iter().map(|v| v.as_ref().and_then(|v| v.value.clone())).collect();
        let metas: Vec<Option<TensorMeta>> = results.iter().map(|r| Some(r.meta.clone())).collect();
        let wanted = &metas[..self.asked.len().max(1)];
        kernel::evaluate(self.def, self.attrs, &tensors, wanted, Draws::fresh()).map(Some)
    }
}

/// A result of a shape rule whose shape is known.
struct Concrete {
    meta: TensorMeta,
    value: Option<Tensor>,
}

fn dims_tensor(meta: &TensorMeta, dims: &[Dim]) -> Option<Tensor> {
    let ints: Vec<i64> = dims.iter().map(Dim::known).collect::<Option<_>>()?;
    (meta.dtype == DType::I64 && meta.len() == ints.len())
        .then(|| Tensor::from_slice(&meta.shape, &ints))
}

/// The operand's bytes under the result's type.
fn view(origin: &Val, result: &Concrete) -> Result<Val, OpError> {
    let meta = &result.meta;
    if meta.dtype != origin.meta.dtype || meta.len() != origin.meta.len() {
        return Err(OpError::new(format!(
            "a view of {}{:?} cannot be {}{:?}",
            origin.meta.dtype, origin.meta.shape, meta.dtype, meta.shape
        )));
    }
    let viewed = origin.reshaped(meta.shape.clone());
    Ok(Val { value: viewed.value.or_else(|| result.value.clone()), ..viewed })
}

fn facts_of(val: &Val) -> Facts {
    let shape = val.meta.shape.iter().map(|&d| Dim::from(d)).collect();
    let value = val.value.clone().map(Known::Tensor);
    Facts { value, ..Facts::new(val.meta.dtype, shape) }
}
