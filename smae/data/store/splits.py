"""Splits: which clips train, validate and test under a protocol.

Protocols have the names used in papers. NTU's: Shahroudy et al., "NTU RGB+D", CVPR 2016
(cross-subject, cross-view); Liu et al., "NTU RGB+D 120", TPAMI 2019 (cross-subject, cross-setup).
Stores of other data hold the splits that came with them as arrays; splits that are made later, by
``smae split``, lie in a file of their own, so that the store stays what it was.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.atomic_io import fsync_folder, os_errors, parse_json, write_atomic
from smae.data.store.clips import ClipTable
from smae.data.store.file_store import FileStore, LocalFileStore
from smae.data.store.format import MAX_JSON_BYTES, SPLITS_FILE
from smae.errors import DataError, UnknownNameError
from smae.registry import nearest
from smae.tables import Grid, Table, plain

logger = logging.getLogger(__name__)

TRAIN, TEST, VAL = 1, 2, 3
"""Role of a clip in a split; 0: in none of its parts."""
PARTS = {"train": TRAIN, "val": VAL, "test": TEST}
SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
Roles = NDArray[np.uint8]
_OWN_VERSION = 1
EVERYTHING = "all"
"""Protocol that every store has: all clips train, none tests."""

NTU60_SUBJECTS = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
NTU120_SUBJECTS = (
    *NTU60_SUBJECTS,
    *(45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89),
    *(91, 92, 93, 94, 95, 97, 98, 100, 103),
)
NTU60_SETUPS = 17

NTU_PROTOCOLS: dict[str, tuple[str, ...]] = {
    "ntu60": ("ntu60-xsub", "ntu60-xview"),
    "ntu120": ("ntu60-xsub", "ntu60-xview", "ntu120-xsub", "ntu120-xset"),
}
"""Protocols by data set; NTU-60 is the part of NTU-120 with setups up to 17."""


@dataclass(frozen=True)
class Split(Table):
    """One protocol applied to one store; its parts are disjoint.

    Attributes:
        name: the protocol's full name, such as ``ntu60-xsub``.
        train: int64, clip indices, ascending.
        test: int64, clip indices, ascending.
        val: int64, clip indices, ascending; empty where a split has no validation part.
    """

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]
    val: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def sizes(self) -> str:
        """Return the sizes of the parts in words."""
        return ", ".join(f"{len(getattr(self, part)):,} {part}" for part in PARTS if part != "val" or len(self.val))

    def tables(self) -> list[Grid]:
        return plain(f"{self.name}: {self.sizes()} clips")


def full_name(protocol: str, *, dataset: str, stored: Mapping[str, NDArray[np.uint8]]) -> str:
    """Return a protocol's full name, ``ntu60-xsub`` for ``xsub``; or ``UnknownNameError``."""
    if protocol == EVERYTHING:
        return protocol
    known = [*stored, *NTU_PROTOCOLS.get(dataset, ())]
    for name in (protocol, f"{dataset}-{protocol}"):
        if name in known:
            return name
    short = {name.partition("-")[2]: name for name in known}
    listed = ", ".join(known) or "none: it has no parts yet, and smae split gives it some"
    raise UnknownNameError(
        f"unknown protocol '{protocol}' for a store of '{dataset}': expected one of {listed}"
        f"{nearest(short.get(protocol, protocol), [*known, *short])}"
    )


def find_split(
    protocol: str, *, dataset: str, clips: ClipTable, stored: Mapping[str, NDArray[np.uint8]], tested: bool = True
) -> Split:
    """Return the train, validation and test clips of a protocol.

    Args:
        protocol: full name, or its last part if the data set decides the rest; or ``all``.
        dataset: the store's data set.
        clips: the store's clips.
        stored: uint8 [B] arrays of the store's own splits: 1 train, 2 test, 3 validation, 0 none.
        tested: a test part is needed.

    Raises:
        UnknownNameError: no such protocol for this data set.
        DataError: no train clips, or no test clips where they are needed.
    """
    name = full_name(protocol, dataset=dataset, stored=stored)
    if name == EVERYTHING:
        role = np.full(len(clips), TRAIN, np.uint8)
    elif name in stored:
        role = stored[name]
    else:
        role = _ntu_role(name, clips)
    split = Split(name, *(np.flatnonzero(role == number) for number in (TRAIN, TEST, VAL)))
    if not len(split.train) or (tested and not len(split.test)):
        needed = "train and test clips" if tested else "train clips"
        raise DataError(
            f"protocol '{name}' has {len(split.train):,} train and {len(split.test):,} test clips in this store of "
            f"{len(clips):,}: {needed} are needed; choose another protocol (smae info lists them), or "
            "give the store parts of its own, for example: smae split STORE --by subject --test 2"
        )
    return split


