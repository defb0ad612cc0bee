"""Benchmarks, run by `make bench`: ratios against a peer or a floor, medians of pairs in one run.

Writes ``docs/results/bench.json`` and the table ``docs/benchmarks.md``. Nothing here is a test: the machines are noisy.
"""
