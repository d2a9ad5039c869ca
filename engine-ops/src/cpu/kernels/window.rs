//! Sliding windows: what convolutions and pools share about kernel sizes, strides, dilations and padding.

use crate::AttrsExt;
use crate::OpError;
use engine_format::{Attrs, Dim};

/// Attributes of a window, one entry per spatial axis.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    kernel: Vec<Dim>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    padding: Padding,
    ceil: bool,
}

#[derive(Clone, Debug)]
enum Padding {
    /// Before and after, per axis.
    Explicit(Vec<[i64; 2]>),
    /// As many outputs as strides begin in the input; an odd element goes after it (upper) or before it.
    Same { upper: bool },
    /// None, and only whole windows.
    Valid,
}

/// One spatial axis with everything known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Input elements.
    pub(crate) input: usize,
    /// Output elements.
    pub(crate) output: usize,
    /// Taps.
    pub(crate) kernel: usize,
    /// Input elements from one output to the next.
    pub(crate) stride: usize,
    /// Input elements from one tap to the next.
    pub(crate) dilation: usize,
    /// Padding before the input.
    pub(crate) before: usize,
    /// Padding after it.
    pub(crate) after: usize,
}

/// The integers of an attribute, one an axis, none below `least`.
fn per_axis(
    attrs: &Attrs,
    name: &str,
    rank: usize,
    least: i64,
) -> Result<Option<Vec<i64>>, OpError> {
    let Some(values) = attrs.ints(name) else { return Ok(None) };
    if values.len() != rank || values.iter().any(|&v| v < least || v > i64::from(u32::MAX)) {
        let message =
            format!("attribute {name:?} is {values:?}, expected {rank} of at least {least}");
        return Err(OpError::new(message));
    }
    Ok(Some(values.to_vec()))
}

impl Window {
    /// Reads the attributes of a window over `rank` spatial axes; `weight` gives the kernel's size where `kernel_shape` does
    /// not.
    pub(crate) fn read(
        attrs: &Attrs,
        rank: usize,
        weight: Option<&[Dim]>,
    ) -> Result<Self, OpError> {
        let stated = per_axis(attrs, "kernel_shape", rank, 1)?;
        let kernel = match (stated, weight) {
            (Some(stated), weight) => {
                let same = |(s, w): (&i64, &Dim)| w.known().is_none_or(|w| w == *s);
                if !weight.is_none_or(|w| stated.iter().zip(w).all(same)) {
                    let message = format!("kernel_shape {stated:?} of a weight {weight:?}");
                    return Err(OpError::new(message));
                }
                stated.into_iter().map(Dim::from).collect()
            }
            (None, Some(weight)) => weight.to_vec(),
            (None, None) => return Err(OpError::new("attribute \"kernel_shape\" is missing")),
        };
        if let Some(none) = kernel.iter().find(|size: &&Dim| size.known() == Some(0)) {
            return Err(OpError::new(format!("a kernel of size {none}: {kernel:?}")));
        }
        let ones = || vec![1; rank];
        let padding = match attrs.str("auto_pad") {
            "NOTSET" | "" => {
                let pads =
                    per_axis(attrs, "pads", 2 * rank, 0)?.unwrap_or_else(|| vec![0; 2 * rank]);
                Padding::Explicit((0..rank).map(|i| [pads[i], pads[rank + i]]).collect())
            }
            "SAME_UPPER" => Padding::Same { upper: true },
            "SAME_LOWER" => Padding::Same { upper: false },
            "VALID" => Padding::Valid,
            other => {
                let message =
                    format!("auto_pad {other:?}; takes NOTSET, SAME_UPPER, SAME_LOWER and VALID");
                return Err(OpError::new(message));
            }
        };
        Ok(Self {
            kernel,
            strides: per_axis(attrs, "strides", rank, 1)?.unwrap_or_else(ones),
            dilations: per_axis(attrs, "dilations", rank, 1)?.unwrap_or_else(ones),
            padding,
            ceil: attrs.opt_int("ceil_mode").unwrap_or(0) != 0,
        })
    }

    /// Input elements from a window's first to its last tap, inclusive.
    fn extent(&self, axis: usize) -> Dim {
        let gaps = &self.kernel[axis] - &Dim::from(1);
        &(&Dim::from(self.dilations[axis]) * &gaps) + &Dim::from(1)
    }

