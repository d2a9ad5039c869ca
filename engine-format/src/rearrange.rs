//! What an alias does to tensors: axes in another order, part of an axis, several one after another, another float type
//! where it holds every value.

use crate::{AlignedBuf, DType, Tensor};
use half::{bf16, f16};
use std::ops::Range;

/// Why a tensor has no exact counterpart of another type.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Inexact {
    /// A value that the other type does not have.
    #[error("element {index} is {value}, which {dtype} does not have")]
    Value {
        /// Position in row-major order.
        index: usize,
        /// The value.
        value: f32,
        /// The type asked for.
        dtype: DType,
    },
    /// Types between which nothing is converted here.
    #[error("{from} is not converted to {to}: only f32, f16 and bf16 are, to one another")]
    Types {
        /// The tensor's type.
        from: DType,
        /// The type asked for.
        to: DType,
    },
}

/// Whether [`Tensor::converted_exactly`] takes these types: equal ones, and any two of f32, f16 and bf16.
pub(crate) fn is_convertible(from: DType, to: DType) -> bool {
    let small = |dtype| matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    from == to || (small(from) && small(to))
}

/// Whether `perm` names every axis of a tensor of `rank` axes once.
pub(crate) fn is_permutation(perm: &[usize], rank: usize) -> bool {
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().eq(0..rank)
}

/// Row-major distances between neighbours along each axis.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Rows and columns of a square that is moved at a time where the one become the other.
const TILE: usize = 16;

/// Columns, and elements along each, that are brought near before their squares are moved: memory is read in stretches, many of them
/// at a time, and not by the few elements that a square has of each.
const NEAR: (usize, usize) = (32, 128);

/// Elements of a tensor in the order that they have once its axes are permuted.
struct Permuted<'a, T> {
    from: &'a [T],
    /// The result's.
    shape: Vec<usize>,
    /// How far neighbours along each axis of the result are apart in `from`.
    distances: Vec<usize>,
}

impl<'a, T: Copy> Permuted<'a, T> {
    fn new(from: &'a [T], shape: &[usize], perm: &[usize]) -> Self {
        let strides = strides(shape);
        Self {
            from,
            shape: perm.iter().map(|&axis| shape[axis]).collect(),
            distances: perm.iter().map(|&axis| strides[axis]).collect(),
        }
    }

    /// The part of it that is `lines` of the result's first axis.
    fn lines(mut self, lines: Range<usize>) -> Self {
        if let (Some(size), Some(distance)) = (self.shape.first_mut(), self.distances.first()) {
            self.from = &self.from[(lines.start * distance).min(self.from.len())..];
            *size = lines.len();
        }
        self
    }

    /// Shows every element of the result in runs of neighbours, each with the place where it begins, until `visit` says that it has seen
    /// enough; `false` then. The runs come in the order of two axes at a time: the last one of the result, and the one along which
    /// the source is contiguous.
    fn all(&self, mut visit: impl FnMut(usize, &[T]) -> bool) -> bool {
        let (shape, distances) = (&self.shape, &self.distances);
        if shape.contains(&0) {
            return true;
        }
        let Some(last) = shape.len().checked_sub(1) else {
            return visit(0, &self.from[..1]);
        };
        // An axis of one element has whatever distance; what moves is along the others.
        let contiguous = (0..last).find(|&axis| shape[axis] > 1 && distances[axis] == 1);
        let strides = strides(shape);
        let outer: Vec<usize> = (0..last).filter(|&axis| Some(axis) != contiguous).collect();
        let plane = Plane {
            rows: contiguous.map_or(1, |axis| shape[axis]),
            columns: shape[last],
            row_step: contiguous.map_or(0, |axis| strides[axis]),
            column_distance: distances[last],
        };
        let mut index = vec![0; outer.len()];
        loop {
            let at = |steps: &[usize]| -> usize {
                index.iter().zip(&outer).map(|(i, &axis)| i * steps[axis]).sum()
            };
            let start = at(&strides);
            if !plane.all(&self.from[at(distances)..], |place, run| visit(start + place, run)) {
                return false;
            }
            let moved = outer.iter().enumerate().rev().find(|&(i, &axis)| {
                index[i] += 1;
                let inside = index[i] < shape[axis];
                if !inside {
                    index[i] = 0;
                }
                inside
            });
            if moved.is_none() {
                return true;
            }
        }
    }

