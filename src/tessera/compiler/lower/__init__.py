"""Tile IR → LLVM IR. A block-shaped value is a function from an index to an element.

Elementwise operations, splats, broadcasts, ranges, pointer arithmetic and most loads are expressions, written into
the loop of whatever consumes them. Only a *sink* (a store, a reduction, a scan, a dot, an atomic, a loop-carried block)
has loops of its own.

In:  a tile IR module after the passes, a target.
Out: LLVM IR text.
May import: core, ir.
Start reading: `function.py`, then `evaluate.py` and `rules.py`.
"""
