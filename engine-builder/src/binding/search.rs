//! Whole tensors: as they are, in another shape, with their axes permuted, converted.

use super::index::Index;
use super::recipe::{Recipe, inverse, is_identity};
use engine_format::{DType, Tensor};
use std::collections::BTreeSet;

/// Axes longer than 1 beyond which no permutation but the one that does nothing is tried.
const MOST_PERMUTED: usize = 4;

/// An initializer as the checkpoint may hold it: what it would be there, and how to get back.
pub(super) struct Form {
    pub(super) tensor: Tensor,
    /// From the checkpoint's order of axes to the initializer's.
    pub(super) perm: Vec<usize>,
    /// The checkpoint's element type, if it is another one.
    pub(super) from: Option<DType>,
}

/// All orders of the axes of `shape` that move elements, the present one first; only that one for many axes. Axes of size 1 stay
/// where they are: an order that moves them alone moves no element.
pub(super) fn orders(shape: &[usize]) -> Vec<Vec<usize>> {
    let long: Vec<usize> = (0..shape.len()).filter(|&axis| shape[axis] != 1).collect();
    let present: Vec<usize> = (0..shape.len()).collect();
    if long.len() > MOST_PERMUTED {
        return vec![present];
    }
    let mut all = vec![Vec::new()];
    for _ in 0..long.len() {
        let longer = all.into_iter().flat_map(|start: Vec<usize>| {
            let rest = long.iter().filter(|axis| !start.contains(axis));
            rest.map(|&axis| [start.as_slice(), &[axis]].concat()).collect::<Vec<_>>()
        });
        all = longer.collect();
    }
    let placed = |order: Vec<usize>| {
        let mut placed = present.clone();
        long.iter().zip(order).for_each(|(&at, axis)| placed[at] = axis);
        placed
    };
    all.into_iter().map(placed).collect()
}

/// The element types of the checkpoint that have every value of `tensor`, its own first, with the tensor in each.
pub(super) fn conversions(index: &Index<'_>, tensor: &Tensor) -> Vec<(Option<DType>, Tensor)> {
    const SMALL: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
    let own = tensor.dtype();
    let mut all = vec![(None, tensor.clone())];
    if SMALL.contains(&own) {
        let others = SMALL.into_iter().filter(|d| *d != own && index.dtypes().contains(d));
        all.extend(others.filter_map(|d| Some((Some(d), tensor.converted_exactly(d).ok()?))));
    }
    all
}

/// Every recipe that makes `tensor` from one whole tensor of the checkpoint. What needs less is looked for first, and what
/// needs more only if nothing was found: nothing, another order of axes, another shape, both.
pub(super) fn whole(index: &Index<'_>, tensor: &Tensor) -> Vec<Recipe> {
    for (from, converted) in conversions(index, tensor) {
        let mut reshaped = Vec::new();
        if !index.has_size(converted.dtype(), converted.len()) {
            continue;
        }
        let (present, moved): (Vec<_>, Vec<_>) =
            orders(converted.shape()).into_iter().partition(|order| is_identity(order));
        for orders in [present, moved] {
            let (mut same, mut other) = (Vec::new(), Vec::new());
            for order in orders {
                let shape: Vec<usize> = order.iter().map(|&axis| converted.shape()[axis]).collect();
                for name in index.with_permuted(&converted, &order) {
                    match index.info(name).is_some_and(|info| info.shape == shape) {
                        true => same.push(Recipe::whole(name, inverse(&order), from)),
                        false => {
                            other.push(Recipe::reshaped(name, shape.clone(), inverse(&order), from))
                        }
                    }
                }
            }
            if !same.is_empty() {
                return same;
            }
            reshaped.push(other);
        }
        if let Some(found) = reshaped.into_iter().find(|recipes| !recipes.is_empty()) {
            return found;
        }
    }
    Vec::new()
}

/// Every order of axes and element type in which the checkpoint may hold `tensor`, of those whose type is `wanted`: only they
/// are worth moving the elements.
pub(super) fn forms<'a>(
    index: &'a Index<'_>,
    tensor: &'a Tensor,
    wanted: impl Fn(DType, &[usize]) -> bool + 'a,
) -> impl Iterator<Item = Form> + 'a {
    let orders = orders(tensor.shape());
    conversions(index, tensor).into_iter().flat_map(move |(from, converted)| {
        let fitting = orders.iter().filter(|order| {
            let shape: Vec<usize> = order.iter().map(|&axis| converted.shape()[axis]).collect();
            wanted(converted.dtype(), &shape)
        });
        let form = |order: &Vec<usize>| Form {
            tensor: converted.permuted(order),
            perm: inverse(order),
            from,
        };
        fitting.map(form).collect::<Vec<_>>()
    })
}

/// Whether the contents say so little that equal contents prove nothing. What training leaves is written with many digits; a
/// tensor proves what it is with one such number, or with as many different ones as nobody writes by hand.
pub(super) fn is_weak(tensor: &Tensor) -> bool {
    const DIFFERENT: usize = 8;
    let width = tensor.dtype().width();
    let mut seen = BTreeSet::new();
    for element in tensor.bytes().chunks_exact(width) {
        if seen.insert(element)
            && (has_many_digits(tensor.dtype(), element) || seen.len() >= DIFFERENT)
        {
            return false;
        }
    }
    true
}

/// Whether every element is a number as people write it.
pub(super) fn is_plain(tensor: &Tensor) -> bool {
    const WRITTEN: usize = 4;
    let mut elements = tensor.bytes().chunks_exact(tensor.dtype().width());
    is_weak(tensor) && elements.all(|element| digits(tensor.dtype(), element) <= WRITTEN)
}

/// Whether a float needs so many decimal digits that nobody writes it by hand.
fn has_many_digits(dtype: DType, element: &[u8]) -> bool {
    const MANY: usize = 7;
    digits(dtype, element) >= MANY
}

/// The decimal digits that tell a float of 32 or 64 bits from its neighbours; 0 for other types.
fn digits(dtype: DType, element: &[u8]) -> usize {
    let text = match (dtype, element) {
        (DType::F32, &[a, b, c, d]) => format!("{:e}", f32::from_le_bytes([a, b, c, d])),
        (DType::F64, element) => match element.try_into() {
            Ok(bytes) => format!("{:e}", f64::from_le_bytes(bytes)),
            Err(_) => return 0,
        },
        _ => return 0,
    };
    let mantissa = text.split('e').next().unwrap_or_default();
    mantissa.bytes().filter(u8::is_ascii_digit).count()
}

/// Whether another order of axes gives the same tensor, so that contents do not say which it is.
pub(super) fn is_symmetric(tensor: &Tensor) -> bool {
    let shape = tensor.shape();
    let lines = |order: &[usize]| 0..order.first().map_or(1, |&axis| shape[axis]);
    let mut orders = orders(shape).into_iter().filter(|order| !is_identity(order));
    orders.any(|order| {
        let same = order.iter().zip(shape).all(|(&axis, &size)| shape[axis] == size);
        let moves = order.iter().enumerate().any(|(i, &axis)| i != axis && shape[i] > 1);
        same && moves && tensor.has_permuted_lines(&order, lines(&order), tensor.bytes())
    })
}
