"""NTU RGB+D: files ``SsssCcccPpppRrrrAaaa.skeleton``, or as ``.npy``, in folders and zips."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np

from smae.data.raw.discovery import find_files
from smae.data.raw.file_reader import FileReader
from smae.data.raw.plain_pickle import as_array, load_plain_npy
from smae.data.raw.recording import Recording
from smae.data.raw.single_body import bodies_recording
from smae.data.raw.source import BaseSource, Inventory
from smae.data.store.clips import UNLABELLED, ClipFacts
from smae.data.store.splits import NTU60_SETUPS
from smae.errors import BadRecording, DataError

SUFFIX, NPY_SUFFIX = ".skeleton", ".skeleton.npy"
NTU60_ACTIONS = 60
_MAX_BODIES = 16
_NAME = re.compile("".join(f"{letter}((?!000)[0-9]{{3}})" for letter in "SCPRA"))


def parse_name(text: str) -> ClipFacts | None:
    """Return the facts in an NTU name, None for other text.

    Setups (height and distance of the cameras) are 1-17 in NTU-60, 1-32 in NTU-120; cameras 1-3;
    subjects 1-40 and 1-106; replications 1 or 2; actions A001-A060 and A001-A120. Only the form
    counts: five letters with three ASCII digits each, none of the numbers 0. Numbers beyond NTU's
    own are accepted, so that other recordings may use such names.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    setup, camera, subject, replication, action = map(int, match.groups())
    return ClipFacts(text, f"A{action:03}", subject, camera, setup, replication)


@cache
def ntu_missing() -> frozenset[str]:
    """Return the 535 samples that every published NTU-120 result leaves out.

    The 302 names of NTU-60 are those of them with setup 17 or less.
    """
    text = (files("smae.data.raw") / "lists" / "ntu_missing.txt").read_text(encoding="ascii")
    return frozenset(text.split())


class NtuSource(BaseSource):
    """The NTU RGB+D family, and any other recordings with such names and files."""

    suffix = SUFFIX

    def discover(self, raw: Path, *, strict_names: bool = False) -> Inventory:
        """Return the samples under a folder (its sub-folders and zips), in one zip, or one file."""
        return find_files(
            raw,
            suffix=self.suffix,
            valid=lambda name: _NAME.fullmatch(name) is not None,
            strict_names=strict_names,
            own_names=True,
            looked_for=f"{self.suffix} files or zip members, as S001C002P003R002A013{self.suffix}",
        )

    def reader(self, raw: Path) -> FileReader:
        return FileReader(raw, views=True)

    def parse(self, data: bytes | memoryview, *, strict: bool, max_range: float) -> Recording:
        # Imported late: it loads the compiled kernels, which listing files does not need.
        from smae.data.raw.fast_parser import read_skeleton

        return read_skeleton(data, strict=strict, max_range=max_range)

    def facts(self, name: str) -> ClipFacts:
        """Return the numbers in a sample's name; NTU's protocols follow from them."""
        return parse_name(name) or ClipFacts(name, UNLABELLED)

    def dataset(self, facts: Sequence[ClipFacts]) -> str:
        """Return ``ntu60`` up to setup 17 and action 60, else ``ntu120``, or ``own``."""
        if any(fact.action == UNLABELLED for fact in facts):
            return "own"
        small = all(fact.setup <= NTU60_SETUPS and int(fact.action[1:]) <= NTU60_ACTIONS for fact in facts)
        return "ntu60" if small else "ntu120"

    def missing(self) -> frozenset[str]:
        return ntu_missing()


class NtuNpySource(NtuSource):
    """NTU RGB+D as the authors' ``txt2npy.py`` converts it: ``S001C001P001R001A001.skeleton.npy``.

    Each file holds a pickled dictionary, read without executing anything, with an array of each
    body, ``skel_body0`` float [T, 25, 3], zeros in frames where it is not there. Bodies are
    numbered by their order in each frame, and the sensor's ids and tracking states are lost: a
    store of these files is not that of the ``.skeleton`` files.
    """

    suffix = NPY_SUFFIX

    def parse(self, data: bytes | memoryview, *, strict: bool, max_range: float) -> Recording:
        try:
            content = load_plain_npy(bytes(data))
        except DataError as error:
            raise BadRecording("npy", str(error)) from error
        bodies = []
        if isinstance(content, dict):
            bodies = [as_array(content.get(f"skel_body{number}")) for number in range(_MAX_BODIES)]
        bodies = [body for body in bodies if body is not None]
        wrong = [body for body in bodies if not isinstance(body, np.ndarray) or body.dtype.kind != "f"]
        if not bodies or wrong or len({body.shape for body in bodies}) > 1:
            raise BadRecording("npy", "expected the dictionary of txt2npy.py, with skel_body0 of floats [T, 25, 3]")
        if bodies[0].ndim != 3:
            raise BadRecording("joint-count", f"expected [T, 25, 3], found {list(bodies[0].shape)}")
        xyz = np.stack(bodies, axis=1).astype(np.float64)
        return bodies_recording(xyz, layout=self.layout, strict=strict, max_range=max_range)
