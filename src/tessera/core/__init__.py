"""What every other folder stands on.

In:  the environment, the machine.
Out: error classes, the typed table of environment variables, chips (as data, and those in this machine), fair timing,
     what is installed and what is missing, the layer rule.
May import: nothing of ours.
Start reading: `errors.py`, then `chips.py`.
"""
