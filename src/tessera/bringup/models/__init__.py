"""Where a model comes from: one file a source, one function that picks it.

In:  what the user named, and the type and size of the run.
Out: a `Subject`: the model in evaluation mode, its inputs, and how to encode text if it is a text encoder.
May import: core, accuracy.
Start reading: `subject.py`, then `resolve.py`.
"""
