"""Two recorded runs side by side: which operators belong together, where they part, and why.

In:  two traces.
Out: pairs of operators, and the first one that explains a wrong end.
May import: core.
Start reading: `align.py`, `blame.py`, then `patterns.py`.
"""
