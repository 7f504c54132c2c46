"""A program that writes every kind of output where a write fails, or onto a small disk that is really full.

A command then ends with exit code 5 and one line that names the path and the bytes; what was there before is intact,
and nothing half written stays behind.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.reliability.disk_full import free
from tests.reliability.failing_writes import FaultGuard
from tests.reliability.fault_injection import watch
from tests.reliability.forked_cli import Ended, answer, smae
from tests.reliability.lies import made
from tests.reliability.runs import warm_up_training
from tests.reliability.stores import digest

REPLACED = ("ctrgcn", "features", "features in a folder", "encoder", "page", "gif", "synth", "store")
"""Kinds of output that are put in their place by one rename."""
QUICK = ("--set", "linear.epochs=2", "--probe", "linear", "--probe", "knn", "--protocol", "xsub", "--device", "cpu")
OUTPUTS: dict[str, tuple[str, ...]] = {
    "ctrgcn": ("export", "STORE", "--format", "ctrgcn", "--protocol", "xsub", "--out", "OUT.npz", "--overwrite"),
    "pyskl": ("export", "STORE", "--format", "pyskl", "--out", "OUT.pkl", "--overwrite"),
    "hdf5": ("export", "STORE", "--format", "hdf5", "--out", "OUT.h5", "--overwrite"),
    "features": ("embed", "STORE", "--encoder", "ENCODER", "--out", "OUT.npz", "--device", "cpu", "--overwrite"),
    "features in a folder": ("embed", "STORE", "--encoder", "ENCODER", "--out", "OUT.zarr", "--overwrite"),
    "encoder": ("export-encoder", "RUN", "--out", "OUT", "--overwrite"),
    "page": ("report", "RUN", "--out", "OUT.html", "--device", "cpu"),
    "comparison": ("report", "RUN", "OTHER", "--out", "OUT.html"),
    "view": ("view", "STORE", "--out", "OUT.html"),
    "gif": ("view", "STORE", "--out", "OUT.gif"),
    "png": ("view", "STORE", "--out", "OUT.png"),
    "synth": ("synth", "OUT", "--actions=2", "--subjects=2", "--cameras=1", "--replications=1", "--overwrite"),
    "store": ("prepare", "--raw", "RAW", "--out", "OUT", "--executor", "inline", "--overwrite"),
    "results": ("eval", "--run", "OUT", *QUICK),
}  # fmt: skip


class Output:
    """One kind of output: its command, and where it is written."""

    def __init__(self, kind: str, place: Path, whole: Path) -> None:
        place.mkdir(exist_ok=True)
        names = {"STORE": whole / "data.zarr", "RAW": whole / "raw", "RUN": whole / "run", "ENCODER": whole / "encoder"}
        words = [word for word in OUTPUTS[kind] if word.startswith("OUT")]
        self.kind, self.whole = kind, whole
        self.path = place / words[0].lower()
        paths = {key: str(path) for key, path in names.items()} | {words[0]: str(self.path)}
        self.words = [paths.get(word, word).replace("OTHER", str(whole / "other")) for word in OUTPUTS[kind]]
        self.older = whole / f"older-{self.path.name}"

    def restore(self) -> None:
        """Put the older output back, as it was."""
        _remove(self.path)
        for left in self.path.parent.glob(".*"):
            _remove(left)
        if self.kind == "results":
            shutil.copytree(self.whole / "run", self.path)
        elif self.older.is_dir():
            shutil.copytree(self.older, self.path)
        elif self.older.exists():
            shutil.copy(self.older, self.path)

    def problem(self, ended: Ended) -> str:
        """Return what is wrong with an end for which there was no space, or with what is there afterwards."""
        left = [path.name for path in self.path.parent.rglob("*.partial")]
        named = len(ended.messages) >= 1 and str(self.path) in ended.messages[-1] and " bytes)" in ended.messages[-1]
        if self.kind == "results" and ended.code == 0:
            # What they take of the disk is little beside the checkpoints that were measured with them.
            return self._unsound()
        if ended.code != 5 or not named or "Traceback" in ended.err:
            return str(ended)
        if left:
            return f"left behind: {left}"
        if self.kind == "results":
            return self._unsound()
        now = _digest(self.path)
        return "" if now in (_digest(self.older), self.new) else "what was there before has changed"

    def _unsound(self) -> str:
        ended = smae("report", self.path, "--out", self.whole / "check.html", "--device", "cpu")
        return "" if ended.code == 0 else f"the run cannot be read any more: {ended}"

    def make(self) -> int:
        """Write the older output and note the new one; return the size of the largest new file."""
        _remove(self.older)
        self.restore()
        ended = smae(*self.words)
        assert ended.code == 0, ended
        self.new = _digest(self.path)
        if self.kind != "results":
            (shutil.copytree if self.path.is_dir() else shutil.copy)(self.path, self.older)
        files = [path for path in [self.path, *self.path.rglob("*")] if path.is_file()]
        return max(path.stat().st_size for path in files)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    if path.is_dir():
        return digest(path)
    return path.read_bytes().hex() if path.exists() else ""


def _prepare(folder: Path) -> Path:
    warm_up_training()
    import h5py  # noqa: F401
    import PIL.Image  # noqa: F401

    whole = folder / "whole"
    whole.mkdir()
    made(whole)
    shutil.copytree(whole / "run", whole / "other")
    return whole


def failing(folder: str, kinds: list[str], step: int, sizes: int) -> list[str]:
    """Let each ``step``-th disk operation fail, then writes beyond ``sizes`` sizes of a file."""
    place, problems = Path(folder), []
    whole = _prepare(place)
    for kind in kinds:
        output = Output(kind, place / "place", whole)
        largest = output.make()
        number, guard = 0, None
        while guard is None or guard.count > guard.number:
            output.restore()
            guard = FaultGuard(number, error=errno.ENOSPC, lasting=True)
            ended = smae(*output.words, first=lambda guard=guard, output=output: watch(output.path.parent, guard))
            if guard.count > number:
                problem = _of_operation(output, ended)
                problems.append(problem and f"{kind}, operation {number}: {problem}")
            number += step
        for part in range(sizes):
            limit = max(4096, largest * part // sizes)
            if limit >= largest:
                continue
            output.restore()
            ended = smae(
                *output.words, first=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            )
            problem = output.problem(ended)
            problems.append(problem and f"{kind}, files of {limit} bytes: {problem}")
        _remove(output.path)
    return problems


def _of_operation(output: Output, ended: Ended) -> str:
    # What fails in a log or a lock beside the output has no size; and the folder above may be named.
    line = ended.messages[-1] if ended.messages else ""
    if ended.code == 5 and " bytes)" not in line and str(output.path.parent) in line and "Traceback" not in ended.err:
        return "" if not list(output.path.parent.rglob("*.partial")) else "left behind"
    return output.problem(ended)


def full(place: str, folder: str, kinds: list[str], count: int) -> list[str]:
    """Write each kind of output ``count`` times with increasing free space, never enough."""
    whole, problems = _prepare(Path(folder)), []
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], check=True)
    ballast = Path(place) / "ballast"
    for kind in kinds:
        output = Output(kind, Path(place) / "place", whole)
        output.make()
        output.restore()
        before = free(place)
        needed = before - _lowest(output, place)
        for number in range(count):
            output.restore()
            space = needed * number // count // 4096 * 4096
            with open(ballast, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, free(place) - space)
            ended = smae(*output.words)
            ballast.unlink()
            problem = output.problem(ended)
            problems.append(problem and f"{kind}, {space} bytes free: {problem}")
        _remove(output.path)
    return problems


def _lowest(output: Output, place: str) -> int:
    """Return the space that is left once the output stands beside the older one."""
    held = output.path.with_name("held")
    output.path.rename(held)
    if output.kind == "results":
        shutil.copytree(held, output.path)
        shutil.rmtree(output.path / "eval")
        shutil.rmtree(output.path / "heads")
    before = free(place)
    assert smae(*output.words).code == 0
    used = before - free(place)
    _remove(output.path)
    held.rename(output.path)
    return free(place) - used


def mounted(place: str, folder: str, kinds: list[str]) -> list[str]:
    """Write each kind of output to a mount point, of another disk and of the same one, and to a link."""
    whole, problems = _prepare(Path(folder)), []
    # A disk of its own, since a process may only mount where it may write.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], check=True)
    for kind in kinds:
        output = Output(kind, Path(place) / "place", whole)
        output.make()
        _remove(output.path)
        (output.path.mkdir if output.older.is_dir() else output.path.touch)()
        for source in ("tmpfs", "older", "link", "link to nothing"):
            if source == "tmpfs" and not output.older.is_dir():
                continue
            if source.startswith("link"):
                _remove(output.path)
                output.path.symlink_to(output.older if source == "link" else place + "/nothing")
            else:
                what = ["--bind", str(output.older)] if source == "older" else ["-t", "tmpfs", "none"]
                subprocess.run(["mount", *what, str(output.path)], check=True)
            before, began = _digest(output.older), os.listdir(output.path.parent)
            ended = smae(*output.words)
            fine = ended.code == 2 and len(ended.messages) == 1 and str(output.path) in ended.messages[0]
            fine = fine and (" is a link" if source.startswith("link") else " is a mount point") in ended.messages[0]
            problem = "" if fine else str(ended)
            if before != _digest(output.older) or began != os.listdir(output.path.parent):
                problem = problem or "something was changed"
            problems.append(problem and f"{kind}, {source}: {problem}")
            if not source.startswith("link"):
                subprocess.run(["umount", str(output.path)], check=True)
        _remove(output.path)
    return problems


def trials(how: str, **job: Any) -> list[str] | dict[str, Any]:
    """Make the trials of one kind: ``failing``, or in a namespace ``full`` or ``mounted``."""
    return failing(**job) if how == "failing" else {"problems": {"full": full, "mounted": mounted}[how](**job)}


if __name__ == "__main__":
    answer(trials)
