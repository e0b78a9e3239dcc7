"""The errors of datasets, and text from datasets made fit to be printed."""

from __future__ import annotations

import unicodedata

__all__ = ["DataError", "MissingDataError", "printable"]


def printable(text: object, limit: int = 200) -> str:
    """Text that is safe to print and to encode: control and surrogate characters replaced, overlong text cut."""
    text = str(text)
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in cut)


class DataError(ValueError):
    """A dataset that cannot be read. The message names file, record and field, and says what was expected.

    It quotes the dataset, so whatever it quotes is made printable and overlong messages are cut.
    """

    def __init__(self, message: object):
        super().__init__(printable(message, 1000))


class MissingDataError(DataError, FileNotFoundError):
    """A dataset, or a part of it, that is not there."""
