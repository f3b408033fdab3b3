"""The operator library: Triton kernels, one family a file, and one table of what each implements.

In:  torch tensors.
Out: torch tensors, computed by our kernels on whatever chip the tensors live on.
May import: core.
Start reading: `table.py`, then any family: kernel, launcher, entry, in this order in each.
"""
