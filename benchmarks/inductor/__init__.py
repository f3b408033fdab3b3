"""Whole models under `torch.compile`, Inductor's kernels compiled by ours: right by the accuracy rule, and how fast.

In:  nothing but the packages `transformers` and `diffusers`; the models are small and their weights random.
Out: rows of results; a page and its data in `docs/results`.
Start reading: `__main__.py`, then `families.py` (what is run) and `trial.py` (how one row is made).
"""
