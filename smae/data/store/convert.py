"""Maps a store to another joint layout: joints by name, missing ones interpolated or marked as missing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smae import interrupts, progress
from smae.atomic_io import atomic_folder, check_output
from smae.config import renamed
from smae.data.raw.recording import MISSING, Clip
from smae.data.store import Store, _reopen, open_store
from smae.data.store.clips import FACTS, ClipFacts
from smae.data.store.format import MANIFEST
from smae.data.store.writer import write_store
from smae.errors import ConfigError, DataError
from smae.skeleton import Layout, load_layout
from smae.tables import Grid, Table, plain

logger = logging.getLogger(__name__)

RULES: dict[str, tuple[tuple[str, ...], ...]] = {
    "spine base": (("hip centre",), ("left hip", "right hip")),
    "hip centre": (("spine base",), ("left hip", "right hip")),
    "spine shoulder": (("shoulder centre",), ("left shoulder", "right shoulder")),
    "shoulder centre": (("spine shoulder",), ("left shoulder", "right shoulder")),
    "spine mid": (("spine",), ("spine base", "spine shoulder")),
    "spine": (("spine mid",), ("hip centre", "shoulder centre")),
    "chest": (("spine mid", "spine shoulder"),),
    # The neck joint of the Kinect v2 lies about a third of the way from the shoulders up to the head.
    "neck": (("spine shoulder", "spine shoulder", "head"),),
    "head": (("left ear", "right ear"), ("nose",)),
    "nose": (("head",),),
    "left clavicle": (("spine shoulder", "left shoulder"),),
    "left hand": (("left wrist", "left index", "left pinky"),),
    "left hand tip": (("left index",),),
    "left foot": (("left foot index",), ("left big toe",)),
}
"""How a joint that a layout lacks follows from others: the mean of the first group that is there.

Named twice, a joint weighs twice. Right ones follow from left ones. What no rule reaches is missing.
"""


@dataclass(frozen=True)
class LayoutMap:
    """A map of joints from one layout to another.

    Attributes:
        source, target: the layouts, V and W joints.
        weights: float32 [W, V], rows that sum to 1; zeros for a joint that is missing.
        interpolated, missing: names of the target's joints that the source lacks.
    """

    source: Layout
    target: Layout
    weights: NDArray[np.float32]
    interpolated: tuple[str, ...]
    missing: tuple[str, ...]

    def __call__(self, clip: Clip, *, gaps: bool) -> Clip:
        """Return a clip of the target's joints.

        Args:
            clip: joints [M, T, V, 3] and states [M, T, V].
            gaps: missing joints are NaN (``exact`` mode), else 0; their state is ``MISSING``.
        """
        used = self.weights > 0
        joints = np.einsum("wv,mtvc->mtwc", self.weights, np.nan_to_num(clip.joints)).astype(np.float32)
        # A joint is as good as the worst of those that it follows from; states count 0 to 2, then MISSING.
        seen = np.where(clip.state == MISSING, -1, clip.state.astype(np.int8))
        state = np.where(used, seen[:, :, None, :], 127).min(-1)
        state = np.where((state < 0) | ~used.any(1), MISSING, state).astype(np.uint8)
        joints[state == MISSING] = np.nan if gaps else 0
        return Clip(joints, state)


def layout_map(source: Layout, target: Layout) -> LayoutMap:
    """Return the map from one layout to another, by the names of joints and ``RULES``."""
    weights = np.zeros((len(target), len(source)), np.float32)
    interpolated, missing = [], []
    for row, joint in enumerate(target.joints):
        found = _weights(joint, source, ())
        if found is None:
            missing.append(joint)
            continue
        for name, weight in found.items():
            weights[row, source.joints.index(name)] += weight
        if joint not in source.joints and len(found) > 1:
            interpolated.append(joint)
    return LayoutMap(source, target, weights, tuple(interpolated), tuple(missing))


def _weights(joint: str, source: Layout, asked: tuple[str, ...]) -> dict[str, float] | None:
    """Return the joints that one follows from, with weights; None if no rule reaches it."""
    if joint in source.joints:
        return {joint: 1.0}
    if joint in asked:
        return None
    rules = RULES.get(joint, ())
    if joint.startswith("right "):
        mirrored = RULES.get(joint.replace("right", "left", 1), ())
        rules = tuple(tuple(name.replace("left", "right", 1) for name in group) for group in mirrored)
    for group in rules:
        parts = [_weights(name, source, (*asked, joint)) for name in group]
        found: dict[str, float] = {}
        for part in parts:
            for name, weight in (part or {}).items():
                found[name] = found.get(name, 0.0) + weight / len(group)
        if all(parts):
            return found
    return None


@dataclass(frozen=True, eq=False)
class MappedStore(Store):
    """A store whose rows are mapped to another layout as they are read; see ``map_store``.

    Attributes:
        mapping: from the layout of the files.
    """

    mapping: LayoutMap | None = None

    @property
    def layout(self) -> Layout:
        """Joint layout of the rows as they are read."""
        assert self.mapping is not None, "map_store makes one"
        return self.mapping.target

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Bool [1, W], the joints that the source lacks and no other joint gives."""
        assert self.mapping is not None, "map_store makes one"
        used = self.mapping.weights > 0
        lost = np.logical_or(~used.any(1), (used & super().missing).any(1))
        return np.atleast_2d(lost)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen_mapped, (super().__reduce__()[1], self.layout)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return float32 [stop - start, W, 3], metres; raises as ``Store.rows`` does."""
        joints: NDArray[np.float32] = self._mapped(start, stop).joints[0]
        return joints

    def states(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the tracking states of rows, uint8 [stop - start, W]."""
        state: NDArray[np.uint8] = self._mapped(start, stop).state[0]
        return state

    def _mapped(self, start: int, stop: int) -> Clip:
        assert self.mapping is not None, "map_store makes one"
        rows = Clip(super().rows(start, stop)[None], super().states(start, stop)[None])
        return self.mapping(rows, gaps=self.mode == "exact")


