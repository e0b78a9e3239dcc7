"""Losses. Class: (logits (S, C), target (S, C), groups=None) -> (S, C), (S,) or (). Box: (predicted, target) -> (P,)."""

__all__: list[str] = []
