//! JPEG files as libjpeg decodes them, to the bit: its integer inverse transform, its interpolation of colours, its rounding.
//!
//! The standard (ITU-T T.81) leaves all three open, and what people call the pixels of a JPEG file is what that library makes of
//! it: pictures that a model was trained on were decoded so. Read are files of one or three components with eight bits, Huffman
//! codes, and one or several scans (baseline, extended and progressive).

mod entropy;
mod frame;
mod samples;

use crate::OpError;
use crate::memory::filled;
use entropy::{Bits, Progress, Table};
use frame::{Component, Frame, ZIGZAG, marker};
pub(crate) use frame::{Failure, Image};

/// Bytes that an image may take while it is decoded.
pub(crate) const MOST_BYTES: usize = 512 << 20;

/// What a file has said so far.
#[derive(Default)]
struct Decoder {
    quantisers: [Option<[u16; 64]>; 4],
    /// Huffman tables of the first coefficients, and of the others.
    tables: [[Option<Table>; 4]; 2],
    restart: usize,
    is_jfif: bool,
    /// What Adobe's marker says of the colours.
    transform: Option<u8>,
    frame: Option<Frame>,
}

/// The pixels of a file.
pub(crate) fn decode(file: &[u8]) -> Result<Image, Failure> {
    let mut decoder = Decoder::default();
    let mut rest = file.strip_prefix(b"\xff\xd8").ok_or(Failure::Broken)?;
    loop {
        let (marker, behind) = marker(rest)?;
        if marker == 0xd9 {
            break;
        }
        let (length, _) = behind.split_first_chunk::<2>().ok_or(Failure::Broken)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let segment = behind.get(2..length).ok_or(Failure::Broken)?;
        rest = &behind[length..];
        match marker {
            0xc0..=0xc2 => decoder.frame(marker == 0xc2, segment)?,
            0xc4 => decoder.huffman(segment)?,
            0xc3 | 0xc5..=0xcf | 0xdc => return Err(Failure::Other),
            0xda => rest = decoder.scan(segment, rest)?,
            0xdb => decoder.quantisers(segment)?,
            0xdd => {
                let interval = segment.first_chunk::<2>().ok_or(Failure::Broken)?;
                decoder.restart = u16::from_be_bytes(*interval).into();
            }
            0xe0 if segment.starts_with(b"JFIF\0") => decoder.is_jfif = true,
            0xee if segment.starts_with(b"Adobe") => {
                decoder.transform = segment.get(11).copied();
            }
            _ => {}
        }
    }
    let is_rgb = decoder.is_rgb();
    let frame = decoder.frame.ok_or(Failure::Broken)?;
    samples::image(&frame, is_rgb)
}

impl Decoder {
    fn quantisers(&mut self, mut segment: &[u8]) -> Result<(), Failure> {
        while let Some((&head, behind)) = segment.split_first() {
            let width = 1 + usize::from(head >> 4 != 0);
            let values = behind.get(..64 * width).ok_or(Failure::Broken)?;
            let slot = self.quantisers.get_mut(usize::from(head & 15)).ok_or(Failure::Broken)?;
            let mut factors = [0; 64];
            for (value, &at) in values.chunks_exact(width).zip(&ZIGZAG) {
                factors[usize::from(at)] =
                    value.iter().fold(0u16, |n, &byte| n << 8 | u16::from(byte));
            }
            *slot = Some(factors);
            segment = &behind[64 * width..];
        }
        Ok(())
    }

    fn huffman(&mut self, mut segment: &[u8]) -> Result<(), Failure> {
        while let Some((&head, behind)) = segment.split_first() {
            let (counts, behind) = behind.split_first_chunk::<16>().ok_or(Failure::Broken)?;
            let symbols = counts.iter().map(|&n| usize::from(n)).sum();
            let (symbols, behind) = behind.split_at_checked(symbols).ok_or(Failure::Broken)?;
            let class = self.tables.get_mut(usize::from(head >> 4)).ok_or(Failure::Broken)?;
            let slot = class.get_mut(usize::from(head & 15)).ok_or(Failure::Broken)?;
            *slot = Some(Table::new(counts, symbols)?);
            segment = behind;
        }
        Ok(())
    }

    fn frame(&mut self, progressive: bool, segment: &[u8]) -> Result<(), Failure> {
        let &[precision, h1, h0, w1, w0, count, ref rest @ ..] = segment else {
            return Err(Failure::Broken);
        };
        let height = usize::from(u16::from_be_bytes([h1, h0]));
        let width = usize::from(u16::from_be_bytes([w1, w0]));
        if self.frame.is_some() || rest.len() != 3 * usize::from(count) {
            return Err(Failure::Broken);
        }
        if precision != 8 || !matches!(count, 1 | 3) || height == 0 || width == 0 {
            return Err(Failure::Other);
        }
        let rows = rest.as_chunks::<3>().0;
        let factors = |&[_, factors, _]: &[u8; 3]| (factors >> 4, factors & 15);
        if !rows.iter().map(factors).all(|(h, v)| (1..=4).contains(&h) && (1..=4).contains(&v)) {
            return Err(Failure::Broken);
        }
        let most = rows.iter().map(factors).fold((1, 1), |(a, b), (h, v)| (a.max(h), b.max(v)));
        let (h, v) = (usize::from(most.0), usize::from(most.1));
        let units = (width.div_ceil(8 * h), height.div_ceil(8 * v));
        let mut components = Vec::new();
        let mut bytes = height * width * 3;
        for row in rows {
            let (own_h, own_v) = factors(row);
            let (own_h, own_v) = (usize::from(own_h), usize::from(own_v));
            if h % own_h != 0 || v % own_v != 0 {
                return Err(Failure::Other);
            }
            let (columns, rows) = (units.0 * own_h, units.1 * own_v);
            // Coefficients of two bytes, and samples of one.
            bytes += columns * rows * 64 * 3;
            if bytes > MOST_BYTES {
                let error = format!("an image of {height} x {width} pixels takes {bytes} bytes");
                return Err(OpError::new(error).into());
            }
            components.push(Component {
                id: row[0],
                h: own_h,
                v: own_v,
                quantiser: row[2].into(),
                factors: None,
                width: (width * own_h).div_ceil(h),
                height: (height * own_v).div_ceil(v),
                columns,
                rows,
                coefficients: filled(columns * rows, [0; 64])?,
            });
        }
        self.frame = Some(Frame { progressive, height, width, h, v, components });
        Ok(())
    }

