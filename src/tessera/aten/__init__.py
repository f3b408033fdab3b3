"""How operators enter PyTorch.

In:  the table of `ops`.
Out: torch.library registrations over ATen, `enable`, `disable`, `use` and the record of what ran where and why.
May import: core, ops, runtime.
Start reading: `switch.py`.
"""
