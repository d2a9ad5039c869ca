//! Memory that kernels ask for besides their scratch.

use crate::OpError;

/// Room for `count` elements, as many as shapes and contents decide.
pub(crate) fn room<T>(count: usize) -> Result<Vec<T>, OpError> {
    let mut elements = Vec::new();
    elements.try_reserve_exact(count).map_err(|_| {
        let size = size_of::<T>();
        OpError::new(format!("there is no memory for {count} elements of {size} bytes"))
    })?;
    Ok(elements)
}

/// `count` elements, as many as shapes and contents decide.
pub(crate) fn filled<T: Clone>(count: usize, value: T) -> Result<Vec<T>, OpError> {
    let mut elements = room(count)?;
    elements.resize(count, value);
    Ok(elements)
}

/// One element for each of `items`, of which there are as many as shapes and contents decide.
pub(crate) fn collected<T>(items: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>, OpError> {
    let mut elements = room(items.len())?;
    elements.extend(items);
    Ok(elements)
}

/// As [`collected`]; the first error ends it.
pub(crate) fn try_collected<T>(
    items: impl ExactSizeIterator<Item = Result<T, OpError>>,
) -> Result<Vec<T>, OpError> {
    let mut elements = room(items.len())?;
    for item in items {
        elements.push(item?);
    }
    Ok(elements)
}
