//! What a file holds: its markers, its image and the planes of that.

use crate::OpError;

/// Why there are no pixels.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The file breaks the standard's rules, or ends too early.
    Broken,
    /// A form that is not read here.
    Other,
    /// There is no memory for it.
    Memory(OpError),
}

impl From<OpError> for Failure {
    fn from(error: OpError) -> Self {
        Self::Memory(error)
    }
}

/// Rows of red, green and blue.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) rgb: Vec<u8>,
}

/// Where in a block the coefficients stand, in the order in which they are written.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// A plane of the image.
pub(super) struct Component {
    pub(super) id: u8,
    /// Samples for each unit of the image, horizontally and vertically.
    pub(super) h: usize,
    pub(super) v: usize,
    pub(super) quantiser: usize,
    /// The factors of its coefficients, from its first scan on.
    pub(super) factors: Option<[u16; 64]>,
    /// Samples of the image that it has.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks in a row and in a column, those included that only fill up the last unit.
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) coefficients: Vec<[i16; 64]>,
}

/// The image as its header describes it.
pub(super) struct Frame {
    pub(super) progressive: bool,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) h: usize,
    pub(super) v: usize,
    pub(super) components: Vec<Component>,
}

/// The next marker, and what is behind it.
pub(super) fn marker(mut rest: &[u8]) -> Result<(u8, &[u8]), Failure> {
    loop {
        match rest {
            [0xff, 0xff, ..] => rest = &rest[1..],
            [0xff, marker, behind @ ..] if *marker != 0 => return Ok((*marker, behind)),
            _ => return Err(Failure::Broken),
        }
    }
}