@renamed(to="layout")
def map_store(store: Store | Path | str | None, layout: Layout | str) -> Store:
    """Return a store as one of another layout, and say what that leaves out.

    What ``convert`` does, without writing anything: joints are mapped as they are read.

    Args:
        store: the store; by default the one in the current folder.
        layout: the new one, its name, or a ``.toml`` file.

    Raises:
        UnknownNameError: no such layout.
        DataError: the store gives less than half of its joints.
    """
    store, target = open_store(store), load_layout(layout) if isinstance(layout, str) else layout
    if store.layout == target:
        return store
    mapping = layout_map(store.layout, target)
    _check(mapping, store)
    lost = [
        f"{words} {', '.join(names)}"
        for words, names in (("interpolated", mapping.interpolated), ("missing", mapping.missing))
        if names
    ]
    ending = f": {'; '.join(lost)}" if lost else ""
    logger.info(f"{store.path}: joints of {store.layout.name} are mapped to {target.name}{ending}")
    return MappedStore(**{one.name: getattr(store, one.name) for one in fields(store)}, mapping=mapping)


def check_joints(own: Layout, layout: Layout, *, where: Path | str, remedy: str = "") -> None:
    """Raise a ``DataError`` if an encoder's layout has joints that do not follow from those of recordings.

    Args:
        own: the recordings' layout.
        layout: the encoder's.
        where: where the recordings are, for the message.
        remedy: what can be done, for the message.
    """
    if own.name != layout.name and (missing := layout_map(own, layout).missing):
        raise DataError(
            f"{where} has layout {own.name}, the encoder was trained on {layout.name}: "
            f"missing are {', '.join(missing[:5])}{remedy}"
        )


