"""Which image is drawn how often. Called as (annotations) -> drawing weights (I,). Numpy only."""

__all__: list[str] = []