def training_split(protocol: str, *, dataset: str, clips: ClipTable, stored: Mapping[str, NDArray[np.uint8]]) -> Split:
    """Return the split to pre-train on, which needs no test part.

    A store in which no protocol has train clips is trained on as a whole: the split ``all``. Else
    it must have this protocol: an ``UnknownNameError`` or a ``DataError``.
    """
    names = (*stored, *NTU_PROTOCOLS.get(dataset, ()))

    def find(name: str) -> Split:
        return find_split(name, dataset=dataset, clips=clips, stored=stored, tested=False)

    try:
        return find(protocol)
    except (UnknownNameError, DataError):
        for name in names:
            try:
                find(name)
            except DataError:
                continue
            raise
    logger.info(
        "the store has no train part: pre-training on all %d clips (smae split gives it parts, which smae eval needs)",
        len(clips),
    )
    return find(EVERYTHING)


def fitting(*, dataset: str, clips: ClipTable, stored: Mapping[str, NDArray[np.uint8]]) -> dict[str, tuple[int, int]]:
    """Return the numbers of train and test clips of every protocol that has both."""
    sizes: dict[str, tuple[int, int]] = {}
    for name in (*stored, *NTU_PROTOCOLS.get(dataset, ())):
        try:
            split = find_split(name, dataset=dataset, clips=clips, stored=stored)
        except DataError:
            continue
        sizes[name] = (len(split.train), len(split.test))
    return sizes


def _ntu_role(name: str, clips: ClipTable) -> NDArray[np.uint8]:
    dataset, rule = name.split("-")
    subjects = {"ntu60": NTU60_SUBJECTS, "ntu120": NTU120_SUBJECTS}[dataset]
    if rule == "xview":
        train = np.isin(clips.camera, (2, 3))
    elif rule == "xset":
        train = clips.setup % 2 == 0
    else:
        train = np.isin(clips.subject, subjects)
    role = np.where(train, TRAIN, TEST).astype(np.uint8)
    if dataset == "ntu60":
        # The setups that NTU-120 adds are in neither half.
        role[clips.setup > NTU60_SETUPS] = 0
    return role


_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
_WORDS |= {"eval": "val", "test": "test", "testing": "test"}
_PART = "|".join(sorted(_WORDS, key=len, reverse=True))
_LAST = re.compile(rf"(?:(?P<name>.*)[^A-Za-z0-9])?(?P<part>{_PART})(?P<number>\d*)", re.I)
_FIRST = re.compile(rf"(?P<part>{_PART})[^A-Za-z0-9](?P<name>.+)", re.I)
DEFAULT = "split"
"""Name of a split whose lists are called by their parts alone: ``train`` and ``val``."""


def parse_part(key: str) -> tuple[str, str] | None:
    """Return split and part of a list by its name; None if it names no part, or two.

    ``xsub_train`` and ``train-xsub`` are ``("xsub", "train")``; ``train1`` is ``("split1",
    "train")``; ``val`` is ``("split", "val")``.
    """
    match = _LAST.fullmatch(key) or _FIRST.fullmatch(key)
    if match is None:
        return None
    name, number = match["name"] or "", match.groupdict().get("number") or ""
    if _LAST.fullmatch(name):
        return None
    if not name:
        name = DEFAULT + number
    elif number:
        name = f"{name}-{number}"
    return name, _WORDS[match["part"].lower()]


