//! Images from files of their formats, in memory.

use crate::AttrsExt;
use crate::case::Case;
use crate::cpu::{Cpu, CpuCtx};
use crate::infer::{Facts, InferCtx, InferError};
use crate::{AttrDef, OnnxName, OpDef, OpError, Operand};
use engine_format::{DType, Tensor};

pub static IMAGE_DECODER: OpDef = OpDef {
    name: "ImageDecoder",
    doc: "The pixels of a BMP, JPEG, JPEG 2000, PNG, PNM, TIFF or WebP file as [height, width, channels], the channels being those of \
          `pixel_format` (RGB, BGR or Grayscale, the luma of ITU-R 601); transparency is dropped. No pixels where the file cannot be \
          decoded. Those of a JPEG file are libjpeg's, to the bit.",
    onnx: &[OnnxName::since("ImageDecoder", 20)],
    attrs: &[AttrDef::str("pixel_format", "RGB")],
    inputs: &[Operand::data("encoded_stream").of(&[DType::U8]).shaped("n")],
    outputs: &["image"],
    infer,
    cpu: Cpu::Dynamic(run),
    cases,
    ..OpDef::BASE
};

/// The order of channels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pixels {
    Rgb,
    Bgr,
    Gray,
}

impl Pixels {
    fn named(name: &str) -> Result<Self, OpError> {
        match name {
            "RGB" => Ok(Self::Rgb),
            "BGR" => Ok(Self::Bgr),
            "Grayscale" => Ok(Self::Gray),
            other => Err(OpError::new(format!(
                "pixel_format {other:?}, expected \"RGB\", \"BGR\" or \"Grayscale\""
            ))),
        }
    }

    fn channels(self) -> usize {
        if self == Self::Gray { 1 } else { 3 }
    }

    /// The channels of red, green and blue pixels.
    fn of(self, rgb: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Rgb => rgb,
            Self::Bgr => rgb.as_chunks::<3>().0.iter().flat_map(|&[r, g, b]| [b, g, r]).collect(),
            Self::Gray => rgb.as_chunks::<3>().0.iter().map(|&pixel| luma(pixel)).collect(),
        }
    }
}

/// In 65536ths, rounded: what imaging libraries take for the luma of ITU-R 601.
fn luma(pixel: [u8; 3]) -> u8 {
    let [r, g, b] = pixel.map(u32::from);
    ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8
}

fn infer(ctx: &InferCtx<'_>) -> Result<Vec<Facts>, InferError> {
    Pixels::named(ctx.attrs.str("pixel_format"))?;
    Ok(vec![Facts::unranked(DType::U8)])
}

fn run(ctx: &CpuCtx<'_>) -> Result<Vec<Tensor>, OpError> {
    let pixels = Pixels::named(ctx.attrs.str("pixel_format"))?;
    // The standard gives an empty image for a file that is none.
    let (height, width, rgb) = decode(ctx.input(0).bytes)?.unwrap_or_default();
    let shape = [height, width, pixels.channels()];
    Ok(vec![Tensor::from_slice(&shape, &pixels.of(rgb))])
}

