"""Small pieces of HTML that the parts of a page share: sections, tables, choices, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple


class Section(NamedTuple):
    """A part of the page: its name in links, its title, its HTML."""

    name: str
    title: str
    body: str


def percent(share: float | None) -> str:
    """Return a share as people read it; a dash for none."""
    return "–" if share is None else f"{100 * share:.1f} %"


def missing(words: str, command: str = "") -> str:
    """Return a line that says what is not there, and the command that makes it."""
    return f'<p class="missing">{escape(words)}{f" <code>{escape(command)}</code>" if command else ""}</p>'


def note(words: str) -> str:
    """Return a line for people, in small print; nothing for nothing."""
    return f'<p class="note">{escape(words)}</p>' if words else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """Return a table of plain text that scrolls by itself where it is too wide."""
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def facts(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return a card of (label, value) pairs."""
    pairs = "".join(f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>" for label, value in rows)
    return f'<div class="card"><h3>{escape(title)}</h3><dl>{pairs}</dl></div>'


def choices(group: str, panels: Sequence[tuple[str, str]], *, label: str) -> str:
    """Return panels (name, HTML) of which one is shown, and buttons that choose; the first one without JavaScript."""
    if len(panels) == 1:
        return panels[0][1]
    buttons = "".join(
        f'<button type="button" data-show="{number}" aria-pressed="{"false" if number else "true"}">{escape(name)}'
        "</button>"
        for number, (name, _) in enumerate(panels)
    )
    bodies = "".join(
        f'<div data-choice="{number}"{" hidden" if number else ""}>{body}</div>'
        for number, (_, body) in enumerate(panels)
    )
    return (
        f'<div class="choices" data-group="{escape(group)}"><div class="buttons" role="group" '
        f'aria-label="{escape(label)}">{buttons}</div>{bodies}</div>'
    )


def bars(rows: Iterable[tuple[str, float, str]], *, most: float) -> str:
    """Return a list of bars: (name, value, value in words), as long as value is of ``most``."""
    lines = "".join(
        f'<li><span class="what">{escape(name)}</span><span class="bar"><i style="width:{100 * value / most:.1f}%"></i>'
        f'</span><span class="value">{escape(words)}</span></li>'
        for name, value, words in rows
    )
    return f'<ul class="bars">{lines}</ul>'
