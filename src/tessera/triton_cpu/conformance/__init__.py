"""Triton's own language tests, run from a checkout of theirs against the installed Triton with our compiler.

In:  the path of a checkout of triton-lang/triton-cpu or triton-lang/triton; nothing of it is copied.
Out: per file and per reason how many tests passed, failed, were skipped, or need a newer Triton than the installed one.
Start reading: `session.py`; `__main__.py` is the command line, `plugin.py` is what runs inside pytest.
"""
