"""The compiler for the CPU family: Triton's TTIR text to an object file.

In:  TTIR text and a target.
Out: tile IR text, LLVM IR text, assembly text, object code.
May import: core, ir.
Start reading: `pipeline.py`, which names the stages in order.
"""