def collect_parts(
    lists: Mapping[str, Sequence[str]], names: Iterable[str], *, where: object
) -> dict[str, dict[str, int]]:
    """Return splits of named lists of clips: split -> clip -> role.

    Where a split has a train and a validation list and no test list, the latter is what results are
    reported on, as pyskl and MMAction2 name it: it becomes the test part, and a note says so.

    Args:
        lists: names of clips by key, such as ``xsub_train``.
        names: of all clips there are.
        where: the file, for messages.

    Raises:
        DataError: a key that names no part, a name that no clip has, or a clip in two parts.
    """
    known, parts = set(names), dict[str, dict[str, list[str]]]()
    for key, members in lists.items():
        parsed = parse_part(key)
        if parsed is None:
            raise DataError(
                f"{where}: the list '{ascii(key)[1:-1][:60]}' names no part: expected a name with train, "
                "val or test at one end (not two of them), such as xsub_train; rename or remove it"
            )
        short, part = parsed
        held = parts.setdefault(short, {}).setdefault(part, [])
        if held and set(held) != set(members):
            raise DataError(f"{where}: two different lists for part {part} of split {short}: keep one")
        held[:] = members
        unknown = [name for name in members if name not in known]
        if unknown:
            raise DataError(
                f"{where}: {len(unknown):,} of the {len(members):,} names in '{key}' belong to no "
                f"clip: {_some(unknown)}{nearest(unknown[0], known)}"
            )
    return {short: _roles(short, found, where=where) for short, found in parts.items()}


def _roles(short: str, found: Mapping[str, Sequence[str]], *, where: object) -> dict[str, int]:
    part_of = dict(PARTS)
    if "val" in found and "test" not in found:
        part_of["val"] = TEST
        logger.info("split %s: there is no test part, so its part 'val' is the one that is tested on", short)
    roles: dict[str, int] = {}
    for part, members in found.items():
        twice = [name for name in members if roles.get(name, part_of[part]) != part_of[part]]
        if twice:
            raise DataError(
                f"{where}: {len(twice):,} clips are in two parts of split {short}: {_some(twice)}: "
                "a clip trains, validates or tests, one of the three"
            )
        roles |= dict.fromkeys(members, part_of[part])
    return roles


def _some(names: Sequence[str]) -> str:
    """Return the first names, escaped, and whether there are more."""
    listed = ", ".join(ascii(name)[1:-1][:80] for name in names[:3])
    return listed + (", ..." if len(names) > 3 else "")


def read_own_splits(root: FileStore, clips: ClipTable) -> dict[str, Roles]:
    """Return the splits of ``splits.json``, uint8 [B] each.

    The file is not in the manifest: the store, its fingerprint and the results on its other
    protocols stay what they were. It holds names of clips and a checksum of its own, which must fit.
    """
    where = f"{root.name}/{SPLITS_FILE}"
    remedy = "remove that file and run smae split again"
    try:
        content = parse_json(root.read(SPLITS_FILE, limit=MAX_JSON_BYTES))
        if content["version"] != _OWN_VERSION:
            raise ValueError(f"version {ascii(content['version'])[:20]} where {_OWN_VERSION} is expected")
        if content["sha256"] != _digest(content["splits"]):
            raise ValueError("its checksum is not that of its splits")
        index = {name: number for number, name in enumerate(clips.name.tolist())}
        found: dict[str, Roles] = {}
        for name, parts in content["splits"].items():
            if not SPLIT_NAME.fullmatch(name):
                raise ValueError(f"a split called {ascii(name)[:40]}")
            role = found[name] = np.zeros(len(clips), np.uint8)
            for part, number in PARTS.items():
                members = [index[member] for member in parts[part]]
                if role[members].any():
                    raise ValueError(f"split {name}: a clip in two parts")
                role[members] = number
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{where}: {type(error).__name__}: {str(error)[:100]}: {remedy}") from error
    return found


def write_own_splits(root: FileStore, clips: ClipTable, splits: Mapping[str, Roles]) -> None:
    """Write ``splits.json``, replacing the one that is there."""
    names = clips.name
    content = {
        name: {part: names[role == number].tolist() for part, number in PARTS.items()}
        for name, role in sorted(splits.items())
    }
    text = json.dumps({"version": _OWN_VERSION, "sha256": _digest(content), "splits": content}, indent=1) + "\n"
    if not isinstance(root, LocalFileStore):
        root.write(SPLITS_FILE, text.encode("ascii"))
        return
    # Written beside the store first: in it, a reader or a crash would meet a file of no manifest.
    beside, target = root.folder.with_name(f"{root.folder.name}.{SPLITS_FILE}"), root.folder / SPLITS_FILE
    write_atomic(beside, text.encode("ascii"))
    with os_errors(target):
        os.replace(beside, target)
    fsync_folder(root.folder)


def _digest(splits: Any) -> str:
    return hashlib.sha256(json.dumps(splits, sort_keys=True).encode()).hexdigest()
