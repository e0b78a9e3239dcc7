"""Heads: modules with the contract of the head that they replace."""

__all__: list[str] = []
