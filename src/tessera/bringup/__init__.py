"""The main job: bring a model up on the chip at hand, and say honestly how it went.

In:  `builtin:minilm`, a Hugging Face folder, or `python:module:function`.
Out: a verdict, a table in the terminal, an HTML report, JSON.
May import: core, aten, accuracy.
Start reading: `job.py`.
"""
