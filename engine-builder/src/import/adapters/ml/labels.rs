//! Tables from keys to values.

use super::{ALL, check_count, row};
use crate::import::adapters::Adapter;
use crate::import::call::{Call, Last};
use engine_format::{Attr, DType, Tensor, ValueId};
use engine_ops::OpError;

pub(super) static ROWS: &[Adapter] = &[
    row("LabelEncoder", (1, 1), |call| {
        let names = call.strs("classes_strings")?.unwrap_or_default();
        let numbers: Vec<i64> = (0..names.len() as i64).collect();
        names_or_numbers(call, names, &numbers)
    }),
    row("LabelEncoder", (2, ALL.1), label_encoder),
    row("CategoryMapper", ALL, |call| {
        let names = call.strs("cats_strings")?.unwrap_or_default();
        let numbers = call.required_ints("cats_int64s")?;
        names_or_numbers(call, names, numbers)
    }),
    row("OneHotEncoder", ALL, one_hot_encoder),
];

/// Names to numbers, or numbers to names, whichever the operand is.
fn names_or_numbers(
    call: &mut Call<'_>,
    names: &[String],
    numbers: &[i64],
) -> Result<Last, OpError> {
    check_count("the list of numbers", numbers.len(), names.len())?;
    let other_name = call.str("default_string", "_Unused")?;
    let other_number = call.int("default_int64", -1)?;
    let names = Tensor::from_strings(&[names.len()], names);
    let numbers = Tensor::from_slice(&[numbers.len()], numbers);
    let x = call.input(0)?;
    match call.facts(x).dtype {
        DType::String => lookup(call, x, names, numbers, Tensor::from_slice(&[], &[other_number])),
        _ => lookup(call, x, numbers, names, Tensor::from_strings(&[], &[other_name])),
    }
}

fn lookup(
    call: &mut Call<'_>,
    x: ValueId,
    keys: Tensor,
    values: Tensor,
    default: Tensor,
) -> Result<Last, OpError> {
    let [keys, values, default] = [keys, values, default].map(|tensor| call.literal(tensor));
    call.finish("LabelEncoder", [x, keys, values, default], vec![])
}

/// The one list of keys, or of values, that a node has, in whichever attribute.
fn list(
    call: &mut Call<'_>,
    [tensor, strings, ints, floats]: [&'static str; 4],
) -> Result<Tensor, OpError> {
    let mut found = Vec::new();
    found.extend(call.tensor(tensor)?);
    found.extend(call.strs(strings)?.map(|v| Tensor::from_strings(&[v.len()], v)));
    found.extend(call.ints(ints)?.map(|v| Tensor::from_slice(&[v.len()], v)));
    found.extend(call.floats(floats)?.map(|v| Tensor::from_slice(&[v.len()], v)));
    match found.len() {
        1 => Ok(found.remove(0)),
        count => Err(OpError::new(format!(
            "{count} of {tensor}, {strings}, {ints} and {floats} are there, expected one"
        ))),
    }
}

fn label_encoder(call: &mut Call<'_>) -> Result<Last, OpError> {
    let keys = list(call, ["keys_tensor", "keys_strings", "keys_int64s", "keys_floats"])?;
    let values = list(call, ["values_tensor", "values_strings", "values_int64s", "values_floats"])?;
    let (text, int) = (call.str("default_string", "_Unused")?, call.int("default_int64", -1)?);
    let float = call.float("default_float", -0.0)?;
    let default = match (call.tensor("default_tensor")?, values.dtype()) {
        (Some(tensor), _) => tensor,
        (None, DType::String) => Tensor::from_strings(&[], &[text]),
        (None, dtype) if dtype.is_float() => crate::import::call::scalar(dtype, f64::from(float))?,
        (None, DType::I64) => Tensor::from_slice(&[], &[int]),
        (None, dtype) => crate::import::call::scalar(dtype, int as f64)?,
    };
    let x = call.input(0)?;
    lookup(call, x, keys, values, default)
}

/// A row of the identity for each element, by the place of its category. What is in no category is a row of zeros or, with
/// `zeros` unset, the place behind the last row, which picking refuses.
fn one_hot_encoder(call: &mut Call<'_>) -> Result<Last, OpError> {
    let mut x = call.input(0)?;
    let categories = match (call.ints("cats_int64s")?, call.strs("cats_strings")?) {
        (Some(ints), None) => {
            x = call.cast(x, DType::I64)?;
            Tensor::from_slice(&[ints.len()], ints)
        }
        (None, Some(texts)) => Tensor::from_strings(&[texts.len()], texts),
        _ => return Err(OpError::new("there is to be either cats_int64s or cats_strings")),
    };
    let count = categories.len();
    let rows = count + usize::from(call.int("zeros", 1)? != 0);
    let places: Vec<i64> = (0..count as i64).collect();
    let other = Tensor::from_slice(&[], &[count as i64]);
    let place = lookup(call, x, categories, Tensor::from_slice(&[count], &places), other)?;
    let place = call.emit_last(place)?;
    let mut identity = vec![0f32; rows * count];
    (0..count).for_each(|i| identity[i * count + i] = 1.0);
    let identity = call.literal(Tensor::from_slice(&[rows, count], &identity));
    call.finish("Gather", [identity, place], vec![("axis", Attr::Int(0))])
}
