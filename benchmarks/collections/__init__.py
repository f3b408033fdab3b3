"""Kernel collections that others publish: their own tests on our compiler, from a checkout of theirs.

In:  a folder with a collection's source and tests; nothing of it is part of this repository.
Out: a table in the terminal, and `docs/results/collections-cpu.{md,json}`, where each collection has its part.
Start reading: `__main__.py`. The tests run as those of Triton do, in `tessera.triton_cpu.conformance`.
"""
