"""What runs compiled kernels.

In:  object code, packed arguments, a grid.
Out: the kernel's effect on memory; one pool of worker threads.
May import: core.
Start reading: `loader.py`, then `pool.py`.
"""
