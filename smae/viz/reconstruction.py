"""What an objective makes of clips: as it sees them, hides parts of them, and fills those in again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from smae.data.loader.loader import Loader
from smae.data.store.store import Store
from smae.errors import DataError
from smae.skeleton import Layout
from smae.train.config import RunConfig
from smae.train.objectives import Objective
from smae.viz import Panel, Scene
from smae.viz.clip_scenes import clip_title, place_of
from smae.viz.scene import ABSENT, HIDDEN, REBUILT, TRACKED

_BATCH = 64


@dataclass(frozen=True, eq=False)
class Rebuilt:
    """One clip, parts of it hidden and filled in again.

    Attributes:
        index: the clip's number in the store.
        original: float32 [M, T, V, 3], metres, as the encoder gets it, but in space whatever the stream.
        hidden: bool [M, T, V], present joints that the encoder did not see.
        filled: float32 [M, T, V, 3], the same with hidden joints as the decoder guesses them.
        seen: bool [M, T, V], joints that are there at all.
    """

    index: int
    original: NDArray[np.float32]
    hidden: NDArray[np.bool_]
    filled: NDArray[np.float32]
    seen: NDArray[np.bool_]

    @property
    def off(self) -> NDArray[np.float64]:
        """Float64 [M, T, V], millimetres between guess and truth; NaN where nothing was hidden."""
        away = 1000 * np.linalg.norm((self.original - self.filled).astype(np.float64), axis=-1)
        off: NDArray[np.float64] = np.where(self.hidden, away, np.nan)
        return off


def rebuild(objective: Objective, store: Store, config: RunConfig, *, clips: NDArray[np.int64]) -> list[Rebuilt]:
    """Return clips of a store as the objective sees, hides and rebuilds them; none where no places are rebuilt.

    Bones and motion have none. Relative joints are put back on the true path of the body's centre, so that an error
    of the path is the centre's alone.

    Raises:
        DataError: what it rebuilds is not finite.
    """
    if config.augment.stream in ("bone", "motion"):
        return []
    loader = Loader(
        store, clips, augment=config.augment, batch=_BATCH, seed=config.seed, train=False,
        device=torch.device("cpu"), workers=0,
    )  # fmt: skip
    found = []
    for batch in loader.epoch(0):
        preview = objective.preview(batch, batch.noise(config.seed))
        if preview is None:
            return []
        if not bool(preview.rebuilt.isfinite().all()):
            raise DataError(
                "the reconstruction of the shown clips is not finite: the checkpoint is damaged or diverged"
            )
        for number, clip in enumerate(batch.index.tolist()):
            items = (batch.clip == number).nonzero()[:, 0]
            original = batch.x[items].numpy()
            there = (original != 0).any((-1, -2))[..., None] & np.isfinite(original).all(-1)
            seen = np.asarray(np.broadcast_to(there, original.shape[:3]), np.bool_)
            hidden = seen & preview.hidden[items].numpy()
            away = _path(original, store.layout) if config.augment.stream == "relative" else np.float32(0)
            found.append(Rebuilt(clip, original + away, hidden, preview.rebuilt[items].numpy() + away, seen))
    return found


def _path(relative: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """Return float32 [M, T, V, 3]: what takes relative joints back to their places; 0 for the centre itself."""
    path = np.repeat(relative[..., layout.centre : layout.centre + 1, :], len(layout), axis=-2)
    path[..., layout.centre, :] = 0
    return path


def scene_of(made: Rebuilt, objective: Objective, store: Store, config: RunConfig) -> Scene:
    """Return the scene of a clip: original, masked, filled in."""
    original = np.where(made.seen, np.uint8(TRACKED), np.uint8(ABSENT))
    panels = (
        Panel("original", made.original, original),
        Panel("masked", made.original, np.where(made.hidden, np.uint8(HIDDEN), original)),
        Panel("filled in", made.filled, np.where(made.hidden, np.uint8(REBUILT), original), ghost=0),
    )
    off = float(np.nanmean(made.off)) if made.hidden.any() else 0.0
    facts = (
        ("store", place_of(store, made.index)),
        ("objective", config.objective.name),
        ("masking", config.masking.name),
        ("hidden", f"{made.hidden.sum() / max(1, made.seen.sum()):.0%} of the joints"),
        ("filled in", f"{off:.0f} mm off on average"),
    )
    notes = (objective.preview_note,) if objective.preview_note else ()
    name = str(store.clips.name[made.index])
    return Scene(name, clip_title(store, made.index), panels, store.layout, facts, notes, real_time=False)


def scene_of_preview(objective: Objective, store: Store, config: RunConfig, *, index: int) -> Scene:
    """Return the scene of one clip: original, masked, filled in.

    Raises:
        DataError: the objective rebuilds nothing in space, or what it rebuilds is not finite.
    """
    made = rebuild(objective, store, config, clips=np.array([index], np.int64))
    if not made:
        raise DataError(
            f"objective '{config.objective.name}' on the {config.augment.stream} stream rebuilds nothing that could be "
            "shown (it predicts no places): leave --run out, or name a run of another objective or stream"
        )
    return scene_of(made[0], objective, store, config)
