//! Initializers that are part of a tensor: a packed projection that an exporter split.

use super::index::Index;
use super::pair::{Decision, Stands};
use super::recipe::{Moved, Part, Recipe};
use super::search::{Form, forms, is_weak};
use super::{Initializer, Why, open};
use crate::error::BuildError;
use engine_format::{Tensor, TensorInfo};

/// An open initializer in one of its forms, and the axis along which it is shorter than the tensor.
struct Piece {
    initializer: usize,
    form: Form,
    axis: usize,
}

/// Looks for what was not found whole inside the tensors of the checkpoint. One of them is in memory at a time.
pub(super) fn find(
    initializers: &[Initializer],
    decisions: &mut [Decision],
    index: &Index<'_>,
) -> Result<(), BuildError> {
    let open: Vec<usize> =
        open(decisions).into_iter().filter(|&i| !is_weak(&initializers[i].tensor)).collect();
    let mut found: Vec<Vec<Recipe>> = vec![Vec::new(); initializers.len()];
    if open.is_empty() {
        return Ok(());
    }
    for (name, info) in index.infos() {
        let mut whole = None;
        for piece in pieces(initializers, &open, index, info) {
            let tensor = match &whole {
                Some(tensor) => tensor,
                None => whole.insert(index.tensor(name)?),
            };
            for start in starts(tensor, &piece) {
                let range = Some((start, start + piece.form.tensor.shape()[piece.axis]));
                let parts = vec![Part { tensor: name.to_owned(), range }];
                let Form { perm, from, .. } = &piece.form;
                found[piece.initializer].push(Recipe::Moved(Moved {
                    parts,
                    axis: piece.axis,
                    shape: None,
                    perm: perm.clone(),
                    from: *from,
                }));
            }
        }
    }
    for (i, recipes) in found.into_iter().enumerate() {
        match recipes.as_slice() {
            [] => {}
            [only] => decisions[i] = Decision::Stands(Stands::everywhere(only.clone())),
            several => decisions[i] = Decision::Not(Why::ambiguous(several)),
        }
    }
    Ok(())
}

/// The open initializers that could be part of a tensor of this type: of its rank, and smaller along one axis alone.
fn pieces<'a>(
    initializers: &'a [Initializer],
    open: &'a [usize],
    index: &'a Index<'_>,
    info: &'a TensorInfo,
) -> impl Iterator<Item = Piece> + 'a {
    let could = |&&i: &&usize| {
        let (mut part, mut whole) = (initializers[i].tensor.shape().to_vec(), info.shape.clone());
        part.sort_unstable();
        whole.sort_unstable();
        part.len() == whole.len() && part != whole
    };
    open.iter().filter(could).flat_map(move |&initializer| {
        let wanted =
            |dtype, shape: &[usize]| dtype == info.dtype && shorter(shape, &info.shape).is_some();
        forms(index, &initializers[initializer].tensor, wanted).filter_map(move |form| {
            let axis = shorter(form.tensor.shape(), &info.shape)?;
            Some(Piece { initializer, form, axis })
        })
    })
}

/// The one axis along which `part` is shorter than `whole`, if all others are equal.
pub(super) fn shorter(part: &[usize], whole: &[usize]) -> Option<usize> {
    if part.len() != whole.len() {
        return None;
    }
    let mut differ = (0..whole.len()).filter(|&axis| part[axis] != whole[axis]);
    let axis = differ.next()?;
    (differ.next().is_none() && part[axis] < whole[axis]).then_some(axis)
}

/// Where along the axis the piece lies in the tensor.
fn starts(whole: &Tensor, piece: &Piece) -> Vec<usize> {
    let (part, axis) = (&piece.form.tensor, piece.axis);
    let size = whole.dtype().width();
    let inner = whole.shape()[axis + 1..].iter().product::<usize>() * size;
    let outer: usize = whole.shape()[..axis].iter().product();
    let (row, taken) = (whole.shape()[axis] * inner, part.shape()[axis] * inner);
    let lies = |start: &usize| {
        (0..outer).all(|i| {
            let at = i * row + start * inner;
            whole.bytes()[at..at + taken] == part.bytes()[i * taken..(i + 1) * taken]
        })
    };
    (0..=whole.shape()[axis] - part.shape()[axis]).filter(lies).collect()
}
