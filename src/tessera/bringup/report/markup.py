"""Pieces of HTML: every text that goes in is escaped here."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, a CSS class (`n` for figures, `code` for names), and markup that follows the text."""

    text: str
    style: str = ""
    more: str = ""

    def render(self, tag: str) -> str:
        """As `td` or `th`."""
        opening = f'<{tag} class="{self.style}">' if self.style else f"<{tag}>"
        text = _breakable(escape(self.text)) if self.style == "code" else escape(self.text)
        return f"{opening}{text}{self.more}</{tag}>"


def _breakable(name: str) -> str:
    """A long name may break after its joints, and is copied without the break."""
    return re.sub(r"[._/]+(?=\w)", r"\g<0><wbr>", name)


Row = tuple[str, Sequence[Cell]]


def escape(text: str) -> str:
    """Text made safe for an element or an attribute."""
    return html.escape(text)


def table(headings: Sequence[Cell], rows: Sequence[Row], style: str = "") -> str:
    """A table; each row comes with its CSS class.

    style: `stacked` puts the wide first cell of a row above its figures on a phone; without it, what is too wide
    scrolls sideways.
    """
    head = "".join(cell.render("th") for cell in headings)
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    body = "\n".join(_row(kind, cells) for kind, cells in rows)
    return f'<div class="scroll"><table class="{style}">{head}<tbody>\n{body}\n</tbody></table></div>'


def _row(style: str, cells: Sequence[Cell]) -> str:
    opening = f'<tr class="{style}">' if style else "<tr>"
    return opening + "".join(cell.render("td") for cell in cells) + "</tr>"


def items(texts: Sequence[str], style: str) -> str:
    """A list, or nothing if it is empty."""
    return f'<ul class="{style}">' + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>" if texts else ""


def facts(texts: Sequence[str]) -> str:
    """Short facts in a row, which breaks between them and not within."""
    return '<p class="facts">' + " ".join(f"<span>{escape(text)}</span>" for text in texts) + "</p>"


def about(text: str) -> str:
    """The paragraph that says how to read what follows."""
    return f'<p class="about">{escape(text)}</p>'


def details(summary: str, content: str) -> str:
    """Content that a click unfolds."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def legend(entries: Sequence[tuple[str, str]]) -> str:
    """What the colours mean: pairs of the mark's CSS classes and its words."""
    marks = "".join(f'<li><i class="{style}"></i>{escape(words)}</li>' for style, words in entries)
    return f'<ul class="legend">{marks}</ul>'
