"""Addresses of the Hugging Face hub, looked up in its cache; folders of engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import models
import refit
import refit.hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one file, as huggingface_hub lays it out: blobs, and links to them."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--org--name"
    snapshot = folder / "snapshots" / COMMIT / "parts"
    for made in (folder / "blobs", folder / "refs" / "pr", snapshot):
        made.mkdir(parents=True)
    (folder / "blobs" / "abc").write_bytes(models.safetensors(models.weights(1)))
    (snapshot / "w.safetensors").symlink_to("../../../blobs/abc")
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "refs" / "pr" / "1").write_text(COMMIT)
    return tmp_path / "hub"


def test_a_file_is_found_by_branch_commit_and_reference(cache: Path, module: refit.Module) -> None:
    expected = refit.Engine.build(models.dense(1)).version
    for revision in ("", "@main", f"@{COMMIT}", "@pr%2F1"):
        address = f"hf://org/name{revision}/parts/w.safetensors"
        assert refit.hub.cached_path(address).is_file()
        module.refit(models.weights(0))
        assert module.refit(address) == expected
        assert module.refit([address]) == expected


def test_what_is_not_in_the_cache_says_how_to_get_it(cache: Path, module: refit.Module) -> None:
    for address, said in (
        ("hf://org/name/none.safetensors", "hf download org/name none.safetensors"),
        ("hf://org/name@v2/w.safetensors", "--revision v2"),
        ("hf://other/name/w.safetensors", "hf download other/name w.safetensors"),
    ):
        with pytest.raises(FileNotFoundError, match=said):
            module.refit(address)
    for address in ("hf://name/w.safetensors", "hf://org/name/../../w", "hf://org/name@../w", "hf://"):
        with pytest.raises(refit.InvalidOptions):
            module.refit(address)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert refit.hub.cache_dir() == Path.home() / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert refit.hub.cache_dir() == tmp_path / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert refit.hub.cache_dir() == tmp_path / "home" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "own"))
    assert refit.hub.cache_dir() == tmp_path / "own"


def test_a_folder_is_saved_and_loaded(cache: Path, engine: refit.Engine, x: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    path = refit.hub.save_pretrained(engine, folder)
    assert path == folder / "model.engine" and refit.hub.from_pretrained(folder, "cpu").version == engine.version
    (folder / "model.safetensors").write_bytes(models.safetensors(models.weights(1)))
    for weights in ("model.safetensors", "hf://org/name/parts/w.safetensors"):
        refit.hub.save_pretrained(refit.Module(engine, "cpu"), folder, weights=weights, extra={"task": "none"})
        assert refit.Engine.load(path).missing == ["b", "w"]
        module = refit.hub.from_pretrained(folder, "cpu")
        assert module.version == refit.Engine.build(models.dense(1)).version
    (folder / "refit.json").write_text("{}")
    with pytest.raises(refit.InvalidFile):
        refit.hub.from_pretrained(folder)
    with pytest.raises(refit.InvalidOptions):
        refit.hub.save_pretrained(engine, folder, weights="/somewhere/else")
