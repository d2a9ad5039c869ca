"""The examples of the README run as they are pasted, one after the other."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.skipif(find_spec("magika") is None, reason="magika, whose model the examples use, is not installed")
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 2
    names: dict[str, object] = {}
    for example in examples:
        exec(compile(example, README.name, "exec"), names)
    said = capsys.readouterr().out
    assert said.startswith("needs weights ") and "True\n" in said
    assert (tmp_path / "magika.stripped").stat().st_size < 100_000
