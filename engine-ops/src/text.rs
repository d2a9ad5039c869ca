//! Operators over strings. Strings live on the host: no buffer of a plan and no device ever holds one, so that a node that
//! takes or gives them runs between two segments of a plan, or while it is made.

use crate::cpu::{CpuCtx, Draws, TensorRef};
use crate::{OpDef, OpError, eval};
use engine_format::{Attrs, Tensor};

/// What an operator does with strings.
#[derive(Clone, Copy)]
pub enum Text {
    /// It neither takes nor gives them.
    No,
    /// All that it does is to move elements and to compare them. Its ordinary kernel runs, over numbers in the place of the
    /// strings: the rank of each among the strings of the call, the empty one being 0. Equal strings have equal numbers,
    /// greater ones greater numbers, and a result of such numbers is turned back.
    Ranks,
    /// It takes or gives strings in this kernel, which makes its results itself. Where a call has nothing to do with strings,
    /// its ordinary one runs.
    Kernel(fn(&CpuCtx<'_>) -> Result<Vec<Tensor>, OpError>),
}

/// Whether a call reads strings, so that [`run`] is what runs it.
pub fn reads(def: &OpDef, inputs: &[Option<Tensor>]) -> bool {
    def.reads_strings(inputs.iter().map(|tensor| tensor.as_ref().map(Tensor::dtype)))
}

/// Runs a call that takes or gives strings and gives its first `outputs` results, or more.
///
/// # Errors
/// If the operator has nothing to do with strings, and what its kernel says.
pub fn run(
    def: &OpDef,
    attrs: &Attrs,
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Result<Vec<Tensor>, OpError> {
    let results = match def.text() {
        Text::No => return Err(OpError::new(format!("{} takes no strings", def.name))),
        Text::Ranks => by_rank(def, attrs, inputs, outputs)?,
        Text::Kernel(run) => {
            let inputs: Vec<_> = inputs.iter().map(|t| t.as_ref().map(TensorRef::from)).collect();
            run(&CpuCtx {
                attrs,
                inputs: &inputs,
                outputs: &mut [],
                scratch: &mut [],
                forms: &[],
                draws: Draws::fresh(),
            })?
        }
    };
    match results.len() {
        enough if enough >= outputs => Ok(results),
        few => Err(OpError::new(format!("{def:?} gave {few} of {outputs} results"))),
    }
}

/// See [`Text::Ranks`]. Operators of that kind give elements of their operands' type, bools or i64, so that what comes out as
/// `u32` is ranks.
fn by_rank(
    def: &OpDef,
    attrs: &Attrs,
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Result<Vec<Tensor>, OpError> {
    let texts: Vec<Option<Vec<&str>>> =
        inputs.iter().map(|tensor| tensor.as_ref()?.strings().ok()).collect();
    let mut order: Vec<&str> = texts.iter().flatten().flatten().copied().collect();
    order.push("");
    order.sort_unstable();
    order.dedup();
    let rank = |text: &&str| order.binary_search(text).expect("all are listed") as u32;
    let numbers = |(tensor, texts): (&Option<Tensor>, &Option<Vec<&str>>)| {
        let (tensor, Some(texts)) = (tensor.as_ref()?, texts) else { return tensor.clone() };
        let ranks: Vec<u32> = texts.iter().map(rank).collect();
        Some(Tensor::from_slice(tensor.shape(), &ranks))
    };
    let numbers: Vec<Option<Tensor>> = inputs.iter().zip(&texts).map(numbers).collect();
    let turned_back = |result: Tensor| {
        let Ok(ranks) = result.as_slice::<u32>() else { return Ok(result) };
        let text = |&rank: &u32| order.get(rank as usize).copied();
        let texts: Option<Vec<&str>> = ranks.iter().map(text).collect();
        let texts = texts.ok_or_else(|| {
            OpError::new(format!("{def:?} gave a number that stands for none of its strings"))
        })?;
        Ok(Tensor::from_strings(result.shape(), &texts))
    };
    eval(def, attrs, &numbers, outputs)?.into_iter().map(turned_back).collect()
}
