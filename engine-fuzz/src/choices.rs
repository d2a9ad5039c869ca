//! Bytes read as decisions.

/// A stream of decisions, taken from bytes that a fuzzer or a generator of random numbers makes. Every stream means something: one
/// that has ended decides for the first possibility, so that short streams are small cases.
#[derive(Clone, Debug)]
pub struct Choices<'a> {
    rest: &'a [u8],
}

/// Numbers at which sizes, offsets and counts go wrong.
const EDGES: [i64; 24] = [
    0,
    1,
    2,
    -1,
    3,
    -2,
    4,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    65_535,
    65_536,
    i32::MAX as i64,
    i32::MIN as i64,
    1 << 32,
    1 << 40,
    1 << 61,
    1 << 62,
    i64::MAX,
    i64::MIN,
];

impl<'a> Choices<'a> {
    /// The decisions in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all were taken.
    pub fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        first
    }

    /// The bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// A number of 64 bits.
    pub fn word(&mut self) -> u64 {
        u64::from_le_bytes([(); 8].map(|()| self.byte()))
    }

    /// A number below `n`, and 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        let bytes = match n {
            0 | 1 => return 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        (0..bytes).fold(0, |drawn, _| drawn << 8 | usize::from(self.byte())) % n
    }

    /// Yes once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// One of `items`.
    ///
    /// # Panics
    /// If there are none.
    pub fn pick<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.below(items.len())]
    }

    /// A number: mostly a small one or one at an edge.
    pub fn number(&mut self) -> i64 {
        match self.byte() % 8 {
            0..=2 => i64::from(self.byte() % 8),
            3..=5 => *self.pick(&EDGES),
            6 => i64::from(self.byte() as i8),
            _ => self.word() as i64,
        }
    }

    /// The number `old` changed by a little or to another one.
    pub fn near(&mut self, old: i64) -> i64 {
        match self.byte() % 6 {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            2 => old.wrapping_neg(),
            3 => old.wrapping_mul(2),
            _ => self.number(),
        }
    }

    /// A float: mostly one at an edge.
    pub fn float(&mut self) -> f32 {
        const FLOATS: [f32; 12] = [
            0.0,
            1.0,
            -1.0,
            -0.0,
            0.5,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN_POSITIVE,
            1e-40,
            16_777_217.0,
        ];
        match self.byte() % 4 {
            0..=2 => *self.pick(&FLOATS),
            _ => f32::from_bits(self.word() as u32),
        }
    }
}
