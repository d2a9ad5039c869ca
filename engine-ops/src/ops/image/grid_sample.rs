//! An image read at given places.

use crate::AttrsExt;
use crate::case::{Case, ramp};
use crate::convert::Calc;
use crate::cpu::{Cpu, CpuCtx, TensorRef};
use crate::dtypes::FLOATS;
use crate::fill::filled;
use crate::gpu::elementwise::{PRELUDE, element_type, rounded};
use crate::gpu::{Bind, Dispatch, FEW_ROUNDS, GpuCtx, GpuProgram, render};
use crate::infer::{Facts, InferCtx, InferError};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand, Tolerance};
use engine_format::{Attr, Attrs, DType, Tensor};

pub static GRID_SAMPLE: OpDef = OpDef {
    name: "GridSample",
    doc: "The image at the places of `grid`, whose last axis holds coordinates in −1…1, the last spatial axis first; between \
          pixels as `mode` says (linear, nearest, cubic with a = −0.75), outside as `padding_mode` says (zeros, border, \
          reflection). With `align_corners` ±1 are centres of pixels, else edges.",
    onnx: &[OnnxName::since("GridSample", 16)],
    attrs: &[
        AttrDef::int("align_corners", 0),
        AttrDef::str("mode", "linear"),
        AttrDef::str("padding_mode", "zeros"),
    ],
    inputs: &[
        Operand::data("X").of(FLOATS).shaped("N C ..."),
        Operand::data("grid").of(FLOATS).shaped("N ..."),
    ],
    infer,
    cpu: Cpu::kernel(run),
    gpu: Some(gpu),
    tolerance: Tolerance::SUMS,
    cases: || {
        let x = Tensor::from_slice(&[1, 1, 2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
        let grid = || Tensor::from_slice(&[1, 1, 3, 2], &[0.0f32, 0.0, -0.5, -0.5, 1.0, 0.0]);
        let y = |v: [f32; 3]| vec![Tensor::from_slice(&[1, 1, 1, 3], &v)];
        let text = |s: &str| Attr::Str(s.to_owned());
        let forms = [
            ("cubic, zeros", "cubic", "zeros", 0),
            ("cubic, border", "cubic", "border", 1),
            ("cubic, reflection", "cubic", "reflection", 0),
            ("linear, reflection", "linear", "reflection", 1),
        ];
        let mut cases: Vec<Case> = forms
            .into_iter()
            .map(|(name, mode, padding, aligned)| {
                Case::new(name, vec![ramp(&[2, 3, 7, 5]), ramp(&[2, 4, 9, 2])])
                    .attr("mode", text(mode))
                    .attr("padding_mode", text(padding))
                    .attr("align_corners", Attr::Int(aligned))
            })
            .collect();
        let volumes = [
            ("volume, linear", "linear", "zeros", 0),
            ("volume, cubic", "cubic", "reflection", 1),
            ("volume, nearest", "nearest", "border", 0),
        ];
        cases.extend(volumes.into_iter().map(|(name, mode, padding, aligned)| {
            Case::new(name, vec![ramp(&[2, 2, 4, 3, 5]), ramp(&[2, 2, 3, 4, 3])])
                .attr("mode", text(mode))
                .attr("padding_mode", text(padding))
                .attr("align_corners", Attr::Int(aligned))
        }));
        cases.extend([
            Case::new("signal", vec![ramp(&[2, 3, 9]), ramp(&[2, 7, 1])]),
            Case::new("of no pixel", vec![ramp(&[1, 2, 0, 3]), ramp(&[1, 2, 2, 2])])
                .expect(vec![Tensor::zeros(DType::F32, &[1, 2, 2, 2])]),
            Case::new(
                "no place",
                vec![x.clone(), Tensor::from_slice(&[1, 1, 1, 2], &[f32::NAN, 0.0])],
            )
            .expect(vec![Tensor::from_slice(&[1, 1, 1, 1], &[0f32])]),
            Case::new("linear", vec![x.clone(), grid()]).expect(y([2.5, 1.0, 1.5])),
            Case::new("border", vec![x.clone(), grid()])
                .attr("padding_mode", text("border"))
                .expect(y([2.5, 1.0, 3.0])),
            Case::new("nearest", vec![x, grid()])
                .attr("mode", text("nearest"))
                .attr("padding_mode", text("reflection"))
                .expect(y([1.0, 1.0, 2.0])),
        ]);
        cases
    },
    ..OpDef::BASE
};

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    let (x, grid) = (ctx.facts(0)?, ctx.shape(1)?);
    let shape = ctx.shape(0)?;
    let spatial = shape.len().saturating_sub(2);
    let last = grid.last().and_then(|dim| dim.known());
    if spatial == 0 || grid.len() != shape.len() || last.is_some_and(|n| n != spatial as i64) {
        return Err(InferError::invalid(format!(
            "operands have shapes {shape:?} and {grid:?}, expected as many coordinates as axes behind channels"
        )));
    }
    Sampling::read(ctx.attrs)?;
    let out = shape[..2].iter().chain(&grid[1..=spatial]).cloned().collect();
    Ok(vec![Facts::new(x.dtype, out)])
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Linear,
    Nearest,
    Cubic,
}

#[derive(Clone, Copy, PartialEq)]
enum Outside {
    Zeros = 0,
    Border = 1,
    Reflection = 2,
}

#[derive(Clone, Copy)]
struct Sampling {
    mode: Mode,
    outside: Outside,
    aligned: bool,
}

impl Sampling {
    fn read(attrs: &Attrs) -> Result<Self, OpError> {
        let mode = match attrs.str("mode") {
            "linear" | "bilinear" => Mode::Linear,
            "nearest" => Mode::Nearest,
            "cubic" | "bicubic" => Mode::Cubic,
            other => {
                return Err(OpError::new(format!(
                    "mode is {other:?}, expected linear, nearest or cubic"
                )));
            }
        };
        let outside = match attrs.str("padding_mode") {
            "zeros" => Outside::Zeros,
            "border" => Outside::Border,
            "reflection" => Outside::Reflection,
            other => {
                return Err(OpError::new(format!(
                    "padding_mode is {other:?}, expected zeros, border or reflection"
                )));
            }
        };
        Ok(Self { mode, outside, aligned: attrs.int("align_corners") != 0 })
    }

    /// The place in pixels of coordinate `x` along an axis of `n`.
    fn place(self, x: f64, n: usize) -> f64 {
        let n = n as f64;
        let at =
            if self.aligned { (x + 1.0) / 2.0 * (n - 1.0) } else { ((x + 1.0) * n - 1.0) / 2.0 };
        let at = if self.mode == Mode::Nearest { at.round_ties_even() } else { at };
        match self.outside {
            Outside::Zeros => at,
            Outside::Border => at.clamp(0.0, n - 1.0),
            Outside::Reflection => self.reflected(at, n),
        }
    }

    /// `at` mirrored at the edges as often as it takes.
    fn reflected(self, at: f64, n: f64) -> f64 {
        let (low, high) = if self.aligned { (0.0, n - 1.0) } else { (-0.5, n - 0.5) };
        if high <= low {
            return low.max(0.0);
        }
        let along = (at - low).rem_euclid(2.0 * (high - low));
        low + along.min(2.0 * (high - low) - along)
    }

    /// Pixels along an axis of `n` and their shares at place `at`; pixels outside are `None`.
    fn taps(self, at: f64, n: usize, out: &mut Vec<(Option<usize>, f64)>) {
        out.clear();
        let first = at.floor();
        let t = at - first;
        let pixel = |offset: f64| {
            let p = first + offset;
            let p = match self.outside {
                Outside::Zeros => p,
                Outside::Border => p.clamp(0.0, n as f64 - 1.0),
                Outside::Reflection => self.reflected(p, n as f64),
            };
            (p >= 0.0 && p < n as f64).then_some(p as usize)
        };
        match self.mode {
            Mode::Nearest => out.push((pixel(0.0), 1.0)),
            Mode::Linear => out.extend([(pixel(0.0), 1.0 - t), (pixel(1.0), t)]),
            Mode::Cubic => {
                let a = -0.75;
                let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
                let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
                let shares = [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)];
                let offsets = [-1.0, 0.0, 1.0, 2.0];
                out.extend(offsets.into_iter().zip(shares).map(|(o, share)| (pixel(o), share)));
            }
        }
    }
}

