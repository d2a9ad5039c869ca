"""speech.py OUT: eight frames of 16 kHz audio as silero-vad takes them, each with 64 samples of the frame before.

A voice is imitated by its physics: pulses at a gliding pitch through three formant resonators, between two pauses of
faint noise, so that the detector's state has something to follow.
"""

import sys

import numpy
import tensors

RATE, FRAME, CONTEXT, FRAMES = 16_000, 512, 64, 8
random = numpy.random.default_rng(7)
count = FRAME * FRAMES
time = numpy.arange(count) / RATE
phase = numpy.cumsum(110 + 30 * numpy.sin(2 * numpy.pi * 3 * time)) / RATE
voice = (numpy.diff(numpy.floor(phase), prepend=0) > 0).astype(numpy.float64)
for frequency, width in [(700, 80), (1220, 90), (2600, 120)]:
    radius = numpy.exp(-numpy.pi * width / RATE)
    a1, a2 = 2 * radius * numpy.cos(2 * numpy.pi * frequency / RATE), -radius * radius
    filtered = numpy.zeros(count)
    for n in range(count):
        filtered[n] = voice[n] + a1 * filtered[n - 1] + a2 * filtered[n - 2]
    voice = filtered
voice *= 0.3 / numpy.abs(voice).max()
voice[: FRAME * 2] = 0
voice[FRAME * 7 :] = 0
audio = (voice + 0.001 * random.standard_normal(count)).astype(numpy.float32)
padded = numpy.concatenate([numpy.zeros(CONTEXT, numpy.float32), audio])
tensors.save(sys.argv[1], {f"frame{i}": padded[None, i * FRAME : (i + 1) * FRAME + CONTEXT] for i in range(FRAMES)})
