//! A node's operands against the operator table.

use engine_format::ValueId;
use engine_ops::{OpDef, OpError};

/// Checks that required operands are there and that there are not too many.
pub fn check_operands(def: &OpDef, inputs: &[Option<ValueId>]) -> Result<(), OpError> {
    if inputs.len() > def.inputs.len() && !def.variadic_input {
        let (found, max) = (inputs.len(), def.inputs.len());
        return Err(OpError::new(format!("{found} operands, {} takes at most {max}", def.name)));
    }
    for (i, operand) in def.inputs.iter().enumerate() {
        let repeated = def.variadic_input && i + 1 == def.inputs.len();
        let given = inputs.get(i).is_some_and(Option::is_some);
        if !given && !operand.optional && !repeated {
            let (name, op) = (operand.name, def.name);
            return Err(OpError::new(format!("operand {i} ({name}) of {op} is missing")));
        }
    }
    Ok(())
}
