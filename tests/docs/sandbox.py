"""A folder as a reader of the pages has it, and the running of their blocks in it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import smae
from smae.config import PROBE_SECTIONS, expand_modes, parse_sets
from smae_cli.main import run
from tests.docs.blocks import PRINTS, Block, commands

BRIEF = ["train.max_steps=2", "train.batch=4", "augment.frames=24"]
PROBES = ["linear.epochs=1", "linear.views=1", "finetune.epochs=1", "scratch.epochs=1"]
RUN = "runs/skeletonmae-xsub-001"
CLIP = "S001C002P003R002A013"
"""The recording that the pages speak of."""


def settings(*texts: str) -> list[str]:
    """Return settings as options."""
    return [word for text in texts for word in ("--set", text)]


BESIDE = {
    "synth": ["--overwrite"],
    "prepare": ["--executor", "inline", "--overwrite"],
    "pretrain": ["--device", "cpu", *settings(*BRIEF)],
    "eval": ["--device", "cpu"],
    "embed": ["--device", "cpu"],
    "predict": ["--device", "cpu"],
}
"""What is added to the commands of the pages, so that they take seconds, on any machine, one page as often as it likes.

Everything else of a command is run as it is printed.
"""


SHELL = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
"""The environment of a shell in which ``smae`` is the one under test."""


def furnish(folder: Path) -> None:
    """Put into ``folder`` what the pages take for granted: recordings, their zip, a store, a run."""
    smae.synthesise(folder / "ntu", actions=2, subjects=3, cameras=2, replications=1, hard=False)
    raw = sorted((folder / "ntu").iterdir())
    shutil.copy(raw[0], folder / "ntu" / f"{CLIP}.skeleton")
    with zipfile.ZipFile(folder / "nturgbd_skeletons_s001_to_s017.zip", "w") as packed:
        for path in raw:
            packed.write(path, f"nturgb+d_skeletons/{path.name}")
    shutil.copy(raw[0], folder / f"{CLIP}.skeleton")
    (folder / "mine").mkdir()
    for called, path in zip(("first", "second"), raw, strict=False):
        shutil.copy(path, folder / "mine" / f"{called}.skeleton")
    smae.prepare(folder / "ntu", folder / "ntu.zarr", executor="inline", missing_list=False)
    recipe, brief = "skeletonmae-cpu", parse_sets(BRIEF)
    smae.pretrain(data=folder / "ntu.zarr", out=folder / RUN, recipe=recipe, settings=brief, device="cpu")


def run_block(block: Block, printed: str = "") -> str:
    """Run one block in the current folder and return what it printed; ``printed`` is what the block before it did.

    Raises:
        AssertionError: a command ended with another exit code than 0, or printed something else than is shown.
    """
    if block.title == PRINTS:
        compare(block, block.text.splitlines(), printed)
    elif block.title:
        path = Path(block.title)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    if block.language == "python":
        return run_python(block)
    if block.language == "sh":
        return "".join(run_command(line, block) for line in commands(block))
    if block.language == "console":
        for line, shown in sessions(block):
            compare(block, shown, run_command(line, block))
    return ""


def run_python(block: Block) -> str:
    """Run a block as a script would be, and return what it printed."""
    with printing() as output:
        exec(compile(block.text, block.where, "exec"), {"__name__": "__example__"})
    return output.getvalue()


def run_command(line: str, block: Block) -> str:
    """Run a command line and return what it printed: ``smae`` in this process, everything else in a shell."""
    words = shlex.split(line)
    if words[0] != "smae" or re.search(r"[|<>]|&&", line):
        done = subprocess.run(["bash", "-ec", line], env=SHELL, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{block.where}: {line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr
    with printing() as output:
        code = run(words[1:] + beside(words))
    assert code == 0, f"{block.where}: {line} ended with code {code}\n{output.getvalue()}"
    return output.getvalue()


def beside(words: list[str]) -> list[str]:
    """Return what is added to the words of a ``smae`` command, see ``BESIDE``."""
    added = BESIDE.get(words[1], [])
    if words[1] == "eval":
        modes = [value for option, value in pairwise(words) if option == "--probe"] or ["linear", "knn"]
        sections = {"linear", *(PROBE_SECTIONS.get(mode, "linear") for mode in expand_modes(modes))}
        added = added + settings(*(text for text in PROBES if text.partition(".")[0] in sections))
    return [word for word in added if word != "--overwrite" or "--resume" not in words]


@contextlib.contextmanager
def printing() -> Iterator[io.StringIO]:
    """Collect what is printed during the block, on both streams, as a terminal shows it."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        yield output


def sessions(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a console block with the lines that are shown below it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        yield line, shown.splitlines()


def compare(block: Block, shown: list[str], printed: str) -> None:
    """Hold the lines that are shown against those that were printed: in this order, but for numbers, paths and gaps."""
    lines = iter([shape(line) for line in printed.splitlines()])
    for line in map(shape, shown):
        if line and line != "...":
            assert line in lines, f"{block.where}: not printed (here, or in this order): {line}\n{printed}"


def shape(line: str) -> str:
    """Return a line without what differs from one machine and data set to another."""
    line = re.sub(r"(?<!\w)/\S*/", "/", line)
    line = re.sub(r"\b[0-9a-f]{16,}\b", "#", line)
    line = re.sub(r"-?\d[\d,]*(\.\d+)?(e[+-]?\d+)?|(?<!\S)-(?!\S)", "#", line)
    return re.sub(r"[─━]+", "─", " ".join(line.split()))
