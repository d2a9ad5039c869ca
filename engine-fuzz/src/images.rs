//! Images of every format that is decoded.

use crate::choices::Choices;
use crate::damage::damage;
use engine_format::{Attr, Attrs, Tensor};
use engine_ops::{eval, lookup};

macro_rules! files {
    ($($name:literal)*) => {
        [$(include_bytes!(concat!("../../engine-ops/tests/files/images/", $name))),*]
    };
}

const FILES: [&[u8]; 17] = files!(
    "16.bmp" "16.jp2" "16.tif" "16.webp" "420.jpg" "420.png" "422.jpg" "440.jpg" "444.jpg" "clipped.jpg" "gray.jp2" "gray.jpg" "lossy.jp2"
    "lossy.webp" "narrow.jpg" "progressive.jpg" "restart.jpg"
);

/// Bytes of a file.
const MOST: usize = 1 << 14;

/// A file that was damaged, decoded by the operator.
pub fn images(choices: &[u8]) {
    let mut choices = Choices::new(choices);
    let mut file = choices.pick(&FILES).to_vec();
    let format = *choices.pick(&["RGB", "BGR", "Grayscale"]);
    damage(&mut file, &mut choices, MOST);
    let Some(def) = lookup("ImageDecoder", 1) else { return };
    let attrs = Attrs::from([("pixel_format".into(), Attr::Str(format.into()))]);
    let file = Tensor::from_slice(&[file.len()], &file);
    if let Ok(results) = eval(def, &attrs, &[Some(file)], 1) {
        let shape = results[0].shape();
        assert_eq!(shape.len(), 3, "height, width, channels");
        assert_eq!(shape[2], if format == "Grayscale" { 1 } else { 3 });
    }
}
