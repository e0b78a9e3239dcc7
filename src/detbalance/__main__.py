"""`python -m detbalance`."""

from .cli import main

main()
