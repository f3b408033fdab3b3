"""The report: one HTML file that needs nothing else, readable on a phone, in light, in dark and on paper.

In:  a `BringupResult`.
Out: HTML text, with style, script and plots inside.
May import: core, accuracy.
Start reading: `page.py`; each section is a file of its own.
"""
