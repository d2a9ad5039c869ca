//! How long transforms are.

use crate::OpError;

/// How long the other side of a transform of `length` numbers is.
pub(super) fn other_side(
    length: i64,
    inverse: bool,
    onesided: bool,
    given: Option<i64>,
) -> (i64, i64) {
    match (inverse, onesided) {
        // The transform's own length, and how many numbers it gives.
        (true, true) => {
            let n = given.unwrap_or((length - 1).saturating_mul(2));
            (n, n)
        }
        (_, onesided) => {
            let n = given.unwrap_or(length);
            (n, if onesided { n / 2 + 1 } else { n })
        }
    }
}

pub(super) fn wrong_window(n: usize) -> OpError {
    OpError::new(format!("operand window does not have the {n} elements of a frame"))
}
