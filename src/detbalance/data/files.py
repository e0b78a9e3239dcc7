"""Files of a dataset, opened with care: size limits, gzip, safe names, image folders, image sizes. Numpy only."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path

from .errors import DataError

__all__ = [
    "IMAGE_SUFFIXES",
    "files_under",
    "files_with",
    "folder_split",
    "folders_under",
    "head",
    "image_size",
    "open_bytes",
    "open_lines",
    "open_text",
    "split_lists",
    "split_name",
    "stays_inside",
    "subfolders",
]

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jfif", ".pgm", ".ppm"))
MAX_EXPANSION = 200
"""a gzip file that unpacks to more than this many times its size (and over 64 MiB) is a trap, not annotations"""
MAX_FOLDERS = 10_000
"""a folder with more below it (a mistyped `/`) is not searched"""
_CHUNK = 1 << 24
_SPLIT_WORDS = {
    "train": "train", "trainval": "train", "training": "train", "val": "val", "valid": "val",
    "validation": "val", "dev": "val", "eval": "val", "test": "test", "testing": "test",
}  # fmt: skip


def open_bytes(path: Path) -> bytes:
    """The contents of a file, unpacked if it is gzip (told by content). Raises DataError for what cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe or a device would never end
            raise DataError(f"{path}: not a plain file")
        with open(path, "rb") as file:
            if file.read(2) != b"\x1f\x8b":
                return Path(path).read_bytes()
        limit, parts, size = max(1 << 26, MAX_EXPANSION * os.path.getsize(path)), [], 0
        with gzip.open(path) as file:
            while part := file.read(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise DataError(f"{path}: the gzip file unpacks to over {MAX_EXPANSION} times its size; not read")
        return b"".join(parts)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip file is damaged or cut off ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def head(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a plain file, unpacked if it is gzip; b"" for what cannot be read. Tells forms apart."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        with open(path, "rb") as file:
            start = file.read(size)
        if start[:2] == b"\x1f\x8b":
            with gzip.open(path) as file:
                return file.read(size)
        return start
    except (OSError, EOFError, zlib.error):
        return b""


def open_text(path: Path) -> str:
    """The contents of a text file; bytes that are not UTF-8 are replaced, a byte order mark is dropped."""
    return open_bytes(path).decode("utf-8", "replace").removeprefix("\ufeff")


def open_lines(path: Path) -> io.TextIOBase:
    """A text file to be read line by line: streamed if it is plain, unpacked first if it is gzip."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return io.TextIOWrapper(io.BytesIO(open_bytes(path)), "utf-8-sig", "replace", newline="")
    return open(path, encoding="utf-8-sig", errors="replace", newline="")


def split_name(name: str) -> str:
    """The split that a file's name speaks of: "train", "val", "test" or "".

    >>> split_name("instances_val2017"), split_name("valid"), split_name("trainval"), split_name("taco")
    ('val', 'val', 'train', '')
    """
    words = re.findall(r"[a-z]+", name.lower())
    return next((_SPLIT_WORDS[word] for word in words if word in _SPLIT_WORDS), "")


def folder_split(*names: str) -> str:
    """The split that the first such of some folders' names is: a folder `my-test` is none, `test` and `val2017` are.

    >>> folder_split("images", "val2017"), folder_split("my-test")
    ('val', '')
    """
    found = (_SPLIT_WORDS.get(re.sub(r"\d+$", "", name.lower()), "") for name in names)
    return next(filter(None, found), "")


def split_lists(folder: Path) -> dict[str, str]:
    """Split of each image name from ImageSets; `trainval` counts where neither `train` nor `val` has the image."""
    splits: dict[str, str] = {}
    lists = {f.stem: f for place in ("ImageSets", "ImageSets/Main") for f in files_with(folder / place, ".txt")}
    for stem in ("train", "val", "valid", "test", "trainval"):
        for line in open_text(lists[stem]).splitlines() if stem in lists else ():
            if name := line.strip().split(" ")[0]:
                splits.setdefault(name, split_name(stem))
    return splits


def stays_inside(name: str) -> bool:
    """Does a relative file name stay inside the folder that it is relative to?

    >>> stays_inside("a/../b.jpg"), stays_inside("../b.jpg"), stays_inside("/etc/passwd")
    (True, False, False)
    """
    flat = name.replace("\\", "/")
    if not flat or "\0" in flat or flat.startswith("/") or re.match(r"[A-Za-z]:", flat):
        return False
    return os.path.normpath(flat).split("/")[0] != ".."


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height from an image file's header, None if there is no such image. Pixels are not decoded."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large image is no bomb here: only its header is read
            with Image.open(path) as image:
                return image.size
    except Exception:  # Pillow's parsers raise many kinds on damaged headers; all mean: not an image
        return None


def folders_under(root: Path, *, depth: int = 3, limit: int = 200) -> list[Path]:
    """A folder and those below it, breadth first; hidden ones left out."""
    folders = [Path(root)]
    for folder in folders:  # grows while it is walked
        if len(folder.relative_to(root).parts) < depth:
            folders += subfolders(folder)[: max(0, limit - len(folders))]
    return folders


def subfolders(folder: Path) -> list[Path]:
    """Folders directly inside a folder, sorted, hidden ones left out."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(e.path) for e in entries if not e.name.startswith(".") and e.is_dir())
    except OSError:
        return []


def files_with(folder: Path, *suffixes: str) -> list[Path]:
    """Files directly inside a folder whose lower-case name ends so, sorted, hidden ones left out."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if not e.name.startswith(".") and e.name.lower().endswith(suffixes)]
    except OSError:
        return []
    return [Path(folder) / name for name in sorted(names)]


def files_under(folder: Path, suffixes: Iterable[str], limit: int | None = None) -> list[Path]:
    """Files of these suffixes (lower case) in a folder and all below it, sorted; hidden ones left out.

    Raises DataError where too many folders are below it.
    """
    suffixes, found = frozenset(suffixes), []
    seen = set()  # links to folders are followed, circles of them once
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        if len(seen) > MAX_FOLDERS:
            raise DataError(f"{folder}: over {MAX_FOLDERS} folders below it; not searched for a dataset's files")
        for name in sorted(names):
            if os.path.splitext(name)[1].lower() in suffixes and not name.startswith("."):
                found.append(Path(place, name))
                if len(found) == limit:
                    return found
    return found
