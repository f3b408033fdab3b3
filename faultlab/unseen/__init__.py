"""The unseen faults: other models and other faults than the lab's, to judge the check on what it was not made with.

In:  nothing; models are files in `subjects/`, ordinary PyTorch as users write it, and those of transformers.
Out: a table of the answers at the first run of each fault and of the answers now.
Start reading: `edits.py` (faults as changed lines), `kernel_rows.py`, `ports.py`, then `cases.py`.
"""
