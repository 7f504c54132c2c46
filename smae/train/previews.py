"""What an objective makes of clips: as it sees them, hides parts of them, and fills those in again."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from smae.data.loading.loader import Loader
from smae.data.scenes import clip_title, place_of
from smae.data.storage.store import Store
from smae.drawing import Panel, Scene
from smae.drawing.scene import ABSENT, HIDDEN, REBUILT, TRACKED
from smae.errors import DataError
from smae.train.config import RunConfig
from smae.train.objectives import Objective
from smae.train.page import ClipPicture


def previews(objective: Objective, store: Store, config: RunConfig, *, clips: NDArray[np.int64]) -> list[ClipPicture]:
    """Return clips of a store as the objective sees, hides and rebuilds them; none for one that rebuilds nothing.

    Raises:
        DataError: what it rebuilds is not finite.
    """
    loader = Loader(
        store, clips, augment=config.augment, batch=len(clips), seed=config.seed, train=False,
        device=torch.device("cpu"), workers=0,
    )  # fmt: skip
    batch = next(iter(loader.epoch(0)))
    preview = objective.preview(batch, batch.noise(config.seed))
    if preview is None:
        return []
    if not bool(preview.rebuilt.isfinite().all()):
        raise DataError("the reconstruction of the shown clips is not finite: the checkpoint is damaged or diverged")
    pictures = []
    for number, clip in enumerate(batch.index.tolist()):
        items = (batch.clip == number).nonzero()[:, 0]
        pictures.append(
            ClipPicture(
                title=clip_title(store, clip),
                original=batch.x[items].numpy(),
                masked=preview.hidden[items].numpy(),
                reconstructed=preview.rebuilt[items].numpy(),
                bones=store.layout.bones,
                joints=store.layout.joints,
            )
        )
    return pictures


def scene_of_preview(objective: Objective, store: Store, config: RunConfig, *, index: int) -> Scene:
    """Return the scene of one clip: original, masked, filled in.

    Raises:
        DataError: the objective rebuilds nothing in space, or what it rebuilds is not finite.
    """
    pictures = previews(objective, store, config, clips=np.array([index], np.int64))
    if not pictures:
        raise DataError(
            f"objective '{config.objective.name}' rebuilds nothing that could be shown (it predicts no places): "
            "leave --run out, or name a run of another objective"
        )
    picture = pictures[0]
    seen = (picture.original != 0).any((-1, -2))[..., None] & np.isfinite(picture.original).all(-1)
    original = np.where(seen, np.uint8(TRACKED), np.uint8(ABSENT))
    hidden = seen & picture.masked
    panels = (
        Panel("original", picture.original, original),
        Panel("masked", picture.original, np.where(hidden, np.uint8(HIDDEN), original)),
        Panel("filled in", picture.reconstructed, np.where(hidden, np.uint8(REBUILT), original), ghost=0),
    )
    facts = (
        ("store", place_of(store, index)),
        ("objective", config.objective.name),
        ("masking", config.masking.name),
        ("hidden", f"{hidden.sum() / max(1, seen.sum()):.0%} of the joints"),
        ("filled in", f"{_millimetres_off(picture, hidden):.0f} mm off on average"),
    )
    notes = (objective.preview_note,) if objective.preview_note else ()
    name = str(store.clips.name[index])
    return Scene(name, picture.title, panels, store.layout, facts, notes, real_time=False)


def _millimetres_off(picture: ClipPicture, hidden: NDArray[np.bool_]) -> float:
    off = np.linalg.norm((picture.original - picture.reconstructed)[hidden], axis=-1)
    return 1000 * float(off.mean()) if len(off) else 0.0
