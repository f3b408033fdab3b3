"""The result of a check as one HTML file.

In:  a `CheckResult`.
Out: a page that needs nothing else: works from a file, on a phone, in the dark.
May import: core.
Start reading: `page.py`.
"""
