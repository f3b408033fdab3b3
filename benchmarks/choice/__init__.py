"""What the measured choice does to whole models: ten model families and others, eager, forward and in training.

In:  the models of `benchmarks.models` and of `benchmarks.inductor.families`.
Out: a table in the terminal, and the page `choice-cpu`. Start with `__main__.py`.
"""
