"""Builds a corpus of raw files as large as asked for: real recordings under many names, or synthetic ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from smae.data.raw.ntu import parse_name
from smae.data.synthetic.synth import synthesise

SHARED = Path(__file__).resolve().parents[1] / "../shared/data/uiprmd/to_skeleton.py"
REAL_FILES = 2_000
WORK = Path(tempfile.gettempdir()) / "smae-benchmarks"
_REPLICATIONS = 10


@dataclass(frozen=True)
class Corpus:
    """Raw files of one folder.

    Attributes:
        folder: they lie directly in it.
        files: sorted by name.
        bytes: all of them together.
        kind: ``real`` or ``synthetic``.
    """

    folder: Path
    files: tuple[Path, ...]
    bytes: int
    kind: str

    def __str__(self) -> str:
        return f"{len(self.files):,} {self.kind} recordings, {self.bytes / 1e6:,.0f} MB"


def build(files: int, *, work: Path = WORK) -> Corpus:
    """Return a corpus of ``files`` recordings, made on first use and kept under ``work``.

    There are 2,000 real recordings; a larger corpus holds each several times, as hard links under other names (copies
    where the file system has no links), with replication numbers that no list of missing samples contains. What is
    shared is the page cache, so that disks are not measured.
    """
    kind = "real" if SHARED.is_file() else "synthetic"
    folder = work / f"{kind}-{files}"
    if not folder.is_dir():
        originals = _originals(min(files, REAL_FILES), kind, work)
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _repeat(sorted(originals.glob("*.skeleton")), partial, files=files)
        partial.rename(folder)
    listed = tuple(sorted(folder.glob("*.skeleton")))
    return Corpus(folder, listed, sum(path.stat().st_size for path in listed), kind)


def zipped(corpus: Corpus) -> Path:
    """Return the corpus as one zip beside its folder, laid out as the official ones are, made on first use.

    Deflated at level 1: the same work to unpack, and three times as quick to make.
    """
    path = corpus.folder.with_suffix(".zip")
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for file in corpus.files:
                archive.write(file, f"nturgb+d_skeletons/{file.name}")
        partial.rename(path)
    return path


def _originals(files: int, kind: str, work: Path) -> Path:
    """Return a folder of at least as many recordings as asked for, or of all there are."""
    folder = work / f"{kind}-originals-{files}"
    if folder.is_dir():
        return folder
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if kind == "real":
        every = str(max(1, REAL_FILES // files))
        command = [sys.executable, str(SHARED), str(partial), "--limit", str(files), "--every", every]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    else:
        subjects = min(40, -(-files // 12))
        synthesise(partial, subjects=subjects, cameras=1, replications=min(4, -(-files // (12 * subjects))))
    partial.rename(folder)
    return folder


def _repeat(originals: list[Path], folder: Path, *, files: int) -> None:
    made = 0
    for turn in count(1):
        for original in originals:
            if made == files:
                return
            name = parse_name(original.stem)
            assert name is not None, "recordings are named as NTU's are"
            replication = f"R{name.replication + _REPLICATIONS * turn:03}"
            _link(original, folder / original.name.replace(f"R{name.replication:03}", replication))
            made += 1


def _link(original: Path, name: Path) -> None:
    try:
        os.link(original, name)
    except OSError:
        shutil.copyfile(original, name)
