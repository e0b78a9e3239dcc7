"""Measures of imbalance, one module a family. Numpy only: torch is never imported here."""
