"""Named tensors in a folder: 0.npy, 1.npy … with their names in names.txt."""

import pathlib

import numpy


def save(folder, tensors):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for index, array in enumerate(tensors.values()):
        # Strings come as objects and are stored as text of one width.
        array = numpy.asarray(array)
        array = array.astype(str) if array.dtype == object else array
        numpy.save(folder / f"{index}.npy", numpy.ascontiguousarray(array).reshape(array.shape))
    (folder / "names.txt").write_text("\n".join(tensors))


def load(folder):
    folder = pathlib.Path(folder)
    names = (folder / "names.txt").read_text().splitlines()
    return {name: numpy.load(folder / f"{index}.npy") for index, name in enumerate(names)}
