//! Whole tensors: as they are, with their axes permuted, converted.

use super::index::Index;
use super::recipe::{Recipe, inverse, is_identity};
use engine_format::{DType, Tensor};

/// Axes beyond which no permutation but the one that does nothing is tried.
const MOST_PERMUTED: usize = 4;

/// An initializer as the checkpoint may hold it: what it would be there, and how to get back.
pub(super) struct Form {
    pub(super) tensor: Tensor,
    /// From the checkpoint's order of axes to the initializer's.
    pub(super) perm: Vec<usize>,
    /// The checkpoint's element type, if it is another one.
    pub(super) from: Option<DType>,
}

/// All orders of `rank` axes, the present one first; only that one for many axes.
pub(super) fn permutations(rank: usize) -> Vec<Vec<usize>> {
    if rank > MOST_PERMUTED {
        return vec![(0..rank).collect()];
    }
    let mut all = vec![Vec::new()];
    for _ in 0..rank {
        let longer = all.into_iter().flat_map(|start: Vec<usize>| {
            let rest = (0..rank).filter(|axis| !start.contains(axis)).collect::<Vec<_>>();
            rest.into_iter().map(move |axis| [start.as_slice(), &[axis]].concat())
        });
        all = longer.collect();
    }
    all
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
/// needs more only if nothing was found.
pub(super) fn whole(index: &Index<'_>, tensor: &Tensor) -> Vec<Recipe> {
    for (from, converted) in conversions(index, tensor) {
        let rank = converted.shape().len();
        for moved in [false, true] {
            let orders = permutations(rank).into_iter().filter(|perm| is_identity(perm) != moved);
            let found: Vec<Recipe> =
                orders.flat_map(|order| in_order(index, &converted, &order, from)).collect();
            if !found.is_empty() {
                return found;
            }
        }
    }
    Vec::new()
}

/// Recipes that make `tensor` from a whole tensor whose axes are those of `tensor` in this `order`.
fn in_order(
    index: &Index<'_>,
    tensor: &Tensor,
    order: &[usize],
    from: Option<DType>,
) -> Vec<Recipe> {
    let shape: Vec<usize> = order.iter().map(|&axis| tensor.shape()[axis]).collect();
    if !index.has_type(tensor.dtype(), &shape) {
        return Vec::new();
    }
    let names = index.equal_to(&tensor.permuted(order));
    names.iter().map(|name| Recipe::whole(name, inverse(order), from)).collect()
}

/// Every order of axes and element type in which the checkpoint may hold `tensor`, of those whose type is `wanted`: only they
/// are worth moving the elements.
pub(super) fn forms<'a>(
    index: &'a Index<'_>,
    tensor: &'a Tensor,
    wanted: impl Fn(DType, &[usize]) -> bool + 'a,
) -> impl Iterator<Item = Form> + 'a {
    let orders = permutations(tensor.shape().len());
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

/// Whether the contents say so little that equal contents prove nothing: a few bytes, or one value everywhere.
pub(super) fn is_weak(tensor: &Tensor) -> bool {
    const FEW_BYTES: usize = 64;
    let size = tensor.dtype().width();
    let bytes = tensor.bytes();
    bytes.len() <= FEW_BYTES || bytes.chunks_exact(size).all(|element| *element == bytes[..size])
}

/// Whether another order of axes gives the same tensor, so that contents do not say which it is.
pub(super) fn is_symmetric(tensor: &Tensor) -> bool {
    let shape = tensor.shape();
    let mut orders = permutations(shape.len()).into_iter().filter(|order| !is_identity(order));
    orders.any(|order| {
        let same = order.iter().zip(shape).all(|(&axis, &size)| shape[axis] == size);
        let moves = order.iter().enumerate().any(|(i, &axis)| i != axis && shape[i] > 1);
        same && moves && tensor.permuted(&order) == *tensor
    })
}
