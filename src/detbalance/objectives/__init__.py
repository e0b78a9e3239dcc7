"""How the tasks are weighed. Called as (dict of losses) -> dict of losses."""

__all__: list[str] = []
