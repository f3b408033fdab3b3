"""The operators against PyTorch's own operator database: every sample, every type, forward, gradients and errors.

In:  entries of `torch.testing._internal.common_methods_invocations.op_db`.
Out: for each entry and type the samples, how many passed and failed, and which ran on the vendor's kernels and why.
May import: core, ops, aten, accuracy.
Start reading: `result.py`, then `samples.py`, `judge.py`, `worker.py`, `session.py`; `__main__.py` is the command line.
"""
