"""The tile IR: what a kernel is between Triton's IR and LLVM's.

In:  operations as the compiler's parser and passes build them.
Out: typed nodes, a verifier that reports every fault at once, a printer (`compiled.asm['tir']`).
May import: core.
Start reading: `types.py`, then `nodes.py`; `verify.py` says what holds.
"""
