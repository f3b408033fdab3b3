"""Benchmarks: our kernels, our compiler and whole models against PyTorch's, as ratios taken in one run.

In:  `cases.py`, the one table of what is timed; a family of kernels is one file in `families/`, as in `tessera.ops`.
Out: a table in the terminal, and in `docs/results/` for each page its data (.json), its text (.md) and its plot (.svg).
Imports: anything of `tessera`; nothing imports this. Start with `__main__.py`, then `case.py`.
"""
