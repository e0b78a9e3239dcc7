"""Which candidate shows which object. Called as (boxes (N, 4), target, levels, predictions or None) -> matched (N,)."""

__all__: list[str] = []
