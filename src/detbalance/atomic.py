"""Files that appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["write", "write_bytes", "write_json"]


def write(path: str | Path, fill: Callable[[BinaryIO], Any]) -> Path:
    """Let `fill` write a file beside `path`, then put it in its place; missing folders are made. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file whole or not at all."""
    return write(path, lambda file: file.write(content))


def write_json(path: str | Path, record: Any) -> Path:
    """Write JSON whole or not at all. Raises ValueError for NaN and infinity, which JSON does not know."""
    return write_bytes(path, json.dumps(record, indent=1, allow_nan=False).encode())
