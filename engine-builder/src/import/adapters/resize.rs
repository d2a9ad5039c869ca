//! Resizing before opset 11: scales only, no choice of coordinates.

use super::{ALL, Adapter, row};
use crate::import::call::{Call, Last};
use engine_format::{Attr, Tensor, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("Upsample", (1, 6), |call| {
        let (height, width) = (call.float("height_scale", 1.0)?, call.float("width_scale", 1.0)?);
        let scales = call.literal(Tensor::from_slice(&[4], &[1.0, 1.0, height, width]));
        by_scales(call, scales)
    }),
    row("Upsample", (7, 8), |call| {
        let scales = call.required_floats("scales")?;
        let scales = call.literal(Tensor::from_slice(&[scales.len()], scales));
        by_scales(call, scales)
    }),
    row("Upsample", (9, ALL.1), |call| {
        let scales = call.input(1)?;
        by_scales(call, scales)
    }),
    row("Resize", (10, 10), |call| {
        let scales = call.input(1)?;
        by_scales(call, scales)
    }),
];

/// What these operators do to coordinates is called `asymmetric` since opset 11. Which element is nearest their text leaves open;
/// the runtimes agree on the one before, and on the one behind along an axis that shrinks.
fn by_scales(call: &mut Call<'_>, scales: ValueId) -> Result<Last, OpError> {
    let mode = match call.str("mode", "nearest")? {
        "bilinear" => "linear",
        mode => mode,
    };
    let text = |s: &str| Attr::Str(s.to_owned());
    call.last(
        "Resize",
        vec![Some(call.input(0)?), None, Some(scales)],
        vec![
            ("mode", text(mode)),
            ("coordinate_transformation_mode", text("asymmetric")),
            ("nearest_mode", text("simple")),
        ],
    )
}
