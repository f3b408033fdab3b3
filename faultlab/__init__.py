"""The fault lab: models of six families with planted faults, to see whether the layer check names them.

In:  nothing; models and inputs are made with fixed seeds.
Out: a table of how many faults were named, and how many clean runs were left in peace.
Start reading: `models.py`, `faults.py`, then `__main__.py`.
"""
