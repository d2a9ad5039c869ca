"""Long calls: other threads go on, Ctrl-C and a Cancel end them, progress is told, a fork is refused."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
import pytest

import models
import refit

SIZE = 1024


@pytest.fixture(scope="module")
def long() -> refit.Module:
    # On one thread it is long on every machine.
    return refit.Module(refit.Engine.build(models.chain(400, SIZE)), "cpu", threads=1)


@pytest.fixture
def square() -> np.ndarray:
    return np.ones((SIZE, SIZE), dtype=np.float32)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Python's own handler of Ctrl-C: whoever starts the tests in the background has the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def after(seconds: float, call: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


def test_a_cancel_ends_a_run(long: refit.Module, square: np.ndarray) -> None:
    cancel = refit.Cancel()
    after(0.2, cancel.cancel)
    with pytest.raises(refit.Cancelled):
        long.run({"x": square}, cancel=cancel)
    assert cancel.is_cancelled
    with pytest.raises(refit.Cancelled):
        long.run({"x": square}, cancel=cancel)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_ends_a_run(long: refit.Module, square: np.ndarray) -> None:
    start = time.monotonic()
    after(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        long.run({"x": square})
    whole = time.monotonic() - start
    cancel = refit.Cancel()
    assert not cancel.is_cancelled and whole < 30


def test_other_threads_go_on_during_a_run(long: refit.Module, square: np.ndarray) -> None:
    cancel, ticks = refit.Cancel(), []
    thread = threading.Thread(target=lambda: pytest.raises(refit.Cancelled, long.run, {"x": square}, cancel=cancel))
    thread.start()
    for _ in range(50):
        ticks.append(time.monotonic())
        time.sleep(0.001)
    cancel.cancel()
    thread.join()
    assert len(ticks) == 50


def large(seed: int, count: int = 32) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {f"w{i:02}": random.standard_normal((512, 512), dtype=np.float32) for i in range(count)}


def sum_of(weights: dict[str, np.ndarray]) -> bytes:
    names = ["x", *(f"h{name}" for name in weights)]
    nodes = [models.node("Add", [a, w], [b]) for a, w, b in zip(names, weights, names[1:])]
    port = ("float32", [512, 512])
    return models.model(nodes, [("x", *port)], [(names[-1], *port)], weights)


def test_a_refit_is_all_or_nothing_for_every_run_beside_it() -> None:
    versions = [large(0), large(1)]
    module = refit.Module(refit.Engine.build(sum_of(versions[0])), "cpu")
    x, seen, stop = np.zeros((512, 512), dtype=np.float32), {}, threading.Event()

    def runs() -> None:
        while not stop.is_set():
            outputs = module(x)
            first = next(iter(outputs.values()))
            seen.setdefault(outputs.version, set()).add(first.numpy().tobytes()[:4096])

    thread = threading.Thread(target=runs)
    thread.start()
    for i in range(6):
        module.refit(versions[(i + 1) % 2])
    stop.set()
    thread.join()
    assert 1 <= len(seen) <= 2 and all(len(bits) == 1 for bits in seen.values())


def test_progress_is_told_and_what_it_raises_ends_the_refit() -> None:
    module = refit.Module(refit.Engine.build(sum_of(large(0, 4))), "cpu")
    told: list[tuple[int, int]] = []
    module.refit(large(1, 4), progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (4 << 20, 4 << 20) and all(done <= total for done, total in told)
    cancel, version = refit.Cancel(), module.version
    cancel.cancel()
    with pytest.raises(refit.Cancelled):
        module.refit(large(2, 4), cancel=cancel)
    assert module.version == version


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_after_the_first_use_is_refused(engine: refit.Engine, x: np.ndarray) -> None:
    module = refit.Module(engine, "cpu", threads=2)
    module(x)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            module(x)
            said = "it ran"
        except refit.Error as error:
            said = str(error)
        # The child's modules end with it, and wait for no thread.
        del module
        gc.collect()
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 4096).decode()
    os.waitpid(child, 0)
    os.close(read)
    assert "spawn" in said and "fork" in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_before_the_first_use_works(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(models.dense())
    script = f"""
import os, sys, refit
child = os.fork()
engine = refit.Engine.build({str(model)!r})
if child == 0:
    os._exit(0 if engine.version else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_many_threads_share_a_module(module: refit.Module, x: np.ndarray) -> None:
    expected = module(x)["y"].numpy().tobytes()
    results: list[bytes] = []

    def run() -> None:
        results.extend(module(x)["y"].numpy().tobytes() for _ in range(50))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 400 and set(results) == {expected}
