//! Memory that kernels ask for besides their scratch: lists whose length shapes and contents decide.

use crate::OpError;
use std::cell::Cell;

thread_local! {
    /// Bytes that a list of a kernel may take which runs on this thread.
    static MOST: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Does `work`, in which no list of a kernel may take more than `most` bytes. A list that would is an error of the kernel
/// ([`OpError::is_out_of_memory`]) before anything is allocated.
pub fn limited<R>(most: u64, work: impl FnOnce() -> R) -> R {
    struct Before(u64);
    impl Drop for Before {
        fn drop(&mut self) {
            MOST.set(self.0);
        }
    }
    let _before = Before(MOST.replace(most));
    work()
}

/// Bytes that a list of a kernel may take on this thread.
pub fn limit() -> u64 {
    MOST.get()
}

/// Room for `count` elements, as many as shapes and contents decide.
pub(crate) fn room<T>(count: usize) -> Result<Vec<T>, OpError> {
    let (size, most) = (size_of::<T>(), limit());
    if count.checked_mul(size).is_none_or(|bytes| bytes as u64 > most) {
        return Err(OpError::out_of_memory(format!(
            "a list of {count} elements of {size} bytes takes more than the {most} bytes that the limit leaves"
        )));
    }
    let mut elements = Vec::new();
    elements.try_reserve_exact(count).map_err(|_| {
        OpError::out_of_memory(format!("there is no memory for {count} elements of {size} bytes"))
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
