//! Where a resize reads: from attributes and operands to one table per axis. Both devices read these tables, so that they
//! pick the same elements with the same weights.

use crate::AttrsExt;
use crate::OpError;
use crate::cpu::TensorRef;
use crate::infer::axis;
use crate::memory::{filled, room};
use engine_format::{Attrs, DType};
use half::f16;

/// How far one axis is stretched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stretch {
    /// Size in the operand.
    pub from: usize,
    /// Size in the result.
    pub to: usize,
    /// Result per operand, as given or as it follows from the sizes.
    scale: f32,
    /// Size in the result before it is rounded down to whole elements.
    length: f32,
    /// The region of interest, in parts of the axis.
    region: (f32, f32),
}

/// The operands that decide a resize.
pub(super) struct Asked<'a> {
    pub roi: Option<TensorRef<'a>>,
    pub scales: Option<TensorRef<'a>>,
    pub sizes: Option<TensorRef<'a>>,
}

/// What a position of an axis of the result reads: `taps` neighbours from `start` on, each with its weight.
pub(super) struct Table {
    /// Neighbours read.
    pub taps: usize,
    /// First neighbour; `None` where the position lies outside the operand and the extrapolation value stands.
    pub start: Vec<Option<usize>>,
    /// `taps` weights for every position.
    pub weights: Vec<f32>,
}

fn floats(t: TensorRef<'_>) -> Result<Vec<f32>, OpError> {
    match t.dtype {
        DType::F32 => Ok(t.slice::<f32>().to_vec()),
        DType::F16 => Ok(t.slice::<f16>().iter().map(|v| v.to_f32()).collect()),
        DType::F64 => Ok(t.slice::<f64>().iter().map(|&v| v as f32).collect()),
        other => Err(OpError::new(format!("roi or scales are {other}, expected floats"))),
    }
}

/// Values for the axes that `axes` names, spread over all of them.
fn spread<T: Copy>(
    what: &str,
    values: &[T],
    axes: &[usize],
    rank: usize,
    other: T,
) -> Result<Vec<T>, OpError> {
    if values.len() != axes.len() {
        return Err(OpError::new(format!(
            "{} {what} for {} axes, expected as many",
            values.len(),
            axes.len()
        )));
    }
    let mut out = vec![other; rank];
    for (&at, &value) in axes.iter().zip(values) {
        out[at] = value;
    }
    Ok(out)
}

/// The axes that a node's `scales`, `sizes` and `roi` speak of.
pub(super) fn named_axes(attrs: &Attrs, rank: usize) -> Result<Vec<usize>, OpError> {
    match attrs.ints("axes") {
        Some(axes) => axes.iter().map(|&a| axis(a, rank)).collect(),
        None => Ok((0..rank).collect()),
    }
}

/// How far every axis of `shape` is stretched.
pub(super) fn stretches(
    attrs: &Attrs,
    shape: &[usize],
    asked: &Asked<'_>,
) -> Result<Vec<Stretch>, OpError> {
    let rank = shape.len();
    let axes = named_axes(attrs, rank)?;
    let given = |t: Option<TensorRef<'_>>| t.map(floats).transpose();
    let regions = match given(asked.roi)? {
        Some(roi) if attrs.str("coordinate_transformation_mode") == "tf_crop_and_resize" => {
            let (starts, ends) = roi.split_at(roi.len() / 2);
            let starts = spread("starts in roi", starts, &axes, rank, 0.0)?;
            starts.into_iter().zip(spread("ends in roi", ends, &axes, rank, 1.0)?).collect()
        }
        _ => vec![(0.0, 1.0); rank],
    };
    let stretch = |i: usize, scale: f32, length: f32| Stretch {
        from: shape[i],
        to: length.floor() as usize,
        scale,
        length,
        region: regions[i],
    };
    let stretched = match (given(asked.scales)?, asked.sizes) {
        (Some(scales), None) => {
            let scales = spread("scales", &scales, &axes, rank, 1.0)?;
            if let Some(bad) = scales.iter().find(|s| !s.is_finite() || **s <= 0.0) {
                return Err(OpError::new(format!("scale {bad}, expected more than 0")));
            }
            let to = |(i, &s): (usize, &f32)| {
                let (start, end) = regions[i];
                stretch(i, s, shape[i] as f32 * (end - start) * s)
            };
            Ok(scales.iter().enumerate().map(to).collect())
        }
        (None, Some(sizes)) => {
            let own: Vec<i64> = axes.iter().map(|&a| shape[a] as i64).collect();
            let sizes = crate::ops::movement::gather::indices(sizes)?;
            let (sizes, common) = fitted(attrs, &sizes, &own)?;
            let own: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
            let mut out = Vec::with_capacity(rank);
            for i in 0..rank {
                let named = axes.iter().position(|&a| a == i);
                let to = named.map_or(own[i], |at| sizes[at]) as usize;
                let scale = match (named, common) {
                    (Some(_), Some(common)) => common,
                    _ => to as f32 / shape[i] as f32,
                };
                out.push(Stretch { to, ..stretch(i, scale, to as f32) });
            }
            Ok(out)
        }
        _ => Err(OpError::new("scales and sizes, expected exactly one of the two")),
    };
    let stretched: Vec<Stretch> = stretched?;
    match stretched.iter().position(|s| s.from == 0 && s.to > 0) {
        Some(i) => {
            let to = stretched[i].to;
            Err(OpError::new(format!("axis {i} is empty and cannot be stretched to {to} elements")))
        }
        None => Ok(stretched),
    }
}

