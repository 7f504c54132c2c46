"""The clips of a store: columns with one entry a clip, and the train and test clips of a protocol.

Protocols have the names used in papers. NTU's: Shahroudy et al., "NTU RGB+D", CVPR 2016
(cross-subject, cross-view); Liu et al., "NTU RGB+D 120", TPAMI 2019 (cross-subject, cross-setup).
Stores of other data hold their splits as arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.errors import DataError, UnknownNameError
from smae.registry import nearest

COLUMNS: dict[str, str] = {
    "offset": "int64",
    "frames": "int32",
    "bodies": "uint8",
    "label": "int32",
    "subject": "int16",
    "camera": "int16",
    "setup": "int16",
    "replication": "int16",
}
"""The one-dimensional columns and their types; ``name`` and ``source`` are byte matrices."""
FACTS = ("subject", "camera", "setup", "replication")
"""The columns of numbers in ``ClipFacts``."""


@dataclass(frozen=True)
class ClipFacts:
    """Facts about a clip besides its joints; -1 for a number that the data set does not have."""

    name: str
    action: str
    subject: int = -1
    camera: int = -1
    setup: int = -1
    replication: int = -1


@dataclass(frozen=True)
class ClipTable:
    """All clips of a store, column by column, in store order.

    Attributes:
        name: str [B].
        offset: int64 [B], first row of each clip.
        frames: int32 [B], T.
        bodies: uint8 [B], M, 1 or 2.
        label: int32 [B], index into the store's classes.
        subject, camera, setup, replication: int16 [B], -1 where the data set has none.
        source: uint8 [B, 32], BLAKE3 of the raw file.
    """

    name: NDArray[np.str_]
    offset: NDArray[np.int64]
    frames: NDArray[np.int32]
    bodies: NDArray[np.uint8]
    label: NDArray[np.int32]
    subject: NDArray[np.int16]
    camera: NDArray[np.int16]
    setup: NDArray[np.int16]
    replication: NDArray[np.int16]
    source: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.name)

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64 [B], rows of each clip: M x T."""
        return self.frames.astype(np.int64) * self.bodies

    def numbers(self, index: int) -> dict[str, int]:
        """Return subject, camera and so on of one clip, those that its data set has."""
        found = {name: int(getattr(self, name)[index]) for name in FACTS}
        return {name: number for name, number in found.items() if number >= 0}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the columns as stored: names as NUL-padded ASCII bytes, uint8 [B, W]."""
        columns: dict[str, NDArray[Any]] = {field.name: getattr(self, field.name) for field in fields(self)}
        names = np.ascontiguousarray(np.char.encode(self.name, "ascii"))
        return columns | {"name": names.view(np.uint8).reshape(len(self), names.dtype.itemsize)}


def decode_names(stored: NDArray[np.uint8]) -> NDArray[np.str_]:
    """Return the names in the column ``name``, uint8 [B, W].

    Raises:
        ValueError: bytes that are not printable ASCII.
    """
    width = stored.shape[1]
    if ((stored > 0) & ((stored < ord(" ")) | (stored > ord("~")))).any():
        raise ValueError("a name is not printable ASCII")
    return np.char.decode(np.ascontiguousarray(stored).view(f"S{width}").reshape(-1), "ascii")


def build_table(
    facts: Sequence[ClipFacts],
    *,
    offset: NDArray[np.int64],
    frames: Sequence[int],
    bodies: Sequence[int],
    source: Sequence[bytes],
    classes: Sequence[str],
) -> ClipTable:
    """Return the table of clips in store order.

    Args:
        facts: one a clip.
        offset: first row of each.
        frames: T of each.
        bodies: M of each.
        source: 32 bytes each.
        classes: sorted action ids; a clip's label is the index of its action.
    """
    label = {action: index for index, action in enumerate(classes)}
    numbers: dict[str, Any] = {name: np.array([getattr(fact, name) for fact in facts], COLUMNS[name]) for name in FACTS}
    return ClipTable(
        name=np.array([fact.name for fact in facts], np.str_),
        offset=offset,
        frames=np.asarray(frames, np.int32),
        bodies=np.asarray(bodies, np.uint8),
        label=np.array([label[fact.action] for fact in facts], np.int32),
        source=np.frombuffer(b"".join(source), np.uint8).reshape(len(facts), 32),
        **numbers,
    )


TRAIN, TEST = 1, 2

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
class Split:
    """One protocol applied to one store.

    Attributes:
        name: the protocol's full name, such as ``ntu60-xsub``.
        train: int64, clip indices, ascending.
        test: int64, clip indices, ascending; disjoint from ``train``.
    """

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def full_name(protocol: str, *, dataset: str, stored: Mapping[str, NDArray[np.uint8]]) -> str:
    """Return the full name of a protocol: ``xsub`` in an NTU-60 store is ``ntu60-xsub``.

    Raises:
        UnknownNameError: no such protocol for this data set; the message lists the protocols.
    """
    known = [*stored, *NTU_PROTOCOLS.get(dataset, ())]
    for name in (protocol, f"{dataset}-{protocol}"):
        if name in known:
            return name
    short = (name.partition("-")[2] for name in known)
    listed = ", ".join(known) or "none: its data came without splits"
    raise UnknownNameError(
        f"unknown protocol '{protocol}' for a store of '{dataset}': expected one of {listed}"
        f"{nearest(protocol, [*known, *short])}"
    )


def find_split(protocol: str, *, dataset: str, clips: ClipTable, stored: Mapping[str, NDArray[np.uint8]]) -> Split:
    """Return the train and test clips of a protocol.

    Args:
        protocol: full name, or its last part if the data set decides the rest.
        dataset: the store's data set.
        clips: the store's clips.
        stored: uint8 [B] arrays of the store's own splits: 1 train, 2 test, 0 neither.

    Raises:
        UnknownNameError: no such protocol for this data set.
        DataError: no train or no test clips in this store.
    """
    name = full_name(protocol, dataset=dataset, stored=stored)
    role = stored[name] if name in stored else _ntu_role(name, clips)
    split = Split(name=name, train=np.flatnonzero(role == TRAIN), test=np.flatnonzero(role == TEST))
    if not len(split.train) or not len(split.test):
        raise DataError(
            f"protocol '{name}' finds {len(split.train)} training and {len(split.test)} test clips among the store's "
            f"{len(clips)}: it needs both; choose another protocol or prepare the missing recordings"
        )
    return split


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
