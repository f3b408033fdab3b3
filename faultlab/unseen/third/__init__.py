"""The third set: models and faults of other kinds again, written after the check had been mended by the second set.

In:  nothing; models are files in `subjects/` beside those of the second set, and those of transformers.
Out: rows of the same tables as the second set has.
Start reading: `edits_of_attention.py` (faults as changed lines), `kernel_rows.py`, `ports.py`, `trainings.py`.
"""
