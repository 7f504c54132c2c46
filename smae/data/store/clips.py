"""The clips of a store: columns with one entry a clip; single clips as arrays or tensors."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.errors import ConfigError, EnvironmentFault
from smae.tables import Grid, Table

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


BODIES = 2
"""Bodies of a clip in the form of fixed size; an absent one is zeros, and false in the mask."""


@dataclass(frozen=True, eq=False)
class StoreClip:
    """One clip of a store.

    Attributes:
        name: as in the raw data.
        index: its number in the store, from 0.
        label: index into the store's classes.
        action: its class's id, such as ``A013``.
        joints: float32 [M, T, V, 3], metres; M bodies, 1 or 2.
        state: uint8 [M, T, V]: 0 not tracked, 1 inferred, 2 tracked, 3 body absent.
        facts: ``subject``, ``camera`` and so on, those that the data set has.
    """

    name: str
    index: int
    label: int
    action: str
    joints: NDArray[np.float32] = field(repr=False)
    state: NDArray[np.uint8] = field(repr=False)
    facts: dict[str, int]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Bool [M, T, V], true where there is a joint: its body is there, and it was not lost."""
        # Here, as cleaning in `padded`: training opens stores too, and needs neither.
        from smae.data.raw.recording import MISSING

        there: NDArray[np.bool_] = (self.state != MISSING) & np.isfinite(self.joints).all(-1)
        return there

    def padded(self, frames: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return joints float32 [2, T, V, 3], zeros where the mask, bool [2, T, V], is false.

        Args:
            frames: T, to which the clip is resampled (linear); its own number by default.
        """
        mask = self.mask
        joints = np.where(mask[..., None], self.joints, np.float32(0))
        if frames is not None:
            from smae.data.clean.cleaning import resample, resample_state

            joints, mask = resample(joints, frames), resample_state(mask.view(np.uint8), frames).view(bool)
            joints = joints * mask[..., None]
        missing = [(0, BODIES - len(joints)), (0, 0), (0, 0)]
        return np.pad(joints, [*missing, (0, 0)]), np.pad(mask, missing)

    def tensors(self, frames: int | None = None) -> dict[str, Any]:
        """Return tensors as ST-GCN, CTR-GCN and their successors take them, without batch axis.

        ``x`` float32 [C, T, V, 2], ``mask`` bool [T, V, 2], ``label`` and ``index`` int64.

        Args:
            frames: T, to which the clip is resampled; its own number by default.
        """
        import torch

        joints, mask = self.padded(frames)
        return {
            "x": torch.from_numpy(joints).permute(3, 1, 2, 0).contiguous(),
            "mask": torch.from_numpy(mask).permute(1, 2, 0).contiguous(),
            "label": torch.tensor(self.label),
            "index": torch.tensor(self.index),
        }


class ClipSequence(Table):
    """What makes a store a sequence of clips, readable at the prompt; a base of ``Store``."""

    def __getitem__(self: Any, index: int | str) -> StoreClip:
        """Return a clip by its number, negative from the end, or by its name.

        Raises:
            IndexError, UnknownNameError: no clip of this number, or name. TypeError: neither of both.
        """
        number = self.number(index)
        label = int(self.clips.label[number])
        return StoreClip(
            name=str(self.clips.name[number]),
            index=number,
            label=label,
            action=self.classes[label],
            joints=self.clip(number),
            state=self.clip_state(number),
            facts=self.clips.numbers(number),
        )

    def __iter__(self: Any) -> Iterator[StoreClip]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return str(self)

    def tables(self: Any) -> list[Grid]:
        frames, two = self.clips.frames, int((self.clips.bodies == BODIES).sum())
        rows = [
            ("clips", f"{len(self):,}, {two:,} of two bodies"),
            ("frames", f"{frames.min()} to {frames.max()} a clip, {frames.sum():,} in all"),
            ("joints", f"{len(self.layout)}, layout {self.layout.name}"),
            ("classes", f"{len(self.classes)}, {self.classes[0]} to {self.classes[-1]}"),
            ("cleaned", f"{self.mode} mode"),
            ("stored", f"joints as {self.codec.name}"),
            ("fingerprint", f"{self.fingerprint[:16]}..."),
        ]
        protocols = [f"{name} (train {train:,}, test {test:,})" for name, (train, test) in self.protocols().items()]
        rows.append(("protocols", "\n".join(protocols) or "none: smae split gives it some"))
        return [Grid(("", ""), rows, f"{self.path} ({self.dataset})")]

    def torch_dataset(self, protocol: str | None = None, part: str = "train", *, frames: int | None = 64) -> Any:
        """Return clips as a map-style ``torch.utils.data.Dataset``, for a plain ``DataLoader``.

        An item is what ``StoreClip.tensors`` gives, so a batch has ``x`` float32 [B, C, T, V, M],
        ``mask`` bool [B, T, V, M], ``label`` and ``index`` int64 [B]. Nothing is augmented. It is
        pickled as the store's path, so workers read the store themselves.

        Args:
            protocol: the split; None for all clips.
            part: ``train`` or ``test``, or another part that the split has.
            frames: T, to which every clip is resampled; None keeps lengths, for batches of one clip
                or a ``collate_fn`` of your own.

        Raises:
            UnknownNameError: no such protocol.
            ConfigError: the split has no such part.
        """
        from smae.data.loader import ClipDataset

        return ClipDataset(self, part_of(self, protocol, part), frames=frames)

    def to_pandas(self: Any) -> Any:
        """Return the clips as a ``pandas.DataFrame``, one row a clip, indexed by name.

        Columns: ``label``, ``action``, ``frames``, ``bodies``, ``subject``, ``camera``, ``setup``
        and ``replication`` where the data set has them, and for each protocol the clip's part.

        Raises:
            EnvironmentFault: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise EnvironmentFault(f"to_pandas needs pandas ({error}): pip install pandas") from None
        clips = self.clips
        columns: dict[str, Any] = {"label": clips.label, "action": np.array(self.classes)[clips.label]}
        columns |= {"frames": clips.frames, "bodies": clips.bodies}
        for name in ("subject", "camera", "setup", "replication"):
            if (getattr(clips, name) >= 0).any():
                columns[name] = getattr(clips, name)
        for protocol in self.protocols():
            split, parts = self.split(protocol), np.full(len(self), "", "U5")
            for part in ("train", "val", "test"):
                parts[getattr(split, part, [])] = part
            columns[protocol] = parts
        return pandas.DataFrame(columns, index=pandas.Index(clips.name, name="name"))


def part_of(store: Any, protocol: str | None, part: str) -> NDArray[np.int64]:
    """Return int64 [n], the clip numbers of a split's part; of all clips without a protocol."""
    if protocol is None:
        return np.arange(len(store))
    split = store.split(protocol)
    index = getattr(split, part, None)
    if part == "name" or index is None or not len(index):
        raise ConfigError(f"part '{part}' of {split.name}: expected one that it has clips in: train, test")
    return np.asarray(index)