    fn write(&self, to: &mut [T]) {
        self.all(|place, run| {
            to[place..place + run.len()].copy_from_slice(run);
            true
        });
    }
}

/// Two axes of a result: rows, whose elements are neighbours in the source, and columns, whose elements are neighbours in the result.
struct Plane {
    rows: usize,
    columns: usize,
    /// How far rows are apart in the result.
    row_step: usize,
    /// How far columns are apart in the source.
    column_distance: usize,
}

impl Plane {
    fn all<T: Copy>(&self, from: &[T], mut visit: impl FnMut(usize, &[T]) -> bool) -> bool {
        if self.rows == 1 && self.column_distance == 1 {
            return visit(0, &from[..self.columns]);
        }
        let mut near = [[from[0]; NEAR.1]; NEAR.0];
        // The source is read along its lines, a few at a time: that is what memory, and the map of its pages, do well.
        tiles(0..self.columns, NEAR.0).all(|columns| {
            tiles(0..self.rows, NEAR.1).all(|rows| {
                for (column, near) in columns.clone().zip(&mut near) {
                    let line = &from[rows.start + column * self.column_distance..];
                    near[..rows.len()].copy_from_slice(&line[..rows.len()]);
                }
                let (first, start) = (columns.start, rows.start);
                let mut visit = |row: usize, column, run: &[T]| {
                    visit((start + row) * self.row_step + first + column, run)
                };
                tiles(0..columns.len(), TILE).all(|columns| {
                    tiles(0..rows.len(), TILE)
                        .all(|rows| tile(&near, rows, columns.clone(), &mut visit))
                })
            })
        })
    }
}

/// Parts of a range, each of `size` but for the last.
fn tiles(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(size).map(move |at| at..range.end.min(at + size))
}

/// Shows the rows of a square of which `near` holds the columns, with the place of each. Lines of what it is shown for may lie so that no
/// cache holds two of them; so it is whole before it is shown.
fn tile<T: Copy>(
    near: &[[T; NEAR.1]; NEAR.0],
    rows: Range<usize>,
    columns: Range<usize>,
    visit: &mut impl FnMut(usize, usize, &[T]) -> bool,
) -> bool {
    let mut tile = [[near[0][0]; TILE]; TILE];
    for (i, line) in near[columns.clone()].iter().enumerate() {
        let line = &line[rows.start..];
        // Whole tiles know their size, which spares a loop over elements.
        match line.first_chunk::<TILE>().filter(|_| rows.len() == TILE) {
            Some(line) => (0..TILE).for_each(|row| tile[row][i] = line[row]),
            None => (line[..rows.len()].iter().zip(&mut tile)).for_each(|(&x, to)| to[i] = x),
        }
    }
    rows.zip(&tile).all(|(row, line)| visit(row, columns.start, &line[..columns.len()]))
}

/// A tensor of bytes that were rearranged, none made up.
fn tensor(dtype: DType, shape: &[usize], bytes: AlignedBuf) -> Tensor {
    Tensor::new(dtype, shape, bytes.into()).expect("elements of a tensor of this type and number")
}

impl Tensor {
    /// Axis `i` of the result is axis `perm[i]` of this tensor, as in ONNX's `Transpose`.
    ///
    /// # Panics
    /// If `perm` does not name every axis once, and for strings.
    pub fn permuted(&self, perm: &[usize]) -> Self {
        assert!(is_permutation(perm, self.shape().len()), "{perm:?} of {self:?}");
        if perm.iter().copied().eq(0..perm.len()) {
            return self.clone();
        }
        let shape: Vec<usize> = perm.iter().map(|&axis| self.shape()[axis]).collect();
        let mut out = AlignedBuf::zeroed(self.bytes().len());
        fn write<const N: usize>(tensor: &Tensor, perm: &[usize], out: &mut [u8]) {
            let permuted = Permuted::new(elements::<N>(tensor.bytes()), tensor.shape(), perm);
            permuted.write(elements_mut(out));
        }
        match self.dtype().width() {
            1 => write::<1>(self, perm, &mut out),
            2 => write::<2>(self, perm, &mut out),
            4 => write::<4>(self, perm, &mut out),
            _ => write::<8>(self, perm, &mut out),
        }
        tensor(self.dtype(), &shape, out)
    }

