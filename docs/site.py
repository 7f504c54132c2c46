"""What MkDocs does beside turning docs/ into pages: files beside it become pages too, links into code become text.

A hook of mkdocs.yml. On the site a page's links lead to pages only, so that it is complete wherever it is put.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the checkout that are pages of the site, and their names there."""
FOLDERS = {"Results": "docs/results", "Speed": "benchmarks/results"}
"""Folders of measured results, by the part of the navigation that lists their pages; a folder may not be there yet."""

_PARTS = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)|(?<=!\[)([^\]]*)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of results in the navigation, where there are any."""
    for title, folder in FOLDERS.items():
        pages = [_on_site(path) for path in _measured(folder)]
        part = next((part[title] for part in config.nav if title in part), None)
        if part is not None:
            part.extend(pages)
        elif pages:
            config.nav.insert(3, {title: pages})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files beside docs/ that are pages."""
    outside = [*BESIDE, *(path for folder in FOLDERS.values() for path in _measured(folder))]
    for path in outside:
        if not path.startswith("docs/"):
            files.append(File.generated(config, _on_site(path), content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where their targets are on the site; those to files that are no pages become names."""
    origin = {site: path for path, site in BESIDE.items()}.get(page.file.src_uri, _in_checkout(page.file.src_uri))
    parts = _PARTS.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(_leads(origin, page.file), part) for part in parts)


def _leads(origin: str, file: File) -> Callable[[re.Match[str]], str]:
    """Return what replaces a link of a page that is ``origin`` in the checkout."""

    def lead(match: re.Match[str]) -> str:
        picture = match[4] is not None
        text, target = (match[3], match[4]) if picture else (match[1], match[2])
        path, hash_, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
        site = _on_site(path)
        if not site:
            return text if path.endswith(text) else f"{text} (`{path}`)"
        relative = posixpath.relpath(site, posixpath.dirname(file.src_uri) or ".")
        return f"{text}]({relative})" if picture else f"[{text}]({relative}{hash_}{anchor})"

    return lead


def _on_site(path: str) -> str:
    """Return where a file of the checkout is on the site, or an empty text where it is no page."""
    if path in BESIDE:
        return BESIDE[path]
    if path.startswith("benchmarks/results/") and path.endswith(".md"):
        return path
    if path == "docs/results":
        return next((_on_site(page) for page in _measured(path)), "")
    return path.removeprefix("docs/") if path.startswith("docs/") else ""


def _in_checkout(site: str) -> str:
    return site if site.startswith("benchmarks/") else f"docs/{site}"


def _measured(folder: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob("*.md"))
