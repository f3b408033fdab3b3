"""A report: one HTML file that opens without a network, made of the template, style and script of a package."""

from __future__ import annotations

import importlib.resources
from html import escape
from string import Template


def page(package: str, title: str, **parts: str) -> str:
    """The text of a report whose `page.html` (what stands on it), `page.css` and `page.js` lie in `package`.

    parts: markup for the names in the package's `page.html`.
    """
    body = Template(_read(package, "page.html")).substitute(parts).rstrip("\n")
    return Template(_read("tessera.core", "page.html")).substitute(
        title=escape(title), style=_read(package, "page.css"), script=_read(package, "page.js"), body=body
    )


def _read(package: str, name: str) -> str:
    return (importlib.resources.files(package) / name).read_text(encoding="utf-8")
