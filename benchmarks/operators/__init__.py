"""Pages of the operator library: one a family, made of its source, of the table of operators and of measurements.

In:  the docstrings of `src/tessera/ops`, the table of operators, the block sizes, and the figures in `docs/results`.
Out: `docs/operators`: a page a family and `README.md`, which lists them. A test compares what stands there.
Start reading: `page.py`, the page from top to bottom.
"""
