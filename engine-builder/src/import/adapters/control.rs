//! Loops over batches and over sequences, and absent values.

use super::{Adapter, row};
use crate::import::attrs::element_number;
use crate::import::call::{Call, Last};
use engine_format::{Attr, Tensor, ValueId};
use engine_ops::control::Arity;
use engine_ops::{OnnxName, OpError};

pub(super) static ROWS: &[Adapter] = &[
    row("Scan", (8, 8), batches),
    row("SequenceMap", (17, OnnxName::LATEST), sequence_map),
    row("Optional", (15, OnnxName::LATEST), optional),
];

/// Until opset 9 the first axis of everything was a batch, the second of what is cut the one along which it was, and each sample
/// of the batch could have a length of its own, behind which what is stacked is 0.
fn batches(call: &mut Call<'_>) -> Result<Last, OpError> {
    let body = call.graph("body")?;
    let (cut, given) = (call.int("num_scan_inputs", 0)?, call.inputs());
    let directions = call.ints("directions")?.unwrap_or_default().to_vec();
    let (lengths, given) = given.split_first().ok_or_else(|| OpError::new("it has no operands"))?;
    let given: Option<Vec<ValueId>> = given.iter().copied().collect();
    let given = given.ok_or_else(|| OpError::new("an operand is omitted"))?;
    let carried = usize::try_from(cut).ok().filter(|&cut| 0 < cut && cut <= given.len());
    let carried = carried.map(|cut| given.len() - cut);
    let carried = carried.ok_or_else(|| {
        OpError::new(format!("num_scan_inputs is {cut}, expected 1 to {}", given.len()))
    })?;
    let (samples, longest) = (call.sizes(given[carried], 0, 1)?, call.sizes(given[carried], 1, 2)?);
    let results = body.outputs.len();
    let inner = Arity { parameters: given.len(), results };
    let outer = Arity { parameters: 2, results: 1 + results };
    call.repeat("Loop", vec![Some(samples), None], vec![], outer, |call, formal| {
        let (sample, go) = (formal[0], formal[1]);
        let first_axis = || vec![("axis", Attr::Int(0))];
        let one = |call: &mut Call<'_>, all| call.emit("Gather", [all, sample], first_axis());
        let mut own = Vec::with_capacity(given.len());
        for &all in &given {
            own.push(Some(one(call, all)?));
        }
        let length = match lengths {
            Some(all) => {
                let (scalar, shape) = (one(call, *all)?, call.vector(&[1]));
                Some(call.emit("Reshape", [scalar, shape], vec![])?)
            }
            None => None,
        };
        if let Some(length) = length {
            let zero = call.vector(&[0]);
            for whole in own[carried..].iter_mut().flatten() {
                *whole = call.emit("Slice", [*whole, zero, length, zero], vec![])?;
            }
        }
        let attrs = vec![
            ("num_scan_inputs", Attr::Int(cut)),
            ("scan_input_directions", Attr::Ints(directions.clone())),
        ];
        let scan = call.repeat("Scan", own, attrs, inner, |call, formal| {
            call.inline("body", formal)?.ok_or_else(|| OpError::new("it has no body"))
        })?;
        let mut out = call.emit_all(scan, results)?;
        if let Some(length) = length {
            let missing = call.emit("Sub", [longest, length], vec![])?;
            let zero = call.vector(&[0]);
            let pads = call.emit("Concat", [zero, missing], first_axis())?;
            for stacked in &mut out[carried..] {
                let pad = vec![Some(*stacked), Some(pads), None, Some(zero)];
                let pad = call.last("Pad", pad, vec![])?;
                *stacked = call.emit_last(pad)?;
            }
        }
        out.insert(0, go);
        Ok(out)
    })
}

/// The body over the elements of the first sequence and of those beside it; one sequence for each of its results.
fn sequence_map(call: &mut Call<'_>) -> Result<Last, OpError> {
    let operands: Option<Vec<ValueId>> = call.inputs().into_iter().collect();
    let operands = operands.ok_or_else(|| OpError::new("an operand is omitted"))?;
    let first = call.input(0)?;
    let elements = |call: &mut Call<'_>, position: ValueId| {
        let element = |&all: &ValueId| match call.is_sequence(all) {
            true => call.emit("SequenceAt", [all, position], vec![]),
            false => Ok(all),
        };
        let elements: Vec<ValueId> = operands.iter().map(element).collect::<Result<_, _>>()?;
        call.inline("body", &elements)?.ok_or_else(|| OpError::new("it has no body"))
    };
    let types = call.try_out(|call| {
        let position = call.literal(Tensor::from_slice(&[], &[0i64]));
        elements(call, position)
    })?;
    let length = call.emit("SequenceLength", [first], vec![])?;
    let mut given = vec![Some(length), None];
    for typed in &types {
        let dtype = Attr::Int(element_number(typed.facts.dtype));
        given.push(Some(call.emit("SequenceEmpty", [], vec![("dtype", dtype)])?));
    }
    let arity = Arity { parameters: 2 + types.len(), results: 1 + types.len() };
    call.repeat("Loop", given, vec![], arity, |call, formal| {
        let mut out = vec![formal[1]];
        for (result, &before) in elements(call, formal[0])?.into_iter().zip(&formal[2..]) {
            out.push(call.emit("SequenceInsert", [before, result], vec![])?);
        }
        Ok(out)
    })
}

/// The type of an absent value is an attribute.
fn optional(call: &mut Call<'_>) -> Result<Last, OpError> {
    let (given, info) = (call.opt(0), call.type_of("type")?);
    let mut attrs = Vec::new();
    if let (None, Some(info)) = (given, info) {
        let dtype = info.dtype.ok_or_else(|| {
            OpError::new(format!("attribute \"type\" is a {}, not taken here", info.type_name))
        })?;
        attrs.push(("dtype", Attr::Int(element_number(dtype))));
        attrs.push(("sequence", Attr::Int(i64::from(info.form.is_sequence()))));
    }
    call.last("Optional", vec![given], attrs)
}
