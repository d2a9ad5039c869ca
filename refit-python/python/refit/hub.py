"""Files of the Hugging Face hub, as they lie in its cache; and folders of engines in the hub's manner. Nothing is downloaded."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Optional, Union

from refit._refit import Engine, Module
from refit.errors import InvalidFile, InvalidOptions
from refit.types import StrPath

__all__ = ["cache_dir", "cached_path", "from_pretrained", "save_pretrained"]

_ADDRESS = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?/(?P<file>.+)")
_CONFIG = "refit.json"
_ENGINE = "model.engine"


def cache_dir() -> Path:
    """The folder in which `huggingface_hub` keeps what it downloaded, by its environment variables."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(name):
            return Path(value).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "huggingface" / "hub"


def cached_path(address: str) -> Path:
    """The file in the cache that `hf://ORG/NAME[@REVISION]/FILE` means.

    A revision is a branch, a tag or a commit, with any `/` in it written as `%2F`; without one it is `main`. A file that is not in the
    cache is a `FileNotFoundError` that says how to get it.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InvalidOptions(f"{address!r}: expected hf://ORG/NAME[@REVISION]/FILE")
    repo, file = match["repo"], match["file"]
    revision = (match["revision"] or "main").replace("%2F", "/")
    if any(part in ("", ".", "..") for part in [*repo.split("/"), *file.split("/"), *revision.split("/")]):
        raise InvalidOptions(f"{address!r}: names without '.', '..' and empty parts are expected")
    folder = cache_dir() / ("models--" + repo.replace("/", "--"))
    reference = folder / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    path = folder / "snapshots" / commit / file
    if not path.exists():
        wanted = f"hf download {repo} {file}" + ("" if revision == "main" else f" --revision {revision}")
        raise FileNotFoundError(2, f"not in the hub's cache (bring it with: {wanted})", str(path))
    return path


def save_pretrained(
    engine: Union[Engine, Module],
    folder: StrPath,
    *,
    weights: Optional[str] = None,
    extra: Optional[dict[str, Any]] = None,
) -> Path:
    """Writes `folder/model.engine`, stripped, and `folder/refit.json`, which says what it takes its weights from.

    `weights` is a file in the folder, such as `model.safetensors` that lies there, or an `hf://` address. Without it the
    engine is written with its weights. `extra` is kept in the configuration as it is. Gives the path of the engine.
    """
    compiled = engine.engine if isinstance(engine, Module) else engine
    if weights is not None and not weights.startswith("hf://") and Path(weights).is_absolute():
        raise InvalidOptions(f"weights is a file of the folder or an hf:// address: found {weights!r}")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    path = place / _ENGINE
    compiled.save(path, strip=weights is not None)
    config: dict[str, Any] = {"engine": _ENGINE, "weights": weights, "version": compiled.version}
    config["inputs"] = [port._asdict() for port in compiled.inputs]
    config["outputs"] = [port._asdict() for port in compiled.outputs]
    if extra is not None:
        config["extra"] = extra
    temporary = place / f".{_CONFIG}.tmp"
    temporary.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(place / _CONFIG)
    return path


def from_pretrained(folder: StrPath, device: str = "auto", *, threads: Optional[int] = None) -> Module:
    """The module of a folder that `save_pretrained` wrote, with the weights that it names."""
    place = Path(folder)
    try:
        config = json.loads((place / _CONFIG).read_text(encoding="utf-8"))
        engine, weights = str(config["engine"]), config["weights"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidFile(f"{place / _CONFIG}: not the configuration of an engine: {error!r}") from error
    module = Module(place / engine, device, threads=threads)
    if weights is not None:
        module.refit(weights if weights.startswith("hf://") else place / weights)
    return module
