"""make.py FOLDER: the files beside it, written by PyTorch and NumPy themselves."""

import argparse
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
# As PyTorch wrote them before 1.6: a series of pickles, then the storages.
torch.save(state, folder / "older.pt", _use_new_zipfile_serialization=False)
model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
with torch.no_grad():
    for i, tensor in enumerate(model.state_dict().values()):
        tensor.copy_(torch.full_like(tensor, i + 1))
torch.save(model.state_dict(), folder / "module.bin")
arrays = {"a.weight": base.numpy(), "n": np.arange(3), "x/y": np.float16([1, -2]), "scalar": np.float64(0.5)}
np.savez(folder / "stored.npz", **arrays)
np.savez_compressed(folder / "deflated.npz", **arrays)

# Checkpoints of trainings, and tensors of every kind.
linear = torch.nn.Linear(3, 2)
with torch.no_grad():
    for i, parameter in enumerate(linear.parameters()):
        parameter.copy_(torch.full_like(parameter, i + 1))
optimizer = torch.optim.Adam(linear.parameters())
linear(torch.ones(1, 3)).sum().backward()
weights = collections.OrderedDict((name, value.detach().clone()) for name, value in linear.state_dict().items())
average = collections.OrderedDict((name, value + 10) for name, value in weights.items())
optimizer.step()
beside = dict(
    epoch=3,
    best_acc1=torch.tensor(76.1),
    loss=np.float64(0.5),
    args=argparse.Namespace(lr=0.1, steps=[1, 2]),
    size=torch.Size([1, 2]),
    dtype=torch.float32,
    huge=10**30,
    raw=b"abc",
    names={"a"},
    counts=collections.defaultdict(int, a=1),
    array=np.arange(3),
    optimizer=optimizer.state_dict(),
    optimizer_by_name={"state": {"weight": {"exp_avg": torch.ones(2, 3)}}},
    rng_state=torch.arange(16, dtype=torch.uint8),
)
torch.save({**beside, "state_dict": weights}, folder / "training.pt")
torch.save({**beside, "state_dict": weights}, folder / "protocol5.pt", pickle_protocol=5)
torch.save({"checkpoint": {"step": 1, "model": weights, "ema": average}, **beside}, folder / "nested.pt")
torch.save({"my_net": weights, **beside}, folder / "alone.pt")
torch.save({"generator": weights, "discriminator": average}, folder / "several.pt")
torch.save(linear, folder / "object.pt")
torch.save({**beside, "state_dict": weights}, folder / "older_training.pt", pickle_protocol=4, _use_new_zipfile_serialization=False)
attributed, tagged = torch.nn.Parameter(base[0].clone()), base[1].clone()
attributed.tag, tagged.tag = "x", 3
negated = torch.complex(base[0], base[1]).conj().imag
kinds = dict(
    attributed=attributed,
    tagged=tagged,
    eight=base[0].to(torch.float8_e4m3fn),
    wide=torch.arange(5).to(torch.uint16),
    every_second=base[::2, ::3],
    cube=torch.arange(24, dtype=torch.bfloat16).reshape(2, 3, 4).permute(2, 0, 1),
    nothing=torch.zeros(5, 0, 3).permute(2, 0, 1),
    last=base[3:, 5:],
    sparse=base.to_sparse(),
    quantized=torch.quantize_per_tensor(base, 0.5, 0, torch.qint8),
    negated=negated,
    expanded=torch.ones(1).expand(4, 4),
)
torch.save(kinds, folder / "kinds.pt")
torch.save(kinds, folder / "older_kinds.pt", _use_new_zipfile_serialization=False)
np.savez(folder / "orders.npz", columns=np.asfortranarray(base.numpy()), big=base.numpy().astype(">f4"), both=np.asfortranarray(np.arange(24).reshape(2, 3, 4).astype(">i2")))
np.savez(
    folder / "mixed.npz",
    weight=base.numpy(),
    classes=np.array(["a", "bc"]),
    raw=np.array([b"a"]),
    day=np.array(["2020-01-01"], "M8[D]"),
    objects=np.array([{"a": 1}, None], dtype=object),
    complex=np.array([1j]),
    records=np.zeros(2, [("a", "f4"), ("b", "i4")]),
)

# An adapter as PEFT saved them before it took safetensors.
prefix = "base_model.model.net.body"
torch.save({f"{prefix}.lora_A.weight": torch.ones(2, 3), f"{prefix}.lora_B.weight": torch.arange(4.0).reshape(2, 2)}, folder / "adapter_model.bin")
