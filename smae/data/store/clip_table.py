"""The clips of a store: columns with one entry a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


UNLABELLED = "unlabelled"
"""The class of recordings whose names carry no label."""


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
    """Return the names in the column ``name``, uint8 [B, W]; which are printable ASCII."""
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
