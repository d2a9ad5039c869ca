//! Rounding of casts.

use crate::small_float::{Rounding, ScaleRounding};
use crate::{AttrsExt, OpError};
use engine_format::Attrs;

/// How a node says that 8-bit floats are rounded.
pub(super) fn rounding(attrs: &Attrs) -> Result<Rounding, OpError> {
    let scale = match attrs.str("round_mode") {
        "up" => ScaleRounding::Up,
        "down" => ScaleRounding::Down,
        "nearest" => ScaleRounding::Nearest,
        other => {
            return Err(OpError::new(format!(
                "round_mode is {other:?}, expected up, down or nearest"
            )));
        }
    };
    Ok(Rounding { saturate: attrs.int("saturate") != 0, scale })
}
