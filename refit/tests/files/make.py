"""make.py FOLDER: the files beside it, written by PyTorch and NumPy themselves."""

import collections
import pathlib
import sys

import numpy as np
import torch

folder = pathlib.Path(sys.argv[1])
base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 4
state = collections.OrderedDict(
    whole=base,
    turned=base.t(),
    part=base[1:3, 2:5],
    half=base[0].to(torch.float16),
    brain=base[1].to(torch.bfloat16),
    count=torch.tensor(7),
    flags=torch.tensor([True, False, True]),
    empty=torch.zeros(0, 3),
    parameter=torch.nn.Parameter(base[2]),
)
torch.save(state, folder / "state.pt")
torch.save({"epoch": 3, "state_dict": state}, folder / "checkpoint.pth")
model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
with torch.no_grad():
    for i, tensor in enumerate(model.state_dict().values()):
        tensor.copy_(torch.full_like(tensor, i + 1))
torch.save(model.state_dict(), folder / "module.bin")
arrays = {"a.weight": base.numpy(), "n": np.arange(3), "x/y": np.float16([1, -2]), "scalar": np.float64(0.5)}
np.savez(folder / "stored.npz", **arrays)
np.savez_compressed(folder / "deflated.npz", **arrays)
