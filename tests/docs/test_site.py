"""The site builds with no warning, loads nothing from elsewhere, and its reference has every function of ``smae``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import smae
from tests.docs.blocks import DOCS, ROOT

LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=[\"']?([^\"' >]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the site is built with MkDocs: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout + done.stderr
    return folder


def test_every_page_is_on_the_site(site: Path) -> None:
    for page in [*DOCS.rglob("*.md"), *DOCS.glob("*.ipynb")]:
        assert (site / page.relative_to(DOCS)).with_suffix(".html").is_file()
    for name in ("index", "changelog", "contributing", "benchmarks/results/prepare"):
        assert (site / f"{name}.html").is_file()


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = LOADED.findall(page.read_text(encoding="utf-8"))
        assert loaded
        assert [target for target in loaded if re.match(r"(https?:)?//", target)] == [], page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_links_lead_out_of_the_site_only_where_they_say_so(site: Path) -> None:
    for page in set(site.rglob("*.html")) - {site / "404.html"}:  # which only a server shows, at its own root
        for target in re.findall(r"<a\b[^>]*?href=\"([^\"#]+)", page.read_text(encoding="utf-8")):
            if not target.startswith(("https://", "http://", "mailto:")):
                assert (page.parent / target).resolve().is_relative_to(site.resolve()), f"{page.name}: {target}"
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_reference_has_every_public_function() -> None:
    documented = set(re.findall(r"^::: (smae\.\w+)$", (DOCS / "reference/index.md").read_text(), re.MULTILINE))
    assert documented == {f"smae.{name}" for name in smae.__all__ if not name.startswith("_")}
