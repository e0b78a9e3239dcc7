"""Where the images of a dataset lie: found by looking where its file names exist. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .draft import Draft
from .files import IMAGE_SUFFIXES, folder_split, folders_under, stays_inside
from .rules import Log

__all__ = ["locate"]


def locate(drafts: list[Draft], base: Path, log: Log) -> None:
    """Find the images of drafts under `base`; set `root`, and the file names relative to it.

    The root is the one folder that holds all images, else `base`. It stays None where no image is found.
    """
    folders = folders_under(base)
    found = []
    for draft in drafts:
        for split in dict.fromkeys(draft.split or [""]):
            rows = [i for i, name in enumerate(draft.split or [""] * len(draft.image_ids)) if name == split]
            place = rows and _find(draft, rows, sorted(folders, key=_closeness(base, split, draft.file[rows[0]])), log)
            if place:
                found.append((draft, rows, place))
    places = {place for _, _, place in found}
    root = places.pop() if len(places) == 1 else base if places else None
    for draft in drafts:
        draft.root = root
    for draft, rows, place in found:
        if place != root:
            prefix = place.relative_to(root).as_posix()
            for i in rows:
                draft.file_names[i] = f"{prefix}/{draft.file_names[i]}"


def _closeness(base: Path, split: str, file: str) -> Callable[[Path], tuple]:
    """Key that sorts folders: those named after the split, then those that name none; the nearest to `file` first.

    It matters for numbered images, which have the same names in the folders of all splits.
    """
    near = Path(file).parent.parts

    def key(folder):
        theirs = folder_split(*reversed(folder.relative_to(base).parts))
        apart = sum(part != other for part, other in zip(near, folder.parts))
        return theirs not in ("", split), theirs != split, apart

    return key


def _find(draft: Draft, rows: list[int], folders: list[Path], log: Log) -> Path | None:
    """The folder of some images of a draft; their names are completed or shortened to those found there."""
    names = [draft.file_names[i] for i in rows]
    if place := _best(names, folders):
        return place
    if draft.stems is not None:
        return _find_stems(draft, rows, folders)
    short = [name.rsplit("/", 1)[-1] for name in names]
    if short == names or len(set(short)) < len(short) or not (place := _best(short, folders)):
        return None
    for i, name in zip(rows, short):
        log.add("file name without folders", f"{draft.file[i]}: image {draft.file_names[i]!r}")
        draft.file_names[i] = name
    return place


def _best(names: list[str], folders: list[Path]) -> Path | None:
    """The folder that holds most of a sample of the names, None if none does."""
    sample = [name for name in names[:: max(1, len(names) // 8)][:8] if stays_inside(name)]
    best, most = None, 0
    for folder in folders:
        hits = sum(os.path.isfile(os.path.join(folder, name)) for name in sample)
        if hits > most:
            best, most = folder, hits
        if most == len(sample):
            break
    return best


def _find_stems(draft: Draft, rows: list[int], folders: list[Path]) -> Path | None:
    """As `_find`, by the names without suffix; the names get the suffixes of the files."""
    best, most, there = None, 0, {}
    for folder in folders:
        pairs = (os.path.splitext(name) for name in _listing(folder))
        names = {stem: stem + suffix for stem, suffix in pairs if suffix.lower() in IMAGE_SUFFIXES}
        hits = sum(draft.stems[i] in names for i in rows)
        if hits > most:
            best, most, there = folder, hits, names
    for i in rows:
        draft.file_names[i] = there.get(draft.stems[i], draft.file_names[i])
    return best


def _listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
