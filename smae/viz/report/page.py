"""The page that holds the parts: one HTML file, complete in itself, that is allowed to load nothing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from smae.viz import Scene
from smae.viz.player import as_json, fill, page_data, page_file
from smae.viz.report.markup import Section


def render(title: str, *, head: str, sections: Sequence[Section], scenes: Sequence[Scene] = ()) -> str:
    """Return the page as one HTML string.

    Args:
        title: of the page.
        head: HTML below it.
        sections: parts, in order; the page begins with links to them.
        scenes: what its players play, in order.
    """
    links = "".join(f'<a href="#{part.name}">{escape(part.title)}</a>' for part in sections)
    bodies = "".join(
        f'<section id="{part.name}"><h2>{escape(part.title)}</h2>{part.body}</section>' for part in sections
    )
    parts = {
        "title": escape(title),
        "head": head,
        "links": links,
        "sections": bodies,
        "style": page_file("player.css") + _file("page.css"),
        "script": page_file("player.js") + _file("page.js"),
        "data": as_json([page_data(scene) for scene in scenes]),
    }
    return fill(_file("page.html"), parts)


def _file(name: str) -> str:
    return files("smae.viz.report").joinpath(name).read_text("utf-8")