/// The sizes that the aspect ratio leaves of those asked for, and the scale that they share.
fn fitted(attrs: &Attrs, sizes: &[i64], own: &[i64]) -> Result<(Vec<i64>, Option<f32>), OpError> {
    if sizes.len() != own.len() || sizes.iter().any(|&s| s < 0) {
        return Err(OpError::new(format!("sizes {sizes:?} for {} axes", own.len())));
    }
    let ratios = sizes.iter().zip(own).map(|(&s, &n)| s as f32 / n as f32);
    let common = match attrs.str("keep_aspect_ratio_policy") {
        "stretch" => return Ok((sizes.to_vec(), None)),
        "not_larger" => ratios.fold(f32::INFINITY, f32::min),
        "not_smaller" => ratios.fold(0.0, f32::max),
        other => {
            return Err(OpError::new(format!(
                "keep_aspect_ratio_policy {other:?}, expected \"stretch\", \"not_larger\" or \"not_smaller\""
            )));
        }
    };
    let sizes = own.iter().map(|&n| (common * n as f32 + 0.5).floor() as i64).collect();
    Ok((sizes, Some(common)))
}

impl Stretch {
    /// Where position `at` of the result lies on the operand's axis.
    fn coordinate(&self, mode: &str, at: usize) -> Result<f32, OpError> {
        let (at, from, to) = (at as f32, self.from as f32, self.to as f32);
        let half_pixel = (at + 0.5) / self.scale - 0.5;
        Ok(match mode {
            "half_pixel" => half_pixel,
            "half_pixel_symmetric" => {
                let adjustment = to / (self.scale * from);
                from / 2.0 * (1.0 - adjustment) + half_pixel
            }
            "pytorch_half_pixel" if self.to > 1 => half_pixel,
            // The corners of a fractional length, which the last element then does not reach.
            "align_corners" if self.length != 1.0 => at * (from - 1.0) / (self.length - 1.0),
            "pytorch_half_pixel" | "align_corners" => 0.0,
            "asymmetric" => at / self.scale,
            "tf_half_pixel_for_nn" => (at + 0.5) / self.scale,
            "tf_crop_and_resize" => {
                let (start, end) = self.region;
                if self.to > 1 {
                    start * (from - 1.0) + at * (end - start) * (from - 1.0) / (to - 1.0)
                } else {
                    0.5 * (start + end) * (from - 1.0)
                }
            }
            other => {
                return Err(OpError::new(format!(
                    "unknown coordinate_transformation_mode {other:?}"
                )));
            }
        })
    }

    /// Whether nothing happens along this axis.
    pub fn is_identity(&self, attrs: &Attrs) -> bool {
        self.from == self.to
            && self.scale == 1.0
            && attrs.str("coordinate_transformation_mode") != "tf_crop_and_resize"
    }

    /// The table of this axis.
    pub fn table(&self, attrs: &Attrs) -> Result<Table, OpError> {
        let mode = attrs.str("coordinate_transformation_mode");
        let crops = mode == "tf_crop_and_resize";
        let filter = Filter::new(attrs, self.scale)?;
        let taps = filter.footprint.min(self.from);
        let weights = taps.checked_mul(self.to).ok_or_else(|| {
            OpError::new(format!("{taps} neighbours of each of {} elements", self.to))
        })?;
        let (start, weights) = (room(self.to)?, filled(weights, 0.0)?);
        let mut table = Table { taps, start, weights };
        for at in 0..self.to {
            let x = self.coordinate(mode, at)?;
            let outside = crops && (x < 0.0 || x > (self.from - 1) as f32);
            let weights = &mut table.weights[at * taps..][..taps];
            let start = filter.weigh(x, self.from, weights);
            table.start.push((!outside).then_some(start));
        }
        Ok(table)
    }
}

/// Elements that a kernel reaches at most, and how far outside an axis a coordinate makes a difference.
const FARTHEST: f32 = (1u32 << 24) as f32;

