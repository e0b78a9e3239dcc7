"""How much each sample counts (soft sampling). Called as (samples) -> factors (S,)."""

__all__: list[str] = []
