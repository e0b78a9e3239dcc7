"""The records of COCO and LVIS files: decoded at once where all is right, one by one where not. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import DataError
from ..files import open_bytes
from ..rules import Log

__all__ = ["Category", "Dataset", "Id", "Image", "Label", "NotCocoError", "decode"]


class NotCocoError(DataError):
    """Valid JSON, but not a dataset in COCO form."""


Id = int | str
_CategoryId = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]


class Image(msgspec.Struct, gc=False):
    """An image; LVIS has `coco_url` for `file_name`, and the two lists."""

    id: Id
    file_name: str | None = None
    width: int | float | None = None
    height: int | float | None = None
    coco_url: str | None = None
    neg_category_ids: list[int] | None = None
    not_exhaustive_category_ids: list[int] | None = None


class Label(msgspec.Struct, gc=False):
    """An annotation: one box."""

    image_id: Id
    category_id: _CategoryId
    bbox: tuple[float, float, float, float]
    id: Id | float | None = None
    area: float | None = None
    iscrowd: bool | int | float | None = None
    difficult: bool | int | float | None = None


class Category(msgspec.Struct, gc=False):
    """A class; LVIS has `frequency`."""

    id: _CategoryId
    name: str
    frequency: str | None = None


class Dataset(msgspec.Struct, gc=False):
    """What is read of a file; everything else in it is skipped."""

    images: list[Image]
    categories: list[Category]
    annotations: list[Label] = []


_DECODER = msgspec.json.Decoder(Dataset)
_UNUSABLE = (msgspec.ValidationError, RecursionError, OverflowError, UnicodeError)
"""what converting a record can raise"""
_RECORDS = {"images": Image, "annotations": Label, "categories": Category}


def decode(path: Path, log: Log) -> Dataset:
    """Typed records of a file: at once where all types are right, else record by record."""
    data = open_bytes(path)
    if not data.strip():
        raise DataError(f"{path}: the file is empty")
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return _tolerant(path, _loads(path, data), log)


def _loads(path: Path, data: bytes) -> Any:
    """Plain objects of a file; NaN and Infinity, which JSON does not have but many writers write, are let in."""
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno} (byte {error.pos}): {error.msg}"
        ) from error
    except RecursionError as error:
        raise DataError(f"{path}: the JSON is nested too deeply") from error
    except ValueError as error:  # not UTF-8, or a number of thousands of digits
        raise DataError(f"{path}: not valid JSON: {error}") from error


def _tolerant(path: Path, data: Any, log: Log) -> Dataset:
    """Convert record by record; what cannot be converted is counted and left out."""
    if isinstance(data, list):
        raise NotCocoError(
            f"{path}: a list of {len(data)} records: detections, perhaps, but not a dataset with 'images'"
        )
    if not isinstance(data, dict):
        raise NotCocoError(f"{path}: expected an object with 'images', 'annotations' and 'categories'")
    for key in _RECORDS:
        if not isinstance(data.setdefault(key, [] if key == "annotations" else None), list):
            got = "none" if data[key] is None else type(data[key]).__name__
            raise NotCocoError(f"{path}: expected a list {key!r} but got {got}")
    columns = {}
    for key, kind in _RECORDS.items():
        converted = (_record(f"{path}: {key}[{i}]", record, kind, log) for i, record in enumerate(data[key]))
        columns[key] = [record for record in converted if record is not None]
        if data[key] and not columns[key]:
            first = log.examples["unusable record"][0]
            raise NotCocoError(f"{path}: none of the {len(data[key])} {key} can be used; the first: {first}")
    return Dataset(**columns)


def _record(where: str, record: Any, kind: type, log: Log) -> Any:
    """One record in its type, or None."""
    try:
        return msgspec.convert(record, kind)
    except _UNUSABLE as error:
        reason = str(error).replace(" - at `$", " in `")
    try:
        converted = msgspec.convert(record, kind, strict=False)
        log.add("value of another type", f"{where}: {reason}")
    except _UNUSABLE:
        number = record.get("id") if isinstance(record, dict) else None
        log.add("unusable record", f"{where}{'' if number is None else f' (id {number})'}: {reason}")
        return None
    return converted
