"""Several stores as one to pre-train on: mapped to one layout, at one rate; nothing is written."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae.data.store import Store, frame_rate, open_store, preparation
from smae.data.store.chunks import SHARD_ROWS
from smae.data.store.clips import COLUMNS, ClipTable
from smae.data.store.format import Header
from smae.data.store.splits import Split
from smae.errors import ConfigError, DataError, UnknownNameError
from smae.skeleton import Layout, layout_json, load_layout

logger = logging.getLogger(__name__)

Data = Store | Path | str


@dataclass(frozen=True)
class Member:
    """One of the stores.

    Attributes:
        name: the store's, made unique.
        store: mapped to the common layout.
        start: its first row among those of all.
        thinning: its frames per second relative to those of the slowest store, at least 1.
        missing: bool [V], joints that its recordings lack, those interpolated by the map included.
    """

    name: str
    store: Store
    start: int
    thinning: float
    missing: NDArray[np.bool_]

    @cached_property
    def frames(self) -> NDArray[np.int32]:
        """Int32 [B], frames of each clip at the common rate."""
        frames = np.round(self.store.clips.frames / self.thinning)
        return np.maximum(1, frames).astype(np.int32)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows of this store, float32 [stop - start, V, 3]; zeros after a clip that was thinned."""
        store, clips = self.store, self.store.clips
        if self.thinning == 1:
            return store.rows(start, stop)
        first = int(np.searchsorted(clips.offset, start, side="right")) - 1
        last = int(np.searchsorted(clips.offset, stop))
        begin = int(clips.offset[first])
        read = store.rows(begin, int(clips.offset[last - 1] + clips.rows[last - 1]))
        out = np.zeros((max(len(read), stop - begin), *read.shape[1:]), np.float32)
        for clip in range(first, last):
            at, bodies = int(clips.offset[clip]) - begin, int(clips.bodies[clip])
            own = read[at : at + int(clips.rows[clip])]
            tracks = own.reshape(bodies, -1, *read.shape[1:])
            thinned = _thin(tracks, int(self.frames[clip])).reshape(-1, *read.shape[1:])
            out[at : at + len(thinned)] = thinned
        return out[start - begin : stop - begin]


