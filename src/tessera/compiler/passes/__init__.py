"""Rewrites and analyses of the tile IR, each one file.

In:  a tile IR module.
Out: the same module, rewritten or annotated.
May import: core, ir.
Start reading: `strides.py` (how addresses move), then `carried.py` and `placement.py`.
"""
