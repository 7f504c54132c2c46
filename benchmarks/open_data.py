"""Data sets as stores of the same 15 joints; motion capture is cut into clips of three seconds.

``python -m benchmarks.open_data`` writes the stores that ``benchmarks.held_out`` trains and evaluates on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

import smae
from smae.data.raw.recording import MAX_RANGE, Clip
from smae.data.raw.recordings import Recordings
from smae.data.store import Store
from smae.data.store.clips import ClipFacts
from smae.data.store.convert import map_store
from smae.data.store.writer import Header, write_store
from smae.skeleton import COMMON15, NTU25

RATE = 120
"""Frames a second of CMU's and HDM05's motion capture; a clip has every fourth."""
WINDOW, STRIDE = 90, 45
"""Frames of a clip and between the first frames of two, at 30 a second."""
TRAIN, TEST = 1, 2
ORIGIN: dict[str, object] = {"source": "ntu", "mode": "reference"}

MOVEMENTS = (
    *("deep squat", "hurdle step", "inline lunge", "side lunge", "stand up from a chair", "raise a straight leg"),
    *("raise an arm sideways", "stretch an arm back", "rotate a shoulder", "raise an arm diagonally"),
)
"""UI-PRMD's ten movements; its classes A011 to A020 are the same ones done badly."""

DESCRIPTIONS = {
    "climb on a playground": "playground",
    "walk": "(slow |brisk )?walk",
    "run": "run",
    "jump": "(forward |high )?jump(,|$)",
    "reach up": "jump up to grab",
    "gymnastics": "jumping jacks",
    "dance": "dance",
    "basketball": "basketball",
    "kick a ball": "soccer",
    "sit down and stand up": "sit on",
    "drink": "unscrew|drink",
    "laugh": "laugh",
    "box": "boxing|punch",
    "wash windows": "wash windows",
    "sweep the floor": "(sweep|mop) floor",
    "direct traffic": "direct traffic",
    "climb steps": "climb (ladder|3 steps)",
    "swordplay": "swordplay",
}
"""Classes of CMU's recordings, and how their descriptions begin."""
OTHER = "other"


@dataclass(frozen=True)
class Part:
    """A clip to be written: its facts, its joints, and whether it trains or tests."""

    facts: ClipFacts
    clip: Clip
    part: int


def described(index: str) -> dict[str, str]:
    """Return the class of each recording in the text of CMU's index, ``01_02  playground - climb``."""
    lines = re.findall(r"^(\d\d+_\d\d)\s+(.+?)\s*$", index, re.MULTILINE)
    known = {name: [c for c, begins in DESCRIPTIONS.items() if re.match(begins, words)] for name, words in lines}
    return {name: (found or [OTHER])[0] for name, found in known.items()}


def windows(frames: int) -> list[int]:
    """Return the first frames of the clips of a recording, of which the last ends with it."""
    last = max(frames - WINDOW, 0)
    return list(dict.fromkeys([*range(0, last, STRIDE), last]))


