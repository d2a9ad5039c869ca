"""How engines and modules show themselves, in a terminal and in a notebook; and how modules come back from pickle."""

from __future__ import annotations

from html import escape
from typing import Iterable, Optional

from refit._refit import Engine, Module
from refit.types import Port


def _port(port: Port) -> str:
    shape = "?" if port.shape is None else ", ".join(str(size) for size in port.shape)
    kind = f"{port.dtype}[{shape}]"
    return kind if port.form == "tensor" else f"{port.form} of {kind}"


def _ports(ports: Iterable[Port]) -> str:
    return ", ".join(f"{port.name}: {_port(port)}" for port in ports)


def _bytes(count: int) -> str:
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.2f} {unit}"


def _rows(engine: Engine) -> list[tuple[str, str]]:
    weights = [weight for weight in engine.weights if weight.kind == "weight"]
    size = _bytes(sum(weight.nbytes for weight in weights))
    missing = len(engine.missing)
    version = engine.version
    return [
        ("inputs", _ports(engine.inputs)),
        ("outputs", _ports(engine.outputs)),
        ("weights", f"{len(weights)}, {size}" + (f", {missing} missing" if missing else "")),
        ("flags", " | ".join(sorted(engine.flags)) or "none"),
        ("version", version if version else "none: it is stripped"),
    ]


def _text(title: str, rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join([f"<{title}", *(f"  {name}: {value}" for name, value in rows)]) + ">"


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f'<table><caption style="text-align:left">{escape(title)}</caption>{cells}</table>'


def engine(engine: Engine) -> str:
    return _text("refit.Engine", _rows(engine))


def engine_html(engine: Engine) -> str:
    return _table("refit.Engine", _rows(engine))


def _module_rows(module: Module) -> list[tuple[str, str]]:
    rows = [("device", module.device), ("state", module.state)]
    return rows + [row for row in _rows(module.engine) if row[0] != "version"] + [("version", module.version or "none")]


def _is_open(module: Module) -> bool:
    try:
        return bool(module.device)
    except Exception:
        return False


def module(module: Module) -> str:
    return _text("refit.Module", _module_rows(module)) if _is_open(module) else "<refit.Module, closed>"


def module_html(module: Module) -> str:
    return _table("refit.Module", _module_rows(module)) if _is_open(module) else escape("<refit.Module, closed>")


def unpickle_module(file: bytes, device: str, threads: Optional[int]) -> Module:
    return Module(bytes(file), device, threads=threads)
