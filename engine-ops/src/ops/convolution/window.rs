//! What convolutions and pools have in common: their attributes, and their windows as shaders get them.

use crate::infer::{InferCtx, InferError};
use crate::kernels::window::Axis;
use crate::{AttrDef, AttrsExt, OpError};
use engine_format::{Attrs, DType};

/// The attributes of a convolution.
pub(in crate::ops) const ATTRS: [AttrDef; 6] = [
    AttrDef::str("auto_pad", "NOTSET"),
    AttrDef::opt_ints("dilations"),
    AttrDef::int("group", 1),
    AttrDef::opt_ints("kernel_shape"),
    AttrDef::opt_ints("pads"),
    AttrDef::opt_ints("strides"),
];

/// The common type of the operands.
pub(in crate::ops) fn operand_types(ctx: &InferCtx<'_>) -> Result<DType, InferError> {
    let dtype = ctx.dtype(0)?;
    for i in (1..ctx.inputs.len()).filter(|&i| ctx.opt(i).is_some()) {
        let found = ctx.dtype(i)?;
        if found != dtype {
            let message = format!("operand {i} is {found}, operand 0 is {dtype}");
            return Err(InferError::invalid(message));
        }
    }
    Ok(dtype)
}

/// The attribute `group`, at least 1.
pub(in crate::ops) fn groups(attrs: &Attrs) -> Result<usize, OpError> {
    let group = attrs.int("group");
    usize::try_from(group)
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| OpError::new(format!("attribute \"group\" is {group}, expected at least 1")))
}

/// Rounds of loops over the taps of a window, one axis in another.
pub(in crate::ops) fn window_rounds(axes: &[Axis; 3]) -> usize {
    axes.iter().rev().fold(0, |inside, axis| axis.kernel * (1 + inside))
}

/// The axes as shaders take them: six vectors of depth, height and width.
pub(in crate::ops) fn axis_params(axes: &[Axis; 3]) -> Vec<u32> {
    let sizes: [fn(&Axis) -> usize; 6] =
        [|a| a.input, |a| a.output, |a| a.kernel, |a| a.stride, |a| a.dilation, |a| a.before];
    sizes
        .iter()
        .flat_map(|size| [size(&axes[0]) as u32, size(&axes[1]) as u32, size(&axes[2]) as u32, 0])
        .collect()
}
