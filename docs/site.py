"""What MkDocs does besides: the notebook and files beside docs/ become pages too, links into code become text.

A hook of mkdocs.yml. On the site a page's links lead to pages only, so that it is complete wherever it is put.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "docs/tutorial.ipynb": "tutorial.md",
}
"""Files of the checkout that are pages of the site, and their names there."""
RESULTS, BENCHMARKS = "docs/results", "benchmarks/results"
"""Folders of measured results: the first one's pages are in the navigation, docs/benchmarks.md leads to the other's."""

_PARTS = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)|(?<=!\[)([^\]]*)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of results in the navigation, where there are any."""
    part = next(part["Results"] for part in config.nav if "Results" in part)
    part.extend(map(_on_site, _measured(RESULTS)))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no Markdown in docs/, and the figures of notebooks."""
    for path in [*BESIDE, *_measured(BENCHMARKS)]:
        text = (ROOT / path).read_text(encoding="utf-8")
        if path.endswith(".ipynb"):
            text, figures = _from_notebook(json.loads(text), Path(path).stem)
            for name, data in figures.items():
                files.append(File.generated(config, name, content=data))
        files.append(File.generated(config, _on_site(path), content=text))
    return files


def _from_notebook(notebook: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """Return a notebook as Markdown, and its figures by file name."""
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            if "text" in output:
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            else:
                name = f"{stem}-{len(figures) + 1}.png"
                figures[name] = base64.b64decode(output["data"]["image/png"])
                parts.append(f"![What the cell above draws]({name})")
    return "\n\n".join(parts) + "\n", figures


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
    if path.startswith(f"{BENCHMARKS}/") and path.endswith(".md"):
        return path
    if path == RESULTS:
        return next((_on_site(page) for page in _measured(path)), "")
    return path.removeprefix("docs/") if path.startswith("docs/") else ""


def _in_checkout(site: str) -> str:
    return site if site.startswith("benchmarks/") else f"docs/{site}"


def _measured(folder: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob("*.md"))
