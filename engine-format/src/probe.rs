//! Probes: what one version of the weights makes of some inputs, kept with the engine.

use crate::{Digest, EngineFlags, EngineParts, Form, FormatError, FormatErrorKind, Port, Tensor};
use std::collections::BTreeMap;

/// Inputs and what one version of the weights makes of them: with nothing but the engine a device can be held against it.
///
/// Outputs tell of weights (those of an embedding *are* weights), so a probe goes where the weights go: a stripped file has
/// none, unless its flag is `REFIT_IDENTICAL` and it tells the weights by digest anyway. A refit keeps the probes of other
/// versions, so that they apply again when the weights come back.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// The weights that made the outputs.
    pub version: Digest,
    /// A tensor for every input port.
    pub inputs: BTreeMap<String, Tensor>,
    /// A tensor for at least one output port.
    pub outputs: BTreeMap<String, Tensor>,
    /// An output `a` agrees with a probe's `b` where |a − b| ≤ `atol` + `rtol`·|b| for every element.
    pub atol: f64,
    /// See `atol`.
    pub rtol: f64,
}

/// Whether an engine with `flags` may hold probes.
pub(crate) fn may_be_in(flags: EngineFlags) -> bool {
    !flags.contains(EngineFlags::EXCLUDE_WEIGHTS) || flags.contains(EngineFlags::REFIT_IDENTICAL)
}

/// Checks probes against the engine they are for.
pub(crate) fn check(parts: &EngineParts, probes: &[Probe]) -> Result<(), FormatError> {
    let invalid = |what: &str| FormatError::new(FormatErrorKind::InvalidEngine, what);
    if !probes.is_empty() && !may_be_in(parts.flags) {
        return Err(invalid("probes in a stripped engine: their outputs tell of its weights")
            .expected("none")
            .found(probes.len()));
    }
    for (index, probe) in probes.iter().enumerate() {
        let place = format!("probe {index}");
        let tolerances = [probe.atol, probe.rtol];
        if !tolerances.iter().all(|tolerance| tolerance.is_finite() && *tolerance >= 0.0) {
            return Err(invalid("tolerance of a probe")
                .at(place)
                .expected("numbers from 0 up")
                .found(format!("{tolerances:?}")));
        }
        check_tensors(&parts.inputs, &probe.inputs, &place)?;
        check_tensors(&parts.outputs, &probe.outputs, &place)?;
        let missing = parts.inputs.iter().find(|port| !probe.inputs.contains_key(&port.name));
        if let Some(port) = missing {
            return Err(invalid("a probe without one of the inputs").at(place).found(&port.name));
        }
        if probe.outputs.is_empty() {
            return Err(invalid("a probe without outputs").at(place));
        }
    }
    Ok(())
}

fn check_tensors(
    ports: &[Port],
    tensors: &BTreeMap<String, Tensor>,
    place: &str,
) -> Result<(), FormatError> {
    tensors.iter().try_for_each(|(name, tensor)| {
        let port = ports.iter().find(|port| port.name == *name);
        let is_tensor = |port: &Port| port.form == Form::Tensor && port.dtype == tensor.dtype();
        if port.is_some_and(is_tensor) {
            return Ok(());
        }
        let what = "a tensor of a probe that is no port's";
        let error = FormatError::new(FormatErrorKind::InvalidEngine, what).at(place);
        let error = match port {
            Some(port) => {
                error.expected(format!("{name:?} of {} as a {:?}", port.dtype, port.form))
            }
            None => error,
        };
        Err(error.found(format!("{name:?} of {}", tensor.dtype())))
    })
}