    /// The bytes with which [`permuted`](Self::permuted) begins, at most `most`, in whole elements.
    ///
    /// # Panics
    /// If `perm` does not name every axis once, and for strings.
    pub fn permuted_start(&self, perm: &[usize], most: usize) -> Vec<u8> {
        assert!(is_permutation(perm, self.shape().len()), "{perm:?} of {self:?}");
        let (strides, width) = (strides(self.shape()), self.dtype().width());
        let source = |mut place: usize| -> usize {
            let along = |&axis: &usize| {
                let index = place % self.shape()[axis];
                place /= self.shape()[axis];
                index * strides[axis]
            };
            perm.iter().rev().map(along).sum()
        };
        let elements = (0..self.len().min(most / width)).map(source);
        elements.flat_map(|at| &self.bytes()[at * width..(at + 1) * width]).copied().collect()
    }

    /// Whether the lines `lines` along the first axis of [`permuted`](Self::permuted) have the bytes `expected`. Nothing is copied, and the
    /// first element that differs is the last one looked at.
    ///
    /// # Panics
    /// If `perm` does not name every axis once, or there are no such lines, and for strings.
    pub fn has_permuted_lines(&self, perm: &[usize], lines: Range<usize>, expected: &[u8]) -> bool {
        assert!(is_permutation(perm, self.shape().len()), "{perm:?} of {self:?}");
        fn equal<const N: usize>(
            tensor: &Tensor,
            perm: &[usize],
            lines: Range<usize>,
            expected: &[u8],
        ) -> bool {
            let expected = elements::<N>(expected);
            let permuted = Permuted::new(elements::<N>(tensor.bytes()), tensor.shape(), perm);
            permuted.lines(lines).all(|place, run| expected[place..].starts_with(run))
        }
        let size = perm.first().map_or(1, |&axis| self.shape()[axis]);
        assert!(lines.start <= lines.end && lines.end <= size, "{lines:?} of {size}");
        let taken = self.bytes().len().checked_div(size).unwrap_or(0) * lines.len();
        expected.len() == taken
            && match self.dtype().width() {
                1 => equal::<1>(self, perm, lines, expected),
                2 => equal::<2>(self, perm, lines, expected),
                4 => equal::<4>(self, perm, lines, expected),
                _ => equal::<8>(self, perm, lines, expected),
            }
    }

    /// The elements `range` along `axis`.
    ///
    /// # Panics
    /// If there is no such axis or the range is not inside it, and for strings.
    pub fn range(&self, axis: usize, range: Range<usize>) -> Self {
        let mut shape = self.shape().to_vec();
        assert!(range.start <= range.end && range.end <= shape[axis], "{range:?} of {self:?}");
        let inner = shape[axis + 1..].iter().product::<usize>() * self.dtype().width();
        let (step, taken) = (shape[axis] * inner, range.len() * inner);
        shape[axis] = range.len();
        let outer: usize = shape[..axis].iter().product();
        let mut out = AlignedBuf::zeroed(outer * taken);
        for i in 0..outer {
            let start = i * step + range.start * inner;
            out[i * taken..(i + 1) * taken].copy_from_slice(&self.bytes()[start..start + taken]);
        }
        tensor(self.dtype(), &shape, out)
    }

    /// `parts` one after another along `axis`.
    ///
    /// # Panics
    /// If there are none, or they differ in type or in any other axis, and for strings.
    pub fn joined(axis: usize, parts: &[Self]) -> Self {
        let first = parts.first().expect("at least one part");
        let without = |t: &Self| {
            let mut shape = t.shape().to_vec();
            shape.remove(axis);
            (t.dtype(), shape)
        };
        assert!(parts.iter().all(|part| without(part) == without(first)), "{parts:?}");
        let mut shape = first.shape().to_vec();
        shape[axis] = parts.iter().map(|part| part.shape()[axis]).sum();
        let outer: usize = shape[..axis].iter().product();
        let inner = shape[axis + 1..].iter().product::<usize>() * first.dtype().width();
        let mut out = AlignedBuf::zeroed(outer * shape[axis] * inner);
        let mut at = 0;
        for i in 0..outer {
            for part in parts {
                let len = part.shape()[axis] * inner;
                out[at..at + len].copy_from_slice(&part.bytes()[i * len..(i + 1) * len]);
                at += len;
            }
        }
        tensor(first.dtype(), &shape, out)
    }

