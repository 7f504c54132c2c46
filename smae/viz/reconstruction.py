"""Masked reconstruction of clips: original, masked and reconstructed skeletons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from smae.data.loader.loader import Loader
from smae.data.store import Store
from smae.errors import DataError
from smae.skeleton import Layout
from smae.train.config import RunConfig
from smae.train.objectives import Objective
from smae.viz.scene import ABSENT, MASKED, RECONSTRUCTED, TRACKED, Panel, Scene, clip_location, clip_title

_BATCH = 64


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One clip, masked and reconstructed.

    Attributes:
        index: the clip's number in the store.
        original: float32 [M, T, V, 3], metres, as the encoder gets it, but in space for any stream.
        masked: bool [M, T, V], present joints that the encoder did not see.
        reconstructed: float32 [M, T, V, 3], the original with masked joints as predicted; None
            where the objective predicts something else than positions.
        present: bool [M, T, V], joints that the clip has.
    """

    index: int
    original: NDArray[np.float32]
    masked: NDArray[np.bool_]
    reconstructed: NDArray[np.float32] | None
    present: NDArray[np.bool_]

    @property
    def error(self) -> NDArray[np.float64]:
        """Float64 [M, T, V], prediction to truth in millimetres; NaN where nothing is predicted."""
        if self.reconstructed is None:
            return np.full(self.masked.shape, np.nan)
        distance = 1000 * np.linalg.norm((self.original - self.reconstructed).astype(np.float64), axis=-1)
        error: NDArray[np.float64] = np.where(self.masked, distance, np.nan)
        return error


def reconstruct(
    objective: Objective, store: Store, config: RunConfig, *, clips: NDArray[np.int64]
) -> list[Reconstruction]:
    """Return clips masked and reconstructed; none where the objective does not mask positions.

    The bone and motion streams have no positions. Relative joints are put back on the true path of
    the body's centre, so an error of that path is the centre's alone. Predictions must be finite.
    """
    if config.augment.stream in ("bone", "motion"):
        return []
    cpu = torch.device("cpu")
    loader = Loader(
        store, clips, augment=config.augment, batch=_BATCH, seed=config.seed, train=False, device=cpu, workers=0
    )
    made = []
    for batch in loader.epoch(0):
        preview = objective.preview(batch, batch.noise(config.seed))
        if preview is None:
            return []
        if preview.rebuilt is not None and not bool(preview.rebuilt.isfinite().all()):
            raise DataError("the reconstruction is not finite: the checkpoint is damaged or diverged")
        for number, clip in enumerate(batch.index.tolist()):
            items = (batch.clip == number).nonzero()[:, 0]
            original = batch.x[items].numpy()
            frames = (original != 0).any((-1, -2))[..., None] & np.isfinite(original).all(-1)
            present = np.asarray(np.broadcast_to(frames, original.shape[:3]), np.bool_)
            masked = present & preview.hidden[items].numpy()
            offset: NDArray[np.float32] | np.float32 = np.float32(0)
            if config.augment.stream == "relative":
                offset = _centre_path(original, store.layout)
            predicted = None
            if preview.rebuilt is not None:
                predicted = preview.rebuilt[items].numpy() + offset
            made.append(Reconstruction(clip, original + offset, masked, predicted, present))
    return made


def _centre_path(relative: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """Return float32 [M, T, V, 3] to add to relative joints for their positions."""
    path = np.repeat(relative[..., layout.centre : layout.centre + 1, :], len(layout), axis=-2)
    path[..., layout.centre, :] = 0
    return path


def scene_of(clip: Reconstruction, objective: Objective, store: Store, config: RunConfig) -> Scene:
    """Return the scene of a clip: original, masked and, of predicted positions, reconstructed."""
    original = np.where(clip.present, np.uint8(TRACKED), np.uint8(ABSENT))
    masked, predicted = (np.where(clip.masked, np.uint8(kind), original) for kind in (MASKED, RECONSTRUCTED))
    panels = [Panel("original", clip.original, original), Panel("masked", clip.original, masked)]
    facts = [
        ("store", clip_location(store, clip.index)),
        ("objective", config.objective.name),
        ("masking", config.masking.name),
        ("masked", f"{clip.masked.sum() / max(1, clip.present.sum()):.0%} of the joints"),
    ]
    if clip.reconstructed is not None:
        panels.append(Panel("reconstructed", clip.reconstructed, predicted, ghost=0))
        error = float(np.nanmean(clip.error)) if clip.masked.any() else 0.0
        facts.append(("mean joint error", f"{error:.0f} mm"))
    notes = tuple(filter(None, [objective.preview_note]))
    name = str(store.clips.name[clip.index])
    title = clip_title(store, clip.index)
    return Scene(name, title, tuple(panels), store.layout, tuple(facts), notes, real_time=False)


def scene_of_reconstruction(objective: Objective, store: Store, config: RunConfig, *, index: int) -> Scene:
    """Reconstruct one clip and return its scene; a ``DataError`` if no positions are masked."""
    clips = reconstruct(objective, store, config, clips=np.array([index], np.int64))
    if not clips:
        raise DataError(
            f"objective '{config.objective.name}' on the {config.augment.stream} stream gives no "
            "masked positions to draw: leave --run out, or name a run of another objective or stream"
        )
    return scene_of(clips[0], objective, store, config)