/// Height, width, and the red, green and blue of each pixel; `None` if the bytes are no image.
#[cfg(feature = "images")]
fn decode(file: &[u8]) -> Result<Option<(usize, usize, Vec<u8>)>, OpError> {
    use super::jpeg::{self, Failure};
    use image::ImageError;
    const JPEG: &[u8] = b"\xff\xd8";
    const JPEG_2000: [&[u8]; 2] = [b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"];
    if file.starts_with(JPEG) {
        match jpeg::decode(file) {
            Ok(image) => return Ok(Some((image.height, image.width, image.rgb))),
            Err(Failure::Broken) => return Ok(None),
            Err(Failure::Memory(error)) => return Err(error),
            Err(Failure::Other) => {}
        }
    }
    if JPEG_2000.iter().any(|start| file.starts_with(start)) {
        return jpeg_2000(file);
    }
    let reader = image::ImageReader::new(std::io::Cursor::new(file)).with_guessed_format();
    let decoded = reader.map_err(ImageError::IoError).and_then(image::ImageReader::decode);
    match decoded {
        Ok(image) => {
            let (height, width) = (image.height() as usize, image.width() as usize);
            Ok(Some((height, width, image.into_rgb8().into_raw())))
        }
        Err(ImageError::Limits(limit)) => {
            Err(OpError::new(format!("the image is too large to be decoded: {limit}")))
        }
        Err(_) => Ok(None),
    }
}

/// As [`decode`], of grays and of red, green and blue.
#[cfg(feature = "images")]
fn jpeg_2000(file: &[u8]) -> Result<Option<(usize, usize, Vec<u8>)>, OpError> {
    use super::jpeg::MOST_BYTES;
    use hayro_jpeg2000::{ColorSpace, DecodeSettings, DecoderContext, Image};
    let Ok(image) = Image::new(file, &DecodeSettings::default()) else { return Ok(None) };
    let (height, width) = (image.height() as usize, image.width() as usize);
    let grays = match image.color_space() {
        ColorSpace::Gray => true,
        ColorSpace::RGB => false,
        _ => return Ok(None),
    };
    // Every sample is held as a float and as what is made of it.
    let samples = if grays { 1 } else { 3 } + usize::from(image.has_alpha());
    let bytes = height.saturating_mul(width).saturating_mul(samples * 8);
    if bytes > MOST_BYTES {
        return Err(OpError::new(format!(
            "an image of {height} x {width} pixels takes {bytes} bytes"
        )));
    }
    let mut context = DecoderContext::default();
    let Ok(decoded) = image.decode(&mut context) else { return Ok(None) };
    let planes = decoded.components().iter().take(if grays { 1 } else { 3 });
    let planes: Vec<(&[f32], f64)> = planes
        .map(|plane| (plane.samples(), 2f64.powi(plane.bit_depth().into()) - 1.0))
        .filter(|(samples, most)| samples.len() == height * width && *most > 0.0)
        .collect();
    let byte = |pixel: usize, plane: usize| {
        let (samples, most) = planes[plane];
        (f64::from(samples[pixel]) * 255.0 / most).round() as u8
    };
    let rgb = |pixel| match grays {
        true => [byte(pixel, 0); 3],
        false => [byte(pixel, 0), byte(pixel, 1), byte(pixel, 2)],
    };
    let is_whole = planes.len() == if grays { 1 } else { 3 };
    Ok(is_whole.then(|| (height, width, (0..height * width).flat_map(rgb).collect())))
}

#[cfg(not(feature = "images"))]
fn decode(_: &[u8]) -> Result<Option<(usize, usize, Vec<u8>)>, OpError> {
    Err(OpError::new("images are not decoded: engine-ops was built without its feature \"images\""))
}

#[cfg(not(feature = "images"))]
fn cases() -> Vec<Case> {
    Vec::new()
}

#[cfg(feature = "images")]
fn cases() -> Vec<Case> {
    let case = |name, file: &[u8], format: &str| {
        let format = engine_format::Attr::Str(format.to_owned());
        Case::new(name, vec![Tensor::from_slice(&[file.len()], file)]).attr("pixel_format", format)
    };
    let pixels = |shape: [usize; 3], values: &[u8]| vec![Tensor::from_slice(&shape, values)];
    let picture = include_bytes!("../../../tests/files/images/16.rgb");
    macro_rules! lossless {
        ($name:literal) => {
            case($name, include_bytes!(concat!("../../../tests/files/images/16.", $name)), "RGB")
                .expect(pixels([16, 16, 3], picture))
        };
    }
    let colours = b"P6 2 1 255\n\xff\x00\x00\x01\x02\x03";
    let grays = b"P5 1 3 255\n\x00\x80\xff";
    // One pixel, from below: blue, green, red, and a byte that fills the line up.
    let mut bitmap =
        b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\x18\0".to_vec();
    bitmap.resize(54, 0);
    bitmap.extend([3, 2, 1, 0]);
    vec![
        case("red, green, blue", colours, "RGB").expect(pixels([1, 2, 3], &[255, 0, 0, 1, 2, 3])),
        case("blue, green, red", colours, "BGR").expect(pixels([1, 2, 3], &[0, 0, 255, 3, 2, 1])),
        case("luma", colours, "Grayscale").expect(pixels([1, 2, 1], &[76, 2])),
        case("grays stay", grays, "Grayscale").expect(pixels([3, 1, 1], &[0, 128, 255])),
        case("grays in colour", grays, "RGB")
            .expect(pixels([3, 1, 3], &[0, 0, 0, 128, 128, 128, 255, 255, 255])),
        case("a bitmap", &bitmap, "RGB").expect(pixels([1, 1, 3], &[1, 2, 3])),
        lossless!("bmp"),
        lossless!("jp2"),
        lossless!("tif"),
        lossless!("webp"),
        case("no image", b"GIF89a", "RGB").expect(pixels([0, 0, 3], &[])),
        case("no bytes", b"", "Grayscale").expect(pixels([0, 0, 1], &[])),
        case("half a file", &colours[..12], "RGB").expect(pixels([0, 0, 3], &[])),
    ]
}
