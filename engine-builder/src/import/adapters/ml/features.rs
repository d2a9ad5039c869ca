//! Features picked, replaced, spread out, put together.

use super::{ALL, check_count, row, rows};
use crate::import::adapters::Adapter;
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, Tensor, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("ArrayFeatureExtractor", ALL, extractor),
    row("Binarizer", ALL, binarizer),
    row("FeatureVectorizer", ALL, vectorizer),
    row("Imputer", ALL, imputer),
    row("ZipMap", ALL, zip_map),
];

fn extractor(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let x = rows(call, x)?;
    let (which, all) = (call.input(1)?, call.vector(&[-1]));
    let which = call.emit("Reshape", [which, all], vec![])?;
    call.finish("Gather", [x, which], vec![("axis", Attr::Int(-1))])
}

/// 1 where an element is above the threshold, 0 elsewhere.
fn binarizer(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let dtype = call.facts(x).dtype;
    let threshold = call.float("threshold", 0.0)?;
    // The threshold of integers may have a fraction.
    let wide = if dtype.is_float() { dtype } else { DType::F64 };
    let (compared, threshold) = (call.cast(x, wide)?, call.scalar_of(wide, f64::from(threshold))?);
    let above = call.emit("Greater", [compared, threshold], vec![])?;
    call.finish_cast(above, dtype)
}

fn vectorizer(call: &mut Call<'_>) -> Result<Last, OpError> {
    let given = call.inputs();
    if let Some(sizes) = call.ints("inputdimensions")? {
        check_count("inputdimensions", sizes.len(), given.len())?;
    }
    let mut parts = Vec::with_capacity(given.len());
    for i in 0..given.len() {
        let part = call.input(i)?;
        let part = call.cast(part, DType::F32)?;
        parts.push(Some(rows(call, part)?));
    }
    call.last("Concat", parts, vec![("axis", Attr::Int(1))])
}

/// Elements equal to a value, NaN being equal to itself, replaced by another, or by another for each feature.
fn imputer(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let dtype = call.facts(x).dtype;
    let (wrong, right) = match dtype.is_float() {
        true => {
            let wrong = call.float("replaced_value_float", 0.0)?;
            let values = call.required_floats("imputed_value_floats")?;
            call.ignore("replaced_value_int64");
            let equal = match wrong.is_nan() {
                true => call.emit("IsNaN", [x], vec![])?,
                false => {
                    let wrong = call.scalar_like(x, f64::from(wrong))?;
                    call.emit("Equal", [x, wrong], vec![])?
                }
            };
            (equal, Tensor::from_slice(&[values.len()], values))
        }
        false => {
            let wrong = call.int("replaced_value_int64", 0)?;
            let values = call.required_ints("imputed_value_int64s")?;
            call.ignore("replaced_value_float");
            let wrong = call.literal(Tensor::from_slice(&[], &[wrong]));
            let wide = call.cast(x, DType::I64)?;
            (
                call.emit("Equal", [wide, wrong], vec![])?,
                Tensor::from_slice(&[values.len()], values),
            )
        }
    };
    let right: ValueId = call.literal(right);
    let right = call.cast(right, dtype)?;
    call.finish("Where", [wrong, right, x], vec![])
}

/// A map from labels to scores for each row, which engines do not have: the matrix of the scores, a column for each label.
fn zip_map(call: &mut Call<'_>) -> Result<Last, OpError> {
    let x = call.input(0)?;
    let x = rows(call, x)?;
    let labels: Vec<String> =
        match (call.strs("classlabels_strings")?, call.ints("classlabels_int64s")?) {
            (Some(labels), None | Some([])) => {
                labels.iter().map(|label| format!("{label:?}")).collect()
            }
            (None | Some([]), Some(labels)) => labels.iter().map(i64::to_string).collect(),
            _ => {
                return Err(OpError::new(
                    "expected labels in one of classlabels_strings and classlabels_int64s",
                ));
            }
        };
    let columns = call.facts(x).shape.as_ref().and_then(|shape| shape.get(1)?.known());
    if let Some(columns) = columns.filter(|&columns| columns != labels.len() as i64) {
        return Err(OpError::new(format!("{} labels for {columns} columns", labels.len())));
    }
    call.note(format!(
        "the result is a matrix with a column for each of the labels {}, not a sequence of maps",
        labels.join(", ")
    ));
    call.finish("Identity", [x], vec![])
}
