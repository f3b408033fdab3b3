"""Is the number right, and if not, in which layer did it go wrong?

In:  a model, its inputs, two ways to run it.
Out: per layer the error against float64, relative to what PyTorch itself loses.
May import: core.
Start reading: `judge.py` (the rule), then `layers.py`.
"""
