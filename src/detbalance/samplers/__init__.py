"""Which candidates train (hard sampling). Called as (candidates, generator) -> rows (S,)."""

__all__: list[str] = []
