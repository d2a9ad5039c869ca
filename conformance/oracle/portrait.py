"""portrait.py OUT PICTURE: a picture as a face detector takes it, BGR 0…255, 640 × 640, in NCHW."""

import sys

import numpy
import tensors
from PIL import Image

out, picture = sys.argv[1:]
image = Image.open(picture).convert("RGB").resize((640, 640), Image.Resampling.BILINEAR)
pixels = numpy.asarray(image, dtype=numpy.float32)[:, :, ::-1]
tensors.save(out, {"input": pixels.transpose(2, 0, 1)[None]})
