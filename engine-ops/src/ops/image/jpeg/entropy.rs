//! Huffman codes, and blocks of coefficients written in them.

use super::frame::{Failure, ZIGZAG, marker};

/// The bits of a scan. A marker ends them.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, held: 0, count: 0 }
    }

    /// The next `n` bits, zeros standing for those that there are not.
    fn peek(&mut self, n: u32) -> u32 {
        while self.count < n {
            let (byte, behind) = match self.data {
                [0xff, 0, behind @ ..] => (0xff, behind),
                [0xff, ..] | [] => break,
                [byte, behind @ ..] => (*byte, behind),
            };
            (self.held, self.count, self.data) =
                (self.held << 8 | u64::from(byte), self.count + 8, behind);
        }
        let there = match self.count.checked_sub(n) {
            Some(more) => self.held >> more,
            None => self.held << (n - self.count),
        };
        (there & ((1 << n) - 1)) as u32
    }

    fn skip(&mut self, n: u32) -> Result<(), Failure> {
        self.count = self.count.checked_sub(n).ok_or(Failure::Broken)?;
        self.held &= (1 << self.count) - 1;
        Ok(())
    }

    fn take(&mut self, n: u32) -> Result<u32, Failure> {
        let bits = self.peek(n);
        self.skip(n)?;
        Ok(bits)
    }

    fn bit(&mut self) -> Result<bool, Failure> {
        Ok(self.take(1)? == 1)
    }

    /// A number of `n` bits whose first one is its sign.
    fn signed(&mut self, n: u32) -> Result<i32, Failure> {
        let bits = self.take(n)? as i32;
        let negative = n > 0 && bits < 1 << (n - 1);
        Ok(if negative { bits - (1 << n) + 1 } else { bits })
    }

    /// Goes behind the marker that restarts the codes.
    pub(super) fn restart(&mut self, number: u8) -> Result<(), Failure> {
        let (marker, behind) = marker(self.rest())?;
        if marker != 0xd0 + number {
            return Err(Failure::Broken);
        }
        *self = Self::new(behind);
        Ok(())
    }

    /// What is behind the byte of which bits were taken last.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.data
    }
}

/// A Huffman code.
pub(super) struct Table {
    /// For the next eight bits the symbol and the length of its code; 0 for codes that are longer.
    short: [(u8, u8); 256],
    /// For each length the first code that is longer, and what is added to a code for the place of its symbol.
    long: [(i32, i32); 17],
    symbols: Vec<u8>,
}

impl Table {
    /// The code with so many symbols of each length.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, Failure> {
        let mut table =
            Self { short: [(0, 0); 256], long: [(0, 0); 17], symbols: symbols.to_vec() };
        let (mut code, mut place) = (0i32, 0i32);
        for (length, &count) in (1usize..).zip(counts) {
            let end = code + i32::from(count);
            if end > 1 << length {
                return Err(Failure::Broken);
            }
            table.long[length] = (end, place - code);
            if let Some(more) = 8usize.checked_sub(length) {
                for (code, &symbol) in
                    (code as usize..).zip(&symbols[place as usize..][..count.into()])
                {
                    table.short[code << more..][..1 << more].fill((symbol, length as u8));
                }
            }
            place += i32::from(count);
            code = end << 1;
        }
        Ok(table)
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Result<u8, Failure> {
        let (symbol, length) = self.short[bits.peek(8) as usize];
        if length > 0 {
            bits.skip(length.into())?;
            return Ok(symbol);
        }
        for length in 9..=16 {
            let code = bits.peek(length) as i32;
            let (end, offset) = self.long[length as usize];
            if code < end {
                bits.skip(length)?;
                let symbol = self.symbols.get((code + offset) as usize);
                return symbol.copied().ok_or(Failure::Broken);
            }
        }
        Err(Failure::Broken)
    }
}

/// What a scan carries from block to block.
pub(super) struct State {
    /// The first coefficient of the last block, for each component of the scan.
    before: Vec<i32>,
    /// Blocks that have no more coefficients in this scan.
    ended: u32,
}

impl State {
    pub(super) fn new(components: usize) -> Self {
        Self { before: vec![0; components], ended: 0 }
    }
}

/// Which coefficients a scan brings, and which of their bits.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    first: usize,
    last: usize,
    /// The lowest bit that is brought.
    low: u32,
    /// Whether higher bits were brought before.
    refines: bool,
    /// Whether blocks are written as a whole.
    whole: bool,
}

impl Progress {
    /// All of all coefficients.
    pub(super) fn whole() -> Self {
        Self { first: 0, last: 63, low: 0, refines: false, whole: true }
    }

