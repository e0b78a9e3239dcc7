"""New boxes. Called as (target, count, generator) -> boxes (M, 4)."""

__all__: list[str] = []
