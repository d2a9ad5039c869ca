//! Memory that kernels ask for besides their scratch.

use crate::OpError;

/// `count` elements, as many as shapes and contents decide.
pub(crate) fn filled<T: Clone>(count: usize, value: T) -> Result<Vec<T>, OpError> {
    let mut elements = Vec::new();
    elements.try_reserve_exact(count).map_err(|_| {
        let size = size_of::<T>();
        OpError::new(format!("there is no memory for {count} elements of {size} bytes"))
    })?;
    elements.resize(count, value);
    Ok(elements)
}
