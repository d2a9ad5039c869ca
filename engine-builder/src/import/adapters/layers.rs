//! Pools and recurrent layers of older opsets.

use super::{Adapter, row};
use crate::import::call::{Call, Last};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("AveragePool", (1, 6), &["AveragePool"], |call| same_without(call, &[])),
    row("LSTM", (1, 6), &["LSTM"], |call| same_without(call, &["output_sequence"])),
    row("GRU", (1, 6), &["GRU"], |call| same_without(call, &["output_sequence"])),
    row("RNN", (1, 6), &["RNN"], |call| same_without(call, &["output_sequence"])),
];

/// The newest form without attributes that it dropped: whether a result is wanted follows from who reads it.
fn same_without(call: &mut Call<'_>, dropped: &[&'static str]) -> Result<Last, OpError> {
    dropped.iter().for_each(|name| call.ignore(name));
    let inputs = call.inputs();
    call.same(inputs)
}