    /// Whether the components are red, green and blue, by the marks that libjpeg goes by.
    fn is_rgb(&self) -> bool {
        let ids = self.frame.iter().flat_map(|frame| &frame.components).map(|c| c.id);
        match (self.is_jfif, self.transform) {
            (true, _) => false,
            (false, Some(transform)) => transform == 0,
            (false, None) => ids.eq(*b"RGB"),
        }
    }

    /// Reads a scan; gives what is behind it.
    fn scan<'a>(&mut self, header: &[u8], data: &'a [u8]) -> Result<&'a [u8], Failure> {
        let (&count, rest) = header.split_first().ok_or(Failure::Broken)?;
        let frame = self.frame.as_mut().ok_or(Failure::Broken)?;
        let (chosen, rest) =
            rest.split_at_checked(2 * usize::from(count)).ok_or(Failure::Broken)?;
        let &[first, last, bits] = rest else { return Err(Failure::Broken) };
        let progress = match frame.progressive {
            true => Progress::new(first, last, bits, count)?,
            false => Progress::whole(),
        };
        let mut parts: Vec<(usize, Option<&Table>, Option<&Table>)> = Vec::new();
        for &[id, tables] in chosen.as_chunks::<2>().0 {
            let at = frame.components.iter().position(|c| c.id == id).ok_or(Failure::Broken)?;
            if parts.iter().any(|&(other, ..)| other == at) {
                return Err(Failure::Broken);
            }
            let component = &mut frame.components[at];
            if component.factors.is_none() {
                let factors = self.quantisers.get(component.quantiser).copied().flatten();
                component.factors = Some(factors.ok_or(Failure::Broken)?);
            }
            let table = |class: usize, at: u8| {
                self.tables[class].get(usize::from(at)).and_then(Option::as_ref)
            };
            parts.push((at, table(0, tables >> 4), table(1, tables & 15)));
        }
        let mut bits = Bits::new(data);
        let units = match parts.as_slice() {
            [] => return Err(Failure::Broken),
            // A component alone is written block by block, without those that fill up.
            &[(at, ..)] => {
                let own = &frame.components[at];
                (own.width.div_ceil(8), own.height.div_ceil(8))
            }
            _ => (frame.width.div_ceil(8 * frame.h), frame.height.div_ceil(8 * frame.v)),
        };
        let mut state = entropy::State::new(parts.len());
        for unit in 0..units.0 * units.1 {
            if self.restart != 0 && unit != 0 && unit % self.restart == 0 {
                bits.restart((unit / self.restart - 1) as u8 % 8)?;
                state = entropy::State::new(parts.len());
            }
            let (column, row) = (unit % units.0, unit / units.0);
            for (i, &(at, dc, ac)) in parts.iter().enumerate() {
                let component = &mut frame.components[at];
                let (h, v) = if parts.len() == 1 { (1, 1) } else { (component.h, component.v) };
                for block in 0..h * v {
                    let place = (row * v + block / h) * component.columns + column * h + block % h;
                    let block = &mut component.coefficients[place];
                    progress.block(&mut bits, &mut state, i, (dc, ac), block)?;
                }
            }
        }
        Ok(bits.rest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! file {
        ($name:literal) => {
            (
                $name,
                include_bytes!(concat!("../../../../tests/files/images/", $name, ".jpg")),
                include_bytes!(concat!("../../../../tests/files/images/", $name, ".png")),
            )
        };
    }

    /// Files that libjpeg-turbo wrote by way of Pillow, and what the same library reads from them, as PNG.
    const FILES: [(&str, &[u8], &[u8]); 9] = [
        file!("444"),
        file!("422"),
        file!("420"),
        file!("440"),
        file!("gray"),
        file!("progressive"),
        file!("restart"),
        file!("clipped"),
        file!("narrow"),
    ];

    #[test]
    fn pixels_are_those_of_libjpeg() {
        for (name, file, expected) in FILES {
            let expected = image::load_from_memory(expected).unwrap().into_rgb8();
            let found = decode(file).unwrap();
            let size = (found.width as u32, found.height as u32);
            assert_eq!(size, expected.dimensions(), "{name}");
            assert!(found.rgb == expected.into_raw(), "{name}");
        }
    }

    #[test]
    fn what_is_cut_short_or_changed_gives_pixels_or_an_error() {
        for (_, file, _) in FILES {
            for cut in 0..file.len() {
                assert!(decode(&file[..cut]).is_err(), "cut at {cut}");
            }
            for at in 0..file.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut changed = file.to_vec();
                    changed[at] = value;
                    let _ = decode(&changed);
                }
            }
        }
    }
}
