//! Operators of ONNX Runtime (`com.microsoft`) that exporters and its optimiser write into models of transformers. Their
//! meaning is that of `docs/ContribOperators.md` of ONNX Runtime; each is held to ONNX Runtime itself.

pub(super) mod activation;
pub(super) mod attention;
mod caches;
pub(super) mod normalisation;
pub(super) mod quantize;

use super::Adapter;
use crate::import::call::{Call, Last};
use engine_ops::OpError;

/// The domain, whose operator set has one version.
pub(super) const DOMAIN: &str = "com.microsoft";

const fn row(op: &'static str, run: fn(&mut Call<'_>) -> Result<Last, OpError>) -> Adapter {
    Adapter { domain: DOMAIN, op, since: 1, until: 1, run }
}

/// An error if the model gives an operand, or asks for a result, that is not taken.
fn without(call: &Call<'_>, operands: &[(usize, &str)], results: &[usize]) -> Result<(), OpError> {
    if let Some((i, name)) = operands.iter().find(|(i, _)| call.opt(*i).is_some()) {
        return Err(OpError::new(format!("operand {i} ({name}) is not taken")));
    }
    match results.iter().find(|i| call.asks_for(**i)) {
        Some(i) => Err(OpError::new(format!("result {i} is not given"))),
        None => Ok(()),
    }
}
