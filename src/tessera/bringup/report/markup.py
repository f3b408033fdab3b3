"""Pieces of HTML: every text that goes in is escaped here."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tessera.bringup.report.svg import Drawing

# A plot is drawn twice, and the style sheet shows the one that fits: scaled text would be too small on a phone.
_WIDTHS = {"wide": 748.0, "narrow": 328.0}


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, and a CSS class (`n` for figures, `code` for names)."""

    text: str
    style: str = ""

    def render(self, tag: str) -> str:
        """As `td` or `th`."""
        return f'<{tag} class="{self.style}">{escape(self.text)}</{tag}>'


def escape(text: str) -> str:
    """Text made safe for an element or an attribute."""
    return html.escape(text)


def table(headings: Sequence[Cell], rows: Sequence[tuple[str, Sequence[Cell]]]) -> str:
    """A table that scrolls sideways by itself where it is too wide; each row comes with its CSS class."""
    head = "".join(cell.render("th") for cell in headings)
    body = "\n".join(
        f'<tr class="{style}">' + "".join(cell.render("td") for cell in cells) + "</tr>" for style, cells in rows
    )
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="scroll"><table>{head}<tbody>\n{body}\n</tbody></table></div>'


def items(texts: Sequence[str], style: str) -> str:
    """A list, or nothing if it is empty."""
    return f'<ul class="{style}">' + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>" if texts else ""


def plots(draw: Callable[[float], Drawing]) -> str:
    """One plot in both widths."""
    return "\n".join(draw(width).render(style) for style, width in _WIDTHS.items())
