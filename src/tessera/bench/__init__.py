"""Our operators against the vendor's on this machine: what the measured choice is made of, and pages of results.

In:  the table of `ops`, and calls made for it, one table for `tessera tune` and `tessera bench ops`.
Out: measurements for `aten`'s policy; pages with data, text and plot.
May import: core, ops, aten.
Start reading: `samples.py`, then `tune.py`.
"""
