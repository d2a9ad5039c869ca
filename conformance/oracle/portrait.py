"""portrait.py OUT PICTURE NETWORK: a picture as NETWORK takes it, in NCHW: one tensor for each of its runs."""

import sys

import numpy
import tensors
from PIL import Image

out, picture, network = sys.argv[1:]


def pixels(width, height):
    image = Image.open(picture).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return numpy.asarray(image, dtype=numpy.float32)


def u2net():
    """Scaled to the brightest pixel, then by the mean and deviation of ImageNet."""
    image = pixels(320, 320)
    return [(image / image.max() - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]]


runs = {
    "yunet": lambda: [pixels(640, 640)[:, :, ::-1]],
    "u2net": u2net,
    "multistyle": lambda: [pixels(128, 96) / 255, pixels(100, 140) / 255],
}[network]()
tensors.save(out, {f"run{i}": image.transpose(2, 0, 1)[None].astype(numpy.float32) for i, image in enumerate(runs)})