def captured(
    folder: Path, *, unit: str | None, label: Callable[[str], str], cut: bool
) -> Iterator[tuple[str, str, Clip]]:
    """Yield recording, class and clip of the motion capture in a folder, 30 frames a second.

    Args:
        folder: of ``.bvh`` files, or of ``.amc`` files with their ``.asf``.
        unit: of ``.bvh`` files.
        label: gives a recording's class by its name.
        cut: whether recordings are cut into clips.
    """
    place = Recordings(folder, "mocap", layout=NTU25)
    for sample in place.inventory.samples:
        recording = place.parse(place.read(sample), max_range=MAX_RANGE, unit=unit)
        xyz = recording.xyz[:: RATE // 30]  # type: ignore[union-attr]
        for start in windows(len(xyz)) if cut else [0]:
            part = xyz[start : start + WINDOW] if cut else xyz
            one = smae.from_keypoints(part, layout=NTU25, fps=30, unit="m", name=sample.name)
            yield sample.name, label(sample.name), one.clip(COMMON15)


def cmu(folders: Sequence[Path], index: Path) -> Iterator[Part]:
    """Yield CMU's clips; of each class every third recording tests."""
    classes = described(index.read_text(encoding="utf-8", errors="replace"))
    seen: dict[str, list[str]] = {}
    for folder in folders:
        unit = "cm" if any(folder.glob("*.bvh")) else None
        found = captured(folder, unit=unit, label=lambda name: classes.get(name, OTHER), cut=True)
        for number, (name, label, clip) in enumerate(found, 1):
            trials = seen.setdefault(label, [])
            if name not in trials:
                trials.append(name)
            part = TEST if trials.index(name) % 3 == 2 else TRAIN
            yield Part(ClipFacts(f"{name}-{number:05}", label), clip, 0 if label == OTHER else part)


def hdm05(folder: Path) -> Iterator[Part]:
    """Yield HDM05's recordings; the actors dg and tr test."""
    for name, label, clip in captured(folder, unit=None, label=lambda name: name.split("_")[2], cut=False):
        yield Part(ClipFacts(name, label), clip, TEST if name.split("_")[1] in ("dg", "tr") else TRAIN)


def mapped(store: Store, protocol: str, label: Callable[[str], str] = str) -> Iterator[Part]:
    """Yield the clips of a store with the 15 joints; a protocol of it gives the parts."""
    store = map_store(store, COMMON15)
    split, table = store.split(protocol), store.clips
    part: NDArray[np.uint8] = np.zeros(len(store), np.uint8)
    part[split.train], part[split.test] = TRAIN, TEST
    for number in range(len(store)):
        facts = ClipFacts(str(table.name[number]), label(store.classes[int(table.label[number])]))
        yield Part(facts, Clip(store.clip(number), store.clip_state(number)), int(part[number]))


def movement(action: str) -> str:
    """Return the movement of a class of UI-PRMD, well or badly done."""
    return MOVEMENTS[(int(action[1:]) - 1) % 10]


def write(parts: Sequence[Part], out: Path, *, dataset: str) -> None:
    """Write clips as a store with the protocol ``own``."""
    if out.exists():
        return
    classes = tuple(sorted({one.facts.action for one in parts}))
    header = Header(layout=COMMON15, mode="reference", dataset=dataset, classes=classes, origin=ORIGIN)
    split = np.array([one.part for one in parts], np.uint8)
    write_store(out, header=header, clips=((one.facts, one.clip) for one in parts), splits={"own": split})
    logging.info(f"{out}: {len(parts)} clips, {np.bincount(split, minlength=3)[1:].tolist()} to train and test on")


@click.command()
@click.option("--ui-prmd", type=click.Path(path_type=Path, exists=True), required=True, help="Store.")
@click.option("--nw-ucla", type=click.Path(path_type=Path, exists=True), help="Store.")
@click.option("--cmu", "cmu_folders", multiple=True, type=click.Path(path_type=Path, exists=True), help="Folders.")
@click.option("--index", type=click.Path(path_type=Path, exists=True), help="CMU's list of descriptions.")
@click.option("--hdm05", "hdm05_folder", type=click.Path(path_type=Path, exists=True), help="Folder.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the stores.")
def main(
    ui_prmd: Path,
    nw_ucla: Path | None,
    cmu_folders: tuple[Path, ...],
    index: Path | None,
    hdm05_folder: Path | None,
    out: Path,
) -> None:
    """Write a store for each data set, and open.zarr, whose clips open-small is trained on."""
    prmd = smae.open_store(ui_prmd)
    write(list(mapped(prmd, "xsub")), out / "ui-prmd.zarr", dataset="ui-prmd")
    if nw_ucla is not None:
        write(list(mapped(smae.open_store(nw_ucla), "xview")), out / "nw-ucla.zarr", dataset="nw-ucla")
    if hdm05_folder is not None:
        write(list(hdm05(hdm05_folder)), out / "hdm05.zarr", dataset="hdm05")
    if cmu_folders and index is not None:
        clips = list(cmu(cmu_folders, index))
        write(clips, out / "cmu.zarr", dataset="cmu")
        both = [*mapped(prmd, "xsub", movement), *clips]
        write(both, out / "open.zarr", dataset="open")
        # What the classifier knows has a name.
        write([one for one in both if one.facts.action != OTHER], out / "named.zarr", dataset="open")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