    /// Outputs along an axis.
    pub(crate) fn output(&self, axis: usize, input: &Dim) -> Result<Dim, OpError> {
        let stride = Dim::from(self.strides[axis]);
        let extent = self.extent(axis);
        if extent.is_undefined() {
            return Err(OpError::new(format!("the window on spatial axis {axis} is too large")));
        }
        let out = match &self.padding {
            Padding::Same { .. } => (&(input + &stride) - &Dim::from(1)).floor_div(&stride),
            Padding::Valid => &(input - &extent).floor_div(&stride) + &Dim::from(1),
            Padding::Explicit(pads) => {
                let [before, after] = pads[axis].map(Dim::from);
                let padded = &(input + &before) + &after;
                if self.ceil {
                    self.ceil_output(axis, &(input + &before), &after, &extent)
                } else {
                    &(&padded - &extent).floor_div(&stride) + &Dim::from(1)
                }
            }
        };
        match out.known() {
            Some(n) if n < 0 || (n == 0 && input.known() != Some(0)) => Err(OpError::new(format!(
                "spatial axis {axis} of size {input} is smaller than the window of {extent}"
            ))),
            _ => Ok(out),
        }
    }

    /// Outputs where the last window may be partial. `⌈(padded − extent) / stride⌉ + 1`, less the last window if it would
    /// begin in the padding after the input. Both at once: `⌈(reach + min(after + stride − extent, 0)) / stride⌉` with
    /// `reach` the input and the padding before it.
    fn ceil_output(&self, axis: usize, reach: &Dim, after: &Dim, extent: &Dim) -> Dim {
        let stride = Dim::from(self.strides[axis]);
        let slack = &(after + &stride) - extent;
        let slack = match slack.known() {
            Some(n) => Dim::from(n.min(0)),
            None => slack,
        };
        (&(&(reach + &slack) + &stride) - &Dim::from(1)).floor_div(&stride)
    }

    /// The axes of a concrete input.
    pub(crate) fn axes(&self, input: &[usize]) -> Result<Vec<Axis>, OpError> {
        let axis = |(i, &size): (usize, &usize)| {
            let output = self.output(i, &Dim::from(size))?;
            let known = |dim: &Dim| dim.known().and_then(|n| usize::try_from(n).ok());
            let (Some(output), Some(kernel)) = (known(&output), known(&self.kernel[i])) else {
                return Err(OpError::new(format!("window {:?} is not known", self.kernel)));
            };
            let (stride, dilation) = (self.strides[i] as usize, self.dilations[i] as usize);
            let [before, after] = match &self.padding {
                Padding::Explicit(pads) => pads[i].map(|p| p as usize),
                Padding::Valid => [0, 0],
                Padding::Same { upper } => {
                    let span = (output.max(1) - 1) * stride + (kernel - 1) * dilation + 1;
                    let total = span.saturating_sub(size);
                    let (less, more) = (total / 2, total - total / 2);
                    if *upper { [less, more] } else { [more, less] }
                }
            };
            Ok(Axis { input: size, output, kernel, stride, dilation, before, after })
        };
        input.iter().enumerate().map(axis).collect()
    }
}

impl Axis {
    /// An axis along which nothing happens.
    pub(crate) const UNIT: Self =
        Self { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 };

    /// The input element under a tap at an output, if it is not padding.
    pub(crate) fn at(&self, output: usize, tap: usize) -> Option<usize> {
        (output * self.stride + tap * self.dilation)
            .checked_sub(self.before)
            .filter(|&i| i < self.input)
    }

    /// The outputs at which a tap is not on padding.
    pub(crate) fn outputs(&self, tap: usize) -> std::ops::Range<usize> {
        let shift = tap * self.dilation;
        let from = self.before.saturating_sub(shift).div_ceil(self.stride);
        let end = (self.input + self.before).saturating_sub(shift).div_ceil(self.stride);
        let end = end.min(self.output);
        from.min(end)..end
    }

    /// Whether nothing happens along this axis: outputs are inputs.
    pub(crate) fn is_still(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.before == 0 && self.input == self.output
    }

    /// The taps at an output that are not on padding.
    pub(crate) fn inside(&self, output: usize) -> std::ops::Range<usize> {
        let first = output * self.stride;
        // Divisions are slow enough to show in the rows of a small image.
        let steps = |n: usize| if self.dilation == 1 { n } else { n.div_ceil(self.dilation) };
        let from = steps(self.before.saturating_sub(first));
        let end = steps((self.input + self.before).saturating_sub(first));
        let end = end.min(self.kernel);
        from.min(end)..end
    }

    /// Taps at an output that are on the input or its padding (the last window of a pool may reach beyond).
    pub(crate) fn padded_taps(&self, output: usize) -> usize {
        let padded = self.before + self.input + self.after;
        padded.saturating_sub(output * self.stride).div_ceil(self.dilation).min(self.kernel)
    }
}

