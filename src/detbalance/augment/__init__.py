"""New images. Called as (image, target, source of others) -> (image, target)."""

__all__: list[str] = []
