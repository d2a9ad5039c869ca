"""notes.py OUT: two seconds of plucked strings at 22,050 Hz as basic-pitch takes them: one clip, then two at once."""

import sys

import numpy
import tensors

RATE, SAMPLES = 22_050, 43_844


def pluck(frequency, start):
    """Six harmonics of a string, the higher ones weaker and sooner gone."""
    time = numpy.maximum(numpy.arange(SAMPLES) / RATE - start, 0)
    harmonics = [
        numpy.sin(2 * numpy.pi * n * frequency * time) * numpy.exp(-2 * n * time) / n for n in range(1, 7)
    ]
    return numpy.sum(harmonics, axis=0)


def clip(notes):
    audio = sum(pluck(440 * 2 ** ((note - 69) / 12), start) for note, start in notes)
    noise = numpy.random.default_rng(7).standard_normal(SAMPLES)
    return (0.3 * audio / numpy.abs(audio).max() + 0.001 * noise).astype(numpy.float32)[:, None]


chord = clip([(48, 0.1), (64, 0.5), (67, 0.9), (72, 1.3)])
melody = clip([(69, 0.0), (71, 0.4), (73, 0.8), (76, 1.2), (81, 1.6)])
tensors.save(sys.argv[1], {"run0": chord[None], "run1": numpy.stack([melody, chord])})
