"""text.py OUT page|line: printed text as the OCR networks take it, BGR in NCHW, one tensor for each run."""

import sys

import numpy
import tensors
from PIL import Image, ImageDraw, ImageFont

LINES = ["Never silently wrong.", "Strip, then fill, is the full build,", "bit for bit, on every device."]
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]


def printed(width, height, size, lines):
    """Dark blue text on paper whose shade changes a little from left to right."""
    shade = numpy.linspace(225, 250, width, dtype=numpy.uint8)
    paper = numpy.broadcast_to(shade[None, :, None], (height, width, 3))
    image = Image.fromarray(numpy.ascontiguousarray(paper))
    draw = ImageDraw.Draw(image)
    for index, line in enumerate(lines):
        draw.text((8, 6 + index * size * 1.5), line, fill=(20, 30, 90), font=ImageFont.load_default(size))
    return numpy.asarray(image, dtype=numpy.float32)[:, :, ::-1]


def batch(images, scale):
    mean, deviation = scale
    return ((numpy.stack(images) / 255 - mean) / deviation).transpose(0, 3, 1, 2).astype(numpy.float32)


out, kind = sys.argv[1:]
runs = {
    "page": lambda: [
        batch([printed(320, 160, 18, LINES)], IMAGENET),
        batch([printed(160, 96, 14, LINES[:1]), printed(160, 96, 14, LINES[1:])], IMAGENET),
    ],
    "line": lambda: [
        batch([printed(192, 48, 28, ["3.14159 refit"])], HALF),
        batch([printed(320, 48, 28, [line]) for line in LINES[:2]], HALF),
    ],
}[kind]()
tensors.save(out, {f"run{i}": run for i, run in enumerate(runs)})