    /// As the header of a scan of so many components says.
    pub(super) fn new(first: u8, last: u8, bits: u8, components: u8) -> Result<Self, Failure> {
        let (high, low) = (bits >> 4, bits & 15);
        let alone = first == 0 && last == 0 || first > 0 && components == 1;
        if !alone || last < first || last > 63 || low > 13 || (high != 0 && high != low + 1) {
            return Err(Failure::Broken);
        }
        let (first, last) = (first.into(), last.into());
        Ok(Self { first, last, low: low.into(), refines: high != 0, whole: false })
    }

    /// Reads what the scan brings of a block of the component that is number `of` in it.
    pub(super) fn block(
        self,
        bits: &mut Bits<'_>,
        state: &mut State,
        of: usize,
        (dc, ac): (Option<&Table>, Option<&Table>),
        block: &mut [i16; 64],
    ) -> Result<(), Failure> {
        match (self.first, self.refines) {
            (0, false) => {
                let length = dc.ok_or(Failure::Broken)?.symbol(bits)?;
                if length > 15 {
                    return Err(Failure::Broken);
                }
                let difference = bits.signed(length.into())?;
                state.before[of] = state.before[of].wrapping_add(difference);
                block[0] = state.before[of].wrapping_shl(self.low) as i16;
            }
            (0, true) => block[0] |= i16::from(bits.bit()?) << self.low,
            _ => {}
        }
        if self.last == 0 {
            return Ok(());
        }
        let table = ac.ok_or(Failure::Broken)?;
        match self.refines {
            true => self.refine(bits, state, table, block),
            false => self.bring(bits, state, table, block),
        }
    }

    /// Coefficients other than the first, for the first time.
    fn bring(
        self,
        bits: &mut Bits<'_>,
        state: &mut State,
        table: &Table,
        block: &mut [i16; 64],
    ) -> Result<(), Failure> {
        if state.ended > 0 {
            state.ended -= 1;
            return Ok(());
        }
        let mut at = self.first.max(1);
        while at <= self.last {
            let symbol = table.symbol(bits)?;
            let (zeros, length) = (symbol >> 4, symbol & 15);
            match (zeros, length) {
                (15, 0) => at += 16,
                (_, 0) if self.whole => break,
                (more, 0) => {
                    state.ended = (1 << more) - 1 + bits.take(more.into())?;
                    break;
                }
                _ => {
                    at += usize::from(zeros);
                    let value = bits.signed(length.into())?.wrapping_shl(self.low) as i16;
                    let place = ZIGZAG.get(at).filter(|_| at <= self.last);
                    block[usize::from(*place.ok_or(Failure::Broken)?)] = value;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// The next bit of coefficients that are not zero, and those that become 1 or -1 in their lowest bit.
    fn refine(
        self,
        bits: &mut Bits<'_>,
        state: &mut State,
        table: &Table,
        block: &mut [i16; 64],
    ) -> Result<(), Failure> {
        let one = 1i16 << self.low;
        let mut at = self.first.max(1);
        while at <= self.last && state.ended == 0 {
            let symbol = table.symbol(bits)?;
            let (mut zeros, length) = (symbol >> 4, symbol & 15);
            let value = match (zeros, length) {
                (15, 0) => 0,
                (more, 0) => {
                    state.ended = (1 << more) + bits.take(more.into())?;
                    break;
                }
                (_, 1) if bits.bit()? => one,
                (_, 1) => -one,
                _ => return Err(Failure::Broken),
            };
            while at <= self.last {
                let slot = &mut block[usize::from(ZIGZAG[at])];
                if *slot != 0 {
                    correct(bits, slot, one)?;
                } else if zeros == 0 {
                    *slot = value;
                    break;
                } else {
                    zeros -= 1;
                }
                at += 1;
            }
            if value != 0 && at > self.last {
                return Err(Failure::Broken);
            }
            at += 1;
        }
        if state.ended > 0 {
            for &place in &ZIGZAG[at..=self.last.max(at - 1)] {
                let slot = &mut block[usize::from(place)];
                if *slot != 0 {
                    correct(bits, slot, one)?;
                }
            }
            state.ended -= 1;
        }
        Ok(())
    }
}

/// The next bit of a coefficient that is not zero.
fn correct(bits: &mut Bits<'_>, coefficient: &mut i16, one: i16) -> Result<(), Failure> {
    if bits.bit()? && *coefficient & one == 0 {
        *coefficient = coefficient.wrapping_add(if *coefficient > 0 { one } else { -one });
    }
    Ok(())
}