def _thin(tracks: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Return tracks [M, T, V, 3] at fewer frames: linear; where a body comes or goes, the nearest one."""
    # Here, as elsewhere in stores: most training needs no cleaning.
    from smae.data.clean.cleaning import resample

    there = (np.nan_to_num(tracks) != 0).any((2, 3)).astype(np.float32)
    between = resample(there[..., None, None], frames)
    nearest = np.floor((np.arange(frames) + 0.5) * tracks.shape[1] / frames).astype(np.intp)
    return np.where(between == 1, resample(tracks, frames), tracks[:, nearest])


@dataclass(frozen=True, eq=False)
class JoinedStore:
    """Several stores, read as one by a loader.

    A clip keeps its place in its store's rows, and each store begins with a block of its own, so
    that streaming reads the shards that there are.

    Attributes:
        members: the stores, in the order given.
        layout: their common layout.
    """

    members: tuple[Member, ...]
    layout: Layout
    _splits: dict[str, list[Split]] = field(default_factory=dict, repr=False)

    @property
    def path(self) -> str:
        """All paths, for messages."""
        return ", ".join(str(member.store.path) for member in self.members)

    @property
    def mode(self) -> str:
        """``reference`` or ``exact``."""
        return self.members[0].store.mode

    @property
    def dataset(self) -> str:
        """The data sets' names, joined by +."""
        return "+".join(dict.fromkeys(member.store.dataset for member in self.members))

    @property
    def attributes(self) -> Header:
        """The first store's, with the common layout."""
        return replace(self.members[0].store.attributes, layout=self.layout)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hex, of all that rows and their order follow from."""
        skeleton = layout_json(self.layout)
        parts = [(member.store.fingerprint, member.thinning) for member in self.members]
        return hashlib.sha256(json.dumps([self.layout.name, skeleton, parts]).encode()).hexdigest()

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Bool [S, V], the joints that each store's recordings lack."""
        return np.stack([member.missing for member in self.members])

    @cached_property
    def member(self) -> NDArray[np.int64]:
        """Int64 [B], which store each clip is of."""
        counts = [len(member.store) for member in self.members]
        return np.repeat(np.arange(len(counts)), counts)

    @cached_property
    def clips(self) -> ClipTable:
        """All clips; their names begin with that of their store, and no two stores share a label."""
        columns: dict[str, Any] = {}
        tables = [one.store.clips for one in self.members]
        for column in (*COLUMNS, "source"):
            columns[column] = np.concatenate([getattr(table, column) for table in tables])
        starts = np.array([one.start for one in self.members])
        columns["offset"] = columns["offset"] + starts[self.member]
        classes = np.cumsum([0, *(len(one.store.classes) for one in self.members)])[self.member]
        columns["label"] = columns["label"] + classes.astype(np.int32)
        columns["frames"] = np.concatenate([one.frames for one in self.members])
        names = [np.char.add(f"{one.name}/", one.store.clips.name) for one in self.members]
        return ClipTable(name=np.concatenate(names), **columns)

    def __len__(self) -> int:
        return len(self.member)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return float32 [stop - start, V, 3], metres; zeros between stores. Raises as ``Store.rows``."""
        out = np.zeros((stop - start, len(self.layout), 3), np.float32)
        for member in self.members:
            at = member.start
            first, last = max(start, at), min(stop, at + member.store.row_count)
            if first < last:
                out[first - start : last - start] = member.rows(first - at, last - at)
        return out

    def protocols(self) -> dict[str, tuple[int, int]]:
        """Return no protocol: each store has its own."""
        return {}

    def splits(self, protocol: str) -> list[Split]:
        """Return what each store is pre-trained on.

        Args:
            protocol: of all stores, or one of each, between commas. A store that does not have it
                is taken by its only protocol, if it has one, and as a whole if it has none.

        Raises:
            ConfigError: as many protocols as neither one nor one a store.
            UnknownNameError, DataError: a store has other protocols, but not this one.
        """
        if protocol in self._splits:
            return self._splits[protocol]
        names, count = protocol.split(","), len(self.members)
        if len(names) not in (1, count):
            raise ConfigError(f"--protocol {protocol}: expected one, or one for each of {count} stores")
        if len(names) == 1:
            names *= count
        found = list(map(_training_split, self.members, names))
        sizes = [f"{one.name} {len(split.train):,}" for one, split in zip(self.members, found, strict=True)]
        shown = ", ".join(sizes)
        stores = "1 store" if count == 1 else f"{count} stores"
        logger.info("%s in layout %s; clips to train on: %s", stores, self.layout.name, shown)
        self._splits[protocol] = found
        return found

    def training_split(self, protocol: str) -> Split:
        """Return what to pre-train on: the train parts of all stores; see ``splits``."""
        parts, first = self.splits(protocol), np.searchsorted(self.member, np.arange(len(self.members)))
        train = np.concatenate([split.train + at for split, at in zip(parts, first, strict=True)])
        test = np.concatenate([split.test + at for split, at in zip(parts, first, strict=True)])
        names = list(dict.fromkeys(split.name for split in parts))
        return Split("+".join(names), train, test)

    def check_shares(self, shares: Sequence[float]) -> None:
        """Raise a ``ConfigError`` unless each store has a share and they sum to 1, or none has one."""
        if shares and (len(shares) != len(self.members) or abs(sum(shares) - 1) > 1e-6):
            raise ConfigError(
                f"train.shares={list(shares)}: expected {len(self.members)} shares (--share), one for each "
                f"store, that sum to 1, found {len(shares)} that sum to {sum(shares):g}"
            )


def _training_split(member: Member, protocol: str) -> Split:
    store = member.store
    try:
        return store.training_split(protocol)
    except UnknownNameError:
        known = list(store.protocols())
        if len(known) != 1:
            raise
        only = f"its train part is that of its only one, {known[0]}"
        logger.info("%s has no protocol %s: %s", member.name, protocol, only)
        return store.training_split(known[0])


def join_stores(stores: Sequence[Data], *, layout: Layout | str | None = None) -> JoinedStore:
    """Return several stores as one, mapped to a common layout, and say what that leaves out.

    Args:
        stores: the stores, each once.
        layout: the common layout, its name, or a ``.toml`` file; by default the first store's.

    Raises:
        ConfigError: no store, or the same twice.
        DataError: no usable store, different modes, or a layout that cannot be mapped.
    """
    # Here: training on one store maps nothing.
    from smae.data.store.convert import MappedStore, map_store

    opened = [open_store(store) for store in stores]
    if not opened:
        raise ConfigError("expected at least one store, found none: name them with --data")
    seen: dict[str, Store] = {}
    for store in opened:
        if store.fingerprint in seen:
            other = seen[store.fingerprint].path
            raise ConfigError(f"{store.path} is the same store as {other}: name each once")
        seen[store.fingerprint] = store
        if store.mode != opened[0].mode:
            raise DataError(
                f"{store.path} is in {store.mode} mode and {opened[0].path} in {opened[0].mode} mode: "
                "prepare both in the same mode"
            )
    target = opened[0].layout if layout is None else layout
    if isinstance(target, str):
        target = load_layout(target)
    slowest = min(filter(None, map(frame_rate, opened)), default=None)
    members: list[Member] = []
    start = 0
    for store, name in zip(opened, _unique_names(opened), strict=True):
        mapped, rate, thinning = map_store(store, target), frame_rate(store), 1.0
        missing = mapped.missing[0]
        if isinstance(mapped, MappedStore) and mapped.mapping is not None:
            missing = missing | np.isin(target.joints, mapped.mapping.interpolated)
        if missing.any():
            names = ", ".join(np.array(target.joints)[missing])
            logger.info("%s: always masked, since its recordings lack them: %s", name, names)
        if rate is None or slowest is None:
            logger.info("%s: its frames per second are not known: they are taken as they are", name)
        elif rate != slowest:
            thinning = rate / slowest
            logger.info("%s: its %g frames per second become %g", name, rate, slowest)
        members.append(Member(name, mapped, start, thinning, missing))
        start = -(-(start + store.row_count) // SHARD_ROWS) * SHARD_ROWS
    return JoinedStore(tuple(members), target)


def _unique_names(stores: Sequence[Store]) -> list[str]:
    names = [store.name.removesuffix(".zarr") for store in stores]
    numbered = {name for name in names if names.count(name) > 1}
    return [name + f"-{at}" * (name in numbered) for at, name in enumerate(names, 1)]


TrainingStore = Store | JoinedStore
"""What can be pre-trained on."""


def open_stores(data: Data | Sequence[Data] | None, *, layout: Layout | str | None = None) -> TrainingStore:
    """Return the store at a path, or several as one; with a layout, mapped to it."""
    named: list[Any] = list(data) if isinstance(data, list | tuple) else [data]
    if layout is None and len(named) == 1:
        return open_store(named[0])
    return join_stores(named, layout=layout)


def describe_store(store: TrainingStore, protocol: str) -> dict[str, Any]:
    """Return what a run keeps of the store, or of each of the stores, that it is trained on."""
    about = {
        "fingerprint": store.fingerprint,
        "dataset": store.dataset,
        "mode": store.mode,
        "layout": store.layout.name,
        **layout_json(store.layout),
        "clips": len(store),
        "prepared": preparation(store),
    }
    if not isinstance(store, JoinedStore):
        return {"path": _absolute(store)} | about | {"masked": np.array(store.layout.joints)[store.missing[0]].tolist()}
    stores = []
    for member, split in zip(store.members, store.splits(protocol), strict=True):
        one = member.store
        stores.append(
            {
                "name": member.name,
                "path": _absolute(one),
                "fingerprint": one.fingerprint,
                "dataset": one.dataset,
                "protocol": split.name,
                "clips": len(one),
                "frames_per_second": frame_rate(one),
                "masked": np.array(store.layout.joints)[member.missing].tolist(),
            }
        )
    return about | {"stores": stores}


def _absolute(store: Store) -> str:
    return str(store.path.absolute()) if isinstance(store.path, Path) else store.path
