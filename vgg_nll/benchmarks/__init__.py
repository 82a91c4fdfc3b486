"""Benchmarks: ratios within one run; each function returns the rows of a table."""
