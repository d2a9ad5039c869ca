//! Pictures as inputs: decoded, and brought to the layout, the size and the element type of the input by operators of the table.

use super::read;
use crate::args::Inputs;
use crate::failure::{Class, Failure};
use crate::output::remark;
use engine_format::{Attr, Attrs, DType, Dim, Port, Tensor};
use engine_ops::{eval, lookup};
use std::path::Path;

/// Endings of files that are read as pictures.
const ENDINGS: [&str; 10] =
    ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "jp2"];

/// Whether a file's name says that it is a picture.
pub fn is_one(file: &Path) -> bool {
    let ending = file.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// What is done to pictures: floats are in 0…1, less the mean and divided by the deviation of each channel.
pub struct Pictures {
    mean: Vec<f32>,
    std: Vec<f32>,
    is_normalised: bool,
}

/// Where an input has the height, the width and the channels of a picture.
struct Layout {
    channels: usize,
    /// Whether the channels come before the height.
    first: bool,
    size: [Option<usize>; 2],
    /// Axes before these.
    batch: usize,
}

impl Layout {
    /// That of a port; `None` if it takes no picture.
    fn of(port: &Port) -> Option<Self> {
        let dims = port.shape.as_deref()?;
        let known = |dim: &Dim| dim.known().and_then(|n| usize::try_from(n).ok());
        // What is before the last three axes is a batch.
        let batch = dims.len().checked_sub(3)?;
        if dims[..batch].iter().any(|dim| known(dim).is_some_and(|n| n != 1)) {
            return None;
        }
        let (first, [h, w], channels) = match &dims[batch..] {
            [c, h, w] if is_channels(known(c)) => (true, [h, w], known(c)),
            [h, w, c] if is_channels(known(c)) => (false, [h, w], known(c)),
            // Nothing says which axis it is: floats come as networks calculate, bytes as they lie in memory.
            [c, h, w] if known(c).is_none() && port.dtype.is_float() => (true, [h, w], Some(3)),
            [h, w, c] if known(c).is_none() => (false, [h, w], Some(3)),
            _ => return None,
        };
        Some(Self { channels: channels?, first, size: [h, w].map(known), batch })
    }

    /// The axes of a picture [height, width, channels] in the order of the input, and its shape there.
    fn shape(&self, [h, w]: [usize; 2]) -> Vec<usize> {
        let inner = match self.first {
            true => [self.channels, h, w],
            false => [h, w, self.channels],
        };
        [vec![1; self.batch], inner.to_vec()].concat()
    }
}

fn is_channels(n: Option<usize>) -> bool {
    matches!(n, Some(1 | 3))
}

impl Pictures {
    /// # Errors
    /// `Usage` for a mean or deviations of neither one nor three channels, or a deviation of zero.
    pub fn new(args: &Inputs) -> Result<Self, Failure> {
        for (flag, numbers) in [("--mean", &args.mean), ("--std", &args.std)] {
            if !matches!(numbers.len(), 0 | 1 | 3) {
                let found = numbers.len();
                let what = format!(
                    "{flag}: expected a number, or one for each of 3 channels, found {found}"
                );
                return Err(Failure::new(Class::Usage, what));
            }
        }
        if args.std.contains(&0.0) {
            return Err(Failure::new(Class::Usage, "--std: pictures are divided by it, found 0"));
        }
        Ok(Self {
            is_normalised: !args.mean.is_empty() || !args.std.is_empty(),
            mean: args.mean.clone(),
            std: args.std.clone(),
        })
    }

    /// The picture in a file as `port` takes it.
    ///
    /// # Errors
    /// `Usage`, if the input takes no picture; `InvalidFile`, if the file is none.
    pub fn read(&self, port: &Port, file: &Path) -> Result<Tensor, Failure> {
        let usage = |why: &str| {
            let name = &port.name;
            Failure::new(Class::Usage, format!("input {name:?} takes no picture: {why}"))
        };
        let Some(layout) = Layout::of(port) else {
            let shape: Vec<String> = port.shape.iter().flatten().map(Dim::to_string).collect();
            return Err(usage(&format!(
                "expected a shape such as [1, 3, height, width], found [{}]",
                shape.join(", ")
            )));
        };
        if self.is_normalised && !port.dtype.is_float() {
            return Err(usage(&format!("it is {}, and --mean and --std make floats", port.dtype)));
        }
        let bytes = read(file)?;
        let made = self.tensor(port.dtype, &layout, &bytes, file);
        made.map_err(|why| {
            Failure::new(Class::InvalidFile, why).context(format!("reading {}", file.display()))
        })
    }

    fn tensor(
        &self,
        dtype: DType,
        layout: &Layout,
        bytes: &[u8],
        file: &Path,
    ) -> Result<Tensor, String> {
        let format = if layout.channels == 1 { "Grayscale" } else { "RGB" };
        let format = [("pixel_format", Attr::Str(format.to_owned()))];
        let file_bytes = Tensor::from_slice(&[bytes.len()], bytes);
        let picture = apply("ImageDecoder", format, [Some(file_bytes)])?;
        let [height, width, channels] = *picture.shape() else {
            return Err("a picture has three axes".to_owned());
        };
        if picture.is_empty() {
            return Err("it is no picture, or of a kind that is not read".to_owned());
        }
        let size = [layout.size[0].unwrap_or(height), layout.size[1].unwrap_or(width)];
        let mut floats = cast(&picture, DType::F32)?;
        if size != [height, width] {
            remark!(
                "{}: {height} × {width} pixels are stretched to {} × {}",
                file.display(),
                size[0],
                size[1]
            );
            let sizes = [size[0], size[1], channels].map(|n| n as i64);
            let attrs = [("mode", Attr::Str("linear".to_owned())), ("antialias", Attr::Int(1))];
            let sizes = Tensor::from_slice(&[3], &sizes);
            floats = apply("Resize", attrs, [Some(floats), None, None, Some(sizes)])?;
        }
        let values = floats.as_slice::<f32>().map_err(|error| error.to_string())?;
        let of = |numbers: &[f32], channel: usize, default| match numbers {
            [] => default,
            [one] => *one,
            each => each[channel % each.len()],
        };
        let scaled = values.iter().enumerate().map(|(at, &value)| match dtype.is_float() {
            true => {
                let channel = at % channels;
                (value / 255.0 - of(&self.mean, channel, 0.0)) / of(&self.std, channel, 1.0)
            }
            false => value.round().clamp(0.0, 255.0),
        });
        let scaled = scaled.collect::<Vec<f32>>();
        let mut made = Tensor::from_slice(&[size[0], size[1], channels], &scaled);
        if layout.first {
            made = apply("Transpose", [("perm", Attr::Ints(vec![2, 0, 1]))], [Some(made)])?;
        }
        let made = made.reshaped(&layout.shape(size)).map_err(|error| error.to_string())?;
        cast(&made, dtype)
    }
}

fn cast(tensor: &Tensor, to: DType) -> Result<Tensor, String> {
    if tensor.dtype() == to {
        return Ok(tensor.clone());
    }
    apply("CastLike", [], [Some(tensor.clone()), Some(Tensor::zeros(to, &[]))])
}

/// The first result of an operator of the table.
fn apply<const A: usize, const N: usize>(
    op: &str,
    attrs: [(&str, Attr); A],
    operands: [Option<Tensor>; N],
) -> Result<Tensor, String> {
    let def = lookup(op, 1).ok_or_else(|| format!("the table has no {op}"))?;
    let attrs: Attrs = attrs.into_iter().map(|(name, attr)| (name.to_owned(), attr)).collect();
    let attrs = def.normalise(attrs).map_err(|error| error.to_string())?;
    let results = eval(def, &attrs, &operands, 1).map_err(|error| error.to_string())?;
    results.into_iter().next().ok_or_else(|| format!("{op} gives nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_format::{Form, ValueId};

    fn port(dtype: DType, shape: &[i64]) -> Port {
        let dim = |&n: &i64| if n < 0 { Dim::symbol(&format!("s{n}")) } else { Dim::from(n) };
        let shape = Some(shape.iter().map(dim).collect());
        Port { name: "x".to_owned(), value: ValueId(0), form: Form::Tensor, dtype, shape }
    }

    /// Two pixels: red and (1, 2, 3).
    const PIXELS: &[u8] = b"P6 2 1 255\n\xff\x00\x00\x01\x02\x03";

    fn read(dtype: DType, shape: &[i64], mean: &[f32], std: &[f32]) -> Tensor {
        let args = Inputs { mean: mean.to_vec(), std: std.to_vec(), ..Inputs::default() };
        let layout = Layout::of(&port(dtype, shape)).expect("it takes a picture");
        let pictures = Pictures::new(&args).expect("mean and deviation are right");
        let made = pictures.tensor(dtype, &layout, PIXELS, Path::new("x.ppm"));
        made.expect("it is a picture")
    }

    #[test]
    fn a_picture_lies_as_the_input_does() {
        for (shape, expected, values) in [
            (&[1, 3, -1, -2][..], &[1, 3, 1, 2][..], [255, 1, 0, 2, 0, 3]),
            (&[-1, -2, -3, 3], &[1, 1, 2, 3], [255, 0, 0, 1, 2, 3]),
            (&[3, -1, -2], &[3, 1, 2], [255, 1, 0, 2, 0, 3]),
            (&[-1, -2, 3], &[1, 2, 3], [255, 0, 0, 1, 2, 3]),
        ] {
            let made = read(DType::U8, shape, &[], &[]);
            assert_eq!(made.shape(), expected, "{shape:?}");
            assert_eq!(made.as_slice::<u8>().unwrap_or_default(), values, "{shape:?}");
        }
        let gray = read(DType::U8, &[1, 1, -1, -2], &[], &[]);
        assert_eq!(
            (gray.shape(), gray.as_slice::<u8>().unwrap_or_default()),
            (&[1, 1, 1, 2][..], &[76, 2][..])
        );
    }

    #[test]
    fn floats_are_scaled_and_pictures_stretched() {
        let made = read(DType::F32, &[1, 3, -1, -2], &[0.5, 0.0, 0.0], &[0.25, 1.0, 1.0]);
        let values = made.as_slice::<f32>().unwrap_or_default();
        assert_eq!(values[0], 2.0);
        assert_eq!(values[5], 3.0 / 255.0);
        let wide = read(DType::F32, &[1, 3, 4, 8], &[], &[]);
        assert_eq!(wide.shape(), [1, 3, 4, 8]);
        let red = &wide.as_slice::<f32>().unwrap_or_default()[..8];
        assert!(red[0] == 1.0 && red[7] < 0.01 && red.is_sorted_by(|a, b| a >= b), "{red:?}");
    }

    #[test]
    fn not_every_input_takes_a_picture() {
        for shape in [&[5][..], &[-1, 6], &[1, 2, 8, 8], &[4, 3, 8, 8], &[1, 2, 3, 4, 5]] {
            assert!(Layout::of(&port(DType::F32, shape)).is_none(), "{shape:?}");
        }
        for wrong in [[1.0f32; 2].as_slice(), &[0.0; 3]] {
            let args = Inputs { std: wrong.to_vec(), ..Inputs::default() };
            assert!(Pictures::new(&args).is_err(), "{wrong:?}");
        }
    }
}