    /// The same values as another of the types f32, f16 and bf16.
    ///
    /// # Errors
    /// The first value that the other type does not have; other types, unless `dtype` is the tensor's own.
    pub fn converted_exactly(&self, dtype: DType) -> Result<Self, Inexact> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        if !is_convertible(self.dtype(), dtype) {
            return Err(Inexact::Types { from: self.dtype(), to: dtype });
        }
        let mut out = AlignedBuf::zeroed(self.len() * dtype.width());
        let (source, from) = (self.bytes(), self.dtype());
        for (index, to) in out.chunks_exact_mut(dtype.width()).enumerate() {
            let bits = &source[index * from.width()..(index + 1) * from.width()];
            let value = widen(from, bits);
            narrow(dtype, value, to);
            // Held against the bits, so that a NaN keeps its payload or is refused.
            let mut back = [0; 4];
            narrow(from, widen(dtype, to), &mut back[..from.width()]);
            if &back[..from.width()] != bits {
                return Err(Inexact::Value { index, value, dtype });
            }
        }
        Ok(tensor(dtype, self.shape(), out))
    }
}

/// Bytes of whole elements.
fn elements<const N: usize>(bytes: &[u8]) -> &[[u8; N]] {
    bytes.as_chunks().0
}

fn elements_mut<const N: usize>(bytes: &mut [u8]) -> &mut [[u8; N]] {
    bytes.as_chunks_mut().0
}

/// The f32 that the bytes of an f32, f16 or bf16 stand for.
fn widen(dtype: DType, bytes: &[u8]) -> f32 {
    let half = || u16::from_le_bytes([bytes[0], bytes[1]]);
    match dtype {
        DType::F16 => f16::from_bits(half()).to_f32(),
        DType::BF16 => bf16::from_bits(half()).to_f32(),
        _ => f32::from_le_bytes(bytes.try_into().expect("four bytes of an f32")),
    }
}