#[derive(Clone, Copy)]
enum Kernel {
    Nearest(fn(f32) -> f32),
    Linear,
    Cubic { a: f32 },
}

impl Kernel {
    /// The weight of an element at distance `x`.
    fn at(self, x: f32) -> f32 {
        let x = x.abs();
        match self {
            Kernel::Nearest(_) => 1.0,
            Kernel::Linear => (1.0 - x).max(0.0),
            Kernel::Cubic { a } if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Kernel::Cubic { a } if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            Kernel::Cubic { .. } => 0.0,
        }
    }
}

/// Weights of the neighbours of a coordinate.
struct Filter {
    kernel: Kernel,
    /// Shrinks distances so that a kernel covers all that it stands for: below 1 only when anti-aliasing.
    density: f32,
    /// First neighbour, relative to the element at or below the coordinate.
    first: isize,
    /// Neighbours.
    footprint: usize,
    /// Neighbours outside the axis get no weight, instead of standing for the edge.
    exclude_outside: bool,
    /// Weights are divided by their sum.
    normalise: bool,
}

impl Filter {
    fn new(attrs: &Attrs, scale: f32) -> Result<Self, OpError> {
        let kernel = match attrs.str("mode") {
            "nearest" => Kernel::Nearest(rounding(attrs.str("nearest_mode"), scale)?),
            "linear" => Kernel::Linear,
            "cubic" => Kernel::Cubic { a: attrs.float("cubic_coeff_a") },
            other => {
                return Err(OpError::new(format!(
                    "mode {other:?}, expected \"nearest\", \"linear\" or \"cubic\""
                )));
            }
        };
        let radius = match kernel {
            Kernel::Nearest(_) => {
                return Ok(Self {
                    kernel,
                    density: 1.0,
                    first: 0,
                    footprint: 1,
                    exclude_outside: false,
                    normalise: false,
                });
            }
            Kernel::Linear => 1.0,
            Kernel::Cubic { .. } => 2.0,
        };
        let antialias = attrs.int("antialias") != 0 && scale < 1.0;
        let density = if antialias { scale } else { 1.0 };
        let reach = radius / density;
        if reach > FARTHEST {
            return Err(OpError::new(format!(
                "scale {scale} makes an element of the result of {reach} on either side"
            )));
        }
        let first = (-reach).floor() as isize + 1;
        let exclude_outside = attrs.int("exclude_outside") != 0;
        Ok(Self {
            kernel,
            density,
            first,
            footprint: (2 - 2 * first) as usize,
            exclude_outside,
            normalise: antialias || exclude_outside,
        })
    }

    /// Writes the weights of the neighbours of `x` on an axis of `size` elements and gives the first of them. Neighbours
    /// outside count for the edge element.
    fn weigh(&self, x: f32, size: usize, weights: &mut [f32]) -> usize {
        let last = size as isize - 1;
        if let Kernel::Nearest(round) = self.kernel {
            weights[0] = 1.0;
            return (round(x) as isize).clamp(0, last) as usize;
        }
        let (floor, part) = (x.floor(), x - x.floor());
        // A coordinate that is not finite, or far outside, reads the edge.
        let floor = floor.clamp(-FARTHEST, last as f32 + FARTHEST);
        let first = floor as isize + self.first;
        let start = first.clamp(0, size as isize - weights.len() as isize);
        for at in first..first + self.footprint as isize {
            if self.exclude_outside && !(0..=last).contains(&at) {
                continue;
            }
            let distance = (at - floor as isize) as f32 - part;
            weights[(at.clamp(0, last) - start) as usize] +=
                self.kernel.at(distance * self.density);
        }
        if self.normalise {
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        start as usize
    }
}

fn rounding(mode: &str, scale: f32) -> Result<fn(f32) -> f32, OpError> {
    Ok(match mode {
        // Before there was a choice.
        "simple" if scale < 1.0 => f32::ceil,
        "simple" => f32::floor,
        "round_prefer_floor" => |x| (x - 0.5).ceil(),
        "round_prefer_ceil" => |x| (x + 0.5).floor(),
        "floor" => f32::floor,
        "ceil" => f32::ceil,
        other => return Err(OpError::new(format!("unknown nearest_mode {other:?}"))),
    })
}

/// Sizes around an axis: of the axes before it, and behind it.
pub(super) fn around(shape: &[usize], at: usize) -> (usize, usize) {
    (shape[..at].iter().product(), shape[at + 1..].iter().product())
}

/// Older exporters state "not given" as an empty tensor.
pub(super) fn given(t: Option<TensorRef<'_>>) -> Option<TensorRef<'_>> {
    t.filter(|t| !t.is_empty())
}
