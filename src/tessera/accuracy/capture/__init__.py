"""A run, watched: every operator call with what went in and what came out, as small records.

In:  a model, its inputs, what to run (forward, backward, steps).
Out: a `Trace`: operators in order, each with its module, source line, statistics and a sketch of every tensor.
May import: core.
Start reading: `value.py`, `records.py`, then `recorder.py`; how tensors are measured: `chunks.py`, `measure.py`.
"""
