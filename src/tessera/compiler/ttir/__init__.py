"""Reads Triton's IR (TTIR), as text, into the tile IR.

In:  TTIR text as `str(module)` prints it, with locations.
Out: `ir.nodes.Module`.
May import: core, ir.
Start reading: `parser.py`; `formats.py` holds what differs between operations.
"""