/// Spatial axes that the shader walks over.
const GPU_AXES: usize = 3;

fn gpu(ctx: &GpuCtx<'_>) -> Result<Option<GpuProgram>, OpError> {
    let (x, y) = (ctx.input(0), ctx.output());
    let floats = [x.dtype, ctx.input(1).dtype].map(element_type) == [Some("f32"); 2];
    let spatial = x.shape.len() - 2;
    if !floats || spatial > GPU_AXES {
        return Ok(None);
    }
    // With no pixel there is nothing to bind, and every place is outside.
    if x.is_empty() && !y.is_empty() {
        return Ok(filled(ctx, [0; 2]));
    }
    // Axes that are not there have one pixel.
    let mut axes = [1; GPU_AXES];
    axes[GPU_AXES - spatial..].copy_from_slice(&x.shape[2..]);
    let sampling = Sampling::read(ctx.attrs)?;
    let taps = match sampling.mode {
        Mode::Nearest => 1,
        Mode::Linear => 2,
        Mode::Cubic => 4,
    };
    let text = render(
        include_str!("grid_sample.wgsl"),
        &[("functions", PRELUDE), ("y", &rounded(x.dtype, "sum"))],
    );
    let places: usize = y.shape[2..].iter().product();
    let mut params = axes.map(|n| n as u32).to_vec();
    params.extend([spatial, y.len(), x.shape[1], places].map(|n| n as u32));
    params.extend([u32::from(sampling.aligned), taps, sampling.outside as u32]);
    Ok(Some(GpuProgram::one(Dispatch {
        rounds: FEW_ROUNDS,
        label: "GridSample".into(),
        wgsl: text.into(),
        binds: vec![Bind::In(0), Bind::In(1), Bind::Out(0)],
        params,
        groups: ctx.limits.linear(y.len(), 64),
    })))
}

