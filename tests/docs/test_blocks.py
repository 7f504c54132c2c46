"""Every block of README and docs is run, page by page, in order, by a reader who has recordings, a store and a run."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from smae_cli import choices
from smae_cli.main import smae as command_line
from tests.data.object_server import s3_server
from tests.docs.blocks import PAGES, ROOT, Block, blocks, commands, name
from tests.docs.sandbox import furnish, run_block

RUNNABLE = ("sh", "console", "python")
LONG = {"docs/evaluating.md", "docs/recipes.md"}
"""Pages that train or evaluate half a dozen times."""
NOT_RUN = {
    "README.md": 2,
    "CONTRIBUTING.md": 1,
    "docs/benchmarks.md": 4,
    "docs/clusters.md": 3,
    "docs/from-video.md": 3,
    "docs/gallery.md": 1,
    "docs/gpus.md": 1,
    "docs/linear.md": 1,
    "docs/other-runtimes.md": 2,
    "docs/reproducing.md": 2,
    "docs/several-stores.md": 1,
    "docs/using-encoders.md": 1,
}
"""How many blocks of a page are not run: each has its reason above it, and another one is a decision."""


def pages() -> list[object]:
    """Return the pages that have something to run, the long ones marked."""
    found = [page for page in PAGES if blocks(page, *RUNNABLE)]
    return [pytest.param(p, id=name(p), marks=[pytest.mark.slow] if name(p) in LONG else []) for p in found]


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "furnished"
    folder.mkdir()
    furnish(folder)
    return folder


@pytest.fixture
def sandbox_folder(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", pages())
@pytest.mark.usefixtures("fresh_registries", "sandbox_folder")
def test_the_blocks_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_store(page, monkeypatch):
        printed = ""
        for block in blocks(page):
            if not block.reason:
                printed = run_block(block, printed)


@contextlib.contextmanager
def object_store(page: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve the bucket that a page writes to."""
    if not any("s3://" in line for block in blocks(page, "sh") for line in commands(block)):
        yield
        return
    pytest.importorskip("moto", reason="the object store of this page needs moto")
    with s3_server(monkeypatch):
        yield


def test_blocks_that_are_not_run_are_few_and_say_why() -> None:
    assert Counter(name(page) for page in PAGES for block in blocks(page) if block.reason) == NOT_RUN
    assert all(block.reason.startswith("needs ") for page in PAGES for block in blocks(page) if block.reason)


def test_what_looks_like_a_command_is_in_a_block_that_is_run() -> None:
    for page in PAGES:
        for block in blocks(page):
            hidden = block.language not in RUNNABLE and any(
                line.startswith(("$ ", "smae ", "pip ", "python ", "make ")) for line in block.text.splitlines()
            )
            assert not hidden, f"{block.where}: commands in a block that is not run: call it sh or console"
            assert block.language, f"{block.where}: a block without a language"


@pytest.mark.parametrize(
    "block", [b for page in PAGES for b in blocks(page, "sh") if b.reason], ids=lambda block: block.where
)
def test_commands_that_are_not_run_are_known(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    # What they name need not be there.
    for kind in (choices.RUN, choices.STORE, choices.WEIGHTS):
        monkeypatch.setattr(kind, "_check", str)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in commands(block):
        words = shlex.split(re.sub(r"\$[A-Z_]+", "1", line))  # a variable of SLURM
        if "smae" in words[:-1]:  # srun and torchrun start it too
            words = words[words.index("smae") :]
            context = click.Context(command_line, info_name="smae")
            word, command, rest = command_line.resolve_command(context, words[1:])
            assert command is not None, f"{block.where}: no command '{word}'"
            command.make_context(word, rest, parent=context)  # raises UsageError for an option that is not there
        elif words[0] == "make":
            assert words[1] in targets, f"{block.where}: make {words[1]} is no target"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_toml_and_json_blocks_parse(page: Path) -> None:
    for block in blocks(page, "toml"):
        tomllib.loads(block.text)
    for block in blocks(page, "json"):
        json.loads(block.text)
