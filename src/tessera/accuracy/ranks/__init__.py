"""Runs on several ranks: each rank writes what it saw, and a comparison puts the parts together again.

In:  a model that runs on several processes of torch.distributed; folders with one dump a rank.
Out: one run as a single process would have made it, and which ranks are to blame where it is wrong.
May import: core, and of `accuracy` what lies below the comparison of dumps.
Start reading: `place.py` (what a rank does), then `merge.py`.
"""