def map_whole(store: Store, to: Layout) -> Store:
    """Return a store mapped to the layout of an encoder, all of whose joints it must give; see ``check_joints``."""
    check_joints(store.layout, to, where=store.path, remedy=f" (--layout {to.name} leaves them out)")
    return store if store.layout.name == to.name else map_store(store, to)


def _reopen_mapped(where: tuple[Any, ...], target: Layout) -> Store:
    return map_store(_reopen(*where), target)


def _check(mapping: LayoutMap, store: Store) -> None:
    target, missing = mapping.target, mapping.missing
    if len(missing) > len(target) // 2:
        raise DataError(
            f"{store.path}: of the {len(target)} joints of {target.name} its layout {store.layout.name} gives only "
            f"{len(target) - len(missing)}: missing are {', '.join(missing[:8])}, ...: map it to a layout with fewer "
            "joints"
        )


@dataclass(frozen=True)
class ConvertResult(Table):
    """A converted store.

    Attributes:
        store: its path.
        fingerprint: of its manifest.
        clips: their number.
        interpolated, missing: joints that the first layout lacks.
    """

    store: Path
    fingerprint: str
    clips: int
    interpolated: tuple[str, ...]
    missing: tuple[str, ...]

    def tables(self) -> list[Grid]:
        joints = {"interpolated": self.interpolated, "missing, marked so": self.missing}
        lines = [f"{what}: {', '.join(names)}" for what, names in joints.items() if names]
        return plain(f"{self.store}: {self.clips:,} clips, fingerprint {self.fingerprint}", lines)


@interrupts.deferred("nothing was written: run it again")
@renamed(to="layout")
def convert(store: Store | Path | str, *, layout: str, out: Path | str, overwrite: bool = False) -> ConvertResult:
    """Write a store whose clips have the joints of another layout.

    Joints are taken by name. Some that the store lacks follow from others (``RULES``); the rest is
    missing: 0, or NaN in ``exact`` mode, with the state ``MISSING``. Names, classes and protocols stay.

    Args:
        store: the store to read.
        layout: the new one: its name, or a ``.toml`` file.
        out: folder of the new store.
        overwrite: replace a store that is there.

    Raises:
        ConfigError: the store has that layout already, or ``out`` must not be replaced.
        DataError: no joint of the target is in the store, or the store is damaged.
        EnvironmentFault: the disk refused.
    """
    store, target, out = open_store(store), load_layout(layout), Path(out)
    if store.layout == target:
        raise ConfigError(f"{store.path} has layout {target.name} already")
    mapping = layout_map(store.layout, target)
    _check(mapping, store)
    inputs = [store.path] if isinstance(store.path, Path) else []
    check_output(
        out, kind="a store", is_kind=lambda path: (path / MANIFEST).is_file(), overwrite=overwrite, inputs=inputs
    )
    origin = {key: value for key, value in store.attributes.origin.items() if key != "layout"}
    origin |= {"converted": store.fingerprint, "converted_from": store.layout.name}
    origin["missing"] = list(mapping.missing)
    header = replace(store.attributes, layout=target, origin=origin)
    splits = {name: store.stored_splits[name] for name in sorted(store.stored_splits)}
    with atomic_folder(out) as partial:
        inner = partial / "store"
        fingerprint = write_store(inner, header=header, clips=_clips(store, mapping), splits=splits)
        for path in inner.iterdir():
            path.rename(partial / path.name)
        inner.rmdir()
    return ConvertResult(out, fingerprint, len(store), mapping.interpolated, mapping.missing)


def _clips(store: Store, mapping: LayoutMap) -> Iterator[tuple[ClipFacts, Clip]]:
    table = store.clips
    for index in progress.track(range(len(store)), "convert", unit="clips"):
        interrupts.check()
        numbers: dict[str, Any] = {name: int(getattr(table, name)[index]) for name in FACTS}
        facts = ClipFacts(str(table.name[index]), store.classes[int(table.label[index])], **numbers)
        clip = Clip(store.clip(index), store.clip_state(index))
        yield facts, mapping(clip, gaps=store.mode == "exact")
