"""From files to annotations and images."""