fn run(ctx: &mut CpuCtx<'_>) -> Result<(), OpError> {
    let (x, grid) = (ctx.input(0), ctx.input(1));
    let sampling = Sampling::read(ctx.attrs)?;
    let spatial = x.shape.len() - 2;
    let sizes = &x.shape[2..];
    let strides: Vec<usize> = (0..spatial).map(|i| sizes[i + 1..].iter().product()).collect();
    let (channels, pixels) = (x.shape[1], sizes.iter().product::<usize>());
    let y = ctx.output();
    if pixels == 0 {
        // Nothing is read, whatever stands for what lies outside.
        y.bytes.fill(0);
        return Ok(());
    }
    let places: usize = y.shape[2..].iter().product();
    let mut point = vec![0.0f64; spatial];
    let mut taps: Vec<Vec<(Option<usize>, f64)>> = vec![Vec::new(); spatial];
    let mut sums = Vec::new();
    for batch in 0..y.shape[0] {
        for place in 0..places {
            f64::load(grid.dtype, grid.bytes, (batch * places + place) * spatial, &mut point);
            for (axis, taps) in taps.iter_mut().enumerate() {
                // The first coordinate belongs to the last axis.
                let at = sampling.place(point[spatial - 1 - axis], sizes[axis]);
                sampling.taps(at, sizes[axis], taps);
            }
            weigh(&taps, &strides, &mut sums);
            for channel in 0..channels {
                let plane = (batch * channels + channel) * pixels;
                let value = [sums.iter().map(|&(at, share)| share * element(x, plane + at)).sum()];
                let at = (batch * channels + channel) * places + place;
                let size = y.dtype.width();
                f64::store(y.dtype, &value, &mut y.bytes[at * size..][..size]);
            }
        }
    }
    Ok(())
}

fn element(x: TensorRef<'_>, at: usize) -> f64 {
    let mut one = [0.0f64];
    f64::load(x.dtype, x.bytes, at, &mut one);
    one[0]
}

/// Every combination of one pixel per axis, with the product of the shares; pixels outside are left out.
fn weigh(taps: &[Vec<(Option<usize>, f64)>], strides: &[usize], out: &mut Vec<(usize, f64)>) {
    out.clear();
    out.push((0, 1.0));
    for (taps, stride) in taps.iter().zip(strides) {
        let so_far = std::mem::take(out);
        for (at, share) in so_far {
            let inside = taps.iter().filter_map(|&(pixel, part)| Some((pixel?, part)));
            out.extend(inside.map(|(pixel, part)| (at + pixel * stride, share * part)));
        }
    }
}