/// The bytes of the nearest f32, f16 or bf16.
fn narrow(dtype: DType, value: f32, to: &mut [u8]) {
    match dtype {
        DType::F16 => to.copy_from_slice(&f16::from_f32(value).to_bits().to_le_bytes()),
        DType::BF16 => to.copy_from_slice(&bf16::from_f32(value).to_bits().to_le_bytes()),
        _ => to.copy_from_slice(&value.to_le_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>();
        Tensor::from_slice(shape, &(0..n as u32).collect::<Vec<_>>())
    }

    #[test]
    fn axes_in_another_order() {
        let x = ramp(&[2, 3]);
        assert_eq!(x.permuted(&[1, 0]), Tensor::from_slice(&[3, 2], &[0u32, 3, 1, 4, 2, 5]));
        assert_eq!(x.permuted(&[0, 1]), x);
        let x = ramp(&[2, 3, 4, 5]);
        let y = x.permuted(&[3, 1, 0, 2]);
        assert_eq!(y.shape(), [5, 3, 2, 4]);
        let at = |i: [usize; 4]| ((i[2] * 3 + i[1]) * 4 + i[3]) * 5 + i[0];
        let found = y.as_slice::<u32>().unwrap()[((4 * 3 + 2) * 2 + 1) * 4 + 3];
        assert_eq!(found as usize, at([4, 2, 1, 3]));
        assert_eq!(y.permuted(&[2, 1, 3, 0]), x, "the inverse");
        assert_eq!(ramp(&[]).permuted(&[]), ramp(&[]));
        assert_eq!(ramp(&[3, 0]).permuted(&[1, 0]).shape(), [0, 3]);
        let bytes = Tensor::from_slice(&[2, 2], &[1u8, 2, 3, 4]);
        assert_eq!(bytes.permuted(&[1, 0]), Tensor::from_slice(&[2, 2], &[1u8, 3, 2, 4]));
        let longs = Tensor::from_slice(&[2, 2], &[1i64, 2, 3, 4]);
        assert_eq!(longs.permuted(&[1, 0]), Tensor::from_slice(&[2, 2], &[1i64, 3, 2, 4]));
    }

    /// Axes of one element, axes longer than a tile, every order of up to four.
    #[test]
    fn every_order_of_axes_moves_every_element_to_its_place() {
        let shapes: [&[usize]; 6] =
            [&[37, 19], &[3, 4, 1], &[1, 5, 1, 18], &[17, 2, 33], &[2, 3, 4, 17], &[6, 0, 2]];
        for shape in shapes {
            let x = ramp(shape);
            let axes: Vec<usize> = (0..shape.len()).collect();
            let orders = (0..shape.len().pow(shape.len() as u32)).map(|code| {
                let digit = |&axis: &usize| code / shape.len().pow(axis as u32) % shape.len();
                axes.iter().map(digit).collect::<Vec<_>>()
            });
            for order in orders.filter(|order| is_permutation(order, shape.len())) {
                let y = x.permuted(&order);
                let (from, to) = (strides(shape), strides(y.shape()));
                for (place, &element) in y.as_slice::<u32>().unwrap().iter().enumerate() {
                    let source: usize = order
                        .iter()
                        .enumerate()
                        .map(|(axis, &of)| place / to[axis] % y.shape()[axis] * from[of])
                        .sum();
                    assert_eq!(element as usize, source, "{shape:?} {order:?} {place}");
                }
                assert_lines(&x, &order, &y);
                for most in [0, 3, 64, 1 << 20] {
                    let start = &y.bytes()[..y.bytes().len().min(most / 4 * 4)];
                    assert_eq!(x.permuted_start(&order, most), start, "{shape:?} {order:?}");
                }
            }
        }
    }

    /// `permuted` and nothing else is what `x` is in this order, as a whole and in any lines.
    fn assert_lines(x: &Tensor, order: &[usize], permuted: &Tensor) {
        let size = permuted.shape()[0];
        let line = permuted.bytes().len().checked_div(size).unwrap_or(0);
        for lines in [0..size, 0..size / 2, size / 2..size, size..size] {
            let mut bytes = permuted.bytes()[lines.start * line..lines.end * line].to_vec();
            assert!(
                x.has_permuted_lines(order, lines.clone(), &bytes),
                "{x:?} {order:?} {lines:?}"
            );
            assert!(!x.has_permuted_lines(
                order,
                lines.clone(),
                &[bytes.as_slice(), &[0; 4]].concat()
            ));
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
                assert!(!x.has_permuted_lines(order, lines, &bytes), "{x:?} {order:?}");
            }
        }
    }

    #[test]
    fn parts_and_the_whole() {
        let x = ramp(&[2, 5, 3]);
        for axis in 0..3 {
            let n = x.shape()[axis];
            let parts = [x.range(axis, 0..1), x.range(axis, 1..n), x.range(axis, n..n)];
            assert_eq!(Tensor::joined(axis, &parts), x);
        }
        assert_eq!(x.range(1, 2..3).as_slice::<u32>().unwrap(), [6, 7, 8, 21, 22, 23]);
    }

    #[test]
    fn every_pair_of_types_converts_or_says_why_not() {
        for from in DType::ALL {
            for to in DType::ALL {
                let converted = Tensor::zeros(from, &[2]).converted_exactly(to);
                match is_convertible(from, to) {
                    true => assert_eq!(converted, Ok(Tensor::zeros(to, &[2]))),
                    false => assert_eq!(converted, Err(Inexact::Types { from, to })),
                }
            }
        }
    }

    #[test]
    fn float_types_that_have_the_values() {
        let exact = Tensor::from_slice(&[4], &[1.0f32, -0.0, 0.5, f32::INFINITY]);
        for dtype in [DType::F16, DType::BF16] {
            let small = exact.converted_exactly(dtype).unwrap();
            assert_eq!(small.dtype(), dtype);
            assert_eq!(small.converted_exactly(DType::F32).unwrap(), exact);
        }
        let third = Tensor::from_slice(&[2], &[1.0f32, 1.0 / 3.0]);
        let error = third.converted_exactly(DType::F16).unwrap_err();
        assert!(matches!(error, Inexact::Value { index: 1, dtype: DType::F16, .. }), "{error}");
        // 2^-30 is a bf16 and no f16.
        let tiny = Tensor::from_slice(&[1], &[bf16::from_f32(2f32.powi(-30))]);
        assert!(tiny.converted_exactly(DType::F16).is_err());
        assert!(tiny.converted_exactly(DType::F32).is_ok());
    }
}
