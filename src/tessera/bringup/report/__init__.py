"""The report: one HTML file that needs nothing else, readable on a phone, in light and in dark.

In:  a `BringupResult`.
Out: HTML text, plots as inline SVG.
May import: core, accuracy.
Start reading: `page.py`.
"""
