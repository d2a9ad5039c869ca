//! Operators over strings. Strings live on the host: no buffer of a plan and no device ever holds one, so that a node that
//! takes or gives them runs between two segments of a plan, or while it is made.

use crate::{OpDef, OpError};
use engine_format::Tensor;

/// The strings of a call, for an operator of [`Text::Ranks`](crate::Text::Ranks): in order, each once, the empty one among them.
pub(crate) struct Ranks<'a>(Vec<&'a str>);

impl<'a> Ranks<'a> {
    /// The strings of these operands, and the operands with the rank of each string in its place.
    pub(crate) fn of(inputs: &'a [Option<Tensor>]) -> (Self, Vec<Option<Tensor>>) {
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
        let numbers = inputs.iter().zip(&texts).map(numbers).collect();
        (Self(order), numbers)
    }

    /// A result of the operator with strings in the places of ranks. Operators of that kind give elements of their operands'
    /// type, bools or i64, so that what comes out as `u32` is ranks.
    pub(crate) fn restored(&self, def: &OpDef, result: Tensor) -> Result<Tensor, OpError> {
        let Ok(ranks) = result.as_slice::<u32>() else { return Ok(result) };
        let text = |&rank: &u32| self.0.get(rank as usize).copied();
        let texts: Option<Vec<&str>> = ranks.iter().map(text).collect();
        let texts = texts.ok_or_else(|| {
            OpError::new(format!("{def:?} gave a number that stands for none of its strings"))
        })?;
        Ok(Tensor::from_strings(result.shape(), &texts))
    }
}
