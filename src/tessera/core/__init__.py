"""What every other folder stands on.

In:  the environment, the machine.
Out: error classes, the typed table of environment variables, registries, the description of a chip (data), timing.
May import: nothing of ours.
Start reading: `errors.py`, then `chips.py`.
"""
