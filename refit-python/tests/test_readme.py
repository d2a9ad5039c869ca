"""The examples of the README run as they are pasted, one after the other."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent
READMES = {"refit-python": FOLDER / "README.md", "the workspace": FOLDER.parent / "README.md"}


def run(readme: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, str(readme), "exec"), names)


@pytest.mark.skipif(find_spec("magika") is None, reason="magika, whose model the examples use, is not installed")
@pytest.mark.parametrize("readme", READMES.values(), ids=READMES.keys())
def test_the_examples_run(readme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(readme)
    (stripped,) = tmp_path.glob("*.stripped")
    assert stripped.stat().st_size < 100_000
