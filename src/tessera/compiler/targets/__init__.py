"""Instruction sets as data: one row says all that the compiler must know of one.

In:  the host's features, or a name.
Out: `Target` rows (vector width, registers, LLVM features).
May import: core.
Start reading: `rows.py`.
"""
