"""Feature pyramids. Built with (in_channels, out_channels); a dict of maps in, a dict of maps out."""

__all__: list[str] = []
