//! The same work for many weights: at once under the feature `parallel`, else one after another.

/// `work` on every item, in the order of the items; after an error, items that were not begun are left out. Which of several
/// errors is given back is open.
#[cfg(feature = "parallel")]
pub(crate) fn try_map<T: Send, R: Send, E: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<R, E> + Sync + Send,
) -> Result<Vec<R>, E> {
    use rayon::prelude::*;
    // Items differ much in size, so each is a task of its own.
    items.into_par_iter().with_max_len(1).map(work).collect()
}

/// `work` on every item, in the order of the items, up to the first error.
#[cfg(not(feature = "parallel"))]
pub(crate) fn try_map<T, R, E>(
    items: Vec<T>,
    work: impl Fn(T) -> Result<R, E>,
) -> Result<Vec<R>, E> {
    items.into_iter().map(work).collect()
}