/// The axes as depth, height and width. Axes along which nothing happens are dropped, so that the innermost loop is long.
pub(crate) fn three(axes: &[Axis]) -> Result<[Axis; 3], OpError> {
    let same = |a: &&Axis| Axis { stride: 1, dilation: 1, ..**a } != Axis::UNIT;
    let busy: Vec<Axis> = axes.iter().filter(same).copied().collect();
    if busy.len() > 3 {
        return Err(OpError::new(format!("{} spatial axes; takes up to 3", axes.len())));
    }
    let mut three = [Axis::UNIT; 3];
    three[3 - busy.len()..].copy_from_slice(&busy);
    Ok(three)
}

/// Product of one size of the axes.
pub(crate) fn volume(axes: &[Axis; 3], size: impl Fn(&Axis) -> usize) -> usize {
    axes.iter().map(size).product()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_format::Attr;

    fn window(attrs: &[(&str, Attr)], rank: usize) -> Window {
        let mut all: Attrs = attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        all.entry("auto_pad".to_owned()).or_insert(Attr::Str("NOTSET".to_owned()));
        Window::read(&all, rank, None).unwrap()
    }

    /// Counts windows one by one: those that begin before the end of the input, and that either fit into the padded input
    /// or, rounding up, begin a stride after one that fits.
    #[test]
    fn closed_form_of_ceil_mode_counts_windows() {
        for (kernel, stride, before, after, dilation) in [
            (2, 2, 0, 0, 1),
            (3, 2, 0, 0, 1),
            (3, 2, 1, 1, 1),
            (1, 3, 0, 0, 1),
            (2, 3, 1, 0, 1),
            (3, 3, 0, 2, 2),
        ] {
            for input in 6usize..30 {
                let w = window(
                    &[
                        ("kernel_shape", Attr::Ints(vec![kernel])),
                        ("strides", Attr::Ints(vec![stride])),
                        ("pads", Attr::Ints(vec![before, after])),
                        ("dilations", Attr::Ints(vec![dilation])),
                        ("ceil_mode", Attr::Int(1)),
                    ],
                    1,
                );
                let extent = dilation * (kernel - 1) + 1;
                let padded = input as i64 + before + after;
                let mut count = (padded - extent + stride - 1).div_euclid(stride) + 1;
                if (count - 1) * stride >= input as i64 + before {
                    count -= 1;
                }
                let found = w.output(0, &Dim::from(input)).unwrap().known();
                assert_eq!(found, Some(count), "{input} {kernel} {stride} {before} {after}");
            }
        }
    }

    #[test]
    fn ranges_of_outputs_are_those_whose_tap_is_inside() {
        for (input, kernel, stride, dilation, before) in
            [(7, 3, 1, 1, 1), (8, 3, 2, 1, 0), (5, 4, 3, 2, 4), (3, 5, 1, 1, 2), (10, 2, 4, 3, 1)]
        {
            let axis = Axis { input, output: 6, kernel, stride, dilation, before, after: 9 };
            for tap in 0..kernel {
                let inside: Vec<usize> = (0..6).filter(|&o| axis.at(o, tap).is_some()).collect();
                assert_eq!(axis.outputs(tap).collect::<Vec<_>>(), inside, "{axis:?} tap {tap}");
            }
            for o in 0..6 {
                let inside: Vec<usize> = (0..kernel).filter(|&t| axis.at(o, t).is_some()).collect();
                assert_eq!(axis.inside(o).collect::<Vec<_>>(), inside, "{axis:?} output {o}");
            }
        }
    }

    #[test]
    fn same_padding_and_symbols() {
        let w = window(
            &[
                ("kernel_shape", Attr::Ints(vec![3, 4])),
                ("strides", Attr::Ints(vec![2, 1])),
                ("auto_pad", Attr::Str("SAME_LOWER".to_owned())),
            ],
            2,
        );
        let axes = w.axes(&[5, 6]).unwrap();
        assert_eq!((axes[0].output, axes[0].before, axes[0].after), (3, 1, 1));
        assert_eq!((axes[1].output, axes[1].before, axes[1].after), (6, 2, 1));
        assert_eq!(w.output(0, &Dim::symbol("h")).unwrap().to_string(), "floor(h + 1, 2)");
        let trivial = three(&[axes[0], Axis { stride: 2, ..Axis::UNIT }]).unwrap();
        assert_eq!(trivial, [Axis::UNIT, Axis::UNIT, axes[0]]);
    }

    #[test]
    fn a_window_larger_than_its_input_is_an_error() {
        let w = window(&[("kernel_shape", Attr::Ints(vec![5]))], 1);
        let err = w.output(0, &Dim::from(3)).unwrap_err().to_string();
        assert!(err.contains("smaller than the window of 5"), "{err}");
    }
}
