"""LLVM IR as text: a builder that writes it, and the bridge to llvmlite that turns it into machine code.

In:  calls of `Builder`, or finished LLVM IR text.
Out: LLVM IR text, assembly text, object code.
May import: core, ir.
Start reading: `builder.py`.
"""
