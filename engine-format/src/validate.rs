//! The checks behind [`crate::Engine::new`].

use crate::{Attr, Block, EngineParts, FormatError, FormatErrorKind, ValueId};

/// Checks `parts`; see [`crate::Engine::new`].
pub(crate) fn check(parts: &EngineParts) -> Result<(), FormatError> {
    let mut defined = vec![false; parts.values as usize];
    for port in &parts.inputs {
        define(&mut defined, port.value, &port.name)?;
    }
    for literal in &parts.literals {
        define(&mut defined, literal.value, "a literal")?;
    }
    for weight in &parts.weights {
        define(&mut defined, weight.value, &weight.name)?;
    }
    check_block(&mut defined, &parts.prepare, "prepare")?;
    check_block(&mut defined, &parts.execute, "execute")
}

fn define(defined: &mut [bool], value: ValueId, place: &str) -> Result<(), FormatError> {
    let invalid = |what: &str| {
        FormatError::new(FormatErrorKind::InvalidEngine, what).at(place).found(value.0)
    };
    let slot = defined.get_mut(value.index()).ok_or_else(|| invalid("value id out of range"))?;
    if std::mem::replace(slot, true) {
        return Err(invalid("value defined twice"));
    }
    Ok(())
}

fn check_block(defined: &mut [bool], block: &Block, place: &str) -> Result<(), FormatError> {
    let used = |defined: &[bool], value: ValueId, place: &str| {
        if defined.get(value.index()) == Some(&true) {
            return Ok(());
        }
        Err(FormatError::new(FormatErrorKind::InvalidEngine, "value used before it is defined")
            .at(place)
            .found(value.0))
    };
    for &input in &block.inputs {
        define(defined, input, place)?;
    }
    for node in &block.nodes {
        for &input in node.inputs.iter().flatten() {
            used(defined, input, &node.name)?;
        }
        for attr in node.attrs.values() {
            if let Attr::Block(inner) = attr {
                check_block(defined, inner, &node.name)?;
            }
        }
        for &output in node.outputs.iter().flatten() {
            define(defined, output, &node.name)?;
        }
    }
    block.outputs.iter().try_for_each(|&output| used(defined, output, place))
}
