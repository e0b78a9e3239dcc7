"""The errors of datasets."""

from __future__ import annotations

__all__ = ["DataError", "MissingDataError"]


class DataError(ValueError):
    """A dataset that cannot be read. The message names file, record and field, and says what was expected."""


class MissingDataError(DataError, FileNotFoundError):
    """A dataset, or a part of it, that is not there."""
